"""Budgets in the user's units, used to the last column, and cuts that can be undone."""

import copy
import io

import pytest
import torch
from torch import nn

import maestro
from maestro.deploy.budget import Budget
from maestro.models import LeNet

EXAMPLE = torch.zeros(1, 1, 28, 28)


@pytest.fixture
def lenet():
    return maestro.factorize(LeNet().eval())


def merged(net, ranks):
    small = copy.deepcopy(net)
    maestro.truncate(small, ranks)
    return maestro.merge(small)


@pytest.mark.parametrize("limits", [{"params": 15_000}, {"macs": "0.6x"}, {"mb": 0.08}])
def test_the_merged_network_meets_the_budget_and_no_column_more_fits(limits, lenet):
    fit = maestro.fit_budget(lenet, EXAMPLE, **limits)
    [(unit, limit)] = fit.limits.items()
    small = merged(lenet, fit.ranks)
    counted = maestro.footprint(small, EXAMPLE)
    size = sum(t.numel() * t.element_size() for t in small.state_dict().values())
    have = {"params": counted.params, "macs": counted.macs, "mb": size / 1e6}[unit]
    assert fit.sizes[unit] == pytest.approx(have)
    assert have <= limit
    budget = Budget(lenet, EXAMPLE, **limits)
    for name, rank in fit.ranks.items():
        above = [r for r in budget.prices.ladder(name, 1e-9) if r > rank]
        assert not any(budget.met(fit.ranks | {name: r}) for r in above)


def test_megabytes_are_those_of_each_layers_precision():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(64, 64).bfloat16(), nn.Linear(64, 64)
            self.tied = nn.Linear(64, 8, bias=False)
            self.read = nn.Embedding(8, 64)
            self.read.weight = self.tied.weight
            self.register_buffer("mask", torch.ones(100), persistent=False)

        def forward(self, x):
            return self.tied(self.second(self.first(x.bfloat16()).float()))

    net = maestro.factorize(Mixed(), skip="tied")
    fit = maestro.fit_budget(net, torch.randn(1, 64), mb="0.6x")
    fit.commit()
    maestro.merge(net)
    stored = {id(p): p.numel() * p.element_size() for p in net.parameters()}
    assert fit.sizes["mb"] == pytest.approx(sum(stored.values()) / 1e6)
    assert fit.sizes["mb"] <= fit.limits["mb"]


def test_a_commit_that_fails_leaves_the_cut(lenet):
    fit = maestro.fit_budget(lenet, EXAMPLE, params="0.3x")
    cut = maestro.footprint(lenet, EXAMPLE, merged=True)
    with pytest.raises(ValueError, match="does not hold the network's factors"):
        fit.commit(torch.optim.SGD(LeNet().parameters(), 0.1))
    assert maestro.footprint(lenet, EXAMPLE, merged=True) == cut
    fit.commit()
    assert maestro.ranks(lenet) == fit.ranks


def test_a_wrong_measure_is_refused_without_data_too(lenet):
    with pytest.raises(ValueError, match="by='nonsense': it is one of loss"):
        maestro.fit_budget(lenet, EXAMPLE, by="nonsense", params="0.3x")


def test_a_cut_is_undone_or_committed_once(lenet):
    x = torch.randn(3, 1, 28, 28)
    whole, ranks = lenet(x), maestro.ranks(lenet)
    fit = maestro.fit_budget(lenet, EXAMPLE, params="0.3x")
    cut = lenet(x)
    assert not torch.allclose(cut, whole)
    torch.testing.assert_close(merged(copy.deepcopy(lenet), fit.ranks)(x), cut)
    fit.undo()
    assert torch.equal(lenet(x), whole) and maestro.ranks(lenet) == ranks
    with pytest.raises(RuntimeError, match="committed or undone already"):
        fit.commit()

    optimizer = torch.optim.SGD(lenet.parameters(), 0.1, momentum=0.9)
    fit = maestro.fit_budget(lenet, EXAMPLE, params="0.3x")
    assert fit.commit(optimizer) is lenet
    assert maestro.ranks(lenet) == fit.ranks
    torch.testing.assert_close(lenet(x), cut)
    assert "of 13,327.8 parameters" in str(fit)


def test_a_cut_counts_before_it_is_committed(lenet):
    fit = maestro.fit_budget(lenet, EXAMPLE, params="0.5x")
    cut = maestro.footprint(lenet, EXAMPLE, merged=True)
    assert cut == maestro.footprint(maestro.merge(copy.deepcopy(lenet)), EXAMPLE)
    with pytest.raises(ValueError, match="columns are cut; commit or undo the cut"):
        maestro.order_by_data(lenet, EXAMPLE)
    fit.undo()
    assert maestro.footprint(lenet, EXAMPLE, merged=True).params > cut.params


def test_a_cut_is_saved_loaded_and_cut_again(lenet):
    first = maestro.fit_budget(lenet, EXAMPLE, params="0.5x")
    file = io.BytesIO()
    torch.save(lenet.state_dict(), file)
    file.seek(0)
    other = maestro.factorize(LeNet().eval())
    other.load_state_dict(torch.load(file, weights_only=True))
    x = torch.randn(2, 1, 28, 28)
    torch.testing.assert_close(other(x), lenet(x))
    second = maestro.fit_budget(lenet, EXAMPLE, params="0.3x")
    assert all(second.ranks[name] <= rank for name, rank in first.ranks.items())
    second.undo()
    assert {n: m.in_use for n, m in maestro.low_rank_layers(lenet).items()} == (
        first.ranks
    )


def test_with_data_the_ranks_are_the_greedy_searchs(lenet):
    data = torch.randn(40, 1, 28, 28), torch.randint(10, (40,))
    found = maestro.greedy(lenet, data, params="0.4x")
    assert maestro.fit_budget(lenet, data=data, params="0.4x").ranks == found.best.ranks


def test_several_budgets_are_all_met(lenet):
    fit = maestro.fit_budget(lenet, EXAMPLE, params="0.6x", macs="0.5x")
    for unit, limit in fit.limits.items():
        assert fit.sizes[unit] <= limit


def test_time_is_a_budget_and_is_measured_on_the_merged_network(lenet, monkeypatch):
    """With a clock of the number of parameters, so that no real clock decides."""
    from maestro.deploy import budget, latency

    def clock(net, inputs):
        return latency.Milliseconds(maestro.footprint(net, inputs).params / 1000, 0, 0)

    monkeypatch.setattr(budget, "milliseconds", clock)
    fit = maestro.fit_budget(lenet, EXAMPLE, ms="0.5x")
    assert fit.sizes["ms"] <= fit.limits["ms"] == pytest.approx(44.426 / 2)
    with pytest.raises(ValueError, match="ms=1 cannot be met: .* takes 1[.0-9]+ ms"):
        maestro.fit_budget(lenet, EXAMPLE, ms=1)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({}, "no budget: give params, macs, mb or ms"),
        ({"params": 100}, "params=100 cannot be met: .* takes 1,[0-9]+ parameters"),
        ({"mb": 1e-6}, "mb=1e-06 cannot be met: .* MB, the smallest possible"),
        ({"macs": -3}, "macs=-3: it takes a number > 0"),
        ({"params": float("nan")}, "params=nan"),
        ({"params": "x"}, "params='x'"),
        ({"size": 3}, "size: a budget is in params, macs, mb, ms"),
    ],
)
def test_budgets_that_are_wrong_or_impossible_change_nothing(limits, said, lenet):
    with pytest.raises(ValueError, match=said):
        maestro.fit_budget(lenet, EXAMPLE, **limits)
    assert all(m.columns is None for m in maestro.low_rank_layers(lenet).values())


def test_networks_without_low_rank_layers_are_refused():
    with pytest.raises(ValueError, match="Linear has no low-rank layers to cut"):
        maestro.fit_budget(nn.Linear(3, 3), torch.zeros(1, 3), params="0.5x")
