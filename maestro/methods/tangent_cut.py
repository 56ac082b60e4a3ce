"""Tangent steps that end at a wanted size, by one cut during the training: ours.

Tangent steps move small singular values as fast as large ones and so work against a
lasso, which would let the small ones die. Here there is no lasso. The ranks are full
until most of the training is over. Then every layer takes the factors of the SVD of its
product, the columns are cut that hold the least share of their layer's energy, and the
rest of the training recovers.
"""

import copy

from ..lowrank import factorize, refactorize, truncate
from ..lowrank.counting import costs
from .method import LOW_RANK, Change, Phase
from .tangent import Tangent
from .wanted import Wanted

CUT = "after the cut"  # the name of the last phase


class TangentCut(Tangent):
    """LoD with tangent gradients, a dense start, and one cut to a wanted size.

    Args:
        target: the wanted size as a share of the dense network's, in (0, 1].
        unit: of the size, "params" or "macs".
        settled: the share of all epochs after which the network is cut.
        sampler, skip, warm_up, damping: as for `Tangent`.
    """

    def __init__(
        self,
        target=0.5,
        unit="params",
        settled=0.6,
        sampler="none",
        skip=(),
        warm_up=1,
        damping=1e-2,
    ):
        super().__init__(0.0, 0.0, sampler, skip, warm_up, damping)
        self.wanted = Wanted(target, unit, settled)

    def phases(self, recipe):
        *start, low_rank = super().phases(recipe)
        cut = self.wanted.epochs(recipe)
        if not low_rank.first < cut < recipe.epochs:
            raise ValueError(
                f"settled={self.wanted.settled:g}: the cut would be after epoch {cut}; "
                f"it takes one after {low_rank.first} and before {recipe.epochs}"
            )
        return [*start, low_rank._replace(last=cut), Phase(CUT, recipe, cut)]

    def prepare(self, model, example_inputs, generator):
        self.wanted.of(model, example_inputs)
        trial = factorize(copy.deepcopy(model), self.skip)
        self.wanted.require_reach(trial, costs(trial, example_inputs))
        return super().prepare(model, example_inputs, generator)

    def after_phase(self, phase, model, optimizer):
        change = super().after_phase(phase, model, optimizer)
        if phase.name == LOW_RANK:
            truncate(model, self.wanted.fitting(refactorize(model), self.costs))
            change |= Change.NEW_OPTIMIZER
        return change
