"""Maestro: LoD sampling, hierarchical group lasso, progressive shrinking (Alg. 1)."""

from ..lowrank import (
    Masks,
    RankSampler,
    add_lasso_gradient,
    columns_in_use,
    factorize,
    ranks,
    shrink,
)
from ..lowrank.counting import costs
from .dense import Dense


class Maestro(Dense):
    """Algorithm 1.

    lambda_gl: weight of the lasso (0 switches it off). eps_ps: the importance at or
    below which columns are cut after each epoch. sampler: one of `lowrank.MODES`.
    skip: names or patterns of layers left dense.
    """

    recalibrates = True

    def __init__(self, lambda_gl=0.0, eps_ps=1e-7, sampler="pair", skip=()):
        for name, value in (("lambda_gl", lambda_gl), ("eps_ps", eps_ps)):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 <= value < float("inf"):
                raise ValueError(f"{name}={value!r}: it takes a number >= 0")
        self.lambda_gl, self.eps_ps = lambda_gl, eps_ps
        self.mode, self.skip = sampler, skip
        self.masks = None

    def prepare(self, model, example_inputs, generator):
        model = factorize(model, self.skip)
        self.costs = costs(model, example_inputs)
        self.sampler = RankSampler(model, self.mode, generator)
        return model

    def fix_shapes(self):
        self.masks = Masks(self.sampler.layers)

    def draw(self):
        self.cut = self.sampler.draw()
        if self.masks:
            self.masks.send(self.cut)

    def step(self):
        if self.masks:
            return self.masks.in_force()
        return columns_in_use(self.sampler.layers, self.cut)

    def penalise(self, model):
        if self.lambda_gl:
            add_lasso_gradient(model, self.lambda_gl)

    def after_epoch(self, model, optimizer):
        shrink(model, optimizer, self.eps_ps)

    def ranks(self, model):
        return ranks(model)

    def state_dict(self):
        return self.sampler.state_dict()

    def load_state_dict(self, state):
        self.sampler.load_state_dict(state)
