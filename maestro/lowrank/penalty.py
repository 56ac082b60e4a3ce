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
    return _suffix_norms(matrix.square().sum(0))


def importance(layer):
    """||U_{b:}|| * ||V_{b:}|| for b = 1..r (Algorithm 1, line 11); (r,), falling."""
    return suffix_norms(layer.U.detach()) * suffix_norms(layer.V.detach())


def hierarchical_group_lasso(net):
    """Eq. 5 without lambda_gl: a scalar tensor, differentiable once.

    net: a factorised network. Raises ValueError if it has no low-rank layers: a
    penalty that sees nothing is a mistake.
    """
    layers = low_rank_layers(net).values()
    if not layers:
        raise ValueError(
            f"{type(net).__name__} has no low-rank layers to penalise; factorize it"
        )
    return _SuffixLasso.apply(*(f for layer in layers for f in (layer.U, layer.V)))


class _SuffixLasso(torch.autograd.Function):
    """The penalty of all factors at once, one padded row of columns for each."""

    @staticmethod
    def forward(ctx, *factors):
        squares = [factor.square().sum(0) for factor in factors]
        # zeros behind a short row change no suffix before them
        norms = _suffix_norms(torch.nn.utils.rnn.pad_sequence(squares, True))
        ctx.save_for_backward(norms, *factors)
        return norms.sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        norms, *factors = ctx.saved_tensors
        scale = grad * torch.where(norms > 0, 1 / norms, 0).cumsum(1)
        return tuple(
            factor * row[: factor.shape[1]]
            for factor, row in zip(factors, scale, strict=True)
        )


def _suffix_norms(squares):
    """Square roots of the sums from b to the end, over the last dimension.

    Summed from the tail, where the small terms are, so that they are not lost.
    """
    return squares.flip(-1).cumsum(-1).sqrt().flip(-1)
