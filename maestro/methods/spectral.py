"""Spectral initialisation and Frobenius decay (Khodak et al. 2021).

Every layer is factorised from the start, at a fixed rank, from the truncated SVD of its
usual initialisation. A convolution is unrolled another way than elsewhere in this
project: W (out, in, kh, kw) becomes a matrix (out kh, in kw), executed as a 1 x kw
convolution to r channels and a kh x 1 convolution to the outputs. One scale s sets all
ranks, r = max(1, round(s * out * kh)) for a convolution and max(1, round(s min(m, n)))
for a linear layer, and is chosen so that the network has a wanted share of the dense
network's parameters. Frobenius decay takes the place of weight decay on the factors.
"""

import copy

import torch
from torch import nn

from ..config import number
from ..lowrank.choosing import choose
from ..lowrank.counting import costs
from ..lowrank.replacing import replace
from .fixed import without_decay
from .method import BITS, Method, Size, require_zero_padding


class Spectral(Method):
    """Low rank from the start, at a wanted size.

    Args:
        params_share: parameters wanted, as a share of the dense network's.
        frobenius_decay: weight of ||U V^T||_F^2 / 2 for the factors, in place of the
            recipe's weight decay; 0 leaves them that.
        skip: names or patterns of layers left dense.
    """

    def __init__(self, params_share=0.1, frobenius_decay=0.0, skip=()):
        self.params_share = number("params_share", params_share)
        if not 0 < params_share <= 1:
            raise ValueError(
                f"params_share={params_share!r}: it takes a number in (0, 1]"
            )
        self.frobenius_decay = number("frobenius_decay", frobenius_decay)
        self.skip = skip

    def prepare(self, model, example_inputs, generator):
        dense = sum(p.numel() for p in model.parameters())
        layers = choose(model, self.skip)[0]
        _require_plain(layers)
        self.chosen = ranks_for(layers, dense, self.params_share)
        pairs = {name: factorised(layers[name], r) for name, r in self.chosen.items()}
        self.deployed = self._deployed(model, layers, pairs, example_inputs)
        replace(model, {layers[name]: pair for name, pair in pairs.items()})
        return super().prepare(model, example_inputs, generator)

    def _deployed(self, model, layers, pairs, example_inputs):
        """The `Footprint` with each pair that is no smaller stored as one map."""
        smaller = {
            name: copy.deepcopy(pair)
            for name, pair in pairs.items()
            if sum(each.weight.numel() for each in pair) < layers[name].weight.numel()
        }
        model = copy.deepcopy(model)
        replace(model, {model.get_submodule(n): pair for n, pair in smaller.items()})
        return costs(model, example_inputs).fixed

    def size(self, model):
        return Size(*self.deployed, self.deployed.params * BITS)

    def ranks(self, model):
        return dict(self.chosen)

    def groups(self, groups, model):
        if not self.frobenius_decay:
            return groups
        return without_decay(groups, [p for pair in self._pairs(model) for p in pair])

    @torch.no_grad()
    def after_backward(self, model):
        if not self.frobenius_decay:
            return
        for first, second in self._pairs(model):
            V, U = first.flatten(1), second.transpose(1, -1).flatten(0, -2)  # (., r)
            dV, dU = U.t() @ U @ V, U @ (V @ V.t())
            first.grad.add_(dV.view_as(first), alpha=self.frobenius_decay)
            out, r, *kernel = second.shape
            dU = dU.view(out, *kernel[::-1], r).transpose(1, -1)
            second.grad.add_(dU, alpha=self.frobenius_decay)

    def _pairs(self, model):
        """(weight of V^T, weight of U) of every factorised layer."""
        layers = [model.get_submodule(name) for name in self.chosen]
        return [(layer[0].weight, layer[1].weight) for layer in layers]


def ranks_for(layers, dense, share):
    """{name: r} at the largest scale that leaves at most ``share`` of ``dense``.

    layers: {name: nn.Linear or nn.Conv2d}. dense: parameters of the whole network.
    """
    rest = dense - sum(layer.weight.numel() for layer in layers.values())

    def at(scale):
        return {name: _rank(layer, scale) for name, layer in layers.items()}

    def params(scale):
        ranks = at(scale).items()
        return rest + sum(r * sum(unrolled(layers[name])) for name, r in ranks)

    low, high = 0.0, 1.0
    if params(low) > share * dense:
        raise ValueError(
            f"params_share={share!r}: rank 1 in every layer leaves "
            f"{params(low) / dense:.4f} of the parameters; it takes at least that"
        )
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if params(middle) <= share * dense else (low, middle)
    return at(low)


def _require_plain(layers):
    """Raise ValueError if a layer is not one that `factorised` takes."""
    other = [
        name
        for name, layer in layers.items()
        if not isinstance(layer, nn.Linear | nn.Conv2d)
        or getattr(layer, "groups", 1) > 1
    ]
    if other:
        raise ValueError(
            f"spectral takes linear layers and 2-d convolutions without groups; leave "
            f"out with skip: {', '.join(other)}"
        )
    require_zero_padding(layers.values(), "spectral")


def unrolled(layer):
    """(m, n) of the matrix: (out kh, in kw), or (out, in) of a linear layer."""
    if isinstance(layer, nn.Linear):
        return layer.out_features, layer.in_features
    kh, kw = layer.kernel_size
    return layer.out_channels * kh, layer.in_channels * kw


def _rank(layer, scale):
    m, n = unrolled(layer)
    wide = min(m, n) if isinstance(layer, nn.Linear) else m
    return min(max(1, round(scale * wide)), m, n)


def factorised(layer, rank):
    """``layer`` as an nn.Sequential of V^T and U, from its truncated SVD."""
    m, n = unrolled(layer)
    weight = layer.weight.detach()
    matrix = weight if isinstance(layer, nn.Linear) else weight.transpose(1, 2)
    P, S, Qt = torch.linalg.svd(matrix.reshape(m, n), full_matrices=False)
    root = S[:rank].sqrt()
    U, Vt = P[:, :rank] * root, root[:, None] * Qt[:rank]  # (m, r), (r, n)
    pair = _linear(layer, rank) if isinstance(layer, nn.Linear) else _conv(layer, rank)
    first, second = pair
    with torch.no_grad():
        first.weight.copy_(Vt.view_as(first.weight))
        if isinstance(layer, nn.Conv2d):
            U = U.view(layer.out_channels, layer.kernel_size[0], rank).transpose(1, 2)
        second.weight.copy_(U.reshape(second.weight.shape))
        if layer.bias is not None:
            second.bias.copy_(layer.bias)
    return nn.Sequential(first, second)


def _linear(layer, rank):
    first = nn.Linear(layer.in_features, rank, bias=False)
    second = nn.Linear(rank, layer.out_features, bias=layer.bias is not None)
    return first, second


def _conv(layer, rank):
    """1 x kw, then kh x 1; each carries its own direction's geometry."""
    kh, kw = layer.kernel_size
    (sh, sw), (ph, pw), (dh, dw) = layer.stride, layer.padding, layer.dilation
    first = nn.Conv2d(
        layer.in_channels, rank, (1, kw), (1, sw), (0, pw), (1, dw), bias=False
    )
    second = nn.Conv2d(
        rank,
        layer.out_channels,
        (kh, 1),
        (sh, 1),
        (ph, 0),
        (dh, 1),
        bias=layer.bias is not None,
    )
    return first, second
