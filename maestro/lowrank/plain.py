"""A low-rank layer as plain PyTorch layers, in any of the `forms`."""

import torch
from torch import nn
from torch.nn import functional as F

from . import aligning
from .base import product
from .convolutions import CONVOLUTIONS, TRANSPOSED, LowRankConvTranspose
from .forms import ALIGNED, DENSE
from .layers import LowRankLinear
from .replacing import tagged


@torch.enable_grad()  # so that requires_grad tells of a product whether it is trained
def plain(layer, form):
    """``layer`` in plain PyTorch, in the form of this name."""
    used = layer.in_use
    r = max(used, 1)  # a column of zeros, where none is left
    U, V = (F.pad(M[:, :used], (0, r - used)) for M in (layer.U, layer.V))
    if form == DENSE:
        return _dense(layer, layer.kernel(product(U, V, layer.blocks)), layer.bias)
    if form == ALIGNED:
        return _aligned(layer, U, V)
    if isinstance(layer, LowRankLinear):
        return nn.Sequential(_dense(layer, V.t(), None), _linear(layer, U, layer.bias))
    narrow = layer.filters(V)
    if isinstance(layer, LowRankConvTranspose):
        first = _pointwise(layer, narrow, None)
        return nn.Sequential(first, _dense(layer, layer.kernel(U), layer.bias))
    second = _pointwise(layer, U.reshape(*U.shape, *[1] * layer.dims), layer.bias)
    return nn.Sequential(_dense(layer, narrow, None), second)


def _aligned(layer, U, V):
    """``layer`` as h = B x and then [h, A h], in each block (`aligning`)."""
    if isinstance(layer, LowRankConvTranspose):
        return _aligned_inputs(layer, U, V)
    blocks, bias = layer.blocks, layer.bias
    kept, rest, A = _chosen(U, blocks)  # A (G (m - r), r)
    order = torch.cat([kept, rest]).argsort()
    B = product(U.double(), V.double(), blocks)[kept].to(U)
    bias_of_h = bias_of_rest = None
    if bias is not None:
        h = bias.double()[kept]
        made = product(A, h.unflatten(0, (blocks, 1, -1)).flatten(0, 1), blocks)
        bias_of_h, bias_of_rest = (
            h.to(bias),
            (bias.double()[rest] - made[:, 0]).to(bias),
        )
    A = A.to(U).requires_grad_(B.requires_grad)
    if isinstance(layer, LowRankLinear):
        pair = _dense(layer, B, bias_of_h), _linear(layer, A, bias_of_rest)
        return aligning.outputs_in_order(*pair, order, -1)
    A = A.reshape(*A.shape, *[1] * layer.dims)
    first = _dense(layer, layer.kernel(B), bias_of_h)
    second = _pointwise(layer, A, bias_of_rest)
    return aligning.outputs_in_order(first, second, order, -layer.dims - 1)


def _aligned_inputs(layer, U, V):
    """``layer``, transposed, as h = x_1 + A^T x_2 and then C h, in each block."""
    kept, rest, A = _chosen(V, layer.blocks)
    C = product(U.double(), V.double()[kept], layer.blocks)  # W for x_1, (G m, r)
    A = _turned(A, layer.blocks).to(U).requires_grad_(C.requires_grad)  # (G r, n - r)
    first = _pointwise(layer, A.reshape(*A.shape, *[1] * layer.dims), None)
    return aligning.inputs_in_order(
        first,
        _dense(layer, layer.kernel(C.to(U)), layer.bias),
        torch.cat([kept, rest]),
        -layer.dims - 1,
        len(kept),
    )


def _chosen(factor, blocks):
    """(rows kept, the others, A) of ``factor`` (G m, r), over all blocks."""
    m = len(factor) // blocks
    found = [aligning.rows(block) for block in factor.unflatten(0, (blocks, m))]
    kept = torch.cat([g * m + rows for g, (rows, _, _) in enumerate(found)])
    rest = torch.cat([g * m + rows for g, (_, rows, _) in enumerate(found)])
    return kept, rest, torch.cat([ratio for _, _, ratio in found])


def _turned(matrix, blocks):
    """Each block of ``matrix`` (G k, r), transposed: (G r, k)."""
    return matrix.unflatten(0, (blocks, -1)).mT.flatten(0, 1)


def _dense(layer, weight, bias):
    """A plain layer of the kind and geometry of ``layer`` with this weight."""
    if isinstance(layer, LowRankLinear):
        return _linear(layer, weight, bias)
    transposed = isinstance(layer, LowRankConvTranspose)
    if transposed:
        out, inputs = weight.shape[1] * layer.groups, len(weight)
    else:
        out, inputs = len(weight), layer.in_channels
    more = {"output_padding": layer.output_padding} if transposed else {}
    conv = (TRANSPOSED if transposed else CONVOLUTIONS)[layer.dims - 1](
        inputs,
        out,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        dilation=layer.dilation,
        groups=layer.groups,
        bias=bias is not None,
        padding_mode=layer.padding_mode,
        device="meta",
        **more,
    )
    return _filled(conv, weight, bias, layer)


def _linear(layer, weight, bias):
    m, n = weight.shape
    return _filled(nn.Linear(n, m, bias is not None, "meta"), weight, bias, layer)


def _pointwise(layer, weight, bias):
    """A convolution of 1x1 in as many groups as ``layer`` has."""
    conv = CONVOLUTIONS[layer.dims - 1](
        weight.shape[1] * layer.groups,
        len(weight),
        1,
        groups=layer.groups,
        bias=bias is not None,
        device="meta",
    )
    return _filled(conv, weight, bias, layer)


def _filled(dense, weight, bias, layer):
    """``dense``, made without storage and random numbers, with these for its own."""
    dense.weight = tagged(_parameter(weight), layer.U)
    if bias is not None:
        dense.bias = tagged(_parameter(bias), layer.bias)
    return dense


@torch.enable_grad()
def weight(layer):
    """The parameter that a module reads in the place of its `LowRankWeight`."""
    U, V = (M[:, : layer.in_use] for M in (layer.U, layer.V))
    W = layer.kernel(product(U, V, layer.blocks))
    return tagged(_parameter(W), layer.U)


def _parameter(tensor):
    """A copy that is trained if ``tensor`` was, or something that it comes from."""
    copy = tensor.detach().clone(memory_format=torch.contiguous_format)
    return nn.Parameter(copy, requires_grad=tensor.requires_grad)
