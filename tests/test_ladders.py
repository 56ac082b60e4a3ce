"""Ladders leave out what gains nothing; prices add up; the knapsack is optimal."""

import itertools
import math

import pytest
import torch
from torch import nn

import maestro
from maestro.lowrank.counting import costs
from maestro.lowrank.ladders import (
    Prices,
    harm_each,
    importances,
    knapsack,
    order,
    shares_of_energy,
)
from maestro.models import LeNet


@pytest.fixture
def lenet():
    net = maestro.factorize(LeNet())
    return net, costs(net, torch.zeros(1, 1, 28, 28))


def test_prices_are_the_footprints_of_the_merged_network(lenet):
    net, counted = lenet
    prices = Prices(counted, maestro.ranks(net))
    for rank in (0, 1, 3, 6):
        ranks = {name: min(rank, r) for name, r in maestro.ranks(net).items()}
        assert prices.footprint(ranks) == counted.footprint(ranks, merged=True)
    assert prices.footprint({}) == (44_426, 281_640)
    whole = maestro.ranks(net)
    after = prices.footprint({"fc1": 10})
    assert prices.saved("fc1", whole["fc1"], 10, "params") == 44_426 - after.params
    ones = dict.fromkeys(whole, 1)
    assert prices.smallest() == counted.footprint(ones, merged=True)


def test_a_ladder_goes_from_whole_to_one_by_ranks_that_save(lenet):
    net, counted = lenet
    prices = Prices(counted, maestro.ranks(net))
    ladder = prices.ladder("fc1", share=0.25)
    assert ladder[0] == 120 and ladder[-1] == 1
    assert ladder == sorted(set(ladder), reverse=True)
    even = prices.ladder("fc1", share=1e-9)  # single columns
    saving = [k for k in range(1, 120) if prices.saved("fc1", 120, k, "params") > 0]
    assert even == [120, *reversed(saving)]
    rounded = prices.ladder("fc1", 0.1, 16)[1:]
    assert all(k % 16 == 0 or k < 16 for k in rounded) and 64 in rounded


def test_a_layer_whose_weight_is_read_saves_nothing():
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(9, 9), nn.Linear(9, 9)

        def forward(self, x):
            return nn.functional.linear(self.b(x), self.a.weight)

    net = maestro.factorize(Reader())
    prices = Prices(costs(net, torch.zeros(1, 9)), maestro.ranks(net))
    assert prices.ladder("a") == [9]
    assert len(prices.ladder("b", 1e-9)) > 2


def example():
    """Two layers of 8 and 6 ranks with made-up harms."""
    net = maestro.factorize(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 6)))
    prices = Prices(costs(net, torch.zeros(1, 8)), maestro.ranks(net))
    harm = {
        "0": [5.0, 3.0, 2.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.0],
        "1": [9.0, 1.0, 0.9, 0.2, 0.1, 0.05, 0.0],
    }
    return prices, prices.ladders(1e-9), harm


@pytest.mark.parametrize("limit", [44, 59, 75, 100, 126])
def test_the_knapsack_finds_what_trying_everything_finds(limit):
    prices, ladders, harm = example()
    found = knapsack(prices, ladders, harm, limit)
    assert prices.footprint(found).params <= limit

    def total(ranks):
        return sum(harm[name][rank] for name, rank in ranks.items())

    every = [
        dict(zip(ladders, ranks, strict=True))
        for ranks in itertools.product(*ladders.values())
    ]
    allowed = [r for r in every if prices.footprint(r).params <= limit]
    assert total(found) == pytest.approx(min(map(total, allowed)))


def test_the_knapsack_names_the_least():
    prices, ladders, harm = example()
    least = prices.smallest().params
    with pytest.raises(ValueError, match=f"the least is {least}"):
        knapsack(prices, ladders, harm, least - 1)
    assert knapsack(prices, ladders, harm, least) == {"0": 1, "1": 1}


@pytest.mark.parametrize("unit", [None, "params", "macs"])
def test_an_order_is_a_path_of_single_cuts_from_whole_to_one(unit):
    prices, ladders, harm = example()
    path = order(prices, ladders, harm, unit)
    assert path[0] == {"0": 8, "1": 6} and path[-1] == {"0": 1, "1": 1}
    for before, after in itertools.pairwise(path):
        [name] = [n for n in before if before[n] != after[n]]
        assert after[name] < before[name]


def test_without_a_unit_each_column_costs_the_same():
    """A step that drops many columns counts by the mean of its columns."""
    prices, _, _ = example()
    ladders = {"0": [8, 4, 1], "1": [6, 5, 1]}
    harm = {
        "0": [9, 8, 7, 6, 4, 3, 2, 1, 0],  # 1 a column for the first four
        "1": [9, 8, 7, 6, 5, 2, 0],  # 2 for the first
    }
    path = order(prices, ladders, harm, None)
    assert path[1:3] == [{"0": 4, "1": 6}, {"0": 1, "1": 6}]


def test_shares_of_energy_are_those_of_the_residual():
    net = maestro.factorize(nn.Sequential(nn.Linear(5, 4)).double())
    [layer] = net
    with torch.no_grad():
        layer.U.copy_(torch.randn(4, 4))  # columns that are not orthogonal
        W = layer.U @ layer.V.t()
    [shares] = shares_of_energy(net).values()
    left = [W - layer.U[:, :r] @ layer.V[:, :r].t() for r in range(5)]
    expected = [(part.norm() / W.norm()).square().item() for part in left]
    assert shares == pytest.approx(expected, abs=1e-12)


def test_importances_are_those_behind_each_rank():
    net = maestro.factorize(nn.Sequential(nn.Linear(5, 4)).double())
    [values] = importances(net).values()
    layer = net[0]
    tail = layer.U[:, 2:].norm() * layer.V[:, 2:].norm()
    assert len(values) == 5 and values[4] == 0
    assert values[2] == pytest.approx(tail.item())


def test_a_harm_without_a_number_comes_last():
    assert harm_each(3.0, 2) == 1.5
    assert harm_each(math.nan, 2) == harm_each(3.0, 0) == math.inf
    assert harm_each(math.inf - math.inf, 1) == math.inf
