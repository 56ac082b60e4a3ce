"""Maestro after a phase of dense training: what such methods share."""

from contextlib import nullcontext

from ..config import integer
from .maestro import Maestro
from .method import Change, Method, Phase, fine_tuning


class DenseStart(Maestro):
    """Algorithm 1 from the first epoch after the dense phase; options as `Maestro`.

    A subclass names its phases. ``dense_phase`` is the name of the one that trains the
    dense network; the SVD that ends it orders the columns by what the network has
    learnt. A training without that phase is low-rank from its start.
    """

    dense_phase = "training"
    starts_dense = True
    factorised = False

    def prepare(self, model, example_inputs, generator):
        self.generator = generator
        if self.starts_dense:
            return Method.prepare(self, model, example_inputs, generator)
        self.example_inputs = example_inputs
        return self._factorise(model)

    def _factorise(self, model):
        self.factorised = True
        return super().prepare(model, self.example_inputs, self.generator)

    def restore_shapes(self, model, state):
        if state["factorised"] and not self.factorised:
            return self._factorise(model)
        return model

    def fix_shapes(self):
        if self.factorised:
            super().fix_shapes()

    def draw(self):
        if self.factorised:
            super().draw()

    def active(self, training):
        return super().active(training) if self.factorised else nullcontext()

    def after_backward(self, model):
        if self.factorised:
            super().after_backward(model)

    def after_epoch(self, model, optimizer):
        if self.factorised:
            return super().after_epoch(model, optimizer)
        return Change.NOTHING

    def after_phase(self, phase, model, optimizer):
        if phase.name != self.dense_phase:
            return Change.NOTHING
        self._factorise(model)
        return Change.NEW_OPTIMIZER

    def training_cost(self, model):
        if self.factorised:
            return super().training_cost(model)
        return Method.training_cost(self, model)

    def state_dict(self):
        mine = {"factorised": self.factorised}
        return mine | (super().state_dict() if self.factorised else {})

    def load_state_dict(self, state):
        if self.factorised:
            super().load_state_dict(state)


class Pretrained(DenseStart):
    """A trained network, factorised and fine-tuned by Algorithm 1. Ours.

    The paper trains from an initialisation only. The fine-tuning is that of `SVD`, at
    the recipe's last learning rate, but the lasso decides the ranks meanwhile.

    Args:
        tune: epochs of fine-tuning, at least 1.
        lambda_gl, eps_ps, sampler, skip: as for `Maestro`.
    """

    def __init__(self, lambda_gl=0.0, eps_ps=1e-7, sampler="pair", skip=(), tune=5):
        super().__init__(lambda_gl, eps_ps, sampler, skip)
        self.tune = integer("tune", tune, low=1)

    def phases(self, recipe):
        return [Phase(self.dense_phase, recipe), fine_tuning(recipe, self.tune)]
