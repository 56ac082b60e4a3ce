"""Searches that do not look again: thresholds, fixed scores, dynamic programming.

The greedy search measures the network anew after every cut. These decide from what is
known of each layer alone, so that one set of scores gives a network for every budget: a
global order of the ranks of all layers, which the paper leaves to future work (App. A).
"""

from math import exp, inf, isnan, log

from ..lowrank.ladders import (
    importances,
    knapsack,
    order,
    shares_of_energy,
    shares_of_importance,
)
from .running import judge_of, runs_of

SCORES = {  # {what a cut harms: how it is known from the columns alone, if it is}
    "importance": importances,
    "share of importance": shares_of_importance,
    "share of energy": shares_of_energy,
    "loss alone": None,
}


def threshold_sweep(net, count=50):
    """Networks cut at thresholds over all importances: [(eps_ps, {name: rank}), ...].

    The thresholds are evenly spaced on a logarithmic axis over all importances
    (Sec. 3.4). Every layer keeps a column. Of thresholds that cut alike, the smallest
    is listed.
    """
    values = importances(net)
    cuts = [v for some in values.values() for v in some[:-1] if v > 0]
    low, high = min(cuts, default=1.0), max(cuts, default=1.0)
    step = (log(high) - log(low)) / (count - 1)
    sweep = []
    for place in range(count):
        # a little less, so that rounding does not decide on the smallest
        eps = exp(log(low) + place * step) * (1 - 1e-9)
        ranks = {
            name: max(sum(v > eps for v in some), min(1, len(some) - 1))
            for name, some in values.items()
        }
        if not sweep or ranks != sweep[-1][1]:
            sweep.append((eps, ranks))
    return sweep


def losses_alone(net, data, ladders):
    """{name: {rank: rise of the loss}} when one layer alone is cut to that rank.

    Args:
        net: a trained, factorised network.
        data: as for `greedy`.
        ladders: {name: falling ranks}, the first the layer's own.
    """
    with runs_of(net, judge_of(data)) as runs:
        whole = {name: ladder[0] for name, ladder in ladders.items()}
        loss, _ = runs.base(whole)
        return {
            name: {ladder[0]: 0.0}
            | {
                rank: inf if isnan(rise) else rise
                for rank in ladder[1:]
                for rise in [runs.other(whole | {name: rank}, changed=name)[0] - loss]
            }
            for name, ladder in ladders.items()
        }


def harms(net, scores, data=None, ladders=None):
    """{name: harm at each rank} by fixed ``scores``, one of SCORES.

    "importance" is that of the columns cut off, as Algorithm 1 compares with eps_ps;
    "share of importance" divides it by the layer's whole; "share of energy" is
    ||W - W_r||^2 / ||W||^2; "loss alone" is `losses_alone` and needs ``data`` and
    ``ladders``.
    """
    if scores not in SCORES:
        raise ValueError(f"scores={scores!r}: it is one of {', '.join(SCORES)}")
    if scores == "loss alone":
        return losses_alone(net, data, ladders)
    return SCORES[scores](net)


def ordered(budget, harm, ladders, unit="params"):
    """The first ranks in the global `order` that meet ``budget``.

    Args:
        budget: a `Budget`.
        harm, ladders, unit: as for `order`.

    Returns:
        {name: rank}, within one column of the budget.
    """
    return first_within(budget, order(budget.prices, ladders, harm, unit))


def first_within(budget, path):
    """The first ranks on ``path`` within ``budget``, part of the last group put back.

    path: [{name: rank}, ...]; from each to the next, one layer loses columns.
    """
    place = next(i for i, ranks in enumerate(path) if budget.met(ranks))
    ranks = path[place]
    if place == 0:
        return ranks
    [name] = [n for n in ranks if ranks[n] != path[place - 1][n]]
    return budget.filled(ranks, name, path[place - 1][name] - 1)


def planned(budget, harm, ladders):
    """The ranks of the least summed ``harm`` within a ``budget`` of one unit.

    Args:
        budget: a `Budget` in params or macs.
        harm, ladders: as for `knapsack`.

    Returns:
        {name: rank}.

    Raises:
        ValueError: the budget is of several units, or another one.
    """
    if len(budget.limits) != 1 or not budget.limits.keys() <= {"params", "macs"}:
        raise ValueError(
            "dynamic programming takes one budget, in params or macs; this is in "
            f"{', '.join(budget.limits) or 'none'}"
        )
    [(unit, limit)] = budget.limits.items()
    ranks = knapsack(budget.prices, ladders, harm, limit, unit)
    for name, ladder in ladders.items():
        above = [rank for rank in ladder if rank > ranks[name]]
        ranks = budget.filled(ranks, name, min(above, default=1) - 1)
    return ranks
