"""Pufferfish (Wang et al. 2021): dense warm-up, one SVD, then a low-rank network.

The network trains dense for some epochs. Then every layer that is not left dense is
replaced by the leading columns of the singular value decomposition of its weight, and
training goes on: the same schedule, a new optimiser. The ranks never change.
"""

from ..config import integer, number
from .fixed import FixedRank, share
from .method import WARM_UP, Change, warmed_up


class Pufferfish(FixedRank):
    """Fixed ranks after a dense warm-up.

    Args:
        warm_up: epochs of dense training; 0 factorises the initialisation.
        rank_ratio: a layer's rank is this part of min(m, n), rounded down, at least 1.
        skip: names or patterns of layers left dense.
    """

    def __init__(self, warm_up=80, rank_ratio=0.25, skip=()):
        self.warm_up = integer("warm_up", warm_up, low=0)
        self.rank_ratio = number("rank_ratio", rank_ratio)
        if not 0 < rank_ratio <= 1:
            raise ValueError(f"rank_ratio={rank_ratio!r}: it takes a number in (0, 1]")
        self.skip = skip

    def phases(self, recipe):
        return warmed_up(recipe, self.warm_up)

    def prepare(self, model, example_inputs, generator):
        model = super().prepare(model, example_inputs, generator)
        return model if self.warm_up else self.factorise(model, share(self.rank_ratio))

    def after_phase(self, phase, model, optimizer):
        if phase.name != WARM_UP:
            return Change.NOTHING
        self.factorise(model, share(self.rank_ratio))
        return Change.NEW_OPTIMIZER
