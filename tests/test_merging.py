"""`merge`: plain PyTorch layers of the same function and of no more parameters."""

import copy

import pytest
import torch
from torch import nn

import maestro
from maestro.models import LeNet

RANKS = [
    {},
    {"conv1": 2, "conv2": 5, "fc1": 9, "fc2": 3, "fc3": 1},
    {"conv1": 0, "fc1": 60, "fc2": 0},
    {"conv1": 1, "conv2": 0, "fc1": 0, "fc2": 0, "fc3": 0},
]


def lenet(ranks):
    net = maestro.factorize(LeNet().double())
    maestro.truncate(net, ranks)
    return net


def kinds(net):
    return {type(module) for module in net.modules()} - {LeNet}


@pytest.mark.parametrize("ranks", RANKS)
def test_same_function_and_the_footprint_foretold(ranks):
    net, x = lenet(ranks), torch.randn(4, 1, 28, 28, dtype=torch.float64)
    expected, foretold = net(x), maestro.footprint(net, x[:1], merged=True)
    merged = maestro.merge(net)
    assert merged is net
    assert (merged(x) - expected).abs().max() <= 1e-10
    assert maestro.footprint(merged, x[:1]) == foretold
    assert sum(p.numel() for p in merged.parameters()) == foretold.params


@pytest.mark.parametrize("ranks", RANKS)
def test_only_layers_of_rank_zero_stay(ranks):
    merged = maestro.merge(lenet(ranks))
    gone = {name for name, rank in ranks.items() if not rank}
    assert set(maestro.ranks(merged)) == gone
    plain = {nn.Linear, nn.Conv2d, nn.Sequential}
    left = {type(getattr(merged, name)) for name in gone}
    assert kinds(merged) <= plain | left


def test_the_smaller_form_is_taken():
    net = maestro.factorize(nn.Sequential(*(nn.Linear(6, 6) for _ in range(3))))
    maestro.truncate(net, {"0": 2, "1": 3})  # 24 and 36 numbers against 36
    merged = maestro.merge(net)
    assert [type(module) for module in merged] == [nn.Sequential, nn.Linear, nn.Linear]
    first, second = merged[0]
    assert (first.weight.shape, second.weight.shape) == ((2, 6), (6, 2))
    assert first.bias is None and second.bias is not None


@pytest.mark.parametrize("rank", [4, 1])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "geometry",
    [
        {"stride": 2, "padding": (2, 1)},
        {"padding": "same", "dilation": 2},
        {"padding": "valid", "stride": (2, 1)},
        {"padding": 1, "padding_mode": "reflect", "dilation": (1, 2)},
        {"padding": 2, "padding_mode": "circular"},
    ],
)
def test_geometry_goes_along(geometry, bias, rank):
    net = maestro.factorize(nn.Conv2d(3, 4, (3, 2), bias=bias, **geometry).double())
    maestro.truncate(net, {"": rank})
    x = torch.randn(2, 3, 9, 10, dtype=torch.float64)
    expected, merged = net(x), maestro.merge(net)
    assert type(merged) is (nn.Conv2d if rank == 4 else nn.Sequential)
    assert (merged(x) - expected).abs().max() <= 1e-10


def test_a_shared_layer_stays_one():
    shared = nn.Linear(8, 8)
    net = maestro.factorize(nn.Sequential(shared, nn.ReLU(), shared))
    maestro.truncate(net, {"0": 2})
    maestro.merge(net)
    assert net[0] is net[2] and sum(p.numel() for p in net.parameters()) == 2 * 16 + 8


@pytest.mark.parametrize("rank", [6, 1])
@pytest.mark.parametrize("grad_mode", [True, False])
def test_dtype_mode_and_what_is_trained_are_kept(rank, grad_mode):
    net = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6)).to(torch.bfloat16).eval()
    net[0].requires_grad_(False)
    maestro.factorize(net)
    maestro.truncate(net, {"0": rank, "1": rank})
    with torch.set_grad_enabled(grad_mode):
        maestro.merge(net)
    for module, trained in zip(net, (False, True), strict=True):
        for p in module.parameters():
            assert (p.dtype, p.requires_grad) == (torch.bfloat16, trained)
            assert p.is_leaf and p.device.type == "cpu" and p.is_contiguous()
        assert not any(m.training for m in module.modules())


def test_merging_draws_no_random_numbers():
    net, before = lenet({"fc1": 9}), torch.get_rng_state()
    maestro.merge(net)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_low_rank_network_is_not_touched_through_its_copy():
    net = lenet({"fc1": 9})
    merged = maestro.merge(copy.deepcopy(net))
    with torch.no_grad():
        for p in merged.parameters():
            p.zero_()
    assert all(p.any() for p in net.parameters())


def test_a_merged_network_trains_and_its_state_loads():
    ranks = {"conv2": 3, "fc1": 9, "fc2": 5}
    merged, x = maestro.merge(lenet(ranks)), torch.randn(4, 1, 28, 28).double()
    merged(x).square().mean().backward()
    assert all(p.grad.isfinite().all() for p in merged.parameters())
    other = maestro.merge(lenet(ranks))
    other.load_state_dict(merged.state_dict())
    assert torch.equal(other(x), merged(x))


def test_hooks_go_on():
    net, seen = maestro.factorize(nn.Sequential(nn.Linear(8, 8))), []
    net[0].register_forward_hook(lambda *_: seen.append(1))
    maestro.truncate(net, {"0": 2})
    maestro.merge(net)(torch.randn(2, 8))
    assert seen == [1]


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("rank, kept", [(3, True), (8, False)])
def test_an_encoder_that_reads_its_layers_weights_can_still_read_them(rank, kept):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    net = maestro.factorize(nn.TransformerEncoder(layer, 1).double()).eval()
    names = list(maestro.ranks(net))
    maestro.truncate(net, dict.fromkeys(names, rank))
    x = torch.randn(2, 3, 8, dtype=torch.float64)
    mask = torch.tensor([[False] * 3, [False, False, True]])
    with torch.no_grad():
        expected = net(x), net(x, src_key_padding_mask=mask)
        maestro.merge(net)
        got = net(x), net(x, src_key_padding_mask=mask)
    assert list(maestro.ranks(net)) == (names if kept else [])
    for one, other in zip(got, expected, strict=True):
        assert (one - other).abs().max() <= 1e-10
