"""The layers, for nn.Linear and nn.Conv2d: one map U V^T, or two in a row."""

import math

import torch
from torch import nn
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

    def forward(self, x):
        if _surely(self.product_is_cheaper(math.prod(x.shape[:-1]))):
            return F.linear(x, self.matrix(), self.bias)
        U, V = self.factors()
        return F.linear(x @ V, U, self.bias)

    def extra_repr(self):
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"rank={self.rank}, bias={self.bias is not None}"
        )


class LowRankConv2d(LowRank):
    """nn.Conv2d as two: r filters of the kernel's size, then 1x1 to the m channels.

    V^T is the first one's weight (r, in_channels, kh, kw) and carries stride, padding
    and dilation; U is the second one's (m, r, 1, 1) and carries the bias.
    """

    def __init__(self, U, V, bias, like):
        super().__init__(U, V, bias)
        fits = isinstance(like, nn.Conv2d) and like.groups == 1
        if not fits or like.weight.flatten(1).shape != self.shape:
            m, n = self.shape
            raise ValueError(
                f"like={like!r}: it takes an nn.Conv2d with {m} outputs of {n} inputs"
            )
        self.in_channels, self.kernel_size = like.in_channels, like.kernel_size
        self.stride, self.padding = like.stride, like.padding
        self.dilation, self.padding_mode = like.dilation, like.padding_mode
        # what F.pad takes, from the last dimension backwards
        self._pad = like._reversed_padding_repeated_twice

    @property
    def out_channels(self):
        return len(self.U)

    def kernel(self, matrix):
        return matrix.reshape(len(matrix), self.in_channels, *self.kernel_size)

    def forward(self, x):
        if self.padding_mode != "zeros":
            x = F.pad(x, self._pad, mode=self.padding_mode)
            padding = 0
        else:
            padding = self.padding
        height, width = self._output_size(x.shape[-2:], padding)
        positions = math.prod(x.shape[:-3]) * height * width
        if self.width == 0:
            out = x.new_zeros(*x.shape[:-3], self.out_channels, height, width)
            return out if self.bias is None else out + self.bias[:, None, None]
        where = self.stride, padding, self.dilation
        if _surely(self.product_is_cheaper(positions)):
            return F.conv2d(x, self.kernel(self.matrix()), self.bias, *where)
        return self._two_maps(x, where, positions)

    def _two_maps(self, x, where, positions):
        U, V = self.factors()
        # for channels-last images PyTorch turns the kernel too, and its gradient back;
        # with many weights for each position, turning the images is less
        turned = _surely(4 * positions < len(V)) and _is_channels_last(x)
        x = x.contiguous() if turned else x
        narrow = F.conv2d(x, self.kernel(V.t()), None, *where)
        if turned:  # and channels come last again
            return F.linear(narrow.movedim(1, -1), U, self.bias).movedim(-1, 1)
        return F.conv2d(narrow, U[:, :, None, None], self.bias)

    def _output_size(self, size, padding):
        if padding == "same":
            return tuple(size)
        pads = (0, 0) if padding in ("valid", 0) else padding
        numbers = zip(
            size, pads, self.dilation, self.kernel_size, self.stride, strict=True
        )
        return tuple(
            (s + 2 * p - d * (k - 1) - 1) // t + 1 for s, p, d, k, t in numbers
        )

    def extra_repr(self):
        return (
            f"{self.in_channels}, {self.out_channels}, rank={self.rank}, "
            f"kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, "
            f"bias={self.bias is not None}"
        )


def _is_channels_last(x):
    last = x.is_contiguous(memory_format=torch.channels_last)
    return last and not x.is_contiguous()


def _surely(condition):
    """``condition``; where it depends on a size that is not known yet, False.

    A network that is compiled or exported for every size of batch must not ask.
    """
    if not torch.compiler.is_compiling():
        return condition
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    return statically_known_true(condition)
