"""Data sets as tensors on the device: prepared once, checked each time, no loaders.

A prepared data set is one .npz in `config.data_folder()`: train_images, test_images
uint8 (N, H, W, C); train_labels, test_labels (N,).
"""

import gzip
import hashlib
import http.client
import os
import urllib.request
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from .config import data_folder


class DataError(RuntimeError):
    """Data that is missing or damaged; says which file and what to do."""


@dataclass(frozen=True)
class Source:
    """A file to fetch: where from, and the md5 of its unpacked content."""

    name: str
    md5: str
    mirrors: tuple


MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)
MNIST = {
    part: Source(f"{file}-ubyte.gz", md5, MNIST_MIRRORS)
    for part, file, md5 in (
        ("train_images", "train-images-idx3", "6bbc9ace898e44ae57da46a324031adb"),
        ("train_labels", "train-labels-idx1", "a25bea736e30d166cdddb491f175f624"),
        ("test_images", "t10k-images-idx3", "2646ac647ad5339dbf082846283269ea"),
        ("test_labels", "t10k-labels-idx1", "27ae3e4e09519cfbb04c329615203637"),
    )
}
# sha256 of images and labels, training then test; the true MNIST has this and no other
MNIST_FINGERPRINT = "06b0d1f124c4e5fa796686ade41a9b778edacc8622f2195a352ef479ad44fc16"
# CIFAR-10 in another order, kept without loss but for 172 images; the original files
# make another one, which their preparation writes down
CIFAR10_COPY = "a0db99c0bdc440ce9fb3a0d938880d098f32946f363e7d386047ea4c3a909125"


class ImageTask:
    """Images and labels of one data set, whole, on one device.

    arrays: {train,test}_{images,labels}. mean, std: per channel, of pixels in 0..1.
    crop: training images are cropped at random after framing by so many zero pixels,
    and mirrored at random; 0 leaves them as they are.
    example: one image of zeros (1, C, H, W), for counting. fingerprint: of the data.
    """

    metric = "accuracy"  # in per cent, on the test set

    def __init__(self, arrays, mean, std, device="cpu", crop=0):
        self.fingerprint = fingerprint(arrays)
        self.classes = int(arrays["train_labels"].max()) + 1
        self.crop = crop
        self.mean = torch.tensor(mean, dtype=torch.float32, device=device)
        self.std = torch.tensor(std, dtype=torch.float32, device=device)
        frame = ((0, 0), (crop, crop), (crop, crop), (0, 0))
        images = {
            "train": np.pad(arrays["train_images"], frame),
            "test": arrays["test_images"],
        }
        for split, pixels in images.items():
            labels = arrays[f"{split}_labels"].astype(np.int64)
            both = torch.from_numpy(pixels), torch.from_numpy(labels)
            setattr(self, split, tuple(part.to(device) for part in both))
        _, height, width, channels = arrays["test_images"].shape
        self.example = torch.zeros(1, channels, height, width)

    def __len__(self):
        return len(self.train[1])

    def epoch(self, batch_size, seed, done=0):
        """(images (B, C, H, W), labels (B,)) of one pass, the first ``done`` left out.

        ``seed`` decides the order and the augmentation, so that a pass can be taken up
        at any batch.
        """
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self), generator=generator)
        device = self.train[1].device
        moved = None
        if self.crop:
            sides = 2 * self.crop + 1
            shifts = torch.randint(sides, (2, len(self)), generator=generator)
            mirrored = torch.rand(len(self), generator=generator) < 0.5
            moved = [part.to(device) for part in (*shifts, mirrored)]
        order = order.to(device)
        for start in range(done * batch_size, len(order), batch_size):
            picked = order[start : start + batch_size]
            yield self._images(picked, moved), self.train[1][picked]

    def loss(self, model, batch):
        """Mean cross-entropy of one batch, to descend on.

        Returns (loss, its sum over examples, detached, how many examples).
        """
        images, labels = batch
        loss = F.cross_entropy(model(images), labels)
        return loss, loss.detach() * len(labels), len(labels)

    @torch.no_grad()
    def evaluate(self, model, batch_size=1000):
        """{test_loss, test_accuracy (%)} of a model in evaluation mode."""
        images, labels = self.test
        loss = torch.zeros((), dtype=torch.float64, device=labels.device)
        right = torch.zeros((), dtype=torch.int64, device=labels.device)
        batches = zip(images.split(batch_size), labels.split(batch_size), strict=True)
        for x, y in batches:
            logits = model(self.normalised(x)).float()
            loss += F.cross_entropy(logits, y, reduction="sum")
            right += (logits.argmax(1) == y).sum()
        return {
            "test_loss": loss.item() / len(labels),
            "test_accuracy": 100 * right.item() / len(labels),
        }

    def normalised(self, pixels):
        """uint8 (B, H, W, C) -> float32 (B, C, H, W), by the data set's mean and std.

        On a GPU the channels stay last in memory, as its convolutions like them best.
        """
        x = pixels.float().div_(255).sub_(self.mean).div_(self.std)
        x = x.permute(0, 3, 1, 2)
        return x if x.device.type == "cuda" else x.contiguous()

    def _images(self, picked, moved):
        """Training images, each cropped at its shift and mirrored, in one gather."""
        images = self.train[0]
        if moved is None:
            return self.normalised(images[picked])
        down, right, mirrored = (part[picked][:, None] for part in moved)
        height, width = self.example.shape[2:]
        rows = torch.arange(height, device=picked.device) + down  # (B, H)
        columns = torch.arange(width, device=picked.device).expand(len(picked), -1)
        columns = torch.where(mirrored, width - 1 - columns, columns) + right
        taken = images[picked[:, None, None], rows[:, :, None], columns[:, None, :]]
        return self.normalised(taken)


def mnist(device="cpu"):
    """MNIST: 60,000 and 10,000 images (1, 28, 28); normalised by .1307, .3081."""
    arrays = _prepared(data_folder() / "mnist.npz", MNIST_FINGERPRINT)
    return ImageTask(arrays, 0.1307, 0.3081, device)


def cifar10(device="cpu"):
    """CIFAR-10: 50,000 and 10,000 images (3, 32, 32), cropped and mirrored.

    Mean and deviation as in the authors' code; the deviations are those of images, and
    a fifth below those of all pixels.
    """
    arrays = _prepared(data_folder() / "cifar10.npz", CIFAR10_COPY)
    mean, std = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    return ImageTask(arrays, mean, std, device, crop=4)


def digits(device="cpu"):
    """scikit-learn's 8x8 digits at 28x28, for training live without any download.

    1,797 images, each pixel tripled and framed by 2; every fifth is a test image.
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
    return ImageTask(arrays, 0.1307, 0.3081, device)


TASKS = {"mnist": mnist, "digits": digits, "cifar10": cifar10}


def load(task, device="cpu"):
    """The task named ``task``, on ``device``.

    Raises DataError if its data is missing or damaged, ValueError on an unknown name.
    """
    if task not in TASKS:
        raise ValueError(f"task={task!r}; it is one of {', '.join(TASKS)}")
    return TASKS[task](device)


def available(task):
    """Whether `load` would find the data of ``task``."""
    return task == "digits" or (data_folder() / f"{task}.npz").is_file()


def fingerprint(arrays):
    """sha256 of images and labels, training then test, as hexadecimal."""
    digest = hashlib.sha256()
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        digest.update(np.ascontiguousarray(arrays[name], dtype=np.uint8).tobytes())
    return digest.hexdigest()


def prepare_mnist(folder=None, progress=True):
    """Fetch MNIST's four files, check them, and write ``mnist.npz``; returns its path.

    Files already in ``folder`` (put there by hand, say) are taken if they are right.
    Raises DataError naming the file that is damaged, or could not be had and where.
    """
    folder = Path(folder or data_folder())
    target = folder / "mnist.npz"
    if target.is_file():
        _prepared(target, MNIST_FINGERPRINT)
        return target
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for part, source in MNIST.items():
        raw = _fetched(source, folder, progress)
        if part.endswith("images"):
            arrays[part] = np.frombuffer(raw, np.uint8, offset=16).reshape(
                -1, 28, 28, 1
            )
        else:
            arrays[part] = np.frombuffer(raw, np.uint8, offset=8)
    part = target.with_name(f".mnist.{os.getpid()}.npz")
    try:
        np.savez(part, **arrays)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    return target


PREPARE = {"mnist": prepare_mnist}


def _fetched(source, folder, progress):
    """The unpacked bytes of ``source``, from ``folder`` or the first mirror with it."""
    path = folder / source.name
    problems = []
    if path.is_file():
        raw = _unpacked(path.read_bytes())
        if raw is not None and hashlib.md5(raw).hexdigest() == source.md5:
            return raw
        problems.append(f"{path} is there but damaged (its md5 is not {source.md5})")
    for mirror in source.mirrors:
        try:
            packed = _download(mirror + source.name, progress)
        except (OSError, http.client.HTTPException) as error:
            problems.append(f"{mirror}: {error}")
            continue
        raw = _unpacked(packed)
        if raw is not None and hashlib.md5(raw).hexdigest() == source.md5:
            return raw
        problems.append(f"{mirror}: what it sent is not the file (md5 differs)")
    raise DataError(
        f"{source.name} could not be had: {'; '.join(problems)}. Fetch it by hand, put "
        f"it in {folder}, and run this again"
    )


def _download(url, progress):
    from tqdm import tqdm

    with urllib.request.urlopen(url, timeout=30) as answer:
        size = int(answer.headers.get("Content-Length") or 0)
        name = url.rpartition("/")[2]
        with tqdm(
            total=size, unit="B", unit_scale=True, desc=name, disable=not progress
        ) as bar:
            chunks = []
            while chunk := answer.read(1 << 16):
                chunks.append(chunk)
                bar.update(len(chunk))
    return b"".join(chunks)


def _unpacked(packed):
    try:
        return gzip.decompress(packed)
    except (OSError, EOFError, zlib.error):
        return None


# what numpy, zip and zlib raise on a file that is cut off, overwritten or another one
_DAMAGE = (OSError, ValueError, EOFError, TypeError, KeyError, NotImplementedError)
_DAMAGE += (zipfile.BadZipFile, zlib.error)


def _prepared(path, sha256):
    """The arrays of a prepared data set, if they are what they were.

    Their `fingerprint` must be ``sha256``, or the one that was written beside them when
    they were prepared from the original files.
    """
    name = path.stem
    if not path.is_file():
        raise DataError(f"{path} is not there; {_fetch(name)}")
    try:
        with np.load(path) as file:
            arrays = dict(file)
        found = fingerprint(arrays)
    except _DAMAGE as error:
        why = str(error)
    else:
        why = f"its sha256 is {found[:12]}..., not {sha256[:12]}..."
        if found in (sha256, str(arrays.pop("sha256", ""))):
            return arrays
    raise DataError(f"{path} is damaged ({why}); delete it, then {_fetch(name)}")


def _fetch(name):
    return f"fetch it with `python -m maestro data {name}`, or set MAESTRO_DATA"
