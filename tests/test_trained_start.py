"""A trained network is factorised: nothing is lost, and the best columns come first."""

import copy
from contextlib import nullcontext

import pytest
import torch
from torch import nn

import maestro


def trained():
    """A small network after training, in double precision, and its data."""
    torch.manual_seed(0)
    x = torch.randn(200, 12, dtype=torch.float64)
    y = (x[:, :3].sum(1) > 0).long()
    net = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 2)).double()
    fit(net, torch.optim.SGD(net.parameters(), 0.3, momentum=0.9), x, y, 60)
    return net, x, y


def fit(net, optimizer, x, y, steps, sampled=False):
    for step in range(steps):
        draw = torch.Generator().manual_seed(step)
        optimizer.zero_grad()
        with maestro.sample(net, draw) if sampled else nullcontext():
            loss = nn.functional.cross_entropy(net(x), y)
            loss.backward()
        optimizer.step()
    return loss.item()


def test_the_function_is_unchanged_and_columns_are_in_order():
    dense, x, _ = trained()
    net = maestro.factorize(copy.deepcopy(dense))
    assert (net(x) - dense(x)).abs().max() <= 1e-12
    for layer, plain in ((net[0], dense[0]), (net[2], dense[2])):
        sigma = torch.linalg.svdvals(plain.weight)
        norms = layer.U.norm(dim=0) * layer.V.norm(dim=0)
        assert (norms - sigma).abs().max() <= 1e-12
        for r in range(layer.rank):  # each prefix is the best of its rank
            cut = layer.U[:, :r] @ layer.V[:, :r].t()
            error = torch.linalg.matrix_norm(plain.weight - cut)
            assert abs(error - sigma[r:].norm()) <= 1e-10


def test_half_the_columns_are_trained_on():
    dense, x, y = trained()
    net = maestro.factorize(dense)
    before = nn.functional.cross_entropy(net(x), y).item()
    maestro.truncate(net, {"0": 2})
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    after = fit(net, optimizer, x, y, 60, sampled=True)
    full = nn.functional.cross_entropy(net(x), y).item()
    assert after < 0.5 and full < before + 0.2
    maestro.shrink(net, optimizer, eps_ps=1e-7)


# energy


@pytest.mark.parametrize(
    ("sigma", "share", "rank"),
    [
        ((3, 1), 0.9, 1),  # 9 of 10: at the border, one column is enough
        ((3, 1), 0.91, 2),
        ((2, 2, 2, 2), 0.5, 2),  # ties
        ((2, 2, 2, 2), 0.51, 3),
        ((5, 0, 0), 1.0, 1),
        ((5, 1e-3), 1.0, 2),
        ((1, 1), 0.0, 0),
        ((0, 0), 0.5, 0),
    ],
)
def test_the_energy_of_known_singular_values(sigma, share, rank):
    n = len(sigma)
    P = torch.linalg.qr(torch.randn(n + 2, n, dtype=torch.float64)).Q
    Q = torch.linalg.qr(torch.randn(n + 1, n, dtype=torch.float64)).Q
    dense = nn.Linear(n + 1, n + 2).double()
    with torch.no_grad():
        dense.weight.copy_(P * torch.tensor(sigma, dtype=torch.float64) @ Q.t())
    assert maestro.energy_ranks(maestro.factorize(dense), share) == {"": rank}


def test_energy_of_columns_that_are_not_orthogonal():
    layer = maestro.factorize(nn.Conv2d(4, 8, 3, groups=2).double())
    for p in (layer.U, layer.V):
        nn.init.normal_(p)
    W = layer.weight.detach()
    for share in (0.3, 0.8, 0.99):
        rank = maestro.energy_ranks(layer, share)[""]
        errors = []
        for r in range(layer.rank + 1):
            layer.columns = r
            errors.append((layer.weight.detach() - W).square().sum() / W.square().sum())
        layer.columns = None
        assert rank == next(r for r, e in enumerate(errors) if e <= 1 - share + 1e-12)


@pytest.mark.parametrize("share", [1.1, -0.1, "0.9", None, float("nan"), True])
def test_a_share_that_is_none_is_refused(share):
    net = maestro.factorize(nn.Linear(3, 3))
    with pytest.raises(ValueError, match="share="):
        maestro.energy_ranks(net, share)


def test_all_the_way_from_a_dense_network_to_a_file(tmp_path):
    dense, x, y = trained()
    net = maestro.factorize(copy.deepcopy(dense))
    ranks = maestro.energy_ranks(net, 0.95)
    assert ranks["0"] < 12
    maestro.truncate(net, ranks)
    path = tmp_path / "net.safetensors"
    maestro.save(net, path)
    assert torch.equal(maestro.load(path, dense)(x), net(x))
