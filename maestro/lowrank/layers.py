"""The layers: a linear map stored as W = U V^T, for nn.Linear and nn.Conv2d (Sec. 3.2).

Both layers store the same two factors, so that importance, penalty and shrinking are
written once:

    U  (m, r)   m = out_features, or out_channels
    V  (n, r)   n = in_features,  or in_channels * kh * kw

Column b of U and column b of V together are one rank; the rank of a layer is the number
of columns it stores, so every ``state_dict`` says it and loads at it. Both factors are
plain contiguous parameters, as optimisers and file formats expect; the first b columns
are a view.
"""

import torch
from torch import nn
from torch.nn import functional as F

from .draws import lasting_columns, refuse_other_columns

# single-precision numbers in a vector register of the larger CPUs; a map to 6 channels
# takes as long as one to 16
REGISTER = 16


def _parameter(tensor):
    """A parameter of its own with the numbers of ``tensor``, contiguous."""
    copy = tensor.detach().clone(memory_format=torch.contiguous_format)
    return nn.Parameter(copy)


def whole_registers(outputs):
    """How many outputs are computed where ``outputs`` are wanted."""
    return -(-outputs // REGISTER) * REGISTER


def _is_channels_last(x):
    last = x.is_contiguous(memory_format=torch.channels_last)
    return last and not x.is_contiguous()


def take_hooks(new, old):
    """Let the forward and backward hooks of module ``old`` go on, on ``new``."""
    for key, value in vars(old).items():
        if key.startswith(("_forward_", "_backward_", "_is_full_backward_")):
            setattr(new, key, value)  # not a copy: their handles still remove them


class LowRank(nn.Module):
    """y = U V^T x + bias, for the two factors U (m, r) and V (n, r).

    ``columns`` is ordered dropout's state: None, or the number of leading columns that
    the layer uses (`maestro.sample` sets it for the length of one step), or the same as
    a row (r,) of ones and then zeros, which keeps all shapes as they are. At rank 0 the
    layer is its bias.
    """

    def __init__(self, U, V, bias=None):
        super().__init__()
        if U.ndim != 2 or V.ndim != 2 or U.shape[1] != V.shape[1]:
            raise ValueError(
                f"U {tuple(U.shape)} and V {tuple(V.shape)} must be matrices with as "
                "many columns each"
            )
        self.U, self.V = _parameter(U), _parameter(V)
        self.bias = None if bias is None else _parameter(bias)
        self.columns = None

    @property
    def rank(self):
        """r, the number of columns stored now."""
        return self.U.shape[1]

    @property
    def max_rank(self):
        """min(m, n): no linear map of this shape has a larger rank."""
        return min(len(self.U), len(self.V))

    @property
    def shape(self):
        """(m, n) of the linear map."""
        return len(self.U), len(self.V)

    @property
    def width(self):
        """How many leading columns are computed with: all r, unless some are cut."""
        return self.columns if isinstance(self.columns, int) else self.rank

    def factors(self):
        """U (m, b) and V (n, b): the leading columns in use, all r unless sampled.

        RuntimeError if a checkpointed run is done again after its draw (`draws`).
        """
        refuse_other_columns(self)
        U, V, columns = self.U, self.V, self.columns
        if isinstance(columns, torch.Tensor):  # of one factor it is enough
            return (U * columns, V) if len(U) <= len(V) else (U, V * columns)
        return U[:, :columns], V[:, :columns]

    def matrix(self):
        """U V^T (m, n), of the columns in use."""
        U, V = self.factors()
        return U @ V.t()

    def product_is_cheaper(self, positions):
        """Whether making U V^T first takes less work than two maps.

        ``positions``: how many vectors the map is applied to in this call. Two maps
        cost r (m + n) multiply-accumulates for each; the product costs r m n once and
        m n for each. What a map puts out is counted in whole registers, as it is made.
        """
        (m, n), r = self.shape, self.width
        m_made, r_made = whole_registers(m), whole_registers(r)
        product = r * m * n + positions * m_made * n
        return product < positions * r_made * (m_made + n)

    def set_factors(self, U, V):
        """Put new factors in place, keeping whether they are trained.

        Returns [(old parameter, new parameter), ...] for whoever holds the old ones.
        """
        old = self.U, self.V
        self.U = nn.Parameter(U, requires_grad=self.U.requires_grad)
        self.V = nn.Parameter(V, requires_grad=self.V.requires_grad)
        return list(zip(old, (self.U, self.V), strict=True))

    def __getstate__(self):
        """What a copy has; made while a draw is in force, it runs in full."""
        return super().__getstate__() | {"columns": lasting_columns(self)}

    def _load_from_state_dict(self, state_dict, prefix, *args):
        """Take the rank of what is loaded; anything else about it must fit.

        The factors are new parameters then: make the optimiser after loading.
        """
        m, n = self.shape
        loaded = [getattr(state_dict.get(prefix + key), "shape", ()) for key in "UV"]
        rank = loaded[0][-1] if loaded[0] else self.rank
        # what does not fit is refused below, and must leave the layer as it was
        if rank != self.rank and loaded == [(m, rank), (n, rank)]:
            self.set_factors(self.U.new_empty(m, rank), self.V.new_empty(n, rank))
        super()._load_from_state_dict(state_dict, prefix, *args)


class LowRankLinear(LowRank):
    """nn.Linear as two factors: x (..., n) -> U (V^T x) + bias, (..., m)."""

    @property
    def in_features(self):
        return len(self.V)

    @property
    def out_features(self):
        return len(self.U)

    @property
    def weight(self):
        """W = U V^T (m, n), for code that reads a layer's weight itself."""
        return self.matrix()

    def forward(self, x):
        if self.product_is_cheaper(x.shape[:-1].numel()):
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
        self.in_channels, self.kernel_size = like.in_channels, like.kernel_size
        self.stride, self.padding = like.stride, like.padding
        self.dilation, self.padding_mode = like.dilation, like.padding_mode
        # what F.pad takes, from the last dimension backwards
        self._pad = like._reversed_padding_repeated_twice

    @property
    def out_channels(self):
        return len(self.U)

    @property
    def weight(self):
        """W = U V^T as a kernel (m, in_channels, kh, kw)."""
        return self._kernel(self.matrix())

    def forward(self, x):
        if self.padding_mode != "zeros":
            x = F.pad(x, self._pad, mode=self.padding_mode)
            padding = 0
        else:
            padding = self.padding
        height, width = self._output_size(x.shape[-2:], padding)
        positions = (1 if x.ndim == 3 else len(x)) * height * width
        if self.width == 0:
            out = x.new_zeros(*x.shape[:-3], self.out_channels, height, width)
            return out if self.bias is None else out + self.bias[:, None, None]
        where = self.stride, padding, self.dilation
        if self.product_is_cheaper(positions):
            return F.conv2d(x, self.weight, self.bias, *where)
        return self._two_maps(x, where, positions)

    def _two_maps(self, x, where, positions):
        U, V = self.factors()
        # for channels-last images PyTorch turns the kernel too, and its gradient back;
        # with many weights for each position, turning the images is less
        turned = 4 * positions < len(V) and _is_channels_last(x)
        x = x.contiguous() if turned else x
        narrow = F.conv2d(x, self._kernel(V.t()), None, *where)
        if turned:  # and channels come last again
            return F.linear(narrow.movedim(1, -1), U, self.bias).movedim(-1, 1)
        return F.conv2d(narrow, U[:, :, None, None], self.bias)

    def _kernel(self, matrix):
        return matrix.reshape(len(matrix), self.in_channels, *self.kernel_size)

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
