"""Budgets in the user's units: parameters, MACs, megabytes, milliseconds.

All of them are of the network as `maestro.merge` stores it. A budget is a number, or
text as in "0.5x": that share of the dense network's.
"""

import copy
import heapq
import math
import re
from numbers import Real

import torch

from ..lowrank import low_rank_layers, merge, truncate
from ..lowrank.counting import Footprint, costs
from ..lowrank.ladders import ONE, Prices, harm_each, shares_of_energy
from .latency import milliseconds

UNITS = ("params", "macs", "mb", "ms")
WORDS = {"params": "parameters", "macs": "MACs", "mb": "MB", "ms": "ms"}
MEGA = 1e6  # bytes of a megabyte


class Budget:
    """What a network may cost at most; every unit that is given must be met.

    Args:
        net: a factorised network.
        example_inputs: what one example's forward pass is called with; it is timed with
            them, too.
        params, macs, mb, ms: the limits, numbers or text as in "0.5x"; None for no
            limit. mb: what `maestro.save` stores, in millions of bytes.

    Raises:
        ValueError: before anything is done. A budget is no positive number; none is
            given; the smallest network is above one (the message names the smallest).
    """

    def __init__(self, net, example_inputs, **limits):
        self.net, self.example_inputs = net, example_inputs
        self.now = {name: layer.in_use for name, layer in layers_of(net).items()}
        self.costs = costs(net, example_inputs)
        self.prices = Prices(self.costs, self.now)
        self.dense = dense_footprint(self.costs)
        self._clock = {}
        given = {unit: v for unit, v in limits.items() if v is not None}
        unknown = given.keys() - set(UNITS)
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: a budget is in {', '.join(UNITS)}")
        self.limits = {unit: self._limit(unit, v) for unit, v in given.items()}
        self._refuse_impossible()

    def _limit(self, unit, value):
        """The limit that ``value`` stands for, a number."""
        text = isinstance(value, str)
        share = re.fullmatch(r"([0-9]*\.?[0-9]+)x", value) if text else None
        number = float(share[1]) if share else value
        real = isinstance(number, Real) and not isinstance(number, bool)
        if not real or not 0 < number < math.inf:
            raise ValueError(
                f"{unit}={value!r}: it takes a number > 0, or a share of the dense "
                'network\'s as in "0.5x"'
            )
        return number * self._dense(unit) if share else float(number)

    def _dense(self, unit):
        if unit == "ms":
            return self._milliseconds_dense()
        return self._of(dict.fromkeys(self.now), unit)

    def _of(self, ranks, unit):
        """What the merged network takes; a layer whose rank is None is dense."""
        if unit == "mb":
            return self._megabytes(ranks)
        if None in ranks.values():
            return getattr(self.dense, unit)
        return getattr(self.prices.footprint(ranks), unit)

    def _megabytes(self, ranks):
        layers = layers_of(self.net)
        factors = [f for layer in layers.values() for f in (layer.U, layer.V)]
        sizes = (
            self._numbers(name, rank) * layers[name].U.element_size()
            for name, rank in (self.now | ranks).items()
        )
        return megabytes(self.net, factors) + sum(sizes) / MEGA

    def _numbers(self, name, rank):
        """How many the merged map of layer ``name`` has; dense if ``rank`` is None."""
        if rank is None:
            m, n, _ = self.costs.maps[name]
            return m * n * self.costs.blocks.get(name, 1)
        return self.costs.layer(name, rank, merged=True).params

    def _milliseconds_dense(self):
        return milliseconds(merge(dense_twin(self.net)), self.example_inputs).median

    def cost(self, ranks, unit):
        """What the merged network at ``ranks`` takes of ``unit``."""
        if unit != "ms":
            return self._of(ranks, unit)
        key = tuple(sorted(ranks.items()))
        if key not in self._clock:
            net = merge_at(self.net, ranks)
            self._clock[key] = milliseconds(net, self.example_inputs).median
        return self._clock[key]

    def met(self, ranks):
        """Whether every limit holds at ``ranks``; the clock is asked last."""
        units = sorted(self.limits, key=lambda unit: unit == "ms")
        return all(self.cost(ranks, unit) <= self.limits[unit] for unit in units)

    def filled(self, ranks, name, highest):
        """``ranks`` with the largest rank <= ``highest`` of layer ``name`` that fits.

        So a search that cuts groups of columns ends within one rank of the budget.
        """
        if "ms" in self.limits:  # which no single column changes
            return ranks
        for rank in range(highest, ranks[name], -1):
            more = ranks | {name: rank}
            if self.met(more):
                return more
        return ranks

    def topped_up(self, ranks, multiple=1):
        """``ranks`` with columns put back, of all layers, while the budget allows.

        Those that hold the largest shares of their layers' energies go back first.

        multiple: ranks from this number on are multiples of it.
        """
        if "ms" in self.limits:  # which no single column changes
            return ranks
        ranks, ladders = dict(ranks), self.prices.ladders(ONE, multiple)
        harm, queue = shares_of_energy(self.net), []

        def offer(name):
            now = ranks[name]
            above = [rank for rank in ladders[name] if rank > now]
            if above:  # the next rank, the last of the ladder that is higher
                gain = harm[name][now] - harm[name][above[-1]]
                each = harm_each(gain, above[-1] - now)
                heapq.heappush(queue, (-each, name, above[-1]))

        for name in ranks:
            offer(name)
        while queue:  # what does not fit now will not fit later
            _, name, rank = heapq.heappop(queue)
            if self.met(ranks | {name: rank}):
                ranks[name] = rank
                offer(name)
        return ranks

    def _refuse_impossible(self):
        least = {name: min(1, r) for name, r in self.now.items()}
        for unit, limit in self.limits.items():
            smallest = self.cost(least, unit)
            if smallest > limit:
                raise ValueError(
                    f"{unit}={limit:,.6g} cannot be met: with one column in each layer "
                    f"this network takes {smallest:,.6g} {WORDS[unit]}, the smallest "
                    "possible"
                )


def layers_of(net):
    """The low-rank layers of ``net``; ValueError if there are none."""
    layers = low_rank_layers(net)
    if not layers:
        raise ValueError(
            f"{type(net).__name__} has no low-rank layers to cut: factorize it first"
        )
    return layers


def megabytes(net, without=()):
    """What `maestro.save` stores of ``net``, tied tensors once, in millions of bytes.

    without: tensors that do not count.
    """
    state = net.state_dict(keep_vars=True).values()
    stored = {id(t): t for t in state if isinstance(t, torch.Tensor)}
    for each in without:
        stored.pop(id(each), None)
    return sum(t.numel() * t.element_size() for t in stored.values()) / MEGA


def dense_footprint(counted):
    """`Footprint` of the network with every low-rank layer as one dense matrix."""
    weights = [
        (m * n * counted.blocks.get(name, 1), m * n * positions)
        for name, (m, n, positions) in counted.maps.items()
    ]
    return Footprint(
        *(f + sum(w) for f, *w in zip(counted.fixed, *weights, strict=True))
    )


def dense_twin(net):
    """A copy of ``net`` whose layers have all ranks there are; `merge` makes it dense.

    Its numbers are made up, for what does not depend on them, as time.
    """
    net = copy.deepcopy(net)
    for layer in low_rank_layers(net).values():
        r = layer.max_rank
        layer.columns = None
        layer.set_factors(*(f.new_ones(len(f), r) for f in (layer.U, layer.V)))
    return net


def merge_at(net, ranks):
    """A merged copy of ``net`` at ``ranks``; ``net`` stays as it is."""
    small = copy.deepcopy(net)
    for name, layer in low_rank_layers(small).items():
        if layer.in_use < layer.rank:  # a lasting cut that was not committed
            truncate(small, {name: layer.in_use})
        layer.columns = None
    truncate(small, ranks)
    return merge(small.eval())
