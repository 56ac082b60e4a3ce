"""From a network of nn.Linear and nn.Conv2d to one of U V^T, the function unchanged.

The start is the singular value decomposition of the usual initialisation (Sec. 3.3,
"Initialization"): W = P S Q^T gives U = P sqrt(S), V = Q sqrt(S).
"""

from collections import Counter

import torch
from torch import nn

from .arguments import network
from .base import LowRank
from .choosing import choose, is_conv1d
from .layers import LowRankConv2d, LowRankLinear
from .replacing import replace, tagged


def factorize(model, skip=()):
    """Replace every nn.Linear and nn.Conv2d of ``model`` by its two factors, in place.

    The network computes the same function as before, to rounding. Transformers' Conv1D
    (GPT-2) is taken as the linear map that it is. Hooks, attributes and buffers that a
    layer was given stay with it, and attributes of its weight with both factors. What
    cannot be factorised, or would lose something, stays as it is: `left_alone` lists
    it and says why. Make the optimiser afterwards: the parameters are new ones.

    Args:
        model: any nn.Module, at any depth, modules used in several places included.
        skip: what to leave dense: a name, several, patterns as in ``"layer4.*"`` (the
            name of a parent stands for all that it holds), or a predicate
            ``(name, module)``.
    Returns:
        The model, or the new layer, if the model itself is one.
    Raises:
        ValueError: an argument is of another kind, ``skip`` names nothing, nothing can
            be factorised, a weight is not finite, or the network keeps a layer outside
            of its modules as well, in a list for example. Nothing is changed then.
    """
    network("model", model)
    if isinstance(model, nn.parallel.DistributedDataParallel):
        raise ValueError(
            "model is wrapped in DistributedDataParallel, which would go on with the "
            "old parameters: factorize first, then wrap"
        )
    chosen, left = choose(model, skip)
    if not chosen and not low_rank_layers(model):
        raise ValueError(
            f"nothing of {type(model).__name__} can be factorised: {_summary(left)}"
        )
    return replace(model, {old: _low_rank(name, old) for name, old in chosen.items()})


def left_alone(model, skip=()):
    """{name: reason} of the modules with weights that `factorize` leaves as they are.

    Takes the same arguments; works before and after factorising.
    """
    return choose(network("model", model), skip)[1]


def low_rank_layers(net):
    """{name: layer} of all low-rank layers, each once, in the order of definition.

    Raises ValueError if ``net`` is not a module.
    """
    modules = network("net", net).named_modules()
    return {name: layer for name, layer in modules if isinstance(layer, LowRank)}


def ranks(net):
    """{name: r} of all low-rank layers. Raises ValueError if ``net`` is no module."""
    return {name: layer.rank for name, layer in low_rank_layers(net).items()}


def svd_factors(W):
    """U (m, r) and V (n, r), r = min(m, n), with W = U V^T and columns by importance.

    Column b of both has norm sqrt(sigma_b). A singular value of zero (a weight that
    starts at zero, say) gets a unit column on the shorter side and a zero one on the
    other: the product is the same and, unlike two zero columns, it can be trained.

    Found from the eigenvectors P of the smaller Gram matrix in float64, which is much
    cheaper than an SVD; P P^T W = W whatever their error, so the product is exact to
    rounding.
    """
    A = W.detach().to(torch.float64)
    wide = A.shape[0] <= A.shape[1]
    A = A if wide else A.t()  # (short, long)
    P = torch.linalg.eigh(A @ A.t()).eigenvectors.flip(1)
    B = A.t() @ P  # (long, short): column b is sigma_b q_b
    sigma, order = B.norm(dim=0).sort(descending=True, stable=True)
    P, B = P[:, order], B[:, order]
    alive = sigma > torch.finfo(torch.float64).eps * sigma[:1] * max(A.shape)
    root = torch.where(alive, sigma, 1.0).sqrt()
    short, long = P * root, torch.where(alive, B / root, 0.0)
    U, V = (short, long) if wide else (long, short)
    return U.to(W.dtype), V.to(W.dtype)


def _low_rank(name, layer):
    """``layer`` (nn.Linear, nn.Conv2d or Conv1D) as a LowRank of the same function."""
    weight, bias = layer.weight, layer.bias
    if not weight.is_meta and not weight.isfinite().all():
        raise ValueError(f"the weight of {name or type(layer).__name__} is not finite")
    if isinstance(layer, nn.Conv2d):
        new = LowRankConv2d(*svd_factors(weight.flatten(1)), bias, like=layer)
    else:
        W = weight.t() if is_conv1d(layer) else weight
        new = LowRankLinear(*svd_factors(W), bias)
    for factor in (new.U, new.V):
        tagged(factor, weight).requires_grad_(weight.requires_grad)
    if bias is not None:
        tagged(new.bias, bias).requires_grad_(bias.requires_grad)
    return new


def _summary(left):
    """The reasons in ``left``, {name: reason}, each once with one of its names."""
    if not left:
        return "it has no layers with weights"
    first = {reason: name for name, reason in reversed(left.items())}
    return "; ".join(
        f"{first[reason] or 'itself'}: {reason}" + (f" ({count} such)" * (count > 1))
        for reason, count in Counter(left.values()).items()
    )
