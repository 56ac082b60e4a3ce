"""What the chapter on deployment does live, with a stored network.

Statements that hold on any processor, each with whether it holds here.
"""

import copy
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..lowrank import (
    low_rank_layers,
    merge,
    ranks,
    recalibrate,
    truncate,
)
from ..lowrank.counting import costs, footprint
from . import stored
from .budget import dense_footprint, dense_twin
from .files import load, save
from .fitting import fit_budget
from .running import batch_statistics, judge_of
from .search import greedy
from .subject import factorised

NOTHING = (
    "no network is stored yet: train the runs above, then "
    "`python -m maestro.deploy.stored` puts them into data/models"
)
ENOUGH = 0.9  # of a thousand images, right after a cut to a third
PICTURES = {"lenet": "mnist", "compact": "cifar10"}
LOST = 5  # points of accuracy after a cut to half of the MACs


@dataclass
class Shown:
    """Lines of text, and statements {sentence: whether it holds}."""

    lines: list = field(default_factory=list)
    statements: dict = field(default_factory=dict)

    @property
    def holds(self):
        """Whether every statement holds."""
        return all(self.statements.values())

    def __str__(self):
        said = [f"{sentence}: {holds}" for sentence, holds in self.statements.items()]
        return "\n".join([*self.lines, *said])


def searched(share):
    """The greedy search on the stored LoD network, and its report recomputed."""
    found = _network()
    if found is None:
        return Shown([NOTHING])
    net, example, task = found
    data = task.first(len(task)), task.train[1]
    best = greedy(net, data, example, params=f"{share}x").best
    small = copy.deepcopy(net)
    truncate(small, best.ranks)
    with torch.no_grad(), batch_statistics(small):
        loss, accuracy = judge_of(data)(small)
    merged = merge(copy.deepcopy(small))
    counted = costs(net, example)
    limit = share * dense_footprint(counted).params
    return Shown(
        [f"whole network: {footprint(net, example, merged=True).params:,} parameters"],
        {
            f"at most {share:g} of the dense parameters": best.params <= limit,
            "less than one column of a layer below that": best.params
            > limit - max(m + n for m, n, _ in counted.maps.values()),
            "its size is that of the merged network": footprint(merged, example)
            == (best.params, best.macs),
            "its loss and accuracy are those of the truncated network": abs(
                loss - best.loss
            )
            < 1e-4
            and abs(accuracy - best.accuracy) < 2e-3,
            f"more than {ENOUGH:.0%} of other images right": _accuracy(merged, task)
            > 100 * ENOUGH,
        },
    )


def reversible():
    """A cut to half of the MACs, undone, made again and committed."""
    found = _network()
    if found is None:
        return Shown([NOTHING])
    net, example, task = found
    whole, before = ranks(net), net(task.first(8))
    fit = fit_budget(net, example, macs="0.5x")
    left = 1 - fit.sizes["macs"] / fit.limits["macs"]
    fit.undo()
    back = torch.equal(net(task.first(8)), before) and ranks(net) == whole
    fit_budget(net, example, macs="0.5x").commit()
    gone = footprint(net, example, merged=True).macs <= fit.limits["macs"]
    try:
        fit_budget(net, example, macs=1)
        refused = "accepted"
    except ValueError as error:
        refused = str(error)
    return Shown(
        [f"macs=1: {refused}"],
        {
            "half of the MACs are enough": left >= 0,
            "at most a hundredth of them is left over": left <= 0.01,
            "undone, the same outputs and ranks": back,
            "committed, the columns are gone": gone,
        },
    )


def cut_without_data():
    """The stored dense network for CIFAR-10, cut to half of its MACs by its columns."""
    found = _network("compact", "dense")
    if found is None:
        return Shown([NOTHING])
    net, example, task = found
    whole, before = footprint(net, example).macs, _accuracy(net, task)
    net = factorised(net)
    fit_budget(net, example, macs="0.5x").commit()
    recalibrate(net, [task.first(len(task))])
    small = merge(net)
    share, after = footprint(small, example).macs / whole, _accuracy(small, task)
    return Shown(
        [],
        {
            "half of the MACs are left": 0.45 < share <= 0.5,
            f"at most {LOST} points lost on {len(task)} other images": before - after
            <= LOST,
        },
    )


def round_trip():
    """The network cut, merged, saved, and loaded into a network of the plain kind."""
    found = _network()
    if found is None:
        return Shown([NOTHING])
    net, example, task = found
    dense = merge(dense_twin(net))
    fit_budget(net, example, params="0.33x").commit()
    small, x = merge(net).eval(), task.first(8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.safetensors"
        size = save(small, path)
        whole = save(dense, path.with_name("dense.safetensors"))
        again = load(path, dense).eval()
    return Shown(
        [],
        {
            "no layer of this package is left": not low_rank_layers(small),
            "the file is less than half the dense network's": size < 0.5 * whole,
            "loaded into the dense network, the same outputs": torch.equal(
                again(x), small(x)
            ),
            "PyTorch exports it": _exports(small, x),
        },
    )


def _exports(net, x):
    program = torch.export.export(net, (x,)).module()
    return torch.allclose(program(x), net(x), atol=1e-4)


def _network(model="lenet", method="maestro"):
    """(the stored network, without a lasso, example, images); None if none is."""
    for run, config in stored.networks().items():
        whole = not config.options.get("lambda_gl")
        if (config.model, config.method, whole) == (model, method, True):
            net, example, _ = stored.read(run)
            return net, example, stored.some_images(PICTURES[model])
    return None


def _accuracy(net, task):
    return task.evaluate(net.eval())["test_accuracy"]
