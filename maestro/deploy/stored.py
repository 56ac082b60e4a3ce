"""Trained networks as files that say how to build them (data/models).

The file is one of `maestro.save`. What it has ``about`` it is the run: its id, its
configuration, the number of classes and the shape of an example.
"""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from .. import datasets, models
from ..campaign.experiments import compact_cifar10, cut_afterwards, lenet_mnist
from ..config import RunConfig
from ..datasets import ImageTask
from ..datasets.images import CIFAR10_PIXELS, MNIST_PIXELS
from ..paths import MODELS
from ..results import records
from ..system import write_whole
from ..training.checkpoints import weights_path
from .files import load, manifest, save
from .subject import Subject


class Images(NamedTuple):
    """What is stored of a data set: images of each split, mean and deviation."""

    count: int
    pixels: tuple


IMAGES = {"mnist": Images(512, MNIST_PIXELS), "cifar10": Images(256, CIFAR10_PIXELS)}


def main():
    """Put the networks that chapters cut, as far as they have weights, and images."""
    configs = [
        *cut_afterwards(seeds=(3,)),
        *lenet_mnist((64e-5,), (3,), thresholds=(1e-5,)),
        *(c for c in compact_cifar10(seeds=(0,)) if c.method == "dense"),
    ]
    for config in configs:
        if weights_path(config).is_file():
            print(f"written: {store(config)}")
    for name in IMAGES:
        print(f"written: {store_images(name, datasets.load(name))}")


def store(config, device="cpu", folder=None):
    """Put the trained network of ``config`` into data/models; returns the path.

    Raises ValueError if the run's weights are not saved, RuntimeError if the file of
    the weights is damaged.
    """
    training = _trained(config, device)
    about = {
        "record": config.id,
        "config": config.to_dict(),
        "classes": training.task.classes,
        "example": list(training.task.example.shape),
    }
    path = Path(folder or MODELS) / f"{config.id}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save(training.model.cpu().eval(), path, about)
    return path


def store_images(name, task, folder=None):
    """Put a few training and test images of ``task`` into data/models; the path."""
    arrays = {}
    for split, frame in (("train", task.crop), ("test", 0)):
        images, labels = (
            part[: IMAGES[name].count].cpu() for part in getattr(task, split)
        )
        height, width = images.shape[1:3]
        inner = images[:, frame : height - frame, frame : width - frame]
        arrays[f"{split}_images"] = inner.numpy()
        arrays[f"{split}_labels"] = labels.numpy()
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    path = Path(folder or MODELS) / f"{name}.npz"
    write_whole(path, content.getvalue())
    return path


def some_images(name, folder=None):
    """A few images of a data set, for whoever has not fetched it: an `ImageTask`.

    name: "mnist" or "cifar10"; the training images are not augmented.
    """
    with np.load(Path(folder or MODELS) / f"{name}.npz") as file:
        return ImageTask(dict(file), *IMAGES[name].pixels)


def some_mnist(folder=None):
    """`some_images` of MNIST."""
    return some_images("mnist", folder)


def networks(folder=None):
    """{RunConfig.id: RunConfig} of the networks in data/models."""
    paths = sorted(Path(folder or MODELS).glob("*.safetensors"))
    about = [manifest(path)["about"] for path in paths]
    return {one["record"]: RunConfig.from_dict(one["config"]) for one in about}


def read(source):
    """The trained network of a run or file: (net, example, RunConfig).

    Args:
        source: the id of a run whose network is in data/models, or whose weights are
            saved since its training; or a file of `store`.

    Raises:
        ValueError: there is no such run or file, or the file does not say how to build
            the network.
    """
    path = Path(source)
    if not path.suffix:
        path = MODELS / f"{source}.safetensors"
        if not path.is_file():
            return _of_run(str(source))
    if not path.is_file():
        raise ValueError(f"{source}: there is no such file")
    about = manifest(path)["about"]
    try:
        config = RunConfig.from_dict(about["config"])
        net = models.make(config.model, about["classes"], config.size)
        example = torch.zeros(*about["example"])
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{source} does not say which run it is of (no {error}): load it in Python "
            "with maestro.load into its network, and cut it with maestro.fit_budget"
        ) from None
    return load(path, net).eval(), example, config


def _of_run(run_id):
    record_path = records.path_of(run_id)
    if not record_path.is_file():
        raise ValueError(
            f"no run {run_id!r}: `python -m maestro records` lists the runs, and "
            f"{MODELS.name}/ has the networks of: {', '.join(networks()) or 'none'}"
        )
    config = records.config_of(records.read(record_path))
    training = _trained(config)
    return training.model.eval(), training.task.example, config


def _trained(config, device="cpu"):
    path = weights_path(config)
    if not path.is_file():
        raise ValueError(
            f"run {config.id} has a record but no weights: delete data/runs/"
            f"{config.id}.json and train it again, or take one of: "
            f"{', '.join(networks()) or 'none'}"
        )
    return Subject(config, {}, device).training


if __name__ == "__main__":
    main()
