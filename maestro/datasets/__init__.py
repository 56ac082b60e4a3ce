"""Data sets by name: tensors on the device, or read by workers if too large for that.

A task has ``epoch(batch_size, seed, done)``, ``loss(model, batch)``,
``evaluate(model)``, ``example``, ``classes``, ``metric``, ``fingerprint`` and a length.
"""

from ..paths import data_folder
from . import corpus, imagenet, images, originals, translation
from .corpus import prepare_multi30k
from .download import Source
from .images import ImageTask, cifar10, cifar10_alternating, digits, imagenette64, mnist
from .originals import (
    CIFAR10_COPY,
    MNIST,
    MNIST_FINGERPRINT,
    fingerprint,
    prepare_cifar10,
    prepare_imagenette64,
    prepare_mnist,
)
from .prepared import DataError
from .translation import TranslationTask, bleu, multi30k

__all__ = [
    "CIFAR10_COPY",
    "MNIST",
    "MNIST_FINGERPRINT",
    "PREPARE",
    "TASKS",
    "DataError",
    "ImageTask",
    "Source",
    "TranslationTask",
    "available",
    "bleu",
    "cifar10",
    "cifar10_alternating",
    "corpus",
    "digits",
    "fingerprint",
    "imagenet",
    "imagenette64",
    "images",
    "load",
    "mnist",
    "multi30k",
    "originals",
    "prepare_cifar10",
    "prepare_imagenette64",
    "prepare_mnist",
    "prepare_multi30k",
    "translation",
]

TASKS = {
    "mnist": mnist,
    "digits": digits,
    "cifar10": cifar10,
    "cifar10_alternating": cifar10_alternating,
    "imagenette64": imagenette64,
    "multi30k": multi30k,
    "imagenet": imagenet.imagenet,
    "imagenette": imagenet.imagenette,
}

FILES = {"cifar10_alternating": "cifar10"}  # {task: the name of its data, if different}


def load(task, device="cpu"):
    """The task named ``task``, on ``device``.

    Raises DataError if its data is missing or damaged, ValueError on an unknown name.
    """
    if task not in TASKS:
        raise ValueError(f"task={task!r}; it is one of {', '.join(TASKS)}")
    return TASKS[task](device)


def available(task):
    """Whether the prepared data of ``task`` is in the data folder."""
    if task in imagenet.TREES:
        return (data_folder() / imagenet.TREES[task]).is_dir()
    return (
        task == "digits" or (data_folder() / f"{FILES.get(task, task)}.npz").is_file()
    )


def prepare_digits():
    """Check that scikit-learn has the digits; nothing is fetched."""
    digits()
    return "the digits come with scikit-learn"


PREPARE = {
    "mnist": prepare_mnist,
    "digits": prepare_digits,
    "cifar10": prepare_cifar10,
    "imagenette64": prepare_imagenette64,
    "multi30k": prepare_multi30k,
    "imagenet": imagenet.prepare_imagenet,
    "imagenette": imagenet.prepare_imagenette,
}
