"""The hierarchical group lasso on suffixes of columns (Sec. 3.3, Eq. 5).

    P = sum over layers i, sum over b = 1..r_i of ||U_{b:}|| + ||V_{b:}||

U_{b:} is columns b..r. (Algorithm 1 prints prefixes; Eq. 5 and the text are right.)
Column j is in the suffixes b <= j, so the gradient scales the columns,

    dP/dU_j = U_j * sum over b <= j of 1 / ||U_{b:}||,

which takes one sum of squares for each column and two running sums. Where a suffix norm
is zero, all its columns are zero, and the subgradient is zero, of the second order as
well. Norms of half-precision factors are computed in single precision.
"""

import torch
from torch.nn import functional as F

from ..config import number
from .base import LowRank
from .factorize import low_rank_layers


def tail_floor(lr, lambda_gl, columns, momentum=0.0):
    """The least importance that a tail of unneeded columns can keep under SGD.

    Only the lasso moves the tail. Its last column is in all suffixes, and each step
    takes that column across the origin, at the norm lr * lambda_gl * columns /
    (2 (1 + momentum)) in either factor. The columns before it fade, but every suffix
    contains the last one. Without momentum the tail stays there. With momentum it can
    also swing for several steps each way, at larger norms. (Not in the paper; the
    chapters on LeNet and on exact zeros.)

    columns: how many there are in the tail.
    """
    return (lr * lambda_gl * columns / (2 * (1 + momentum))) ** 2


def suffix_norms(matrix):
    """The Frobenius norms ||M_{b:}|| (r,) of columns b..r of M (rows, r), b = 1..r."""
    return _root(_tail_sums(_column_squares(matrix))).flip(-1)


def importance(layer):
    """||U_{b:}|| * ||V_{b:}|| (r,) for b = 1..r, falling (Algorithm 1, line 11).

    layer: one of `low_rank_layers`. Raises ValueError if it is none.
    """
    if not isinstance(layer, LowRank):
        raise ValueError(
            f"layer is {type(layer).__name__}: it takes one of low_rank_layers(net)"
        )
    return suffix_norms(layer.U.detach()) * suffix_norms(layer.V.detach())


def hierarchical_group_lasso(net):
    """Eq. 5 without lambda_gl: a scalar tensor, differentiable any number of times.

    net: a factorised network. Raises ValueError if it has no low-rank layers, because a
    penalty of nothing is a mistake.
    """
    return _root(_tail_sums(_ColumnSquares.apply(*_factors(net)))).sum()


@torch.no_grad()
def add_lasso_gradient(net, lambda_gl):
    """Add lambda_gl times the gradient of Eq. 5 to the ``.grad`` of the factors.

    The result is that of ``(lambda_gl * hierarchical_group_lasso(net)).backward()``,
    without autograd: each factor is read once for its column sums and once to be added.
    Call this function after the backward pass of the loss.

    Args:
        net: a factorised network.
        lambda_gl: a number or a scalar tensor, 0 or more.

    Raises:
        ValueError: as `hierarchical_group_lasso`, or lambda_gl is wrong.
    """
    factors = _factors(net)
    norms = _tail_sums(_padded_squares(factors)).sqrt().flip(1)
    # the factor of column j in the gradient: the sum over b <= j of 1 / ||M_{b:}||
    scale = torch.where(norms > 0, 1 / norms, 0).cumsum(1)
    scale *= _number("lambda_gl", lambda_gl)
    for factor, row in zip(factors, scale, strict=True):
        if not factor.requires_grad:
            continue
        if factor.grad is None:  # the loss does not depend on this layer
            factor.grad = torch.zeros_like(factor)
        factor.grad.addcmul_(factor, row[: factor.shape[1]])


@torch.no_grad()
def proximal_step(net, threshold):
    """Replace each factor M by the proximal point of the lasso. Not in the paper.

    The proximal point is the X that minimises
    1/2 ||X - M||^2 + threshold * sum_b ||X_{b:}||. It has exact zeros, where the
    subgradient of Eq. 5 would move a small column back and forth. The suffixes are
    nested, so one pass from the last column to the first computes X: the norm of each
    suffix, with the columns behind it already reduced, is reduced by ``threshold``
    (Jenatton et al. 2011, Sec. 3).

    Args:
        net: a factorised network.
        threshold: lambda_gl times the length of the step, a number or a scalar tensor,
            0 or more.

    Raises:
        ValueError: as `hierarchical_group_lasso`, or threshold is wrong.
    """
    factors = _factors(net)
    threshold = _number("threshold", threshold)
    # in double precision: a step is a millionth of a norm, and products amplify errors
    squares = _padded_squares(factors).double()
    if not squares.shape[1]:  # no column is left
        return
    before, after = [], [squares.new_zeros(len(squares))]
    for square in reversed(squares.unbind(1)):
        before.append(torch.addcmul(square, after[-1], after[-1]).sqrt_())
        after.append((before[-1] - threshold).clamp_(min=0))
    before, after = (torch.stack(some[::-1], 1) for some in (before, after[1:]))
    kept = torch.where(before > 0, after / before, 0).cumprod(1)
    for factor, row in zip(factors, kept, strict=True):
        if factor.requires_grad:
            factor.mul_(row[: factor.shape[1]].to(factor.dtype))


class _ColumnSquares(torch.autograd.Function):
    """`_padded_squares` with derivatives that read each factor once."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*factors):
        return _padded_squares(factors)

    @staticmethod
    def setup_context(ctx, factors, output):
        ctx.save_for_backward(*factors)
        ctx.save_for_forward(*factors)

    @staticmethod
    def backward(ctx, grad):  # (factors, most columns)
        wanted = zip(ctx.saved_tensors, 2 * grad, ctx.needs_input_grad, strict=True)
        return tuple(
            (factor * row[: factor.shape[1]]).to(factor.dtype) if needed else None
            for factor, row, needed in wanted
        )

    @staticmethod
    def jvp(ctx, *tangents):
        pairs = zip(ctx.saved_tensors, tangents, strict=True)
        rows = [2 * (_wide(factor) * change).sum(0) for factor, change in pairs]
        return _padded(rows)


def _factors(net):
    """U and V of every low-rank layer."""
    layers = low_rank_layers(net).values()
    if not layers:
        raise ValueError(
            f"{type(net).__name__} has no low-rank layers to penalise; factorize it"
        )
    return [factor for layer in layers for factor in (layer.U, layer.V)]


def _number(name, value):
    """``value``, checked unless it is a tensor: a check would wait for the device."""
    return value if isinstance(value, torch.Tensor) else number(name, value)


def _wide(matrix):
    """``matrix`` in single precision or better: squares of half precision overflow."""
    return matrix.to(torch.promote_types(matrix.dtype, torch.float32))


def _column_squares(matrix):
    """Sums of squares (r,) of the columns of M (rows, r)."""
    return _wide(matrix).square().sum(0)


def _padded_squares(factors):
    """The column squares of all factors, one in each row: (factors, most columns).

    Zeros follow the last column of a factor; they do not change the suffix norms.
    """
    return _padded([_column_squares(factor) for factor in factors])


def _padded(rows):
    """Rows of different lengths as one matrix, with zeros behind them."""
    most = max(map(len, rows))  # `pad_sequence` works in place, which vmap refuses
    return torch.stack([F.pad(row, (0, most - len(row))) for row in rows])


def _tail_sums(squares):
    """Sums of the last 1, 2, ... numbers, along the last dimension.

    The last numbers are the small ones. They are added first, so that rounding does not
    lose them.
    """
    return squares.flip(-1).cumsum(-1)


def _root(sums):
    """The square root whose derivatives at zero are zero."""
    zero = sums == 0
    return sums.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)
