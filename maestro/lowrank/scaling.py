"""Gradients of the factors, scaled so that a step moves W as in a dense layer.

A step along the gradient G of W moves U by G V and V by G^T U, and so W by
G V V^T + U U^T G: G counts as often as the singular values say along its directions. A
learning rate that suits the small ones is too large for the large ones, and these grow.
Scaled gradient descent (Tong, Ma & Chi 2021) divides by the other factor's Gram matrix:

    U <- U - lr / 2 G V (V^T V)^-1        V <- V - lr / 2 G^T U (U^T U)^-1

W then moves by (G P + Q G) / 2, where P and Q project on the spans of V and of U: by G
within both, as a dense layer does, however large the singular values. Not in the paper.
"""

import torch

from ..config import number
from .factorize import low_rank_layers

TINY = 1e-12  # keeps the Gram matrix of columns that are zero invertible


@torch.no_grad()
def scale_gradients(net, damping, columns=None):
    """Scale the ``.grad`` of all factors, between the backward pass and the optimiser.

    Args:
        net: a factorised network.
        damping: is added to the diagonals of the Gram matrices, relative to their mean;
            it bounds the steps of columns that are almost zero.
        columns: {name: b} of the layers that ran with their first b columns only. The
            gradients of the columns behind stay as they are, zero.

    Raises ValueError if damping is no number >= 0.
    """
    damping = number("damping", damping)
    for name, layer in low_rank_layers(net).items():
        b = (columns or {}).get(name, layer.width)
        if b:
            U, V = layer.U[:, :b], layer.V[:, :b]
            for grad, other in ((layer.U.grad, V), (layer.V.grad, U)):
                if grad is not None:
                    blocks = (M.chunk(layer.blocks) for M in (grad, other))
                    for block in zip(*blocks, strict=True):
                        _divide(*block, damping)


def _divide(grad, other, damping):
    """Half of ``grad`` (m, r), divided by the Gram matrix of ``other`` (n, b); b <= r.

    In place; the device is asked for nothing.
    """
    b = other.shape[1]
    gram = other.t() @ other
    diagonal = gram.diagonal()
    diagonal.add_((damping * diagonal.mean()).clamp(min=TINY))
    root, _ = torch.linalg.cholesky_ex(gram)
    grad[:, :b] = torch.cholesky_solve(grad[:, :b].t(), root).t() / 2
