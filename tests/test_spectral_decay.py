"""Spectral decay: what a step does to singular values, and the cut at the end."""

import math

import pytest
import torch
from torch import nn

from maestro.config import Recipe, RunConfig
from maestro.methods import SpectralDecay, resolve
from maestro.methods.spectral_decay import (
    effective_rank,
    orthogonal_factor,
    soft_threshold,
)
from maestro.training.loop import Training


def with_values(sigma, m=6, n=9):
    torch.manual_seed(0)
    P, _ = torch.linalg.qr(torch.randn(m, len(sigma), dtype=torch.float64))
    Q, _ = torch.linalg.qr(torch.randn(n, len(sigma), dtype=torch.float64))
    return P * torch.tensor(sigma, dtype=torch.float64) @ Q.t(), P, Q


@pytest.mark.parametrize("turned", [False, True])
def test_newton_schulz_finds_the_orthogonal_factor(turned):
    W, P, Q = with_values([3.0, 2.0, 1.0, 0.5])
    found = orthogonal_factor(W.t() if turned else W)
    found = found.t() if turned else found
    # the quintic iteration ends between 0.68 and 1.14, for all but tiny values
    sizes = torch.diag(P.t() @ found @ Q)
    assert sizes.min() > 0.6 and sizes.max() < 1.25
    torch.testing.assert_close(P @ torch.diag(sizes) @ Q.t(), found)


def test_the_proximal_map_takes_so_much_of_every_singular_value():
    W, P, Q = with_values([3.0, 2.0, 0.3])
    expected = P * torch.tensor([2.5, 1.5, 0.0]).double() @ Q.t()
    torch.testing.assert_close(soft_threshold(W, 0.5), expected)


def test_the_effective_rank_of_known_values():
    assert effective_rank(torch.ones(5)) == pytest.approx(5)
    assert effective_rank(torch.tensor([1.0, 0.0])) == pytest.approx(1)
    sigma = torch.tensor([0.9**i for i in range(64)], dtype=torch.float64)
    assert effective_rank(sigma) == pytest.approx(25.6, abs=0.05)


@pytest.mark.parametrize("every", [0, 2])
def test_a_step_shrinks_the_spectrum_by_rate_times_coefficient(every):
    net = nn.Sequential(nn.Linear(6, 6, bias=False), nn.Linear(6, 2)).double()
    method = SpectralDecay(coefficient=0.5, every=every, skip="1")
    net = method.prepare(net, torch.zeros(1, 6).double(), None)
    groups = method.groups([{"params": list(net.parameters()), "weight_decay": 1}], net)
    assert [g["weight_decay"] for g in groups] == [1, 0.0]
    optimizer = torch.optim.SGD(groups, 0.02)
    before, last = torch.linalg.svdvals(net[0].weight), net[1].weight.clone()
    for _ in range(2):
        method.after_step(net, optimizer)
    moved = before - torch.linalg.svdvals(net[0].weight)
    rel = 1e-6 if every else 0.4  # of Newton-Schulz
    assert moved[:3].tolist() == pytest.approx(3 * [2 * 0.5 * 0.02], rel=rel)
    assert torch.equal(net[1].weight, last)


def test_the_trained_network_is_cut_at_its_effective_ranks(few_digits):
    options = {"coefficient": 1.0, "every": 3, "skip": ["fc3"]}
    recipe = Recipe(2, 50, 0.05)
    config = resolve(RunConfig("digits", "lenet", "spectral_decay", recipe, options))
    run = Training(config, task=few_digits)
    while not run.finished:
        run.run_epoch()
    [_, (epoch, ranks)] = run.history.ranks
    assert epoch == 2 and ranks.keys() == {"conv1", "conv2", "fc1", "fc2"}
    assert all(r >= 0 and math.isfinite(r) for r in ranks.values())
    assert sum(ranks.values()) < 6 + 16 + 120 + 84
