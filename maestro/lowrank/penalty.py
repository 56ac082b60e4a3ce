"""The hierarchical group lasso on suffixes of columns (Sec. 3.3, Eq. 5).

    P = sum over layers i, sum over b = 1..r_i of ||U_{b:}|| + ||V_{b:}||

U_{b:} is columns b..r. (Algorithm 1 prints prefixes; Eq. 5 and the text are right.)
Column j stands in the suffixes b <= j, so the gradient is a column scaling,

    dP/dU_j = U_j * sum over b <= j of 1 / ||U_{b:}||,

which needs one sum of squares a column and two running sums. Where a suffix norm is
zero so are its columns, and zero is the subgradient that is used.
"""

import torch

from .factorize import low_rank_layers


def suffix_norms(matrix):
    """||M_{b:}|| for b = 1..r: Frobenius norms of columns b..r of M (rows, r); (r,)."""
    return _suffix_norms(_column_norms(matrix))


def importance(layer):
    """||U_{b:}|| * ||V_{b:}|| for b = 1..r (Algorithm 1, line 11); (r,), falling."""
    return suffix_norms(layer.U.detach()) * suffix_norms(layer.V.detach())


def hierarchical_group_lasso(net):
    """Eq. 5 without lambda_gl: a scalar tensor, differentiable once.

    net: a factorised network. Raises ValueError if it has no low-rank layers: a
    penalty that sees nothing is a mistake.
    """
    return _SuffixLasso.apply(*_factors(net))


@torch.no_grad()
def add_lasso_gradient(net, lambda_gl):
    """Add lambda_gl times the gradient of Eq. 5 to the ``.grad`` of the factors.

    What ``(lambda_gl * hierarchical_group_lasso(net)).backward()`` adds, but without
    autograd: each factor is read once for its column sums, and once more to be added.
    Call it after the loss's own backward pass. Raises ValueError as the penalty does.
    """
    factors = _factors(net)
    scale = lambda_gl * _column_scales(_padded_suffix_norms(factors))
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

    threshold: lambda_gl times the length of the step; a tensor or a number. Raises
    ValueError as the penalty does.
    """
    factors = _factors(net)
    # in double: a step is a millionth of a norm, and its part is multiplied up
    norms = _padded([_column_norms(factor) for factor in factors]).double()
    before, after = [], [norms.new_zeros(len(norms))]
    for column in reversed(norms.square().unbind(1)):
        before.append(torch.addcmul(column, after[-1], after[-1]).sqrt_())
        after.append((before[-1] - threshold).clamp_(min=0))
    before, after = (torch.stack(some[::-1], 1) for some in (before, after[1:]))
    kept = torch.where(before > 0, after / before, 0).cumprod(1)
    for factor, row in zip(factors, kept, strict=True):
        if factor.requires_grad:
            factor.mul_(row[: factor.shape[1]].to(factor.dtype))


class _SuffixLasso(torch.autograd.Function):
    """The penalty of all factors at once."""

    @staticmethod
    def forward(ctx, *factors):
        norms = _padded_suffix_norms(factors)
        ctx.save_for_backward(norms, *factors)
        return norms.sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        norms, *factors = ctx.saved_tensors
        scale = grad * _column_scales(norms)
        return tuple(
            factor * row[: factor.shape[1]]
            for factor, row in zip(factors, scale, strict=True)
        )


def _factors(net):
    """U and V of every low-rank layer."""
    layers = low_rank_layers(net).values()
    if not layers:
        raise ValueError(
            f"{type(net).__name__} has no low-rank layers to penalise; factorize it"
        )
    return [factor for layer in layers for factor in (layer.U, layer.V)]


def _padded_suffix_norms(factors):
    """||M_{b:}|| of every factor M, a row for each with zeros behind its last column.

    (factors, most columns). The zeros change no suffix before them.
    """
    return _suffix_norms(_padded([_column_norms(factor) for factor in factors]))


def _padded(rows):
    """Rows of different lengths as one matrix, with zeros behind them."""
    return torch.nn.utils.rnn.pad_sequence(rows, True)


def _column_scales(norms):
    """sum over b <= j of 1 / ||M_{b:}||, by which column j stands in the gradient."""
    return torch.where(norms > 0, 1 / norms, 0).cumsum(1)


def _column_norms(matrix):
    """Norms (r,) of the columns of M (rows, r), in one pass over it."""
    return torch.linalg.vector_norm(matrix, dim=0)


def _suffix_norms(norms):
    """Norms of the suffixes from those of the columns, along the last dimension.

    Summed from the tail, where the small terms are, so that they are not lost.
    """
    return norms.flip(-1).square().cumsum(-1).sqrt().flip(-1)
