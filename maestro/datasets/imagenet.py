"""Pictures that do not fit on the device: read and cropped by worker processes.

The usual ImageFolder tree, {train,val}/<wnid>/*.JPEG. Training as everywhere: a random
part of the picture, resized and mirrored at random; validation: the shorter side
resized (256 for 224), the centre taken. What is drawn depends on the seed of the pass
and on the place in it, not on which worker draws: a pass can be taken up anywhere.
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
    """Pictures in an ImageFolder tree, (3, size, size) as they reach the network.

    root: holds {train,val}/<class>/*. workers: processes that read and crop, 0 for
    none; by default one a core, at most 16, the cores shared with torchrun's other
    processes. rows: count -> slice, which of a batch are read, if others than all; the
    rest is blank. fingerprint: of the list of files, not of what is in them. Raises
    DataError if the tree is not there or has no pictures.
    """

    rows = staticmethod(slice)

    def __init__(self, root, device="cpu", size=224, workers=None):
        super().__init__(IMAGENET_MEAN, IMAGENET_STD, device)
        self.size = size
        self.workers = _workers() if workers is None else workers
        self.train, self.test = (_Files(root / split) for split in ("train", "val"))
        if self.train.classes != self.test.classes:
            raise DataError(f"{root}: train and val have not the same classes")
        self.classes = len(self.train.classes)
        self.example = torch.zeros(1, 3, size, size)
        digest = hashlib.sha256()
        for files in (self.train, self.test):
            digest.update(b"\n".join(files.names) + b"\n\n")
        self.fingerprint = digest.hexdigest()

    def __len__(self):
        return len(self.train)

    def epoch(self, batch_size, seed, done=0, turn=(0, 0)):
        """(images (B, C, H, W), labels (B,)) of one pass, the first ``done`` left out.

        ``seed`` decides the order and the augmentation.
        """
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self), generator=generator)
        draws = torch.randint(1, 2**62, (len(self),), generator=generator)
        left = torch.stack((order, draws), 1)[done * batch_size :]  # (pictures, 2)
        return self._loaded(self.train, left.split(batch_size) if len(left) else ())

    def test_batches(self, batch_size):
        """The same of the validation pictures, in their order."""
        places = torch.arange(len(self.test))
        keys = torch.stack((places, torch.zeros_like(places)), 1)
        # a thousand at a time, as elsewhere, would be two gigabytes in the workers
        return self._loaded(self.test, keys.split(min(batch_size, 250)))

    def _loaded(self, files, batches):
        device = self.mean.device
        loader = DataLoader(
            _Pictures(files, self.size),
            batch_sampler=(batch[self.rows(len(batch))].tolist() for batch in batches),
            num_workers=min(self.workers, len(batches)),
            pin_memory=device.type == "cuda",
            # its own, or it would draw from the generator that the run resumes with
            generator=torch.Generator(),
        )
        for batch, read in zip(batches, loader, strict=True):
            shape = len(batch), *read.shape[1:]
            pixels = torch.zeros(shape, dtype=torch.uint8, device=device)
            pixels[self.rows(len(batch))] = read.to(device, non_blocking=True)
            labels = torch.from_numpy(files.labels[batch[:, 0].numpy()]).to(device)
            yield self.normalised(pixels), labels


class _Files:
    """The pictures under ``folder``/<class>/: their names and labels, sorted.

    As arrays: a list of a million texts would be copied into every worker.
    """

    def __init__(self, folder):
        if not folder.is_dir():
            raise DataError(
                f"{folder} is not there: it takes the pictures as {folder}/<wnid>/*"
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
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # torchrun's on this machine
    return min(16, max(1, cores() // processes))


class _Pictures(Dataset):
    """(place, draw) -> pixels uint8 (size, size, 3).

    draw: what the random part is drawn with; 0 for the centre.
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
        # copied: a tensor on memory that is Pillow's own would be read-only
        return torch.from_numpy(np.array(picture))


@cache
def _crop(size, at_random):
    """Picture -> picture (size, size). Made where it is used: workers start bare."""
    t = import_torchvision().transforms
    if at_random:
        return t.Compose([t.RandomResizedCrop(size), t.RandomHorizontalFlip()])
    return t.Compose([t.Resize(size * 256 // 224), t.CenterCrop(size)])


def imagenet(device="cpu"):
    """ImageNet-1k at 224 pixels, complete: data_folder()/imagenet/{train,val}.

    Raises DataError if it is not there, or is another set of pictures.
    """
    root = data_folder() / TREES["imagenet"]
    if not (root / "train").is_dir():
        raise DataError(
            f"{root} is not there: put the pictures of ImageNet-1k, which "
            f"image-net.org gives to those who register, there as "
            f"{{train,val}}/<wnid>/*.JPEG (a link will do), or set MAESTRO_DATA"
        )
    task = FolderTask(root, device)
    found = task.classes, len(task.train), len(task.test)
    if found != IMAGENET_SIZES:
        raise DataError(
            f"{root} is not ImageNet-1k: {found[0]:,} classes, {found[1]:,} training "
            f"and {found[2]:,} validation pictures"
        )
    return task


def imagenette(device="cpu"):
    """Imagenette, ten classes of ImageNet-1k, as the same pictures at 224 pixels."""
    root = data_folder() / TREES["imagenette"]
    if not root.is_dir():
        raise DataError(
            f"{root} is not there; fetch it with `python -m maestro data imagenette`, "
            "or set MAESTRO_DATA"
        )
    return FolderTask(root, device)


def prepare_imagenet():
    """Check that ImageNet-1k is there, which nobody may hand on; returns its path."""
    imagenet()
    return data_folder() / TREES["imagenet"]


def prepare_imagenette(folder=None, progress=True):
    """Fetch Imagenette (1.5 GB), unpack it, whole or not at all; returns its path."""
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
