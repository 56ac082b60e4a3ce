"""Prepared arrays from the original files of the image data sets.

The arrays are train_images and test_images, uint8 (N, H, W, C), and train_labels and
test_labels (N,). Each ``prepare_...`` uses the files that are in the folder, for
example put there by hand, fetches the others, checks all, writes NAME.npz and returns
its path. It raises DataError if a file is damaged or cannot be fetched.
"""

import gzip
import hashlib
import pickle
import tarfile
from pathlib import Path

import numpy as np

from ..paths import data_folder
from . import prepared
from .download import Source, fetched
from .prepared import DataError

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
# sha256 of MNIST's images and labels, training then test
MNIST_FINGERPRINT = "06b0d1f124c4e5fa796686ade41a9b778edacc8622f2195a352ef479ad44fc16"

# the second host is that of PaddlePaddle's loader
CIFAR10_HOST = "https://www.cs.toronto.edu/~kriz/"
CIFAR10 = {
    "python": Source(
        "cifar-10-python.tar.gz",
        "c58f30108f718f92721af3b95e74349a",
        (CIFAR10_HOST, "https://dataset.bj.bcebos.com/cifar/"),
        gzipped=False,
    ),
    "binary": Source(
        "cifar-10-binary.tar.gz",
        "c32a1d4ab5d03f1284b67883e8d87530",
        (CIFAR10_HOST,),
        gzipped=False,
    ),
}
# a copy of CIFAR-10 in another order, lossless except for 172 images; arrays from the
# original files have another fingerprint, which `prepare_cifar10` stores with them
CIFAR10_COPY = "a0db99c0bdc440ce9fb3a0d938880d098f32946f363e7d386047ea4c3a909125"

# ten classes of ImageNet-1k, the shorter side 160 pixels; its makers have one host
IMAGENETTE = Source(
    "imagenette2-160.tgz",
    "e793b78cc4c9e9a4ccc0c1155377a412",
    ("https://s3.amazonaws.com/fast-ai-imageclas/",),
    gzipped=False,
)
# the pictures in folders {train,val}/<wnid>/*, unpacked or cropped to 144x144
IMAGENETTE_TREES = ("imagenette2-160", "imagenette144")

SUFFIXES = (".jpeg", ".jpg", ".png", ".webp")


def fingerprint(arrays):
    """The sha256 of images and labels, training then test, in hexadecimal."""
    digest = hashlib.sha256()
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        digest.update(np.ascontiguousarray(arrays[name], dtype=np.uint8).data)
    return digest.hexdigest()


def prepare_mnist(folder=None, progress=True):
    """Write ``mnist.npz`` from MNIST's four files."""
    target = Path(folder or data_folder()) / "mnist.npz"
    if target.is_file():
        prepared.read(target, MNIST_FINGERPRINT, fingerprint)
        return target
    with fetched(MNIST.values(), target.parent, progress) as paths:
        arrays = {}
        for part, path in zip(MNIST, paths, strict=True):
            raw = gzip.decompress(path.read_bytes())
            if part.endswith("images"):
                images = np.frombuffer(raw, np.uint8, offset=16)
                arrays[part] = images.reshape(-1, 28, 28, 1)
            else:
                arrays[part] = np.frombuffer(raw, np.uint8, offset=8)
        prepared.write(target, arrays, fingerprint)
    return target


def prepare_cifar10(folder=None, progress=True):
    """Write ``cifar10.npz`` from CIFAR-10's original file.

    The file may be the Python version or the binary version. If ``folder`` has neither,
    the Python version is fetched.
    """
    target = Path(folder or data_folder()) / "cifar10.npz"
    if target.is_file():
        prepared.read(target, CIFAR10_COPY, fingerprint)
        return target
    kinds = [k for k, s in CIFAR10.items() if (target.parent / s.name).is_file()]
    kind = kinds[0] if kinds else "python"
    with fetched([CIFAR10[kind]], target.parent, progress) as paths:
        prepared.write(target, _cifar10_arrays(paths[0], kind), fingerprint)
    return target


def _cifar10_arrays(path, kind):
    """The arrays of five batches of training images and one batch of test images."""
    batches = {}
    with tarfile.open(path) as archive:
        for member in archive:
            name = Path(member.name).stem  # data_batch_1, or data_batch_1.bin
            if name.startswith(("data_batch", "test_batch")):
                batches[name] = _cifar10_batch(archive.extractfile(member).read(), kind)
    train = [batches[f"data_batch_{i}"] for i in range(1, 6)]
    arrays = {}
    for split, parts in (("train", train), ("test", [batches["test_batch"]])):
        images, labels = zip(*parts, strict=True)
        pixels = np.concatenate(images).reshape(-1, 3, 32, 32)
        arrays[f"{split}_images"] = pixels.transpose(0, 2, 3, 1)
        arrays[f"{split}_labels"] = np.concatenate(labels)
    return arrays


def _cifar10_batch(raw, kind):
    """(pixels (N, 3072), labels (N,)) uint8 of one file; rows are colour by colour."""
    if kind == "binary":
        rows = np.frombuffer(raw, np.uint8).reshape(-1, 1 + 3 * 32 * 32)
        return rows[:, 1:], rows[:, 0]
    batch = pickle.loads(raw, encoding="bytes")  # its checksum is right
    return batch[b"data"], np.array(batch[b"labels"], np.uint8)


def prepare_imagenette64(folder=None, progress=True):
    """Write ``imagenette64.npz`` from Imagenette's pictures, in folders or the archive.

    Pillow resizes the shorter side of each picture to 64 pixels and crops the centre.
    Pictures from another source or version of Pillow differ slightly, and so does the
    fingerprint of the arrays.
    """
    target = Path(folder or data_folder()) / "imagenette64.npz"
    if target.is_file():
        prepared.read(target, None, fingerprint)
        return target
    tree = imagenette_tree(target.parent)
    if tree:
        arrays = _thumbnails(_pictures_of_tree(tree), tree, progress)
        prepared.write(target, arrays, fingerprint)
        return target
    with fetched([IMAGENETTE], target.parent, progress) as (path,):
        arrays = _thumbnails(_pictures_of_archive(path), path, progress)
        prepared.write(target, arrays, fingerprint)
    return target


def imagenette_tree(folder):
    """The first of IMAGENETTE_TREES that is in ``folder``, or None."""
    trees = [folder / name for name in IMAGENETTE_TREES]
    return next((tree for tree in trees if (tree / "train").is_dir()), None)


def _pictures_of_tree(tree):
    """(path, open file) of each picture under ``tree``."""
    for path in tree.glob("*/*/*"):
        if _is_picture(path):
            with open(path, "rb") as file:
                yield path, file


def _pictures_of_archive(path):
    """(path, open file) of each picture in a tar archive, which is not unpacked."""
    with tarfile.open(path) as archive:
        for member in archive:
            inside = Path(member.name)
            if member.isfile() and _is_picture(inside):
                yield inside, archive.extractfile(member)


def _is_picture(path):
    split = path.parts[-3:-2]
    return split in (("train",), ("val",)) and path.suffix.lower() in SUFFIXES


def _thumbnails(pictures, source, progress, size=64):
    """The arrays of all pictures .../{train,val}/<class>/<name>, sorted by path."""
    from PIL import Image, ImageOps
    from tqdm import tqdm

    taken = {}
    for path, file in tqdm(pictures, unit=" pictures", disable=not progress):
        try:
            with Image.open(file) as picture:
                # fit crops before it resizes: the same result with less work
                small = ImageOps.fit(picture.convert("RGB"), (size, size))
        except (OSError, SyntaxError) as error:
            raise DataError(f"{path} is damaged: {error}") from None
        taken[path.parts[-3:]] = np.asarray(small)
    arrays, classes = {}, sorted({wnid for _, wnid, _ in taken})
    for split, folder in (("train", "train"), ("test", "val")):
        names = sorted(name for name in taken if name[0] == folder)
        if not names:
            raise DataError(f"{source} holds no pictures {folder}/<class>/*")
        arrays[f"{split}_images"] = np.stack([taken[name] for name in names])
        labels = [classes.index(wnid) for _, wnid, _ in names]
        arrays[f"{split}_labels"] = np.array(labels, np.uint8)
    return arrays
