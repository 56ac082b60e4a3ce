"""The study of cuts: one trained network at many sizes, by every search (Figs. 5a, 11).

A network that was trained dense is factorised by its SVD, plain or data-aware; one that
was trained by LoD has its own columns. All are cut to the same budgets, not trained
again, with batch norm's statistics estimated anew.
"""

import copy
from typing import NamedTuple

from ..lowrank import low_rank_layers
from ..lowrank.ladders import ONE
from ..training.machine import pick_device
from .budget import Budget
from .orders import first_within, harms, ordered, planned, threshold_sweep
from .search import MEASURES, walk
from .subject import factorised
from .whitening import MOST, order_by_data

IMAGES = ("mnist", "digits", "cifar10", "cifar10_alternating", "imagenette64")
BATCH = 2048  # training images of the one batch that searches look at (Sec. 3.4)
FEW = 8  # layers of a network whose groups are all measured in every step
SHARES = {  # of the dense network's, that the networks are cut to
    "macs": (0.8, 0.6, 0.5, 0.4, 0.3, 0.2),
    "params": (0.5, 1 / 3, 0.25, 0.12),
}
BY_ENERGY = "share of energy"
ORDERS = ("thresholds", "share of importance", BY_ENERGY, "loss alone", "plan")
SEARCHES = (*MEASURES, *ORDERS)


class Extent(NamedTuple):
    """How much of the study is made; images: of the batch, as BATCH."""

    searches: tuple = SEARCHES
    units: tuple = tuple(SHARES)
    images: int = BATCH


# {most MACs of a network: what a CPU makes in minutes}; a GPU makes all of it
ON_CPU = {
    1e6: Extent(),
    30e6: Extent(("loss per mac", BY_ENERGY), ("macs",), images=512),
    float("inf"): Extent((BY_ENERGY,), ("macs",)),
}


class Cut(NamedTuple):
    """source: whose columns; search: one of SEARCHES; unit, share: the budget."""

    source: str
    search: str
    unit: str
    share: float

    def __str__(self):
        return f"{self.source}, {self.search}, {self.share:.2f} {self.unit}"


def can_be_cut(subject):
    """Whether a run on images trained a dense network, or by LoD without a lasso."""
    config = subject.config
    lod = config.method == "maestro" and config.options["lambda_gl"] == 0
    return config.task in IMAGES and (config.method == "dense" or lod)


def cuts(subject, known=()):
    """The networks cut to every budget that can be met.

    On a CPU, a network of many MACs is cut to shares of its MACs by few searches, which
    look at fewer images: the others run the network too often.

    Yields (name, {parameters, test_accuracy (%), test_loss, params, macs}).
    """
    extent = extent_of(subject)
    for source, network in sources(subject).items():
        left = [c for c in every_cut(source, extent) if str(c) not in known]
        if left:
            yield from _cut_all(subject, network, left, extent.images)


def extent_of(subject):
    """The `Extent` of the study on the subject's device."""
    if pick_device(subject.device).type == "cuda":
        return Extent()
    macs = subject.recorded[subject.config.id]["dense"]["macs"]
    return next(ON_CPU[most] for most in ON_CPU if macs <= most)


def every_cut(source, extent):
    """All `Cut` of one source."""
    return [
        Cut(source, search, unit, share)
        for unit in extent.units
        for search in extent.searches
        for share in SHARES[unit]
    ]


def sources(subject):
    """{name: the factorised network whose columns are cut}."""
    network = subject.network()
    lod = bool(low_rank_layers(network))
    if not lod:
        network = factorised(network)
    other = order_by_data(copy.deepcopy(network), batch(subject, MOST)[0])
    names = ("LoD", "LoD, data-aware") if lod else ("SVD", "SVD, data-aware")
    return dict(zip(names, (network, other), strict=True))


def batch(subject, images):
    """(x, y): the first training images, not augmented, and their labels."""
    task = subject.training.task
    return task.first(images), task.train[1][:images]


def _cut_all(subject, network, wanted, images):
    """The points of ``wanted``, networks that come out alike evaluated once."""
    data = batch(subject, images)
    paths, seen = Paths(network, data, subject.training.task.example), {}
    for cut in wanted:
        ranks = paths.ranks(cut)
        if ranks is None:  # smaller than one column in each layer
            continue
        key = tuple(ranks.values())
        if key not in seen:
            seen[key] = subject.evaluate(at_ranks(network, ranks))
        yield (
            str(cut),
            {
                "parameters": cut._asdict() | {"lazy": paths.lazy, "images": images},
                **seen[key],
                **paths.prices.footprint(ranks)._asdict(),
            },
        )


def at_ranks(network, ranks):
    """A copy of ``network`` that runs with the first columns only."""
    network = copy.deepcopy(network)
    for name, layer in low_rank_layers(network).items():
        layer.columns = ranks[name]
    return network


class Paths:
    """The ranks of one network by every search, each search made once.

    Args:
        network: a factorised network.
        data: (x, y), the batch that searches look at.
        example: one example's inputs.
    """

    def __init__(self, network, data, example):
        self.network, self.data, self.example = network, data, example
        whole = Budget(network, example)
        self.prices, self.dense = whole.prices, whole.dense
        self.ladders = self.prices.ladders(ONE)
        self.coarse = self.prices.ladders()
        self.lazy = len(self.ladders) > FEW
        self._made = {}

    def ranks(self, cut):
        """{name: rank} of one `Cut`; None if its budget cannot be met."""
        limit = cut.share * getattr(self.dense, cut.unit)
        if getattr(self.prices.smallest(), cut.unit) > limit:
            return None
        budget = Budget(self.network, self.example, **{cut.unit: limit})
        if cut.search in MEASURES:
            return first_within(budget, self._path(cut.search))
        if cut.search == "thresholds":
            sweep = [ranks for _, ranks in threshold_sweep(self.network, 400)]
            return next(ranks for ranks in sweep if budget.met(ranks))
        if cut.search == "share of importance":
            harm = self._harm("share of importance")
            return ordered(budget, harm, self.ladders, cut.unit)
        if cut.search == BY_ENERGY:
            return ordered(budget, self._harm(cut.search), self.ladders, unit=None)
        harm = self._harm("loss alone")
        if cut.search == "plan":
            return planned(budget, harm, self.coarse)
        return ordered(budget, harm, self.coarse, cut.unit)

    def _path(self, by):
        """The greedy search's path down to one column in each layer."""
        if by not in self._made:
            least = self.prices.smallest().params
            budget = Budget(self.network, self.example, params=least)
            path = walk(budget, self.data, None, by, lazy=self.lazy).path
            self._made[by] = [point.ranks for point in path]
        return self._made[by]

    def _harm(self, scores):
        if scores not in self._made:
            given = self.network, scores, self.data, self.coarse
            self._made[scores] = harms(*given)
        return self._made[scores]
