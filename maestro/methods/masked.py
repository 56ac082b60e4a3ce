"""Maestro as the authors' code shrinks: columns are masked, not cut.

Masked columns are out of the forward pass, but stay in the weights, under the lasso
and in the optimiser, and each epoch's mask is decided anew from all of them: a rank
that was given up can come back. Here for comparison only.
"""

from ..lowrank import importance, low_rank_layers
from .maestro import Maestro
from .method import Change


class Masked(Maestro):
    """Algorithm 1 with masks; options as `Maestro`."""

    def after_epoch(self, model, optimizer):
        for layer in low_rank_layers(model).values():
            layer.columns = int((importance(layer) > self.eps_ps).sum())
        return Change.NOTHING  # `draw` sends the widths to a recorded step

    def ranks(self, model):
        return {name: layer.width for name, layer in low_rank_layers(model).items()}
