"""The greedy search: what it reports is there, and its shortcuts change nothing."""

import copy
import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import maestro
from maestro.deploy.budget import Budget
from maestro.deploy.running import batch_statistics, judge_of, runs_of
from maestro.deploy.search import MEASURES, greedy
from maestro.lowrank import low_rank_layers

IMAGES = torch.Size([64, 2, 8, 8])


class Small(nn.Module):
    """Convolutions, batch norm, an addition in place and a layer that runs twice."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.twice = nn.Linear(8, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = F.relu(self.norm(self.conv1(x)), inplace=True)
        y = self.conv2(x)
        y += x  # overwrites what conv2 put out
        y = y.mean((2, 3))
        return self.head(self.twice(F.relu(self.twice(y))))


@pytest.fixture
def trained():
    """A factorised `Small` in float64 that has learned its one batch a little."""
    torch.set_default_dtype(torch.float64)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(IMAGES, generator=generator)
    y = (x.mean((1, 2, 3)) * 20).floor().long() % 4
    net = maestro.factorize(Small())
    optimizer = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9)
    for _ in range(40):
        optimizer.zero_grad()
        with maestro.sample(net, generator):
            F.cross_entropy(net(x), y).backward()
        optimizer.step()
    return net, x, y


def cut(net, ranks):
    small = copy.deepcopy(net)
    maestro.truncate(small, ranks)
    return small


@pytest.mark.parametrize("by", MEASURES)
@pytest.mark.parametrize("limits", [{"macs": "0.5x"}, {"params": 300}])
def test_what_is_reported_is_what_is_there(by, limits, trained):
    net, x, y = trained
    before = copy.deepcopy(net.state_dict())
    best = greedy(net, (x, y), by=by, **limits).best
    small = cut(net, best.ranks).train()  # batch norm: the batch's own statistics
    with torch.no_grad():
        logits = small(x)
    assert best.loss == pytest.approx(F.cross_entropy(logits, y).item(), rel=1e-9)
    right = (logits.argmax(1) == y).double().mean().item()
    assert best.accuracy == pytest.approx(right)
    merged = maestro.merge(copy.deepcopy(small))
    assert (best.params, best.macs) == maestro.footprint(merged, x[:1])
    assert net.training and "forward" not in vars(net.conv1)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("lazy", [False, True])
def test_the_path_goes_down_one_layer_at_a_time_and_meets_the_budget(lazy, trained):
    net, x, y = trained
    found = greedy(net, (x, y), macs="0.4x", lazy=lazy)
    dense = maestro.footprint(Small(), x[:1])
    assert found.best.macs <= 0.4 * dense.macs
    assert found.path[0].ranks == maestro.ranks(net)
    for before, after in itertools.pairwise(found.path):
        changed = [n for n in after.ranks if after.ranks[n] != before.ranks[n]]
        assert len(changed) == 1 and after.ranks[changed[0]] < before.ranks[changed[0]]
    # what the budget leaves is filled: no column more
    for name, rank in found.best.ranks.items():
        for r in range(rank + 1, maestro.ranks(net)[name] + 1):
            more = cut(net, found.best.ranks | {name: r})
            size = maestro.footprint(maestro.merge(more), x[:1])
            assert size.macs > 0.4 * dense.macs


def test_every_step_takes_the_group_that_hurts_least(trained):
    net, x, y = trained
    found = greedy(net, (x, y), params="0.6x", by="loss", share=0.25)
    first, second = found.path[:2]
    judge = judge_of((x, y))
    ladders = Budget(net, x[:1], params="0.6x").prices.ladders(0.25)
    with runs_of(net, judge) as runs:
        offers = {
            name: runs.base(first.ranks | {name: ladder[1]})[0]
            for name, ladder in ladders.items()
        }
    assert second.loss == pytest.approx(min(offers.values()), rel=1e-12)


def test_a_run_that_starts_in_the_middle_is_the_whole_run(trained):
    """What layers put out is kept, in-place additions and repeated calls included."""
    net, x, y = trained
    whole = maestro.ranks(net)
    for name in whole:
        ranks = whole | {name: 2}
        with runs_of(net, judge_of((x, y))) as runs:
            runs.base(whole)
            shared = runs.other(ranks, changed=name)
            again = runs.base(ranks, changed=name)
        with runs_of(net, judge_of((x, y))) as runs:
            assert shared == again == runs.base(ranks)


def test_batch_statistics_leave_the_running_ones_alone():
    norm = nn.BatchNorm2d(3).eval()
    x = torch.randn(16, 3, 4, 4) * 5 + 2
    with batch_statistics(norm), torch.no_grad():
        out = norm(x)
    torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    assert torch.equal(norm.running_mean, torch.zeros(3))
    assert norm.num_batches_tracked == 0


def test_a_loss_that_is_no_number_is_the_greatest_harm(trained):
    net, x, y = trained
    first = next(iter(maestro.ranks(net)))
    whole = maestro.ranks(net)[first]

    def judge(network):
        if low_rank_layers(network)[first].in_use < whole:
            return math.nan
        return F.cross_entropy(network(x), y).item()

    found = greedy(net, judge, params="0.6x", example_inputs=x[:1])
    assert found.best.ranks[first] == whole and not math.isnan(found.best.loss)


def test_a_layer_that_does_not_run_is_cut_last(trained):
    class TwoHeads(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net, self.other = net, nn.Linear(8, 6)

        def forward(self, x):
            return self.net(x)

    _, x, y = trained
    net = maestro.factorize(TwoHeads(Small()))
    found = greedy(net, (x, y), macs="0.5x", by="loss per mac")
    assert found.best.ranks["other"] == 6


def test_a_wanted_accuracy_is_kept(trained):
    net, x, y = trained
    whole = greedy(net, (x, y), params="1.5x").best
    wanted = whole.accuracy - 0.1
    found = greedy(net, (x, y), accuracy=wanted)
    assert found.best.accuracy >= wanted
    assert found.path[-1].accuracy < wanted or found.path[-1] is found.best


def test_a_function_judges_too_and_the_network_is_restored_if_it_fails(trained):
    net, x, y = trained

    def judge(net):
        return F.cross_entropy(net(x), y)

    one = greedy(net, judge, x[:1], params="0.5x").best
    other = greedy(net, (x, y), params="0.5x").best
    assert one.ranks == other.ranks and one.accuracy is None

    def fails(net):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        greedy(net, fails, x[:1], params="0.5x")
    assert net.training and "forward" not in vars(net.head)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "no budget: give params, macs, mb or ms"),
        ({"params": 0}, "params=0: it takes a number > 0"),
        ({"params": "half"}, "params='half': .*as in \"0.5x\""),
        ({"macs": True}, "macs=True"),
        ({"macs": 10}, "macs=10 cannot be met: .* takes [0-9,]+ MACs, the smallest"),
        ({"flops": 10}, "flops: a budget is in params, macs, mb, ms"),
        ({"params": "0.5x", "by": "luck"}, "by='luck': it is one of loss, loss per"),
        ({"params": "0.5x", "share": 0}, "share=0: it takes a number in"),
        ({"params": "0.5x", "multiple": 0}, "multiple=0: it takes an integer >= 1"),
        ({"accuracy": 2}, "accuracy=2: it takes"),
        ({"accuracy": 1.0}, "accuracy=1: the whole network has"),
    ],
)
def test_wrong_arguments_are_named(arguments, said, trained):
    net, x, y = trained
    with pytest.raises(ValueError, match=said):
        greedy(net, (x, y), **arguments)


def test_wrong_data_and_networks_are_named(trained):
    net, x, y = trained
    with pytest.raises(ValueError, match="data is int"):
        greedy(net, 3, x[:1], params="0.5x")
    with pytest.raises(ValueError, match="64 inputs and 3 labels"):
        greedy(net, (x, y[:3]), params="0.5x")
    with pytest.raises(ValueError, match="example_inputs"):
        greedy(net, lambda net: 0.0, params="0.5x")
    with pytest.raises(ValueError, match="no low-rank layers to cut"):
        greedy(nn.Linear(2, 2), (x, y), params="0.5x")
