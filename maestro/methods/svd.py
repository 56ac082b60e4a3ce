"""Singular value decomposition of the trained network, and fine-tuning if wanted.

The network trains dense, with the whole recipe. Then each layer is replaced by the
leading columns of its weight's SVD: a fixed part of them, or as many as keep a part of
the energy, the sum of squared singular values.
"""

from ..config import integer, number
from .fixed import FixedRank, share, singular_values
from .method import Change, Phase, fine_tuning


class SVD(FixedRank):
    """Factorised after training.

    Args:
        rank_ratio: a layer's rank as part of min(m, n), rounded down, at least 1.
        energy: where it is not 0, the ranks come from this instead: the fewest columns
            that hold this part of the sum of squared singular values.
        tune: epochs of further training, at the recipe's last learning rate.
        skip: names or patterns of layers left dense.
    """

    def __init__(self, rank_ratio=0.25, energy=0.0, tune=0, skip=()):
        self.rank_ratio = number("rank_ratio", rank_ratio)
        self.energy = number("energy", energy)
        for name, value in (("rank_ratio", rank_ratio), ("energy", energy)):
            if not (0 < value <= 1 or (name == "energy" and value == 0)):
                raise ValueError(f"{name}={value!r}: it takes a number in (0, 1]")
        self.tune = integer("tune", tune, low=0)
        self.skip = skip

    def phases(self, recipe):
        if not self.tune:
            return [Phase("training", recipe)]
        return [Phase("training", recipe), fine_tuning(recipe, self.tune)]

    def after_phase(self, phase, model, optimizer):
        if phase.name != "training":
            return Change.NOTHING
        rank_of = self._holding_energy if self.energy else share(self.rank_ratio)
        self.factorise(model, rank_of)
        return Change.NEW_OPTIMIZER

    def _holding_energy(self, name, layer):
        """The fewest columns that hold the part ``energy`` of all squared sigmas."""
        squares = singular_values(layer).square()  # (r,)
        held = squares.cumsum(0) / squares.sum()
        return min(layer.rank, 1 + int((held < self.energy).sum()))
