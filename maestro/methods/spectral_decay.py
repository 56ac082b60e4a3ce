"""Spectral weight decay: dense training in which singular values shrink, then one cut.

The nuclear norm, the sum of singular values, takes the place of the sum of squares that
ordinary weight decay penalises. After each step of the optimiser every matrix W loses
lr c P Q^T, where W = P S Q^T: by five Newton-Schulz steps, which find P Q^T without an
SVD (arXiv 2610.11730), so that singular values shrink towards zero; or, every so many
steps, by the proximal map, which sets the small ones to zero exactly. When training
ends, each matrix is cut at its entropy effective rank, exp(H(sigma / sum sigma)).
"""

import torch

from ..config import integer, number
from ..lowrank.choosing import choose
from .fixed import FixedRank, singular_values, without_decay
from .method import Change

QUINTIC = (3.4445, -4.7750, 2.0315)  # of the Newton-Schulz iteration


class SpectralDecay(FixedRank):
    """Nuclear-norm decay, then factorised at the effective ranks.

    Args:
        coefficient: c; a step moves each singular value by lr c.
        every: 0 for Newton-Schulz at each step; else the proximal map, by an SVD, every
            so many steps.
        skip: names or patterns of layers left dense, with ordinary weight decay.
    """

    def __init__(self, coefficient=0.01, every=0, skip=()):
        self.coefficient = number("coefficient", coefficient)
        self.every = integer("every", every, low=0)
        self.skip, self.steps = skip, 0
        self.replayable = not every  # an SVD asks the device for numbers

    def prepare(self, model, example_inputs, generator):
        model = super().prepare(model, example_inputs, generator)
        self.names = list(choose(model, self.skip)[0])
        return model

    def _weights(self, model):
        return [model.get_submodule(name).weight for name in self.names]

    def groups(self, groups, model):
        return without_decay(groups, self._weights(model))

    @torch.no_grad()
    def after_step(self, model, optimizer):
        self.steps += 1
        if self.every and self.steps % self.every:
            return
        groups = optimizer.param_groups
        rates = {id(p): group["lr"] for group in groups for p in group["params"]}
        for weight in self._weights(model):
            step = self.coefficient * rates[id(weight)] * max(1, self.every)
            matrix = weight.flatten(1)  # (m, n)
            if self.every:
                matrix = soft_threshold(matrix, step)
            else:
                matrix = matrix - step * orthogonal_factor(matrix)
            weight.copy_(matrix.view_as(weight))

    def after_phase(self, phase, model, optimizer):
        self.factorise(model, _effective_rank)
        return Change.NEW_OPTIMIZER

    def state_dict(self):
        return super().state_dict() | {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]


def orthogonal_factor(matrix, steps=5):
    """About P Q^T of M = P S Q^T (m, n), by Newton-Schulz: singular values near 1."""
    a, b, c = QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    X = matrix.t() if tall else matrix
    X = X / (X.norm() + 1e-7)
    for _ in range(steps):
        A = X @ X.t()
        X = a * X + (b * A + c * A @ A) @ X
    return X.t() if tall else X


def soft_threshold(matrix, step):
    """The proximal map of step * (sum of singular values), at M (m, n)."""
    P, S, Qt = torch.linalg.svd(matrix, full_matrices=False)
    return P * (S - step).clamp(min=0) @ Qt


def effective_rank(sigma):
    """exp of the entropy of sigma / sum(sigma) (Roy & Vetterli 2007); sigma (r,)."""
    p = sigma / sigma.sum()
    return torch.exp(torch.special.entr(p).sum()).item()


def _effective_rank(name, layer):
    sigma = singular_values(layer)
    alive = int((sigma > 0).sum())
    if not alive:
        return 0
    return min(alive, max(1, round(effective_rank(sigma))))
