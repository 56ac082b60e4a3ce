"""Columns by their effect on the output: exact at full rank, best at every other."""

import copy

import pytest
import torch
from torch import nn

import maestro
from maestro.deploy.whitening import order_by_data


@pytest.fixture
def net():
    net = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1, padding_mode="reflect"),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 4, 3, stride=2),
        nn.Flatten(),
        nn.Linear(36, 12),
        nn.ReLU(),
        nn.Linear(12, 20, bias=False),
    )
    return maestro.factorize(net.double())


@pytest.fixture
def x():
    scale = torch.linspace(0.1, 3, 8, dtype=torch.float64)  # anything but white
    return torch.randn(64, 2, 8, 8, dtype=torch.float64) * scale


def test_the_function_stays_and_columns_stay_balanced(net, x):
    before = net(x)
    parameters = list(net.parameters())
    assert maestro.order_by_data(net.train(), x) is net
    torch.testing.assert_close(net(x), before, rtol=1e-9, atol=1e-9)
    assert net.training
    assert all(a is b for a, b in zip(parameters, net.parameters(), strict=True))
    for layer in maestro.low_rank_layers(net).values():
        torch.testing.assert_close(layer.U.norm(dim=0), layer.V.norm(dim=0))


@pytest.mark.parametrize("rank", [1, 3])
def test_each_cut_is_the_best_of_its_rank_for_the_data(rank, net, x):
    """The whitened SVD, computed from the inputs' moments, gives the same matrix."""
    seen = {}
    for name, layer in maestro.low_rank_layers(net).items():
        layer.register_forward_pre_hook(lambda m, a, n=name: seen.update({n: a[0]}))
    net(x)
    inputs = dict(seen)  # the hooks go on writing
    plain = copy.deepcopy(net)
    maestro.order_by_data(net, x)
    for name in ("4", "6"):
        C = inputs[name].t() @ inputs[name] / len(x)
        values, vectors = torch.linalg.eigh(C)
        root = vectors * values.clamp(min=0).sqrt()  # C = root root^T
        W = plain.get_submodule(name).matrix().detach()
        P, S, Q = torch.linalg.svd(W @ root, full_matrices=False)
        best = S[rank:].square().sum()  # what any cut to this rank loses at least
        layer = net.get_submodule(name)
        gone = (W - layer.U[:, :rank] @ layer.V[:, :rank].t()) @ root
        assert gone.square().sum().item() == pytest.approx(best.item(), rel=1e-3)
        svd = plain.get_submodule(name)
        lost = (W - svd.U[:, :rank] @ svd.V[:, :rank].t()) @ root
        assert gone.square().sum() <= lost.square().sum()


def test_fewer_examples_than_outputs_lose_nothing(net, x):
    before = net(x)
    order_by_data(net, x[:3])
    torch.testing.assert_close(net(x), before, rtol=1e-6, atol=1e-6)


def test_more_than_256_examples_are_not_looked_at(net):
    x = torch.randn(300, 2, 8, 8, dtype=torch.float64)
    one, other = copy.deepcopy(net), net
    order_by_data(one, x)
    order_by_data(other, x[:256])
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_nothing_to_order_is_an_error(net, x):
    with pytest.raises(ValueError, match="0 low-rank layers and 64 examples"):
        order_by_data(nn.Linear(3, 3), x)
    with pytest.raises(ValueError, match="4 low-rank layers and 0 examples"):
        order_by_data(net, x[:0])
