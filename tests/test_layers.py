"""One layer: U V^T computes what nn.Linear and nn.Conv2d compute, at every rank."""

import copy
import itertools
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import maestro
from maestro.lowrank.layers import LowRank, LowRankConv2d, LowRankLinear

STRIDES, DILATIONS = (1, 2, (2, 1)), (1, 2, (1, 2))
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
GEOMETRIES = [
    *itertools.product(STRIDES, (0, 1, (2, 1), "valid"), DILATIONS, PADDING_MODES),
    *itertools.product((1,), ("same",), DILATIONS, PADDING_MODES),
]


def dense_twin(layer, dense):
    """``dense`` with the weight U V^T of ``layer``, at the rank it has now."""
    twin = copy.deepcopy(dense)
    with torch.no_grad():
        twin.weight.copy_((layer.U @ layer.V.t()).view_as(twin.weight))
    return twin


def difference(a, b):
    assert a.shape == b.shape and a.dtype == b.dtype
    return (a - b).abs().max().item() if a.numel() else 0.0


def one_way(layer, product):
    """``layer``, made to take the product U V^T or the two maps."""
    layer.product_is_cheaper = lambda positions: product
    return layer


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("stride, padding, dilation, padding_mode", GEOMETRIES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("product", [True, False])
def test_convolution(stride, padding, dilation, padding_mode, bias, product):
    dense = nn.Conv2d(
        3, 4, (3, 2), stride, padding, dilation, 1, bias, padding_mode
    ).double()
    x = torch.randn(2, 3, 9, 10, dtype=torch.float64)
    layer = one_way(maestro.factorize(copy.deepcopy(dense)), product)
    assert difference(layer(x), dense(x)) <= 1e-10
    for rank in (2, 0):
        maestro.truncate(layer, {"": rank})
        assert difference(layer(x), dense_twin(layer, dense)(x)) <= 1e-10


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("side", [3, 40])  # few positions, and many
@pytest.mark.parametrize("product", [True, False])
def test_convolution_keeps_the_layout_of_its_images(layout, side, product):
    """Code behind it may count on it: ``view``, for one, does."""
    dense = nn.Conv2d(6, 5, 3, padding=1).double()
    layer = one_way(maestro.factorize(copy.deepcopy(dense)), product)
    x = torch.randn(1, 6, side, side, dtype=torch.float64)
    x = x.contiguous(memory_format=layout)
    outs = [module(x) for module in (layer, dense)]
    for out in outs:
        assert out.is_contiguous(memory_format=layout)
        out.square().sum().backward()
    assert difference(*outs) <= 1e-10
    G = dense.weight.grad.flatten(1)
    torch.testing.assert_close(layer.U.grad, G @ layer.V, rtol=0, atol=1e-8)
    torch.testing.assert_close(layer.V.grad, G.t() @ layer.U, rtol=0, atol=1e-8)


def test_one_channel_is_in_the_default_layout():
    layer = one_way(maestro.factorize(nn.Conv2d(1, 5, 5)), product=False)
    assert layer(torch.randn(1, 1, 6, 6)).is_contiguous()


@pytest.mark.parametrize("kernel", [1, 2, 3, (1, 3)])
@pytest.mark.parametrize("channels", [(1, 6), (6, 1), (5, 5)])
def test_convolution_kernels(kernel, channels):
    dense = nn.Conv2d(*channels, kernel, padding="same").double()
    x = torch.randn(3, channels[0], 5, 7, dtype=torch.float64)
    layer = maestro.factorize(copy.deepcopy(dense))
    assert difference(layer(x), dense(x)) <= 1e-10


@pytest.mark.parametrize("rank", [3, 1, 0])
@pytest.mark.parametrize("shape", [(2, 6, 5), (0, 2, 6, 5), (1, 2, 6, 5)])
def test_convolution_without_a_batch_or_with_an_empty_one(shape, rank):
    dense = nn.Conv2d(2, 3, 3, padding=1).double()
    layer = maestro.factorize(copy.deepcopy(dense))
    maestro.truncate(layer, {"": rank})
    x = torch.randn(shape, dtype=torch.float64)
    assert difference(layer(x), dense_twin(layer, dense)(x)) <= 1e-10


@pytest.mark.parametrize("sizes", [(7, 4), (4, 7), (5, 5), (1, 3), (3, 1)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", [(), (6,), (2, 3), (0,)])
@pytest.mark.parametrize("product", [True, False])
def test_linear(sizes, bias, batch, product):
    dense = nn.Linear(*sizes, bias).double()
    x = torch.randn(*batch, sizes[0], dtype=torch.float64)
    layer = one_way(maestro.factorize(copy.deepcopy(dense)), product)
    assert difference(layer(x), dense(x)) <= 1e-10
    for rank in reversed(range(layer.rank)):
        maestro.truncate(layer, {"": rank})
        assert difference(layer(x), dense_twin(layer, dense)(x)) <= 1e-10


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
@pytest.mark.parametrize("sizes", [(0, 3), (3, 0)])
def test_linear_without_features(sizes):
    dense = nn.Linear(*sizes)
    layer = maestro.factorize(copy.deepcopy(dense))
    x = torch.randn(2, sizes[0])
    assert layer.rank == 0 and torch.equal(layer(x), dense(x))


@pytest.mark.parametrize("dense", [nn.Linear(6, 4), nn.Conv2d(2, 4, 3)])
def test_rank_zero_is_the_bias(dense):
    layer = maestro.factorize(dense)
    maestro.truncate(layer, {"": 0})
    x = (
        torch.randn(2, 6)
        if isinstance(layer, LowRankLinear)
        else torch.randn(2, 2, 5, 5)
    )
    out = layer(x)
    expected = layer.bias if out.ndim == 2 else layer.bias[:, None, None]
    assert torch.equal(out, expected.expand_as(out))
    out.sum().backward()
    assert torch.equal(layer.bias.grad, torch.full((4,), out[:, 0].numel() * 1.0))


@pytest.mark.parametrize("product", [True, False])
@pytest.mark.parametrize(
    "kind, sizes, shape",
    [(nn.Linear, (18, 4), (18,)), (nn.Conv2d, (2, 4, 3, 1, 1), (2, 3, 3))],
)
def test_gradients_are_those_of_the_product(kind, sizes, shape, product):
    """dL/dU = G V and dL/dV = G^T U for G = dL/dW, whichever way it is computed."""
    dense = kind(*sizes).double()
    layer = one_way(maestro.factorize(copy.deepcopy(dense)), product)
    x = torch.randn(7, *shape, dtype=torch.float64)
    weights = torch.randn_like(dense(x))
    for module in (dense, layer):
        (module(x).square() * weights).sum().backward()
    G = dense.weight.grad.flatten(1)
    torch.testing.assert_close(layer.U.grad, G @ layer.V, rtol=0, atol=1e-9)
    torch.testing.assert_close(layer.V.grad, G.t() @ layer.U, rtol=0, atol=1e-9)
    torch.testing.assert_close(layer.bias.grad, dense.bias.grad, rtol=0, atol=1e-9)


@pytest.mark.parametrize("columns", [None, 2])
@pytest.mark.parametrize("product", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dense", [nn.Linear(6, 5), nn.Conv2d(2, 4, 3)])
def test_gradients_lie_in_memory_as_the_factors_do(dense, product, columns, layout):
    """Fused optimisers on a CPU take it for granted, and are wrong without a word."""
    layer = one_way(maestro.factorize(copy.deepcopy(dense)), product)
    layer.columns = columns
    x = torch.randn(3, 2, 5, 6).contiguous(memory_format=layout)
    layer(x).square().sum().backward()
    for factor in (layer.U, layer.V):
        assert factor.grad.stride() == factor.stride()
    before = [factor.detach().clone() for factor in (layer.U, layer.V)]
    torch.optim.Adam(layer.parameters(), 0.1, eps=0.1, fused=True).step()
    for old, factor in zip(before, (layer.U, layer.V), strict=True):
        expected = old - 0.1 * factor.grad / (factor.grad.abs() + 0.1)
        torch.testing.assert_close(factor.detach(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "inputs, outputs, rank, product_from",  # the first number of positions
    [
        (32, 32, 32, 33),  # product: 32^3, and 32^2 a position; two maps: 32 * 64
        (32, 32, 16, None),  # a position is as dear either way
        (48, 32, 25, 38),  # 25 columns are made as 32: 25 * 32 * 48 < P * 32^2
        (20, 10, 2, 2),  # 10 are made as 16, and so are 2: 2 * 10 * 20 < P * 16^2
    ],
)
def test_the_cheaper_way_is_taken(inputs, outputs, rank, product_from):
    layer = maestro.factorize(nn.Linear(inputs, outputs))
    layer.columns = rank
    for positions in range(1, 200):
        product = product_from is not None and positions >= product_from
        assert layer.product_is_cheaper(positions) == product, positions


@pytest.mark.parametrize("product", [True, False])
def test_both_ways_are_gone(product, monkeypatch):
    """What `product_is_cheaper` says is what happens."""
    made = []
    layer = one_way(maestro.factorize(nn.Conv2d(3, 5, 3)), product)
    monkeypatch.setattr(F, "conv2d", lambda x, W, *_: made.append(W.shape) or x)
    layer(torch.randn(1, 3, 4, 4))
    assert made == ([(5, 3, 3, 3)] if product else [(5, 3, 3, 3), (5, 5, 1, 1)])


def test_weight_can_be_read():
    linear, conv = nn.Linear(5, 3), nn.Conv2d(2, 3, 3)
    for dense in (linear, conv):
        layer = maestro.factorize(copy.deepcopy(dense))
        torch.testing.assert_close(layer.weight, dense.weight)
        layer.columns = 1
        one = layer.U[:, :1] @ layer.V[:, :1].t()
        torch.testing.assert_close(layer.weight.flatten(1), one)


def test_width_and_factors_follow_the_columns_in_use():
    layer = maestro.factorize(nn.Linear(5, 3))
    assert (layer.width, layer.factors()[0].shape[1]) == (3, 3)
    layer.columns = 2
    assert (layer.width, layer.rank) == (2, 3)
    assert [f.shape for f in layer.factors()] == [(3, 2), (5, 2)]


def test_numbers_of_a_layer():
    layer = maestro.factorize(nn.Conv2d(2, 5, 3, stride=2, bias=False))
    assert (layer.shape, layer.max_rank, layer.rank) == ((5, 18), 5, 5)
    assert (layer.in_channels, layer.out_channels, layer.bias) == (2, 5, None)
    assert "rank=5" in repr(layer) and "stride=(2, 2)" in repr(layer)
    layer = maestro.factorize(nn.Linear(7, 4))
    assert (layer.in_features, layer.out_features, layer.max_rank) == (7, 4, 4)
    assert "in_features=7, out_features=4, rank=4, bias=True" in repr(layer)


def test_factors_are_contiguous_always():
    """LBFGS, pruning, safetensors and FSDP2 take it for granted."""
    layer = maestro.factorize(nn.Linear(6, 4))
    smaller = copy.deepcopy(layer)
    maestro.truncate(smaller, {"": 2})
    layer.load_state_dict(smaller.state_dict())
    assert layer.rank == 2
    for net in (layer, smaller, maestro.factorize(nn.Conv2d(2, 5, 3))):
        assert all(p.is_contiguous() for p in net.parameters())


def test_the_factors_are_copies():
    U, V, bias = torch.ones(2, 3).t(), torch.ones(4, 2), torch.ones(3)
    layer = LowRankLinear(U, V, bias)
    for p, given in zip(layer.parameters(), (U, V, bias), strict=True):
        assert torch.equal(p, given) and p.data_ptr() != given.data_ptr()


def test_layers_can_be_pickled():
    layer = maestro.factorize(nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"))
    x = torch.randn(1, 2, 5, 5)
    assert torch.equal(pickle.loads(pickle.dumps(layer))(x), layer(x))


@pytest.mark.parametrize(
    "U, V", [((3, 2), (4, 1)), ((3,), (4, 1)), ((3, 2, 1), (4, 2, 1))]
)
def test_factors_must_be_matrices_of_as_many_columns(U, V):
    with pytest.raises(ValueError, match="as many columns"):
        LowRank(torch.zeros(U), torch.zeros(V))


def test_kinds():
    assert type(maestro.factorize(nn.Linear(3, 2))) is LowRankLinear
    assert type(maestro.factorize(nn.Conv2d(3, 2, 1))) is LowRankConv2d
