"""Back to plain PyTorch: two small layers, or one dense one (App. D.4)."""

import torch
from torch import nn
from torch.nn import functional as F

from .factorize import low_rank_layers
from .layers import LowRankLinear
from .reads import weights_read
from .replacing import replace, tagged


def merge(net):
    """Replace each low-rank layer by plain PyTorch layers, in place; returns ``net``.

    One dense nn.Linear / nn.Conv2d where that has no more parameters, m n <= r (m + n)
    ("deciding against decomposition", App. D.4); else two of them in an nn.Sequential,
    V^T first. r is the number of columns in use, so masked columns are left out. The
    function is the same, to rounding. Nothing of this package stays.

    A layer becomes one dense layer in any case if other code reads its ``.weight`` or
    ``.bias`` instead of calling it, because an nn.Sequential has neither. A reading is
    noted when it happens in a forward pass, and searched for in the byte code of the
    network's classes, so that a network that was just loaded is merged safely too. Both
    can only err on the dense side, unless code hides the reading (``getattr`` with a
    computed name, a compiled extension) and the network has not run yet: where that may
    be so, run it once before. A dense layer always works; it costs m n numbers.

    A layer of which no column is left becomes that of one column of zeros. PyTorch has
    no layer of a bias alone that convolutions and exporters take, and m + n zeros are
    the least that plain layers need; one dense layer would need m n.

    All layers are made before one of them is put in place. Raises ValueError if the
    network keeps one of them elsewhere as well, in a plain list for example.
    """
    layers, read = low_rank_layers(net).values(), weights_read(net)
    return replace(net, {layer: _plain(layer, layer in read) for layer in layers})


@torch.enable_grad()  # so that requires_grad tells of a product whether it is trained
def _plain(layer, dense):
    (m, n), used = layer.shape, layer.in_use
    r = max(used, 1)  # a column of zeros, where none is left
    U, V = (F.pad(M[:, :used], (0, r - used)) for M in (layer.U, layer.V))
    if dense or m * n <= r * (m + n):
        return _like(layer, layer.kernel(U @ V.t()), layer.bias)
    first = _like(layer, layer.kernel(V.t()), None)
    if isinstance(layer, LowRankLinear):
        return nn.Sequential(first, _like(layer, U, layer.bias))
    with_bias = layer.bias is not None
    second = nn.Conv2d(r, m, 1, bias=with_bias, device="meta")
    return nn.Sequential(first, _filled(second, U[:, :, None, None], layer))


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
    return _filled(plain, weight, layer)


def _filled(plain, weight, layer):
    """``plain``, made without storage and random numbers, with these for its own."""
    plain.weight = tagged(_parameter(weight), layer.U)
    if plain.bias is not None:
        plain.bias = tagged(_parameter(layer.bias), layer.bias)
    return plain


def _parameter(tensor):
    """A copy that is trained if ``tensor`` was, or something that it comes from."""
    copy = tensor.detach().clone(memory_format=torch.contiguous_format)
    return nn.Parameter(copy, requires_grad=tensor.requires_grad)
