"""Maestro: LoD sampling, hierarchical group lasso, progressive shrinking (Alg. 1)."""

from ..config import number
from ..lowrank import (
    Masks,
    RankSampler,
    add_lasso_gradient,
    columns_in_use,
    expected_columns,
    factorize,
    ranks,
    shrink,
)
from .method import Change, Method


class Maestro(Method):
    """Algorithm 1.

    lambda_gl: weight of the lasso (0 switches it off). eps_ps: the importance at or
    below which columns are cut after each epoch. sampler: one of `lowrank.MODES`.
    skip: names or patterns of layers left dense.
    """

    def __init__(self, lambda_gl=0.0, eps_ps=1e-7, sampler="pair", skip=()):
        self.lambda_gl = number("lambda_gl", lambda_gl)
        self.eps_ps = number("eps_ps", eps_ps)
        self.mode, self.skip = sampler, skip
        self.masks = None

    def prepare(self, model, example_inputs, generator):
        model = super().prepare(factorize(model, self.skip), example_inputs, generator)
        self.sampler = RankSampler(model, self.mode, generator)
        return model

    def fix_shapes(self):
        self.masks = Masks(self.sampler.layers)

    def draw(self):
        self.cut = self.sampler.draw()
        if self.masks:
            self.masks.send(self.cut)

    def active(self, training):
        if not training:
            return super().active(training)
        if self.masks:
            return self.masks.in_force()
        return columns_in_use(self.sampler.layers, self.cut)

    def after_backward(self, model):
        if self.lambda_gl:
            add_lasso_gradient(model, self.lambda_gl)

    def after_epoch(self, model, optimizer):
        before = ranks(model)
        cut = shrink(model, optimizer, self.eps_ps) != before
        return Change.RECAPTURE if cut else Change.NOTHING

    def ranks(self, model):
        return ranks(model)

    def training_cost(self, model):
        """Parameters held, masked columns too, and the mean MACs over LoD's draws."""
        used = expected_columns(self.ranks(model), self.mode)
        held = self.costs.footprint(ranks(model)).params
        return held, self.costs.footprint(used).macs

    def state_dict(self):
        return self.sampler.state_dict()

    def load_state_dict(self, state):
        self.sampler.load_state_dict(state)
