"""A network cut to a budget, reversibly until it is committed."""

from ..lowrank import low_rank_layers, truncate
from ..lowrank.ladders import ONE
from .budget import WORDS, Budget, layers_of
from .orders import harms, ordered
from .search import example_of, require_measure, require_some, walk


def fit_budget(
    net,
    example_inputs=None,
    *,
    data=None,
    by="loss per parameter",
    multiple=1,
    **limits,
):
    """Cut ``net`` to a budget, as near to it as single columns come; reversible.

    The network runs with its first columns only, until `Fit.commit` removes the others
    or `Fit.undo` brings them back. With ``data`` the ranks come from the `greedy`
    search; without, the columns go that hold the least share of their layer's energy,
    ||W||^2. What the budget then leaves is filled with the columns of all layers that
    hold the largest shares. Batch norm's statistics are left as they are: estimate
    them again after the cut.

    Args:
        net: a trained, factorised network.
        example_inputs: one example's inputs, to count and to time with; the first of
            ``data`` if None.
        data: as for `greedy`; None without any.
        by: what "hurts least" means to the `greedy` search.
        multiple: ranks from this number on are multiples of it, as a device may like.
        limits: params, macs, mb, ms: numbers, or text as in "0.5x", a share of the
            dense network's. The network meets all that are given, once merged.

    Returns:
        `Fit`.

    Raises:
        ValueError: an argument is wrong, or the budget cannot be met (the message names
            the smallest possible). Nothing is changed then.
    """
    require_some(limits)
    require_measure(by)
    budget = Budget(net, example_of(data, example_inputs), **limits)
    if data is None:
        ladders = budget.prices.ladders(ONE, multiple)
        ranks = ordered(budget, harms(net, "share of energy"), ladders, unit=None)
        ranks = budget.topped_up(ranks, multiple)
    else:
        ranks = walk(budget, data, None, by, multiple=multiple).best.ranks
    return Fit(net, ranks, budget)


class Fit:
    """A cut that can be undone: ``ranks``, ``sizes`` {unit: amount}, ``limits``."""

    def __init__(self, net, ranks, budget):
        self.net, self.ranks = net, ranks
        self.limits = budget.limits
        self.sizes = {unit: budget.cost(ranks, unit) for unit in budget.limits}
        layers = layers_of(net)
        self._before = {name: layers[name].columns for name in ranks}
        self._use(ranks)

    def __str__(self):
        parts = (
            f"{self.sizes[unit]:,.6g} of {limit:,.6g} {WORDS[unit]}"
            for unit, limit in self.limits.items()
        )
        return ", ".join(parts)

    def commit(self, optimizer=None):
        """Remove the columns that are not used, for good; returns ``net``.

        optimizer: as for `maestro.truncate`.
        """
        self._use(self._columns_before())
        try:
            truncate(self.net, self.ranks, optimizer)
        except ValueError:  # nothing is gone, so the cut can still be undone
            self._use(self.ranks)
            raise
        self._before = None
        return self.net

    def undo(self):
        """Bring the columns back; returns ``net``, as it was before the cut."""
        self._use(self._columns_before())
        self._before = None
        return self.net

    def _columns_before(self):
        if self._before is None:
            raise RuntimeError("this cut has been committed or undone already")
        return self._before

    def _use(self, columns):
        layers = low_rank_layers(self.net)
        for name, count in columns.items():
            layers[name].columns = count
