"""Low-rank convolutions in one, two and three dimensions, in groups, and transposed.

Each group of channels is a map of its own, so a block of the layer (`base`). A
transposed convolution is the transpose of a convolution: every position of the input,
n numbers, is mapped to a patch of the output, m = out_channels * kh * kw numbers, and
patches add up where they overlap.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from .base import LowRank, own_parameter
from .layers import surely

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class _LowRankConvNd(LowRank):
    """What both kinds have: the geometry of the convolution ``like`` which they are."""

    kinds = ()
    names = ""

    def __init__(self, U, V, bias, like):
        blocks = getattr(like, "groups", 1)
        super().__init__(U, V, None, blocks)
        if not isinstance(like, self.kinds) or self.unrolled(like).shape != (
            blocks,
            *self.shape,
        ):
            m, n = self.shape
            raise ValueError(
                f"like={like!r}: it takes {self.names} with {m} outputs of {n} inputs"
            )
        self.bias = None if bias is None else own_parameter(bias)
        self.in_channels, self.out_channels = like.in_channels, like.out_channels
        self.kernel_size, self.stride = like.kernel_size, like.stride
        self.padding, self.dilation = like.padding, like.dilation
        self.groups, self.padding_mode = like.groups, like.padding_mode
        self.output_padding = like.output_padding
        # what F.pad takes, from the last dimension backwards
        self._pad = like._reversed_padding_repeated_twice

    @property
    def dims(self):
        """1, 2 or 3: over how many dimensions the kernel moves."""
        return len(self.kernel_size)

    def _get_name(self):
        return f"{type(self).__name__}{self.dims}d"

    def _nothing(self, x, size):
        """The output where no column is in use: the bias, everywhere."""
        lead = x.shape[: -self.dims - 1]
        out = x.new_zeros(*lead, self.out_channels, *size)
        if torch.is_grad_enabled():  # gradients of zero, as a layer with columns has
            out = out + sum(part.sum() for part in (x[..., :0], *self.factors()))
        return out if self.bias is None else out + self._along_channels(self.bias)

    def _along_channels(self, vector):
        return vector.reshape(-1, *[1] * self.dims)

    def extra_repr(self):
        return (
            f"{self.in_channels}, {self.out_channels}, rank={self.rank}, "
            f"kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, "
            + (f"groups={self.groups}, " if self.groups > 1 else "")
            + f"bias={self.bias is not None}"
        )


class LowRankConv(_LowRankConvNd):
    """A convolution as two: r filters of the kernel's size, then 1x1 to the m channels.

    V^T is the first one's weight (r, in_channels, kh, kw) and carries stride, padding
    and dilation; U is the second one's (m, r, 1, 1) and carries the bias. In groups,
    both are in groups.
    """

    kinds, names = CONVOLUTIONS, "an nn.Conv1d, nn.Conv2d or nn.Conv3d"

    @staticmethod
    def unrolled(conv):
        """(groups, m, n): the weight of a dense convolution as a map for each group."""
        return conv.weight.flatten(1).unflatten(0, (conv.groups, -1))

    def kernel(self, matrix):
        channels = self.in_channels // self.groups
        return matrix.reshape(len(matrix), channels, *self.kernel_size)

    def filters(self, V):
        """V (G n, b) as the weight (G b, in_channels / G, kh, kw) of the first map."""
        if self.groups == 1:
            return self.kernel(V.t())
        return self.kernel(V.unflatten(0, (self.groups, -1)).mT.flatten(0, 1))

    def forward(self, input):
        x, convolve = input, getattr(F, f"conv{self.dims}d")
        if self.padding_mode != "zeros":
            x = F.pad(x, self._pad, mode=self.padding_mode)
            padding = 0
        else:
            padding = self.padding
        size = self._output_size(x.shape[-self.dims :], padding)
        positions = math.prod(x.shape[: -self.dims - 1]) * math.prod(size)
        if self.width == 0:
            return self._nothing(x, size)
        where = self.stride, padding, self.dilation
        if surely(self.product_is_cheaper(positions)):
            weight = self.kernel(self.matrix())
            return convolve(x, weight, self.bias, *where, self.groups)
        return self._two_maps(x, where, positions)

    def _two_maps(self, x, where, positions):
        convolve = getattr(F, f"conv{self.dims}d")
        U, V = self.factors()
        # for channels-last images PyTorch turns the kernel too, and its gradient back;
        # with many weights for each position, turning the images is less
        turned = (
            self.dims == 2
            and self.groups == 1
            and surely(4 * positions < len(V))
            and _is_channels_last(x)
        )
        x = x.contiguous() if turned else x
        narrow = convolve(x, self.filters(V), None, *where, self.groups)
        if turned:  # and channels come last again
            return F.linear(narrow.movedim(1, -1), U, self.bias).movedim(-1, 1)
        weight = U.reshape(*U.shape, *[1] * self.dims)
        return convolve(narrow, weight, self.bias, groups=self.groups)

    def _output_size(self, size, padding):
        if padding == "same":
            return tuple(size)
        pads = (0,) * self.dims if padding in ("valid", 0) else padding
        numbers = zip(
            size, pads, self.dilation, self.kernel_size, self.stride, strict=True
        )
        return tuple(
            (s + 2 * p - d * (k - 1) - 1) // t + 1 for s, p, d, k, t in numbers
        )


class LowRankConvTranspose(_LowRankConvNd):
    """A transposed convolution as two: 1x1 to r channels, then the kernel from these.

    V^T is the first one's weight (r, in_channels, 1, 1); U, whose rows are the numbers
    of a patch (out_channels, kh, kw), is the second one's and carries the geometry and
    the bias.
    """

    kinds = TRANSPOSED
    names = "an nn.ConvTranspose1d, nn.ConvTranspose2d or nn.ConvTranspose3d"

    @staticmethod
    def unrolled(conv):
        """(groups, m, n): the weight of a dense convolution as a map for each group."""
        return conv.weight.flatten(1).unflatten(0, (conv.groups, -1)).mT

    def kernel(self, matrix):
        channels = self.out_channels // self.groups
        matrix = matrix.unflatten(0, (self.groups, -1)).mT.flatten(0, 1)
        return matrix.reshape(len(matrix), channels, *self.kernel_size)

    def forward(self, input, output_size=None):
        x = input
        if output_size is not None and not torch.compiler.is_compiling():
            self.weight_was_read = True  # two maps in a row could not be told of it
        extra = nn.modules.conv._ConvTransposeNd._output_padding(
            self,
            x,
            output_size,
            self.stride,
            self.padding,
            self.kernel_size,
            self.dims,
            self.dilation,
        )
        where = self.stride, self.padding, extra, self.groups, self.dilation
        positions = x.numel() // self.in_channels
        if self.width == 0:
            return self._nothing(x, self._output_size(x.shape[-self.dims :], extra))
        spread = getattr(F, f"conv_transpose{self.dims}d")
        if surely(self.product_is_cheaper(positions)):
            return spread(x, self.kernel(self.matrix()), self.bias, *where)
        U, V = self.factors()
        narrow = getattr(F, f"conv{self.dims}d")(x, self.filters(V), groups=self.groups)
        return spread(narrow, self.kernel(U), self.bias, *where)

    def filters(self, V):
        """V (G n, b) as the weight (G b, in_channels / G, 1, 1) of the first map."""
        V = V.unflatten(0, (self.groups, -1)).mT.flatten(0, 1)
        return V.reshape(*V.shape, *[1] * self.dims)

    def _output_size(self, size, extra):
        numbers = zip(
            size,
            self.stride,
            self.padding,
            self.dilation,
            self.kernel_size,
            extra,
            strict=True,
        )
        return tuple(
            (s - 1) * t - 2 * p + d * (k - 1) + e + 1 for s, t, p, d, k, e in numbers
        )


def _is_channels_last(x):
    last = x.is_contiguous(memory_format=torch.channels_last)
    return last and not x.is_contiguous()
