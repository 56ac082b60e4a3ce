"""python -m maestro deploy: a trained network, cut to a budget, as one file."""

import itertools
from pathlib import Path

import torch

from .. import datasets
from ..lowrank import low_rank_layers, merge, recalibrate
from ..system import require_writable
from .cuts import BATCH, IMAGES
from .export import export
from .files import save
from .fitting import fit_budget
from .stored import read
from .subject import factorised

ENDINGS = (".safetensors", ".onnx", ".pt2")


def deploy(source, out, by="loss per parameter", **limits):
    """Cut the network of ``source`` to a budget and write it to ``out``.

    With the run's data set at hand the ranks come from the greedy search and batch
    norm's statistics are estimated anew; without, from the columns' shares of energy.

    Args:
        source: a run's id or a file, as for `stored.read`.
        out: a file that ends in .safetensors, .onnx or .pt2.
        by: as for `fit_budget`.
        limits: as for `fit_budget`; none to leave the ranks as they are.

    Returns:
        Lines of text that say what was done.

    Raises:
        ValueError: before anything is written. An argument is wrong, the run is
            unknown, or the budget cannot be met.
        DiskError: ``out`` cannot be written.
    """
    out = Path(out)
    if out.suffix not in ENDINGS:
        raise ValueError(f"--out {out}: it takes a name in {', '.join(ENDINGS)}")
    net, example, config = read(source)
    require_writable(out.parent)
    limits = {unit: limit for unit, limit in limits.items() if limit is not None}
    task = _data(config)
    lines = [f"{config.model} of run {config.id}, {config.method}"]
    if limits:
        net = net if low_rank_layers(net) else factorised(net)
        lines += _cut(net, example, task, by, limits)
    merge(net)
    if out.suffix == ".safetensors":
        size = save(net, out, {"record": config.id})
    else:
        size = export(net, out, example).bytes
    return [*lines, *_accuracy(net, task), f"written: {out}, {size / 1e6:.3g} MB"]


def _cut(net, example, task, by, limits):
    """Cut ``net`` for good; what was done in words."""
    if task is None:
        fit = fit_budget(net, example, by=by, **limits)
        how = "no data at hand, so by the columns' shares of energy"
    else:
        data = task.first(BATCH), task.train[1][:BATCH]
        fit = fit_budget(net, example, data=data, by=by, **limits)
        how = f"by the greedy search on {len(data[1]):,} training images"
    fit.commit()
    norms = torch.nn.modules.batchnorm._BatchNorm
    if any(isinstance(module, norms) for module in net.modules()):
        if task is None:
            how += "; batch norm's statistics are those before the cut"
        else:
            batches = task.epoch(128, seed=0)
            recalibrate(net, itertools.islice(batches, 50))
    ranks = ", ".join(f"{name} {rank}" for name, rank in fit.ranks.items())
    return [f"cut {how}: {fit}", f"ranks: {ranks}"]


def _data(config):
    """The images that the run was trained on; None where they are not at hand."""
    if config.task in IMAGES and datasets.available(config.task):
        return datasets.load(config.task)
    return None


def _accuracy(net, task):
    if task is None:
        return []
    return [f"accuracy: {task.evaluate(net.eval())['test_accuracy']:.2f} %"]
