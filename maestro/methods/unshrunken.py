"""Maestro without progressive shrinking: all columns stay until the training ends.

The ablation of Table 5. The lasso acts as in Algorithm 1, and what it left at or below
the threshold is cut once, after the last epoch.
"""

from .maestro import Maestro
from .method import Change


class Unshrunken(Maestro):
    """Algorithm 1 with one cut at the end; options as `Maestro`."""

    def after_epoch(self, model, optimizer):
        return Change.NOTHING

    def after_phase(self, phase, model, optimizer):
        return super().after_epoch(model, optimizer)
