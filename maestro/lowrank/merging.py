"""Back to plain PyTorch: two small layers, or one dense one (App. D.4)."""

import torch
from torch import nn

from .layers import LowRank, LowRankLinear, take_hooks


def merge(net):
    """Replace each low-rank layer by plain PyTorch layers, in place; returns ``net``.

    One dense nn.Linear / nn.Conv2d where that has no more parameters, m n <= r (m + n)
    ("deciding against decomposition", App. D.4); else two of them in an nn.Sequential,
    V^T first. A layer of rank 0 stays: it is only its bias. So does one that would be
    two, but whose weight an nn.TransformerEncoderLayer reads. The function is the
    same, to rounding.
    """
    read = {
        id(layer)
        for parent in net.modules()
        if isinstance(parent, nn.TransformerEncoderLayer)
        for layer in parent.children()
    }
    new = {
        id(layer): _plain(layer)
        for layer in net.modules()
        if isinstance(layer, LowRank) and layer.rank
        if _dense_is_no_larger(layer) or id(layer) not in read
    }
    for parent in list(net.modules()):
        for name, child in parent._modules.items():
            if id(child) in new:
                parent._modules[name] = new[id(child)]
    return new.get(id(net), net)


def _dense_is_no_larger(layer):
    (m, n), r = layer.shape, layer.rank
    return m * n <= r * (m + n)


@torch.enable_grad()  # so that requires_grad tells of a product whether it is trained
def _plain(layer):
    if _dense_is_no_larger(layer):
        plain = _like(layer, layer.weight, layer.bias)
    else:
        plain = nn.Sequential(*_two(layer))
    take_hooks(plain, layer)
    return plain.train(layer.training)


def _two(layer):
    """V^T and U as two layers; a convolution's geometry goes with V^T."""
    if isinstance(layer, LowRankLinear):
        return _like(layer, layer.V.t(), None), _like(layer, layer.U, layer.bias)
    first = _like(layer, layer._kernel(layer.V.t()), None)
    with_bias = layer.bias is not None
    second = nn.Conv2d(layer.rank, len(layer.U), 1, bias=with_bias, device="meta")
    return first, _filled(second, layer.U[:, :, None, None], layer.bias)


def _like(layer, weight, bias):
    """A plain layer of the kind and geometry of ``layer`` with this weight."""
    with_bias = bias is not None
    if isinstance(layer, LowRankLinear):
        plain = nn.Linear(weight.shape[1], weight.shape[0], with_bias, device="meta")
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
            device="meta",
        )
    return _filled(plain, weight, bias)


def _filled(plain, weight, bias):
    """``plain``, made without storage and random numbers, with these for its own."""
    plain.weight = _parameter(weight)
    if bias is not None:
        plain.bias = _parameter(bias)
    return plain


def _parameter(tensor):
    """A copy that is trained if ``tensor`` was, or something that it comes from."""
    copy = tensor.detach().clone(memory_format=torch.contiguous_format)
    return nn.Parameter(copy, requires_grad=tensor.requires_grad)
