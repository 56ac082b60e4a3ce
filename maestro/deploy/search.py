"""Greedy search for the ranks of a trained network (Sec. 3.4, Figs. 5a and 11).

The group of columns goes whose loss hurts least, measured on one large batch, until a
budget is met. `running` makes the measurements quick.
"""

import heapq
from math import inf
from numbers import Real
from typing import NamedTuple

from ..lowrank.ladders import harm_each
from .budget import Budget
from .running import judge_of, runs_of

# {what "hurts least" means: the unit by which a rise of the loss is divided}
MEASURES = {"loss": None, "loss per mac": "macs", "loss per parameter": "params"}


class Point(NamedTuple):
    """A network on the path of a search, as merged; loss and accuracy of the batch."""

    ranks: dict
    loss: float
    accuracy: float | None
    params: int
    macs: int


class Found(NamedTuple):
    """What a search returns.

    best: the `Point` that meets the budget. path: all points on the way, the whole
    network first. runs: how often the network was run.
    """

    best: Point
    path: list
    runs: int


def greedy(
    net,
    data,
    example_inputs=None,
    *,
    accuracy=None,
    by="loss per parameter",
    share=0.1,
    multiple=1,
    lazy=False,
    **limits,
):
    """Ranks that meet a budget and hurt least, found step by step; ``net`` stays as is.

    In each step every layer offers its next group of columns, the last ones it has. The
    group goes that hurts least. What the budget then leaves is filled with the columns
    of all layers that hold the largest shares of their layers' energies.

    Args:
        net: a trained, factorised network.
        data: (x, y), one large batch for the cross-entropy; or a function net -> loss,
            or net -> (loss, accuracy).
        example_inputs: one example's inputs, to count with; the first of x if None.
        accuracy: on the batch, 0 to 1: stop before it falls below.
        by: one of MEASURES: the rise of the loss, or the rise for each MAC or parameter
            that is saved.
        share: the columns of a group as a share of the layer's rank.
        multiple: ranks from this number on are multiples of it.
        lazy: measure a group again only when it comes first by its last measurement:
            fewer runs, and worse where losses level off. False measures all groups in
            every step, as the paper does.
        limits: params, macs, mb, ms as `Budget` takes them; at least one, or accuracy.

    Returns:
        `Found`.

    Raises:
        ValueError: an argument is wrong, or no network meets the budget.
    """
    if accuracy is None:
        require_some(limits)
    budget = Budget(net, example_of(data, example_inputs), **limits)
    return walk(budget, data, accuracy, by, share, multiple, lazy)


def walk(budget, data, accuracy, by, share=0.1, multiple=1, lazy=False):
    """`greedy` for the network of ``budget``, a `Budget`."""
    _check(by, share, multiple, accuracy)
    search = Search(budget, by, lazy, multiple)
    ladders = budget.prices.ladders(share, multiple)
    with runs_of(budget.net, judge_of(data)) as runs:
        return search.down(runs, ladders, accuracy)


class Search:
    """The state of one greedy search."""

    def __init__(self, budget, by, lazy, multiple):
        self.budget, self.prices = budget, budget.prices
        self.unit, self.lazy, self.multiple = MEASURES[by], lazy, multiple

    def down(self, runs, ladders, accuracy):
        """Walk down the ladders until the budget is met; `Found`."""
        ranks = dict(self.prices.ranks)
        point = self._point(ranks, *runs.base(ranks))
        if accuracy is not None:
            _require_accuracy(point, accuracy)
        path, queue = [point], Offers(self, ladders)
        while not self._done(path, accuracy):
            name = queue.best(runs, path[-1])
            if name is None:  # only a wanted accuracy or the clock leads here
                break
            ranks = ranks | {name: queue.take(name)}
            path.append(self._point(ranks, *runs.base(ranks, changed=name)))
        if accuracy is not None:
            best = [p for p in path if p.accuracy >= accuracy][-1]
            self._require_met(best, accuracy)
        else:
            best = self._topped_up(path[-1], runs)
        return Found(best, path, runs.count)

    def _done(self, path, accuracy):
        if accuracy is not None and path[-1].accuracy < accuracy:
            return True
        return bool(self.budget.limits) and self.budget.met(path[-1].ranks)

    def _require_met(self, best, accuracy):
        if not self.budget.met(best.ranks):
            raise ValueError(
                f"no network on the way meets the budget with accuracy={accuracy:g}: "
                f"the smallest has {best.params:,} parameters and {best.macs:,} MACs"
            )

    def _topped_up(self, last, runs):
        """``last`` with as many columns put back as the budget allows."""
        ranks = self.budget.topped_up(last.ranks, self.multiple)
        same = ranks == last.ranks
        return last if same else self._point(ranks, *runs.base(ranks))

    def _point(self, ranks, loss, accuracy):
        return Point(ranks, loss, accuracy, *self.prices.footprint(ranks))

    def score(self, name, before, after, rise):
        """What the step costs in loss, for what it saves."""
        saved = self.prices.saved(name, before, after, self.unit) if self.unit else 1
        return harm_each(rise, saved)


class Offers:
    """The next group of every layer, by what it would hurt."""

    def __init__(self, search, ladders):
        self.search, self.ladders = search, ladders
        self.place = dict.fromkeys(ladders, 0)
        self.step = 0  # how many groups are gone
        names = [name for name in ladders if len(ladders[name]) > 1]
        # (score, in which step it was measured, layer); not measured yet comes first
        self.queue = [(-inf, -1, name) for name in names]

    def best(self, runs, point):
        """The layer whose next group hurts least now; None if none is left."""
        if not self.search.lazy:
            self.queue = [self._measure(name, runs, point) for *_, name in self.queue]
            heapq.heapify(self.queue)
        while self.queue and self.queue[0][1] != self.step:
            heapq.heapreplace(self.queue, self._measure(self.queue[0][2], runs, point))
        return self.queue[0][2] if self.queue else None

    def take(self, name):
        """Take layer ``name``'s next group away; the layer's rank then."""
        heapq.heappop(self.queue)
        self.place[name] += 1
        self.step += 1
        ladder, place = self.ladders[name], self.place[name]
        if place + 1 < len(ladder):
            heapq.heappush(self.queue, (-inf, -1, name))
        return ladder[place]

    def _measure(self, name, runs, point):
        before, after = self.ladders[name][self.place[name] :][:2]
        loss, _ = runs.other(point.ranks | {name: after}, changed=name)
        score = self.search.score(name, before, after, loss - point.loss)
        return score, self.step, name


def require_measure(by):
    """ValueError unless ``by`` is one of MEASURES."""
    if by not in MEASURES:
        raise ValueError(f"by={by!r}: it is one of {', '.join(MEASURES)}")


def _check(by, share, multiple, accuracy):
    require_measure(by)
    if not isinstance(share, Real) or not 0 < share <= 1:
        raise ValueError(f"share={share!r}: it takes a number in (0, 1]")
    if type(multiple) is not int or multiple < 1:
        raise ValueError(f"multiple={multiple!r}: it takes an integer >= 1")
    if accuracy is not None and not (isinstance(accuracy, Real) and 0 < accuracy <= 1):
        raise ValueError(f"accuracy={accuracy!r}: it takes a number in (0, 1]")


def _require_accuracy(point, accuracy):
    if point.accuracy is None:
        raise ValueError(
            "accuracy: the function `data` must return (loss, accuracy) for it"
        )
    if point.accuracy < accuracy:
        raise ValueError(
            f"accuracy={accuracy:g}: the whole network has {point.accuracy:.4f} on "
            "the batch"
        )


def require_some(limits):
    """ValueError unless one of ``limits`` {unit: limit} is not None."""
    if all(value is None for value in limits.values()):
        raise ValueError("no budget: give params, macs, mb or ms")


def example_of(data, example_inputs):
    """Inputs of one example, to count with."""
    if example_inputs is not None:
        return example_inputs
    if data is None or callable(data):
        raise ValueError("example_inputs: give one example's inputs, to count with")
    return data[0][:1]
