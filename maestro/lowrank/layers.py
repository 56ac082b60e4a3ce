"""The layers: for nn.Linear, and for a weight that a module reads as it is."""

import math

import torch
from torch.nn import functional as F

from .base import LowRank


class LowRankLinear(LowRank):
    """nn.Linear as two factors: x (..., n) -> U (V^T x) + bias, (..., m)."""

    @property
    def in_features(self):
        return len(self.V)

    @property
    def out_features(self):
        return len(self.U)

    def forward(self, input):
        if surely(self.product_is_cheaper(math.prod(input.shape[:-1]))):
            return F.linear(input, self.matrix(), self.bias)
        U, V = self.factors()
        return F.linear(input @ V, U, self.bias)

    def extra_repr(self):
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"rank={self.rank}, bias={self.bias is not None}"
        )


class LowRankWeight(LowRank):
    """A weight of any shape that a module reads (`slots`): no bias, and not called.

    size: the weight's shape; its numbers are those of the blocks (G m, n) in order.
    """

    def __init__(self, U, V, size, blocks=1):
        super().__init__(U, V, None, blocks)
        self.size = tuple(size)
        m, n = self.shape
        if math.prod(self.size) != blocks * m * n:
            raise ValueError(
                f"size={self.size}: it takes the {blocks} x {m} x {n} numbers of U V^T"
            )

    def kernel(self, matrix):
        return matrix.reshape(self.size)

    def extra_repr(self):
        return f"{self.size}, blocks={self.blocks}, rank={self.rank}"


def surely(condition):
    """``condition``; where it depends on a size that is not known yet, False.

    A network that is compiled or exported for every size of batch must not ask.
    """
    if not torch.compiler.is_compiling():
        return condition
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    return statically_known_true(condition)
