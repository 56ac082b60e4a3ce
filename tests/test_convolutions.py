"""Convolutions in one to three dimensions, in groups, and transposed, against dense."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import maestro
from maestro.lowrank import LowRankConv, LowRankConvTranspose

CONVOLUTIONS = [
    (nn.Conv1d(6, 8, 3, 2, 1), (2, 6, 11)),
    (nn.Conv1d(6, 8, 3, padding="same", padding_mode="reflect", bias=False), (6, 11)),
    (nn.Conv1d(6, 8, 4, 2, 1, dilation=2, groups=2), (3, 6, 13)),
    (nn.Conv2d(6, 9, (3, 2), (2, 1), (0, 1), groups=3), (2, 6, 8, 7)),
    (nn.Conv2d(8, 8, 1, groups=4, bias=False), (2, 8, 4, 4)),
    (nn.Conv3d(3, 6, (3, 2, 1), (1, 2, 1), (1, 0, 2)), (2, 3, 4, 5, 6)),
    (nn.Conv3d(4, 6, 2, groups=2, padding=1, padding_mode="circular"), (4, 3, 4, 5)),
]
TRANSPOSED = [
    (nn.ConvTranspose1d(8, 4, 3, 2, 1, output_padding=1), (2, 8, 7)),
    (nn.ConvTranspose1d(8, 6, 4, 2, groups=2, bias=False), (8, 7)),
    (nn.ConvTranspose2d(8, 3, (3, 2), (2, 1), (1, 0), (1, 0)), (2, 8, 4, 5)),
    (nn.ConvTranspose2d(9, 6, 3, groups=3, dilation=(2, 1)), (2, 9, 4, 5)),
    (nn.ConvTranspose3d(5, 2, 2, 2, padding=(1, 0, 1)), (1, 5, 3, 3, 4)),
]
CASES = CONVOLUTIONS + TRANSPOSED
IDS = [
    f"{type(dense).__name__}-{dense.groups}-{i}" for i, (dense, _) in enumerate(CASES)
]


@pytest.fixture(params=CASES, ids=IDS)
def case(request):
    dense, shape = request.param
    return copy.deepcopy(dense).double(), torch.randn(shape, dtype=torch.float64)


def one_way(layer, product):
    layer.product_is_cheaper = lambda positions: product
    return layer


def dense_twin(layer, dense):
    twin = copy.deepcopy(dense)
    with torch.no_grad():
        twin.weight.copy_(layer.weight)
    return twin


def same(a, b, atol=1e-10):
    assert a.shape == b.shape and (a - b).abs().max() <= atol


@pytest.mark.parametrize("product", [True, False])
def test_every_rank_computes_what_a_dense_layer_does(case, product):
    dense, x = case
    layer = one_way(maestro.factorize(copy.deepcopy(dense)), product)
    kind = LowRankConvTranspose if dense.transposed else LowRankConv
    assert type(layer) is kind and f"{type(dense).__name__[-2:]}(" in repr(layer)
    same(layer(x), dense(x))
    for rank in (1, 0):
        maestro.truncate(layer, {"": rank})
        same(layer(x), dense_twin(layer, dense)(x))


def test_the_columns_of_each_group_are_its_singular_vectors(case):
    dense, _ = case
    layer = maestro.factorize(copy.deepcopy(dense))
    (m, n), G = layer.shape, dense.groups
    assert layer.blocks == G and layer.rank == min(m, n)
    # the map of one group: what its weight does to one vector of inputs
    weight = dense.weight.detach().flatten(1).unflatten(0, (G, -1))
    weight = weight.mT if dense.transposed else weight
    U, V = (M.detach().unflatten(0, (G, -1)) for M in (layer.U, layer.V))
    same(U @ V.mT, weight)
    sigma = torch.linalg.svdvals(weight)
    for gram in (U.mT @ U, V.mT @ V):
        same(gram, torch.diag_embed(sigma))


@pytest.mark.parametrize("product", [True, False])
def test_gradients_are_those_of_the_product(case, product):
    dense, x = case
    layer = one_way(maestro.factorize(copy.deepcopy(dense)), product)
    maestro.truncate(layer, {"": max(1, layer.rank - 1)})
    twin = dense_twin(layer, dense)
    for one in (layer, twin):
        one(x).square().sum().backward()
    G = twin.weight.grad.flatten(1).unflatten(0, (dense.groups, -1))
    G = G.mT if dense.transposed else G
    U, V = (M.detach().unflatten(0, (dense.groups, -1)) for M in (layer.U, layer.V))
    same(layer.U.grad, (G @ V).flatten(0, 1), 1e-8)
    same(layer.V.grad, (G.mT @ U).flatten(0, 1), 1e-8)
    if dense.bias is not None:
        same(layer.bias.grad, twin.bias.grad, 1e-8)


def test_masks_draws_lasso_and_shrinking(case):
    dense, x = case
    outs = []
    for masks in (False, True):
        layer = maestro.factorize(copy.deepcopy(dense))
        optimizer = torch.optim.Adam(layer.parameters(), 0.01)
        for seed in range(3):
            optimizer.zero_grad()
            draw = torch.Generator().manual_seed(seed)
            with maestro.sample(layer, draw, masks=masks):
                loss = layer(x).square().mean()
                (loss + 0.1 * maestro.hierarchical_group_lasso(layer)).backward()
            optimizer.step()
        last = maestro.importance(layer)[-1].item()
        ranks = maestro.shrink(layer, optimizer, eps_ps=last)
        assert ranks == {"": dense_rank(dense) - 1}
        layer(x).square().mean().backward()
        optimizer.step()
        outs.append(layer(x))
    same(*outs, 1e-9)


def dense_rank(dense):
    return maestro.factorize(copy.deepcopy(dense)).rank


@pytest.mark.parametrize("rank", [0, 1, None])
def test_merging_and_counting(case, rank):
    dense, x = case
    layer = maestro.factorize(copy.deepcopy(dense))
    if rank is not None:
        maestro.truncate(layer, {"": rank})
    batched = x if x.ndim == len(dense.kernel_size) + 2 else x[None]
    expected = layer(x)
    whole, cut = maestro.footprint(dense, batched), maestro.footprint(layer, batched)
    bias = 0 if dense.bias is None else len(dense.bias)
    (m, n), r = layer.shape, layer.rank
    assert cut.params == layer.blocks * r * (m + n) + bias
    assert cut.macs * m * n == whole.macs * r * (m + n)
    foretold = maestro.footprint(layer, batched, merged=True)
    merged = maestro.merge(layer)
    same(merged(x), expected)
    assert maestro.footprint(merged, batched) == foretold
    kinds = {type(module) for module in merged.modules()} - {nn.Sequential}
    pointwise = getattr(nn, f"Conv{len(dense.kernel_size)}d")
    assert kinds <= {type(dense), pointwise}


@pytest.mark.parametrize("rank", [0, 1, None])
def test_a_transposed_convolution_is_told_its_output_size(rank):
    dense = nn.ConvTranspose2d(6, 3, 3, stride=2, padding=1).double()
    layer = maestro.factorize(copy.deepcopy(dense))
    maestro.truncate(layer, {} if rank is None else {"": rank})
    x = torch.randn(2, 6, 5, 4, dtype=torch.float64)
    for size in [(9, 7), (10, 8), [2, 3, 10, 7]]:
        out = layer(x, output_size=size)
        same(out, dense_twin(layer, dense)(x, output_size=size))
    merged = maestro.merge(layer)  # to a layer that can be told, too
    same(merged(x, output_size=size), out)


def test_rank_zero_is_the_bias(case):
    dense, x = case
    layer = maestro.factorize(copy.deepcopy(dense))
    maestro.truncate(layer, {"": 0})
    bias = torch.zeros(layer.out_channels) if dense.bias is None else dense.bias
    expected = bias.double().reshape(-1, *[1] * len(dense.kernel_size))
    assert torch.equal(layer(x), expected.expand_as(dense(x)))


def test_states_of_any_rank(case):
    dense, x = case
    saved = maestro.factorize(copy.deepcopy(dense))
    maestro.truncate(saved, {"": 1})
    other = maestro.factorize(copy.deepcopy(dense))
    other.load_state_dict(saved.state_dict())
    assert other.rank == 1 and torch.equal(other(x), saved(x))


def test_groups_of_rank_one_are_left_dense():
    """Depthwise, or with one input in each group: r (m + n) > m n at rank 1 already."""
    net = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(4, 8, 1, groups=4))
    left = maestro.left_alone(net)
    assert list(left) == ["0", "1"]
    assert all("of rank 1 in each group" in reason for reason in left.values())


@pytest.mark.parametrize("name", ["conv1d", "conv3d"])
def test_both_ways_are_gone(name, monkeypatch):
    made, dense = [], {"conv1d": nn.Conv1d(3, 5, 3), "conv3d": nn.Conv3d(3, 5, 2)}[name]
    whole = getattr(F, name)
    layer = maestro.factorize(copy.deepcopy(dense))
    monkeypatch.setattr(
        F,
        name,
        lambda x, W, *a, **k: made.append(tuple(W.shape)) or whole(x, W, *a, **k),
    )
    x = torch.randn(1, 3, *[4] * layer.dims)
    for product in (True, False):
        one_way(layer, product)(x)
    kernel, one = dense.kernel_size, (1,) * layer.dims
    assert made == [(5, 3, *kernel), (5, 3, *kernel), (5, 5, *one)]
