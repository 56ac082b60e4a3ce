"""Image data sets as tensors on the device, where images are cropped and mirrored."""

import numpy as np
import torch
from torch.nn import functional as F

from ..paths import data_folder
from . import originals, prepared
from .originals import fingerprint

# mean and deviation of pixels in 0..1
MNIST_PIXELS = 0.1307, 0.3081
CIFAR10_PIXELS = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def at_least_single(logits):
    """``logits`` in single precision, or in their own if that is higher."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


class Classification:
    """The loss and the figures of all image classification tasks.

    A task has ``classes``, ``example``, and `epoch` and `test_batches`, which yield
    normalised images.

    Args:
        mean, std: for each channel, of pixels in 0..1.
        device: the device of the images.
    """

    metric = "accuracy"  # in per cent, on the test set
    channels_last = False  # the memory format on a CPU; always true on a GPU

    def __init__(self, mean, std, device):
        self.mean = torch.tensor(mean, dtype=torch.float32, device=device)
        self.std = torch.tensor(std, dtype=torch.float32, device=device)

    def loss(self, model, batch, label_smoothing=0.0):
        """The mean cross-entropy of one batch.

        Returns (loss, its detached sum over examples).
        """
        images, labels = batch
        logits = at_least_single(model(images))
        loss = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
        return loss, loss.detach() * len(labels)

    def count(self, batch):
        """The number of examples that the loss of a batch is summed over."""
        _, labels = batch
        return len(labels)

    @torch.no_grad()
    def evaluate(self, model, batch_size=1000):
        """The figures of a model in evaluation mode: {test_loss, test_accuracy (%)}."""
        device, count = self.mean.device, 0
        loss = torch.zeros((), dtype=torch.float64, device=device)
        right = torch.zeros((), dtype=torch.int64, device=device)
        for x, y in self.test_batches(batch_size):
            logits = at_least_single(model(x))
            loss += F.cross_entropy(logits, y, reduction="sum")
            right += (logits.argmax(1) == y).sum()
            count += len(y)
        return {
            "test_loss": loss.item() / count,
            "test_accuracy": 100 * right.item() / count,
        }

    def normalised(self, pixels):
        """Pixels uint8 (B, H, W, C) as normalised inputs (B, C, H, W).

        The inputs have PyTorch's default type. The channels stay last in memory where
        convolutions are faster that way.
        """
        x = pixels.to(torch.get_default_dtype())
        x = x.div_(255).sub_(self.mean).div_(self.std)
        x = x.permute(0, 3, 1, 2)
        last = self.channels_last or x.device.type == "cuda"
        return x if last else x.contiguous()


def six_views(model):
    """``model`` averaged over an image, two shifted images, and their mirror images.

    Returns a function of images (B, C, H, W) to logits (B, classes). The image has the
    weight 1/2. The two images shifted by one pixel, up and left or down and right, have
    the weight 1/4 each.
    """

    def both(x):
        return (model(x) + model(x.flip(3))) / 2

    def views(x):
        height, width = x.shape[2:]
        framed = F.pad(x, (1, 1, 1, 1), "reflect")
        shifted = framed[:, :, 2:, 2:], framed[:, :, :height, :width]
        return both(x) / 2 + sum(both(one) for one in shifted) / 4

    return views


class ImageTask(Classification):
    """The images and labels of a whole data set, on one device.

    Args:
        arrays: {train,test}_{images,labels}.
        mean, std: for each channel, of pixels in 0..1.
        device: the device of the data.
        crop: the width of a frame around training images, which are then cropped and
            mirrored at random; 0 leaves the images as they are.
        frame: the pixels of the frame, "constant" for zeros or "reflect".
        alternate: mirror each image in every other epoch, instead of at random.

    Attributes:
        fingerprint: of the arrays.
    """

    def __init__(
        self,
        arrays,
        mean,
        std,
        device="cpu",
        crop=0,
        frame="constant",
        alternate=False,
    ):
        super().__init__(mean, std, device)
        self.fingerprint = fingerprint(arrays)
        self.classes = int(arrays["train_labels"].max()) + 1
        self.crop, self.alternate = crop, alternate
        sides = ((0, 0), (crop, crop), (crop, crop), (0, 0))
        images = {
            "train": np.pad(arrays["train_images"], sides, frame),
            "test": arrays["test_images"],
        }
        for split, pixels in images.items():
            labels = arrays[f"{split}_labels"].astype(np.int64)
            both = torch.from_numpy(pixels), torch.from_numpy(labels)
            setattr(self, split, tuple(part.to(device) for part in both))

    @property
    def example(self):
        """One image of zeros (1, C, H, W), for counting."""
        _, height, width, channels = self.test[0].shape
        return torch.zeros(1, channels, height, width)

    def __len__(self):
        return len(self.train[1])

    def first(self, count):
        """The first training images (count, C, H, W), without augmentation."""
        height, width = self.example.shape[2:]
        inner = (
            slice(self.crop, self.crop + height),
            slice(self.crop, self.crop + width),
        )
        return self.normalised(self.train[0][:count, *inner])

    def epoch(self, batch_size, seed, done=0, turn=(0, 0)):
        """The batches of one pass, without the first ``done``.

        Args:
            batch_size: B.
            seed: determines the order and the augmentation, so that a pass can be
                resumed at any batch.
            done: the number of batches to leave out.
            turn: (a seed of the whole training, the epoch), which determine the
                mirrored images if ``alternate``.

        Yields:
            (images (B, C, H, W), labels (B,)).
        """
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self), generator=generator)
        device = self.train[1].device
        moved = None
        if self.crop:
            sides = 2 * self.crop + 1
            shifts = torch.randint(sides, (2, len(self)), generator=generator)
            mirrored = torch.rand(len(self), generator=generator) < 0.5
            if self.alternate:
                generator.manual_seed(turn[0])
                mirrored = torch.rand(len(self), generator=generator) < 0.5
                mirrored ^= turn[1] % 2 == 1
            moved = [part.to(device) for part in (*shifts, mirrored)]
        order = order.to(device)
        for start in range(done * batch_size, len(order), batch_size):
            picked = order[start : start + batch_size]
            yield self._images(picked, moved), self.train[1][picked]

    def test_batches(self, batch_size):
        """The batches (images (B, C, H, W), labels (B,)) of the test set."""
        images, labels = self.test
        for x, y in zip(
            images.split(batch_size), labels.split(batch_size), strict=True
        ):
            yield self.normalised(x), y

    def _images(self, picked, moved):
        """The training images ``picked``, cropped and mirrored in one gather."""
        images = self.train[0]
        if moved is None:
            return self.normalised(images[picked])
        down, right, mirrored = (part[picked][:, None] for part in moved)
        _, height, width, _ = self.test[0].shape
        rows = torch.arange(height, device=picked.device) + down  # (B, H)
        columns = torch.arange(width, device=picked.device).expand(len(picked), -1)
        columns = torch.where(mirrored, width - 1 - columns, columns) + right
        taken = images[picked[:, None, None], rows[:, :, None], columns[:, None, :]]
        return self.normalised(taken)


def mnist(device="cpu"):
    """MNIST: 60,000 training and 10,000 test images (1, 28, 28)."""
    arrays = _read("mnist", originals.MNIST_FINGERPRINT)
    return ImageTask(arrays, *MNIST_PIXELS, device)


def cifar10(device="cpu"):
    """CIFAR-10: 50,000 training and 10,000 test images (3, 32, 32).

    Training images are cropped and mirrored. Mean and deviation are those of the
    authors' code, whose deviations are a fifth below the deviations of all pixels.
    """
    arrays = _read("cifar10", originals.CIFAR10_COPY)
    mean, std = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    return ImageTask(arrays, mean, std, device, crop=4)


def cifar10_alternating(device="cpu"):
    """CIFAR-10 with the augmentation of airbench (Jordan 2024).

    Training images are cropped from a frame of two reflected pixels and mirrored in
    every other epoch. Mean and deviation are those of all pixels.
    """
    arrays = _read("cifar10", originals.CIFAR10_COPY)
    return ImageTask(arrays, *CIFAR10_PIXELS, device, 2, "reflect", alternate=True)


def imagenette64(device="cpu"):
    """Imagenette at 64 pixels: 9,469 training and 3,925 test images (3, 64, 64).

    This set of ten classes stands in for ImageNet-1k and trains in minutes. If only its
    pictures are in the data folder, the arrays are prepared from them first.
    """
    folder = data_folder()
    if not (folder / "imagenette64.npz").is_file() and originals.imagenette_tree(
        folder
    ):
        originals.prepare_imagenette64(progress=False)
    arrays = _read("imagenette64")
    return ImageTask(arrays, IMAGENET_MEAN, IMAGENET_STD, device, crop=8)


def digits(device="cpu"):
    """scikit-learn's 8x8 digits at 28x28, which need no download.

    The 1,797 images have each pixel tripled and a frame of 2 pixels; every fifth is a
    test image.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    images = np.kron(data.images, np.ones((3, 3))) * (255 / 16)
    images = np.pad(images.round().astype(np.uint8), ((0, 0), (2, 2), (2, 2)))[
        ..., None
    ]
    test = np.arange(len(images)) % 5 == 0
    arrays = {
        "train_images": images[~test],
        "train_labels": data.target[~test],
        "test_images": images[test],
        "test_labels": data.target[test],
    }
    return ImageTask(arrays, *MNIST_PIXELS, device)


def _read(name, sha256=None):
    return prepared.read(data_folder() / f"{name}.npz", sha256, fingerprint)
