"""ImageNet and Imagenette: pictures read and cropped by worker processes.

The pictures are in the usual ImageFolder tree, {train,val}/<wnid>/*.JPEG. Training
takes a random part of a picture, resized and mirrored at random. Validation resizes the
shorter side (to 256 for 224) and takes the centre. The random draws depend on the seed
of the pass and on the position in the pass, not on the worker, so a pass can be resumed
at any batch.
"""

import hashlib
import os
import shutil
import tarfile
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ..paths import data_folder
from ..system import cores, writing
from .download import Source, fetched
from .images import IMAGENET_MEAN, IMAGENET_STD, Classification
from .originals import SUFFIXES
from .prepared import DataError
from .torchvision_repair import import_torchvision

TREES = {"imagenet": "imagenet", "imagenette": "imagenette2"}  # in the data folder
IMAGENET_SIZES = (1000, 1_281_167, 50_000)  # classes, training, validation

IMAGENETTE = Source(
    "imagenette2.tgz",
    "fe2fc210e6bb7c5664d602c3cd71e612",
    ("https://s3.amazonaws.com/fast-ai-imageclas/",),
    gzipped=False,
)
_SUFFIXES = tuple(suffix.encode() for suffix in SUFFIXES)


class FolderTask(Classification):
    """Pictures of an ImageFolder tree, as inputs (3, size, size).

    Args:
        root: a Path that holds {train,val}/<class>/*.
        device: the device of the batches.
        size: the height and width of the inputs.
        workers: the number of processes that read and crop. By default one for each
            core, at most 16; the processes of torchrun share the cores.

    Attributes:
        rows: a function of a batch's size, the slice of rows that are read; the other
            rows are blank.
        fingerprint: of the list of files, not of their contents.

    Raises:
        DataError: the tree is missing or has no pictures.
    """

    rows = staticmethod(slice)

    def __init__(self, root, device="cpu", size=224, workers=None):
        super().__init__(IMAGENET_MEAN, IMAGENET_STD, device)
        self.size = size
        self.workers = _workers() if workers is None else workers
        self.train, self.test = (_Files(root / split) for split in ("train", "val"))
        if self.train.classes != self.test.classes:
            raise DataError(f"{root}: train and val have different classes")
        self.classes = len(self.train.classes)
        self.example = torch.zeros(1, 3, size, size)
        digest = hashlib.sha256()
        for files in (self.train, self.test):
            digest.update(b"\n".join(files.names) + b"\n\n")
        self.fingerprint = digest.hexdigest()

    def __len__(self):
        return len(self.train)

    def epoch(self, batch_size, seed, done=0, turn=(0, 0)):
        """The batches of one pass, without the first ``done``.

        Yields (images (B, C, H, W), labels (B,)). ``seed`` determines the order and the
        augmentation; ``turn`` is not used.
        """
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self), generator=generator)
        draws = torch.randint(1, 2**62, (len(self),), generator=generator)
        left = torch.stack((order, draws), 1)[done * batch_size :]  # (pictures, 2)
        return self._loaded(self.train, left.split(batch_size) if len(left) else ())

    def test_batches(self, batch_size):
        """The batches of the validation pictures, in order."""
        places = torch.arange(len(self.test))
        keys = torch.stack((places, torch.zeros_like(places)), 1)
        # batches of a thousand would take two gigabytes in the workers
        return self._loaded(self.test, keys.split(min(batch_size, 250)))

    def _loaded(self, files, batches):
        device = self.mean.device
        loader = DataLoader(
            _Pictures(files, self.size),
            batch_sampler=(batch[self.rows(len(batch))].tolist() for batch in batches),
            num_workers=min(self.workers, len(batches)),
            pin_memory=device.type == "cuda",
            # of its own, because the default one is part of the run's state
            generator=torch.Generator(),
        )
        for batch, read in zip(batches, loader, strict=True):
            shape = len(batch), *read.shape[1:]
            pixels = torch.zeros(shape, dtype=torch.uint8, device=device)
            pixels[self.rows(len(batch))] = read.to(device, non_blocking=True)
            labels = torch.from_numpy(files.labels[batch[:, 0].numpy()]).to(device)
            yield self.normalised(pixels), labels


class _Files:
    """The names and labels of the pictures in ``folder``/<class>/, sorted.

    They are arrays, because a list of a million strings would be copied into each
    worker.
    """

    def __init__(self, folder):
        if not folder.is_dir():
            raise DataError(
                f"{folder} is missing: put the pictures there as {folder}/<wnid>/*"
            )
        self.folder = os.fsencode(folder)
        names, labels, self.classes = [], [], []
        for entry in sorted(os.scandir(self.folder), key=lambda entry: entry.name):
            inside = sorted(
                entry.name + b"/" + name
                for name in (os.listdir(entry) if entry.is_dir() else ())
                if name.lower().endswith(_SUFFIXES)
            )
            if inside:
                labels += [len(self.classes)] * len(inside)
                names += inside
                self.classes.append(entry.name)
        if not names:
            raise DataError(f"{folder} holds no pictures <wnid>/*")
        self.names, self.labels = np.array(names), np.array(labels)

    def __len__(self):
        return len(self.labels)


def _workers():
    processes = int(
        os.environ.get("LOCAL_WORLD_SIZE", 1)
    )  # of torchrun, on this machine
    return min(16, max(1, cores() // processes))


class _Pictures(Dataset):
    """(place, draw) -> pixels uint8 (size, size, 3).

    draw: the seed of the random crop; 0 takes the centre.
    """

    def __init__(self, files, size):
        self.files, self.size = files, size

    def __getitem__(self, key):
        from PIL import Image

        place, draw = key
        path = os.fsdecode(self.files.folder + b"/" + self.files.names[place])
        try:
            with Image.open(path) as picture:
                picture = picture.convert("RGB")
        except (OSError, SyntaxError) as error:
            raise DataError(f"{path} is damaged: {error}") from None
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(draw)
            picture = _crop(self.size, bool(draw))(picture)
        # copied, because Pillow's memory is read-only
        return torch.from_numpy(np.array(picture))


@cache
def _crop(size, at_random):
    """The transform of a picture to (size, size); made in each worker."""
    t = import_torchvision().transforms
    if at_random:
        return t.Compose([t.RandomResizedCrop(size), t.RandomHorizontalFlip()])
    return t.Compose([t.Resize(size * 256 // 224), t.CenterCrop(size)])


def imagenet(device="cpu"):
    """ImageNet-1k at 224 pixels, from data_folder()/imagenet/{train,val}.

    Raises DataError if the pictures are missing, incomplete or others.
    """
    root = data_folder() / TREES["imagenet"]
    if not (root / "train").is_dir():
        raise DataError(
            f"{root} is missing: register at image-net.org, put the pictures of "
            f"ImageNet-1k there as {{train,val}}/<wnid>/*.JPEG (a link will do), or "
            f"set MAESTRO_DATA"
        )
    task = FolderTask(root, device)
    sizes = task.classes, len(task.train), len(task.test)
    if sizes != IMAGENET_SIZES:
        raise DataError(
            f"{root} is not ImageNet-1k: {sizes[0]:,} classes, {sizes[1]:,} training "
            f"and {sizes[2]:,} validation pictures"
        )
    return task


def imagenette(device="cpu"):
    """Imagenette, ten classes of ImageNet-1k, at 224 pixels."""
    root = data_folder() / TREES["imagenette"]
    if not root.is_dir():
        raise DataError(
            f"{root} is missing; fetch it with `python -m maestro data imagenette`, "
            "or set MAESTRO_DATA"
        )
    return FolderTask(root, device)


def prepare_imagenet():
    """Check ImageNet-1k, which may not be redistributed; returns its path."""
    imagenet()
    return data_folder() / TREES["imagenet"]


def prepare_imagenette(folder=None, progress=True):
    """Fetch and unpack Imagenette (1.5 GB), whole or not at all; returns its path."""
    target = Path(folder or data_folder()) / TREES["imagenette"]
    if target.is_dir():
        return target
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    with fetched([IMAGENETTE], target.parent, progress) as (path,):
        try:
            with writing(target), tarfile.open(path) as archive:
                archive.extractall(part, filter="data")
                os.replace(part / target.name, target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return target
