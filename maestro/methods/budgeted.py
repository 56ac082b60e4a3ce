"""Maestro that ends at a wanted size: the lasso is steered, the cut is exact. Ours.

The paper leaves the size to lambda_gl: "there is no guarantee about the final
footprint" (App. A). Here the size has a course to follow, which falls evenly on a
logarithmic axis to the wanted size. After each epoch lambda_gl is multiplied by more
than 1 while the network is above its course, and by less while it is below. Shrinking
stops at the wanted size. What is still above it when the course ends is cut, the
columns first that hold the least share of their layer's energy. The rest of the
training is without a lasso, so that the columns that stay recover from it.
"""

import math

from ..config import number
from ..lowrank import ranks, truncate
from ..lowrank.shrinking import ranks_above
from .maestro import Maestro
from .method import Change
from .wanted import Wanted

FASTEST = 2.0  # by how much lambda_gl changes in an epoch at most


class Budgeted(Maestro):
    """Algorithm 1 with a size in place of lambda_gl; other options as `Maestro`.

    Args:
        target: the wanted size as a share of the dense network's, in (0, 1].
        unit: of the size, "params" or "macs".
        start: lambda_gl in the first epoch.
        settled: the share of all epochs after which the wanted size is reached.
        eps_ps, sampler, skip: as for `Maestro`.
    """

    def __init__(
        self,
        target=0.5,
        unit="params",
        start=1e-4,
        settled=0.7,
        eps_ps=1e-5,
        sampler="pair",
        skip=(),
    ):
        super().__init__(0.0, eps_ps, sampler, skip)
        self.wanted = Wanted(target, unit, settled)
        if number("start", start) == 0:
            raise ValueError("start=0: it takes a number > 0, which can be multiplied")
        self.lambda_gl, self.epoch = float(start), 0

    def phases(self, recipe):
        self.settles_at = self.wanted.epochs(recipe)
        return super().phases(recipe)

    def prepare(self, model, example_inputs, generator):
        self.wanted.of(model, example_inputs)
        model = super().prepare(model, example_inputs, generator)
        self.begun = self._held(model)
        self.wanted.require_reach(model, self.costs)
        return model

    def after_epoch(self, model, optimizer):
        self.epoch += 1
        if not self.lambda_gl:
            return Change.NOTHING
        above = ranks_above(model, self.eps_ps)
        size = self.wanted.size(self.costs.footprint(above, merged=True))
        if size <= self.wanted.limit or self.epoch >= self.settles_at:
            truncate(model, self.wanted.fitting(model, self.costs), optimizer)
            self.lambda_gl = 0.0
        else:
            truncate(model, above, optimizer)
            self._steer(model)
        return Change.RECAPTURE  # a recorded step has this epoch's lambda_gl

    def _steer(self, model):
        """Multiply lambda_gl by how far the size is above its course."""
        end = math.log(self.wanted.limit / self.begun) / self.settles_at
        course = self.begun * math.exp(end * self.epoch)
        factor = self._held(model) / course
        self.lambda_gl *= min(max(factor, 1 / FASTEST), FASTEST)

    def _held(self, model):
        """The size with two factors in every layer: unlike the merged size it falls
        with every column, and tells early where the training is going."""
        return self.wanted.size(self.costs.footprint(ranks(model)))

    def state_dict(self):
        steering = {"lambda_gl": self.lambda_gl, "epoch": self.epoch}
        return steering | {"sampler": super().state_dict()}

    def load_state_dict(self, state):
        self.lambda_gl, self.epoch = state["lambda_gl"], state["epoch"]
        super().load_state_dict(state["sampler"])
