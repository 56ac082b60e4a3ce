"""From a network of dense layers to one of U V^T, the function unchanged.

The start is the singular value decomposition of the weights, of the usual
initialisation (Sec. 3.3, "Initialization") or of a trained network: W = P S Q^T gives
U = P sqrt(S), V = Q sqrt(S).
"""

from collections import Counter
from typing import NamedTuple

import torch
from torch import nn

from .arguments import network
from .base import LowRank
from .choosing import choose, is_conv1d, kind_of
from .layers import LowRankLinear, LowRankWeight
from .replacing import replace, tagged
from .slots import put_in, unrolled


@torch.inference_mode(False)
def factorize(model, skip=(), weights=()):
    """Replace the linear maps of ``model`` by their two factors, in place.

    The network computes the same function as before, to rounding. Taken are nn.Linear,
    convolutions in one to three dimensions, transposed and grouped ones too,
    transformers' Conv1D (GPT-2), and the weights that nn.MultiheadAttention, nn.LSTM,
    nn.GRU, nn.RNN, their cells and mixtures of experts (classes named ...Experts) read.
    Hooks, attributes and buffers that a layer was given stay with it, and attributes of
    its weight with both factors. What cannot be factorised, or would lose something,
    stays as it is: `left_alone` lists it and says why. Make the optimiser afterwards:
    the parameters are new ones.

    A trained network is a good start. Columns are in the order of singular values, so
    `truncate` with `energy_ranks` or any ranks leaves the best approximation of each
    weight. Then train on as usual.

    Args:
        model: any nn.Module, at any depth, modules used in several places included.
        skip: what to leave dense: a name, several, patterns as in ``"layer4.*"`` (the
            name of a parent stands for all that it holds), or a predicate
            ``(name, module)``.
        weights: names of parameters, or patterns, that are taken besides: matrices
            (m, n), or (blocks, m, n), which modules of any class multiply with.
    Returns:
        The model, or the new layer, if the model itself is one.
    Raises:
        ValueError: an argument is of another kind, ``skip`` or ``weights`` names
            nothing, nothing can be factorised, a weight is not finite, or the network
            keeps a layer outside of its modules as well, in a list for example. Nothing
            is changed then.
    """
    network("model", model)
    if isinstance(model, nn.parallel.DistributedDataParallel):
        raise ValueError(
            "model is wrapped in DistributedDataParallel, which would go on with the "
            "old parameters: factorize first, then wrap"
        )
    made = (p for p in model.parameters() if not nn.parameter.is_lazy(p))
    if any(p.is_inference() for p in made):
        raise ValueError(
            "model was made in torch.inference_mode, where nothing can be trained: "
            "make it outside"
        )
    chosen = choose(model, skip, weights)
    if not (chosen.layers or chosen.weights or low_rank_layers(model)):
        raise ValueError(
            f"nothing of {type(model).__name__} can be factorised: "
            f"{_summary(chosen.left)}"
        )
    names = {where: name for name, where in _places(chosen).items()}
    return put_in_place(model, {w: low_rank(w, name) for w, name in names.items()})


def left_alone(model, skip=(), weights=()):
    """{name: reason} of the modules with weights that `factorize` leaves as they are.

    Takes the same arguments; works before and after factorising.
    """
    return choose(network("model", model), skip, weights).left


def low_rank_layers(net):
    """{name: layer} of all low-rank layers, each once, in the order of definition.

    Raises ValueError if ``net`` is not a module.
    """
    modules = network("net", net).named_modules()
    return {name: layer for name, layer in modules if isinstance(layer, LowRank)}


def ranks(net):
    """{name: r} of all low-rank layers. Raises ValueError if ``net`` is no module."""
    return {name: layer.rank for name, layer in low_rank_layers(net).items()}


@torch.no_grad()
def refactorize(net):
    """Give every layer the factors of its product's SVD, in place; returns ``net``.

    The network computes the same function as before, to rounding. The columns are then
    in the order of singular values, whatever order training gave them. Optimiser state
    of the factors is void afterwards.
    """
    for layer in low_rank_layers(net).values():
        U, V = _stacked(layer.matrix().unflatten(0, (layer.blocks, -1)))
        layer.set_factors(U[:, : layer.rank], V[:, : layer.rank])
    return net


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


class Place(NamedTuple):
    """Where a map is: a layer, or a weight of several blocks that a module reads."""

    module: nn.Module
    own: str = "weight"
    blocks: int = 0  # 0 for a layer, which is replaced as a whole

    @property
    def weight(self):
        return getattr(self.module, self.own)


def _places(chosen):
    """{name of the low-rank layer: `Place`} of a `Chosen`."""
    layers = {name: Place(module) for name, module in chosen.layers.items()}
    return layers | {name: Place(*where) for name, where in chosen.weights.items()}


def low_rank(place, name, factors=None):
    """A LowRank for ``place``, of the same function, or with these factors (U, V)."""
    module, weight = place.module, place.weight
    if factors is None and not weight.is_meta and not weight.isfinite().all():
        raise ValueError(f"the weight of {name or type(module).__name__} is not finite")
    kind = kind_of(module)
    if place.blocks:
        U, V = factors or _stacked(unrolled(weight, place.blocks))
        new = LowRankWeight(U, V, weight.shape, place.blocks)
    elif kind is LowRankLinear:
        W = weight.t() if is_conv1d(module) else weight
        new = LowRankLinear(*(factors or svd_factors(W)), module.bias)
    else:
        U, V = factors or _stacked(kind.unrolled(module))
        new = kind(U, V, module.bias, like=module)
    for factor in (new.U, new.V):
        tagged(factor, weight).requires_grad_(weight.requires_grad)
    if new.bias is not None:
        tagged(new.bias, module.bias).requires_grad_(module.bias.requires_grad)
    return new


def put_in_place(model, new):
    """``model`` with the low-rank layer ``new[place]`` at each `Place`."""
    layers = {place.module: layer for place, layer in new.items() if not place.blocks}
    model = replace(model, layers)
    read = {}
    for place, layer in new.items():
        if place.blocks:
            read.setdefault(place.module, {})[place.own] = layer
    for module, weights in read.items():
        put_in(module, weights)
    return model


def _stacked(blocks):
    """U (G m, r) and V (G n, r) of ``blocks`` (G, m, n), by `svd_factors` of each."""
    pairs = [svd_factors(W) for W in blocks]
    return tuple(torch.cat(factors) for factors in zip(*pairs, strict=True))


def _summary(left):
    """The reasons in ``left``, {name: reason}, each once with one of its names."""
    if not left:
        return "it has no layers with weights"
    first = {reason: name for name, reason in reversed(left.items())}
    return "; ".join(
        f"{first[reason] or 'itself'}: {reason}" + (f" ({count} such)" * (count > 1))
        for reason, count in Counter(left.values()).items()
    )
