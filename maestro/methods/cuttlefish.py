"""Cuttlefish (Wang et al. 2023): the ranks, and when to factorise, from stable ranks.

The stable rank of a weight, ||W||_F^2 / sigma_max^2, is followed from epoch to epoch.
When it has stopped changing in every layer, the network is factorised once, each layer
at its stable rank scaled by what a full-rank weight had at the start, and training goes
on with a new optimiser. Rule, window and thresholds are those of the released code,
which are constants of a task there and options here.
"""

import math

import numpy as np
import torch

from ..config import integer, number
from ..lowrank import low_rank_layers
from ..lowrank.choosing import choose
from .fixed import FixedRank, add_frobenius_gradient, without_decay
from .method import Change


class Cuttlefish(FixedRank):
    """Ranks from scaled stable ranks, at the epoch at which these have settled.

    Args:
        window: over how many values of its slope a layer must be settled.
        threshold: the mean size of the slope, in ranks an epoch, at or below which it
            is. It is relaxed 2.5-fold when two layers are left, 5-fold for the last.
        patience: the first epoch at which a layer may be settled.
        smoothing: the stable ranks are averaged exponentially, with 2/(smoothing + 1).
        frobenius_decay: weight of ||U V^T||_F^2 / 2 for the factors, in place of the
            recipe's weight decay; 0 leaves them that.
        floor: the smallest rank, as a part of min(m, n).
        skip: names or patterns of layers left dense, and not followed.
    """

    def __init__(
        self,
        window=11,
        threshold=0.1,
        patience=15,
        smoothing=15,
        frobenius_decay=0.0,
        floor=0.0,
        skip=(),
    ):
        self.window = integer("window", window, low=1)
        self.threshold = number("threshold", threshold)
        self.patience = integer("patience", patience, low=0)
        self.smoothing = integer("smoothing", smoothing, low=1)
        self.frobenius_decay = number("frobenius_decay", frobenius_decay)
        self.floor = number("floor", floor)
        if floor > 1:
            raise ValueError(f"floor={floor!r}: it takes a number from 0 to 1")
        self.skip = skip
        self.scales = {}  # {layer: full rank over stable rank at the start}
        self.course = {}  # {layer: [stable rank before each epoch]}
        self.settled = set()

    def prepare(self, model, example_inputs, generator):
        model = super().prepare(model, example_inputs, generator)
        layers = choose(model, self.skip)[0]
        for name, layer in layers.items():
            matrix = layer.weight.detach().flatten(1)
            self.scales[name] = min(matrix.shape) / whole_stable_rank(matrix)
            self.course[name] = []
        return model

    def before_epoch(self, model, optimizer):
        if self.factorised:
            return Change.NOTHING
        # as in the released code, one epoch after the last layer has settled
        due = len(self.settled) == len(self.course)
        for name, course in self.course.items():
            matrix = model.get_submodule(name).weight.detach().flatten(1)
            course.append(whole_stable_rank(matrix))
        if not due:
            self._settle()
            return Change.NOTHING
        self.factorise(model, self._rank_of)
        return Change.NEW_OPTIMIZER

    def _settle(self):
        """Add the layers whose stable rank has stopped changing; they stay settled."""
        left = len(self.course) - len(self.settled)
        threshold = self.threshold * {1: 5.0, 2: 2.5}.get(left, 1.0)
        for name, course in self.course.items():
            slopes = slope_of_average(course, self.smoothing)[-self.window :]
            late = len(course) > max(self.patience, 1)
            if late and np.abs(slopes).mean() <= threshold:
                self.settled.add(name)

    def _rank_of(self, name, layer):
        scaled = math.ceil(self.scales[name] * self.course[name][-1])
        least = max(1, math.ceil(self.floor * layer.max_rank))
        return min(layer.max_rank, max(least, scaled))

    def groups(self, groups, model):
        if not (self.frobenius_decay and self.factorised):
            return groups
        layers = low_rank_layers(model).values()
        factors = [p for layer in layers for p in (layer.U, layer.V)]
        return without_decay(groups, factors)

    def after_backward(self, model):
        if self.frobenius_decay and self.factorised:
            add_frobenius_gradient(model, self.frobenius_decay)

    def state_dict(self):
        followed = {"scales": self.scales, "course": self.course}
        return super().state_dict() | followed | {"settled": sorted(self.settled)}

    def load_state_dict(self, state):
        self.scales, self.course = dict(state["scales"]), dict(state["course"])
        self.settled = set(state["settled"])


def stable_rank(matrix):
    """||W||_F^2 / sigma_max^2 of W (m, n): between 1 and its rank."""
    matrix = matrix.to(torch.float64)
    largest = torch.linalg.matrix_norm(matrix, 2)
    return (matrix.square().sum() / largest.square()).item()


def whole_stable_rank(matrix):
    """`stable_rank` rounded down, as in the released code; at least 1."""
    return max(1, math.floor(stable_rank(matrix)))


def slope_of_average(values, smoothing):
    """Central differences of the exponential average of ``values``; as many."""
    weight, average = 2 / (smoothing + 1), [float(values[0])]
    for value in values[1:]:
        average.append(weight * value + (1 - weight) * average[-1])
    return np.gradient(average) if len(average) > 1 else np.zeros(1)
