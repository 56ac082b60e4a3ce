"""The base of all low-rank layers: a linear map stored as W = U V^T (Sec. 3.2).

All layers store the same two factors, so that importance, penalty and shrinking are
written once:

    U  (m, r)   m = out_features, or out_channels
    V  (n, r)   n = in_features,  or in_channels * kh * kw

Column b of U and column b of V together are one rank. The rank of a layer is the number
of columns that it stores, so a ``state_dict`` determines the rank. Both factors are
plain contiguous parameters, as optimisers and file formats expect; the first b columns
are a view.

Some weights are several maps of one size: a convolution in G groups, the three
projections of an attention layer, the experts of a mixture. Such a layer has G blocks,
W_g = U_g V_g^T, stored one below the other: U (G m, r), V (G n, r). Column b of the
layer is column b of every block, so that nothing else needs to know of blocks.
"""

import sys

import torch
from torch import nn

from .draws import lasting_columns, refuse_other_columns
from .watching import note_resized, refuse_old_wrapper

# single-precision numbers in a vector register of a large CPU: a map to 6 channels
# takes as long as a map to 16
REGISTER = 16


def whole_registers(outputs):
    """The number of outputs that a processor computes for ``outputs`` outputs."""
    return -(-outputs // REGISTER) * REGISTER


class LowRank(nn.Module):
    """y = U V^T x + bias, for the two factors U (m, r) and V (n, r), or several blocks.

    ``columns`` is the state of ordered dropout. It is None, or the number of leading
    columns in use, or a row (r,) of ones and then zeros, which keeps all shapes.
    `maestro.sample` sets it for one step. Columns that are masked for good are in the
    ``state_dict``. A layer of rank 0 computes its bias.

    Args:
        U: (m, r).
        V: (n, r).
        bias: (m,), or None.

    Raises:
        ValueError: an argument does not fit; the message names it.
    """

    def __init__(self, U, V, bias=None, blocks=1):
        super().__init__()
        _refuse_misfits(U, V, bias, blocks)
        self.blocks = blocks
        self.U, self.V = own_parameter(U), own_parameter(V)
        self.bias = None if bias is None else own_parameter(bias)
        self.columns = None
        self.weight_was_read = False
        self.register_buffer("rank_guard", self._new_guard(), persistent=False)

    @property
    def rank(self):
        """r, the number of columns that the layer stores."""
        return self.U.shape[1]

    @property
    def max_rank(self):
        """min(m, n): no linear map of this shape has a larger rank."""
        return min(self.shape)

    @property
    def shape(self):
        """(m, n) of the linear map, of one block of it."""
        return len(self.U) // self.blocks, len(self.V) // self.blocks

    @property
    def width(self):
        """The number of leading columns in a computation: r unless some are cut."""
        columns = self.columns
        if columns is None or isinstance(columns, torch.Tensor):
            return self.rank
        if not isinstance(columns, int) or isinstance(columns, bool) or columns < 0:
            raise ValueError(
                f"columns={columns!r}: it takes None, a number from 0 to {self.rank}, "
                "or a row of ones and zeros"
            )
        return min(columns, self.rank)

    @property
    def in_use(self):
        """The number of leading columns that contribute to the output.

        Masked columns are computed, so they count in ``width`` but not here.
        """
        if isinstance(self.columns, torch.Tensor):
            return int(self.columns.sum())
        return self.width

    @property
    def weight(self):
        """W = U V^T in the dense layer's shape, for code that reads a layer's weight.

        A forward pass that reads the weight sets ``weight_was_read``: `maestro.merge`
        must then keep a layer that has a weight.
        """
        if not torch.compiler.is_compiling() and not self.weight_was_read:
            self.weight_was_read = _in_a_forward_pass()
        return self.kernel(self.matrix())

    def kernel(self, matrix):
        """``matrix`` (rows, n) in the shape of a dense layer's weight."""
        return matrix

    def factors(self):
        """U (m, b) and V (n, b): the leading columns in use, all r unless sampled.

        Raises RuntimeError if activation checkpointing runs the layer again after its
        draw has ended (draws.py).
        """
        if not torch.compiler.is_compiling():
            refuse_other_columns(self)
            refuse_old_wrapper()
        U, V, columns = self.U, self.V, self.columns
        if isinstance(columns, torch.Tensor):  # it is enough to mask one factor
            return (U * columns, V) if len(U) <= len(V) else (U, V * columns)
        return U[:, : self.width], V[:, : self.width]

    def matrix(self):
        """U V^T (m, n), of the columns in use; blocks one below the other, (G m, n)."""
        return product(*self.factors(), self.blocks)

    def product_is_cheaper(self, positions):
        """Whether computing U V^T first takes less work than two maps.

        Two maps take r (m + n) multiply-accumulates for each position. The product
        takes r m n once and m n for each position. The outputs of a map are counted in
        whole registers, because a processor computes whole registers.

        positions: the number of vectors that the map is applied to in this call.
        """
        (m, n), r = self.shape, self.width
        m_made, r_made = whole_registers(m), whole_registers(r)
        product = r * m * n + positions * m_made * n
        return product < positions * r_made * (m_made + n)

    @torch.inference_mode(False)
    def set_factors(self, U, V):
        """Set the factors, at any rank, without replacing the parameter objects.

        An optimiser that holds the parameters continues to train them. Their gradients
        are None afterwards.
        """
        if (U.shape, V.shape) != (self.U.shape, self.V.shape):
            note_resized(self)
        for factor, data in ((self.U, U), (self.V, V)):
            factor.grad = None
            # autograd remembers the shape while a loss lives, unless the type changes
            other = torch.float32 if data.dtype == torch.float64 else torch.float64
            factor.data = data.new_empty(0, dtype=other)
            factor.data = data.clone(memory_format=torch.contiguous_format)
        self.rank_guard = self._new_guard()

    def _new_guard(self):
        """An empty buffer whose shape is different at every rank.

        An AveragedModel of another rank therefore fails to update. Without the buffer,
        PyTorch would broadcast a single column to all columns, as an average of one's
        own, over parameters alone, still does.
        """
        return self.U.new_empty(self.rank + 2, 0)

    def __getstate__(self):
        """The state of a copy. A copy made during a draw uses all columns."""
        return super().__getstate__() | {"columns": lasting_columns(self)}

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        """Save U, V, bias and, if columns are masked, the number of columns in use."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        columns = lasting_columns(self)
        if columns is not None:
            used = torch.as_tensor(columns).sum()
            destination[prefix + "columns"] = used.to("cpu", torch.int64)

    def _load_from_state_dict(self, state_dict, prefix, *args):
        """Take the rank from the loaded factors; all other shapes must fit.

        The parameter objects stay the same, so that an optimiser made before loading
        continues to train them. The optimiser's own state must be loaded as well.
        """
        m, n = len(self.U), len(self.V)
        columns = state_dict.pop(prefix + "columns", None)
        loaded = [getattr(state_dict.get(prefix + key), "shape", ()) for key in "UV"]
        rank = loaded[0][-1] if loaded[0] else self.rank
        # factors that do not fit are refused below, and the layer stays as it was
        if loaded == [(m, rank), (n, rank)]:
            self.columns = None if columns is None else int(columns)
            if rank != self.rank:
                empty = self.U.data.new_empty
                self.set_factors(empty(m, rank), empty(n, rank))
        super()._load_from_state_dict(state_dict, prefix, *args)


def product(U, V, blocks=1):
    """W (G m, n) of U (G m, r) and V (G n, r): in each of G blocks U_g V_g^T."""
    if blocks == 1:
        return U @ V.t()
    U, V = (factor.unflatten(0, (blocks, -1)) for factor in (U, V))
    return (U @ V.mT).flatten(0, 1)


def _refuse_misfits(U, V, bias, blocks):
    """Raise ValueError unless U is (m, r), V (n, r), and the bias (m,) or None."""
    for name, value, ndim in (("U", U, 2), ("V", V, 2), ("bias", bias, 1)):
        if name == "bias" and value is None:
            continue
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            kind = getattr(value, "dtype", type(value).__name__)
            raise ValueError(f"{name} is {kind}: it takes a floating-point tensor")
        if value.ndim != ndim:
            what = "a matrix" if ndim == 2 else "a vector"
            raise ValueError(f"{name} is {tuple(value.shape)}: it takes {what}")
    if U.shape[1] != V.shape[1]:
        raise ValueError(
            f"U {tuple(U.shape)} and V {tuple(V.shape)} must have as many columns each"
        )
    if len(U) % blocks or len(V) % blocks:
        raise ValueError(
            f"{len(U)} and {len(V)} rows of U and V do not make {blocks} blocks each"
        )
    if bias is not None and len(bias) != len(U):
        raise ValueError(f"bias is {len(bias)} long: U has {len(U)} rows")


def own_parameter(tensor):
    """A new contiguous parameter with the numbers of ``tensor``."""
    copy = tensor.detach().clone(memory_format=torch.contiguous_format)
    return nn.Parameter(copy)


def _in_a_forward_pass():
    """Whether a module's call is under way."""
    frame = sys._getframe()
    while frame and frame.f_code is not nn.Module._call_impl.__code__:
        frame = frame.f_back
    return frame is not None
