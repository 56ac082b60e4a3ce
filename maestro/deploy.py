"""From a trained low-rank network to the one that is shipped (Sec. 3.4, App. D.4)."""

import torch
from torch import nn

from .lowrank.layers import LowRankConv2d, LowRankLinear


def merge(net):
    """Replace each low-rank layer by plain PyTorch layers, in place; returns ``net``.

    One dense nn.Linear / nn.Conv2d where that has no more parameters, m n <= r (m + n)
    ("deciding against decomposition", App. D.4); else two of them in an nn.Sequential,
    V^T first. A layer of rank 0 stays: it is only its bias. The function is the same,
    to rounding.
    """
    new = {
        id(layer): _plain(layer)
        for layer in net.modules()
        if isinstance(layer, LowRankLinear | LowRankConv2d) and layer.rank
    }
    for parent in list(net.modules()):
        for name, child in parent._modules.items():
            if id(child) in new:
                parent._modules[name] = new[id(child)]
    return new.get(id(net), net)


@torch.no_grad()
def _plain(layer):
    (m, n), r = layer.shape, layer.rank
    if m * n <= r * (m + n):
        plain = _like(layer, layer.weight, layer.bias)
    else:
        plain = nn.Sequential(*_two(layer))
    return plain.train(layer.training)


def _two(layer):
    """V^T and U as two layers; a convolution's geometry goes with V^T."""
    if isinstance(layer, LowRankLinear):
        return _like(layer, layer.V.t(), None), _like(layer, layer.U, layer.bias)
    first = _like(layer, layer._kernel(layer.V.t()), None)
    second = nn.Conv2d(layer.rank, len(layer.U), 1, bias=layer.bias is not None)
    return first, _filled(second, layer.U[:, :, None, None], layer.bias)


def _like(layer, weight, bias):
    """A plain layer of the kind and geometry of ``layer`` with this weight."""
    with_bias = bias is not None
    if isinstance(layer, LowRankLinear):
        plain = nn.Linear(weight.shape[1], weight.shape[0], with_bias)
    else:
        plain = nn.Conv2d(
            layer.in_channels,
            weight.shape[0],
            layer.kernel_size,
            layer.stride,
            layer.padding,
            layer.dilation,
            bias=with_bias,
            padding_mode=layer.padding_mode,
        )
    return _filled(plain, weight, bias)


def _filled(plain, weight, bias):
    plain.weight = nn.Parameter(
        weight.detach().clone(memory_format=torch.contiguous_format)
    )
    if bias is not None:
        plain.bias = nn.Parameter(bias.detach().clone())
    return plain
