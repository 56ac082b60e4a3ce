"""Gradients of the factors that move W = U V^T as a dense layer's step would.

A step along the gradient G of W moves U by G V and V by G^T U, and so W by
G V V^T + U U^T G. The singular values of the factors decide how far each direction
moves, and a learning rate that suits the small ones is too large for the large ones.
A dense layer moves by G. Of G, a matrix of the same rank can only follow the part in
the tangent space of the matrices of that rank,

    T = G P + Q G - Q G P,

where P projects onto the span of V and Q onto the span of U (Vandereycken 2013). The
steps below move W by T, to first order, however U V^T is split into factors:

    U <- U - lr (I - Q / 2) G V (V^T V)^-1    V <- V - lr (I - P / 2) G^T U (U^T U)^-1

At full rank Q or P is the identity, and T is G. Not in the paper.
"""

import torch

from ..config import number
from .factorize import low_rank_layers

TINY = 1e-12  # keeps the Gram matrix of columns that are zero invertible


@torch.no_grad()
def tangent_gradients(net, damping, columns=None):
    """Replace the ``.grad`` of all factors, between backward pass and optimiser.

    Args:
        net: a factorised network.
        damping: is added to the diagonals of the Gram matrices, relative to their mean;
            the bound that this sets on the steps of columns that are almost zero.
        columns: {name: b} of the layers that ran with their first b columns only. The
            gradients of the columns behind stay as they are, zero.

    Raises:
        ValueError: ``damping`` is no finite number >= 0.
    """
    damping = number("damping", damping)
    for name, layer in low_rank_layers(net).items():
        b = min((columns or {}).get(name, layer.width), layer.width)
        if b and layer.U.grad is not None and layer.V.grad is not None:
            factors = [_blocks(M, layer.blocks, b) for M in (layer.U, layer.V)]
            grads = [_blocks(M.grad, layer.blocks, b) for M in (layer.U, layer.V)]
            roots = [_root(M, damping) for M in factors]
            for grad, M, root, other in zip(
                grads, factors, roots, reversed(roots), strict=True
            ):
                _replace(grad, M, root, other)


def _blocks(M, blocks, b):
    """The first b columns of M (G m, r), block by block: a view (G, m, b)."""
    return M.unflatten(0, (blocks, -1))[..., :b]


def _root(M, damping):
    """The Cholesky factors (G, b, b) of the damped Gram matrices of M (G, m, b)."""
    gram = M.mT @ M
    diagonal = gram.diagonal(dim1=-2, dim2=-1)
    mean = diagonal.mean(-1, keepdim=True)
    diagonal.add_((damping * mean).clamp(min=TINY))
    return torch.linalg.cholesky_ex(gram)[0]  # the device is asked for nothing


def _replace(grad, M, root, other_root):
    """``grad`` (G, m, b) of the factor M (G, m, b), in place."""
    step = torch.cholesky_solve(grad.mT, other_root).mT
    inside = M @ torch.cholesky_solve(M.mT @ step, root)
    grad.copy_(step - inside / 2)
