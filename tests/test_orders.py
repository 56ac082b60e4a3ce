"""Sweeps and global orders: fixed scores, nested cuts, budgets that are met."""

import copy
import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import maestro
from maestro.deploy.budget import Budget
from maestro.deploy.orders import (
    SCORES,
    harms,
    losses_alone,
    ordered,
    planned,
    threshold_sweep,
)
from maestro.lowrank import importance, low_rank_layers
from maestro.lowrank.ladders import ONE


@pytest.fixture
def net():
    layers = nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 4)
    return maestro.factorize(nn.Sequential(*layers).double())


@pytest.fixture
def batch():
    return torch.randn(50, 12, dtype=torch.float64), torch.randint(4, (50,))


def test_a_sweep_cuts_as_shrink_does_and_only_ever_more(net):
    sweep = threshold_sweep(net, 30)
    assert sweep[0][1] == maestro.ranks(net)
    for eps, ranks in sweep:
        shrunk = maestro.shrink(copy.deepcopy(net), eps_ps=eps)
        assert ranks == {name: max(1, rank) for name, rank in shrunk.items()}
    assert set(sweep[-1][1].values()) == {1}
    for (_, before), (_, after) in itertools.pairwise(sweep):
        assert all(after[name] <= before[name] for name in before)
        assert after != before


def test_the_losses_of_single_cuts_are_those_of_truncated_networks(net, batch):
    x, y = batch
    ladders = Budget(net, x[:1], params="0.9x").prices.ladders(0.3)
    rises = losses_alone(net, batch, ladders)
    whole = F.cross_entropy(net(x), y)
    for name, ladder in ladders.items():
        assert rises[name][ladder[0]] == 0
        for rank in ladder[1:]:
            small = copy.deepcopy(net)
            maestro.truncate(small, {name: rank})
            rise = F.cross_entropy(small(x), y) - whole
            assert rises[name][rank] == pytest.approx(rise.item(), abs=1e-12)


def test_harms_by_importance(net):
    raw, shares = harms(net, "importance"), harms(net, "share of importance")
    for name, layer in low_rank_layers(net).items():
        assert raw[name][:-1] == pytest.approx(importance(layer).tolist())
        assert shares[name][0] == 1 and shares[name][-1] == 0
    with pytest.raises(ValueError, match="scores='luck': it is one of importance"):
        harms(net, "luck")


@pytest.mark.parametrize("scores", SCORES)
@pytest.mark.parametrize("limit", ["0.7x", "0.4x"])
def test_ordered_and_planned_ranks_meet_the_budget(scores, limit, net, batch):
    budget = Budget(net, batch[0][:1], params=limit)
    ladders = budget.prices.ladders(ONE)
    harm = harms(net, scores, batch, ladders)
    found = ordered(budget, harm, ladders), planned(budget, harm, ladders)

    def total(ranks):
        return sum(harm[name][rank] for name, rank in ranks.items())

    for ranks in found:
        assert budget.met(ranks)
    assert total(found[1]) <= total(found[0]) + 1e-12  # it is the best there is


def test_dynamic_programming_takes_one_counted_budget(net, batch):
    example = batch[0][:1]
    for limits in ({"params": "0.9x", "macs": "0.9x"}, {"ms": 1e6}, {"mb": "0.9x"}):
        budget = Budget(net, example, **limits)
        ladders = budget.prices.ladders(ONE)
        with pytest.raises(ValueError, match="takes one budget, in params or macs"):
            planned(budget, harms(net, "importance"), ladders)
