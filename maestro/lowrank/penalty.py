"""The hierarchical group lasso on suffixes of columns (Sec. 3.3, Eq. 5).

    P = sum over layers i, sum over b = 1..r_i of ||U_{b:}|| + ||V_{b:}||

U_{b:} is columns b..r. (Algorithm 1 prints prefixes; Eq. 5 and the text are right.)
Column j stands in the suffixes b <= j, so the gradient is a column scaling,

    dP/dU_j = U_j * sum over b <= j of 1 / ||U_{b:}||,

which needs one sum of squares a column and two running sums. Where a suffix norm is
zero so are its columns, and zero is the subgradient that is used, of the second order
as well. Norms of half-precision factors are taken in single precision.
"""

import torch
from torch.nn import functional as F

from ..config import number
from .factorize import low_rank_layers


def suffix_norms(matrix):
    """||M_{b:}|| for b = 1..r: Frobenius norms of columns b..r of M (rows, r); (r,)."""
    return _root(_tail_sums(_column_squares(matrix))).flip(-1)


def importance(layer):
    """||U_{b:}|| * ||V_{b:}|| for b = 1..r (Algorithm 1, line 11); (r,), falling."""
    return suffix_norms(layer.U.detach()) * suffix_norms(layer.V.detach())


def hierarchical_group_lasso(net):
    """Eq. 5 without lambda_gl: a scalar tensor, differentiable as often as wanted.

    net: a factorised network. Raises ValueError if it has no low-rank layers: a
    penalty that sees nothing is a mistake.
    """
    return _root(_tail_sums(_ColumnSquares.apply(*_factors(net)))).sum()


@torch.no_grad()
def add_lasso_gradient(net, lambda_gl):
    """Add lambda_gl times the gradient of Eq. 5 to the ``.grad`` of the factors.

    What ``(lambda_gl * hierarchical_group_lasso(net)).backward()`` adds, but without
    autograd: each factor is read once for its column sums, and once more to be added.
    Call it after the loss's own backward pass. lambda_gl: a number or a scalar tensor,
    0 or more. Raises ValueError as the penalty does.
    """
    factors = _factors(net)
    norms = _tail_sums(_padded_squares(factors)).sqrt().flip(1)
    # by which column j stands in the gradient: the sum over b <= j of 1 / ||M_{b:}||
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
    """Put in place of each factor M what the lasso and staying near M agree on.

    That is the X with the least 1/2 ||X - M||^2 + threshold * sum_b ||X_{b:}||, exact
    zeros included: where the subgradient of Eq. 5 throws a small column from side to
    side, this ends it. Not in the paper. The suffixes are nested, so that one pass from
    the last column to the first finds it: each suffix in turn, with what is left of the
    columns behind, loses ``threshold`` of its norm (Jenatton et al. 2011, Sec. 3).

    threshold: lambda_gl times the length of the step, a number or a scalar tensor, 0 or
    more. Raises ValueError as the penalty does.
    """
    factors = _factors(net)
    threshold = _number("threshold", threshold)
    # in double: a step is a millionth of a norm, and its part is multiplied up
    squares = _padded_squares(factors).double()
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
    """``value``; a tensor as it is, since to look at it would wait for the device."""
    return value if isinstance(value, torch.Tensor) else number(name, value)


def _wide(matrix):
    """In single precision at least: the squares of half precision soon overflow."""
    return matrix.to(torch.promote_types(matrix.dtype, torch.float32))


def _column_squares(matrix):
    """Sums of squares (r,) of the columns of M (rows, r)."""
    return _wide(matrix).square().sum(0)


def _padded_squares(factors):
    """Column squares of every factor, a row for each: (factors, most columns).

    Behind a factor's last column stand zeros; they change no suffix before them.
    """
    return _padded([_column_squares(factor) for factor in factors])


def _padded(rows):
    """Rows of different lengths as one matrix, with zeros behind them."""
    most = max(map(len, rows))  # `pad_sequence` works in place, which vmap refuses
    return torch.stack([F.pad(row, (0, most - len(row))) for row in rows])


def _tail_sums(squares):
    """Sums of the last 1, 2, ... numbers, along the last dimension.

    The small ones stand there and are added first, so that they are not lost.
    """
    return squares.flip(-1).cumsum(-1)


def _root(sums):
    """The square root whose derivatives at zero are zero."""
    zero = sums == 0
    return sums.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)
