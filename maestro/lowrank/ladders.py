"""Which ranks a search may give each layer, what they cost, and fixed orders of them.

A ladder is a layer's ranks in falling order: its own, then those at which the merged
layer is smaller, down to 1. Ranks between the two are left out, because there the layer
is stored as one dense matrix (App. D.4): columns would be lost and nothing be gained.
"""

import heapq
from math import inf, isnan

import numpy as np

from .counting import Footprint
from .factorize import low_rank_layers
from .penalty import importance
from .shrinking import energy_tails

ONE = 1e-9  # the ``share`` of a ladder of single columns


def _beyond(costs, name, rank):
    """[what rank 0, 1, ..., ``rank`` of layer ``name`` costs more than ``rank``]."""
    sizes = [costs.layer(name, k, merged=True) for k in range(rank + 1)]
    params, macs = sizes[rank]
    return [Footprint(size.params - params, size.macs - macs) for size in sizes]


class Prices:
    """The size of a network at all ranks up to its own, as `maestro.merge` stores it.

    Args:
        costs: the network's `Costs`.
        ranks: {name: r}, the ranks before anything is cut.
    """

    def __init__(self, costs, ranks):
        self.ranks = dict(ranks)
        self.whole = costs.footprint(ranks, merged=True)
        self._more = {  # {name: [what rank 0, 1, ... costs more than the layer's own]}
            name: _beyond(costs, name, rank) for name, rank in self.ranks.items()
        }

    def footprint(self, ranks):
        """`Footprint` when merged at ``ranks``; layers not named keep theirs."""
        more = [self._more[name][rank] for name, rank in ranks.items()]
        return Footprint(*(w + sum(m) for w, *m in zip(self.whole, *more, strict=True)))

    def smallest(self):
        """`Footprint` with one column left in each layer."""
        return self.footprint({name: min(1, r) for name, r in self.ranks.items()})

    def saved(self, name, before, after, unit):
        """How many "params" or "macs" (``unit``) a cut of layer ``name`` saves."""
        own = self._more[name]
        return getattr(own[before], unit) - getattr(own[after], unit)

    def ladder(self, name, share=0.1, multiple=1):
        """The falling ranks of layer ``name`` that a search tries.

        Args:
            name: the layer's name.
            share: the columns between two ranks, as a share of the layer's rank; at
                least one column.
            multiple: ranks from this number on are multiples of it.

        Returns:
            [r, ..., 1], without ranks that cost as much as r.
        """
        r, own = self.ranks[name], self._more[name]
        step, ranks = max(1, round(share * r)), [r]
        k = max((k for k in range(1, r) if own[k] < own[r]), default=0)
        while k > 0:
            rank = k // multiple * multiple or k
            if rank < ranks[-1]:
                ranks.append(rank)
            k = max(k - step, 1) if k > 1 else 0
        return ranks

    def ladders(self, share=0.1, multiple=1):
        """{name: ladder} of all layers."""
        return {name: self.ladder(name, share, multiple) for name in self.ranks}


def importances(net):
    """{name: [importance of all that is cut off at rank 0, 1, ..., r]}, as lists.

    The importance of Algorithm 1, line 11, of the columns behind rank k; 0 at rank r.
    """
    return {
        name: [*importance(layer)[: layer.in_use].double().tolist(), 0.0]
        for name, layer in low_rank_layers(net).items()
    }


def shares_of_importance(net):
    """`importances`, each divided by that of the layer's whole."""
    return {name: _shares(values) for name, values in importances(net).items()}


def shares_of_energy(net):
    """{name: [share of ||W||^2 that is cut off at rank 0, 1, ..., r]}, as lists.

    The energy is that of `energy_ranks`. Right after an SVD, a column's share is its
    squared singular value over the sum of all.
    """
    return {
        name: _shares(energy_tails(layer)[: layer.in_use + 1].tolist())
        for name, layer in low_rank_layers(net).items()
    }


def _shares(values):
    """Each value as a share of the first, without what the last one has."""
    whole = values[0] - values[-1] or 1
    return [(value - values[-1]) / whole for value in values]


def harm_each(rise, saved):
    """The ``rise`` of a harm for each unit ``saved``; inf if no number says that."""
    return inf if isnan(rise) or not saved else rise / saved


def order(prices, ladders, harm, unit="params"):
    """A global order of ranks by fixed scores: the path of a search without a look.

    Each step takes the layer whose next rank does the least harm for what it saves.
    The harm of cuts in several layers is taken to be the sum of their harms.

    Args:
        prices: `Prices`.
        ladders: {name: falling ranks}.
        harm: {name: [harm of cutting this layer alone to rank 0, 1, ..., r]}.
        unit: what is saved, "params" or "macs"; None for columns.

    Returns:
        [{name: rank}, ...], from the first rank of every ladder to the last.
    """
    now = {name: ladder[0] for name, ladder in ladders.items()}
    path, place, queue = [dict(now)], dict.fromkeys(ladders, 0), []

    def offer(name):
        if place[name] + 1 < len(ladders[name]):
            before, after = ladders[name][place[name] : place[name] + 2]
            price = before - after
            if unit:
                price = prices.saved(name, before, after, unit)
            rise = harm[name][after] - harm[name][before]
            heapq.heappush(queue, (harm_each(rise, price), name))

    for name in ladders:
        offer(name)
    while queue:
        _, name = heapq.heappop(queue)
        place[name] += 1
        now[name] = ladders[name][place[name]]
        path.append(dict(now))
        offer(name)
    return path


def knapsack(prices, ladders, harm, limit, unit="params", cells=20_000):
    """The ranks of the least summed harm within ``limit``, by dynamic programming.

    The arguments are those of `order`. What the limit leaves above the smallest network
    is divided into at most ``cells`` steps, and costs are rounded up to whole steps, so
    that the limit always holds.

    Returns:
        {name: rank}.

    Raises:
        ValueError: the smallest network is above the limit.
    """
    bottom = {name: ladder[-1] for name, ladder in ladders.items()}
    least = getattr(prices.footprint(bottom), unit)
    if limit < least:
        raise ValueError(f"{unit}={limit:,.0f}: the least is {least:,}")
    span = max(int(limit) - least, 1)
    cells = min(cells, span)  # no rounding where there is room for every number

    def steps(name, rank):
        more = prices.saved(name, rank, ladders[name][-1], unit)
        return int(-(-more * cells // span))

    best, chosen = np.zeros(cells + 1), []
    for name, ladder in ladders.items():
        totals = np.full((len(ladder), cells + 1), np.inf)
        for place, rank in enumerate(ladder):
            took = steps(name, rank)
            if took <= cells:
                totals[place, took:] = best[: cells + 1 - took] + harm[name][rank]
        chosen.append(totals.argmin(0))
        best = totals.min(0)
    ranks, left = {}, cells
    for name, places in zip(reversed(ladders), reversed(chosen), strict=True):
        ranks[name] = ladders[name][places[left]]
        left -= steps(name, ranks[name])
    return {name: ranks[name] for name in ladders}
