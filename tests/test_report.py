"""Reports: numbers that are counted are exact; no clock decides a test."""

import copy
import math

import pytest
import torch
from torch import nn

import maestro
from maestro.deploy.latency import milliseconds, repeated
from maestro.models import LeNet

EXAMPLE = torch.zeros(1, 1, 28, 28)


@pytest.fixture
def lenet():
    net = maestro.factorize(LeNet())
    maestro.truncate(net, {"fc1": 10, "fc2": 5})
    return net


def test_a_report_counts_and_times_the_merged_and_the_dense_network(lenet):
    found = maestro.report(lenet, EXAMPLE, seconds=0.001)
    now = maestro.footprint(lenet, EXAMPLE, merged=True)
    assert (found.whole["parameters"], found.whole["MACs"]) == now
    assert found.whole["parameters, dense"] == 44_426
    assert found.whole["MACs, dense"] == 281_640
    assert found.whole["MB, dense"] == pytest.approx(44_426 * 4 / 1e6)
    assert found.whole["MB"] == pytest.approx(now.params * 4 / 1e6)
    assert all(found.whole[f"ms, batch {b}"] > 0 for b in (1, 64))
    rows = {row["layer"]: row for row in found.layers}
    assert rows["fc1"]["rank"] == 10 and rows["fc1"]["map"] == "120 x 256"
    assert rows["fc1"]["MACs"] == 10 * (120 + 256)
    even = rows["fc1"]["break-even"]
    assert even * (120 + 256) < 120 * 256 <= (even + 1) * (120 + 256)
    for row in rows.values():
        for batch in (1, 64):
            quicker = row[f"two maps / dense, batch {batch}"] < 1
            assert row[f"pays, batch {batch}"] == quicker
    text = str(found)
    assert "fc1" in text and "281,640" in text and "pays, batch 64" in text


def test_the_network_stays_as_it_is(lenet):
    before = copy.deepcopy(lenet.train().state_dict())
    maestro.report(lenet, EXAMPLE, batches=(2,), seconds=0.001)
    assert lenet.training and not lenet.conv1._forward_pre_hooks
    for name, value in lenet.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_network_without_low_rank_layers_is_refused():
    with pytest.raises(ValueError, match="has no low-rank layers"):
        maestro.report(nn.Linear(2, 2), torch.zeros(1, 2))


def test_times_are_of_as_many_examples_and_threads_as_asked():
    seen = []

    class Net(nn.Module):
        def forward(self, x):
            seen.append((len(x), torch.get_num_threads(), self.training))
            return x

    before = torch.get_num_threads()
    net = Net().train()
    found = milliseconds(net, torch.zeros(1, 3), batch=5, seconds=0.001, threads=2)
    assert set(seen) == {(5, 2, False)} and len(seen) >= 10
    assert torch.get_num_threads() == before and net.training
    assert found.low <= found.median <= found.high
    inputs = repeated({"a": torch.ones(2, 3), "flag": torch.tensor(1)}, 4)
    assert inputs["a"].shape == (4, 3) and inputs["flag"].ndim == 0


# ---------------------------------------------------------------- before training


def test_advice_starts_where_the_books_grids_are():
    """For the recipe of the LeNet chapter: 20 epochs of 938 steps."""
    found = maestro.advise(LeNet(), EXAMPLE, 20 * 938, batch=2, seconds=0.001)
    assert 4e-5 < found.whole["lambda_gl"] < 16e-5
    # above where the widest layer's dead columns settle, by ten times at least
    floor = (0.01 * found.whole["lambda_gl"] * 120) ** 2 / 4
    assert 10 * floor <= found.whole["eps_ps"] <= 100 * floor * 1.01
    exponent = math.log10(found.whole["eps_ps"])
    assert exponent == pytest.approx(round(exponent))
    rows = {row["layer"]: row for row in found.layers}
    assert rows["fc1"]["full rank"] == 120 and rows["fc1"]["break-even"] == 81
    for share in ("1", "0.5", "0.25"):
        assert found.whole[f"step at {share} of the ranks / dense"] > 0


def test_a_longer_training_takes_a_smaller_lambda():
    short = maestro.advise(LeNet(), EXAMPLE, 100, batch=2, seconds=0.001).whole
    long = maestro.advise(LeNet(), EXAMPLE, 1000, batch=2, seconds=0.001).whole
    assert short["lambda_gl"] > 5 * long["lambda_gl"]
    assert short["eps_ps"] >= long["eps_ps"]


def test_advice_leaves_the_network_alone_factorised_or_not():
    for net in (LeNet(), maestro.factorize(LeNet())):
        before = copy.deepcopy(net.state_dict())
        maestro.advise(net, EXAMPLE, 100, batch=2, seconds=0.001)
        assert net.state_dict().keys() == before.keys()
        assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"steps": 0}, "steps=0: it takes a number > 0"),
        ({"steps": 10, "lr": 0}, "lr=0"),
        ({"steps": 10, "momentum": 1}, "momentum=1: it takes a number below 1"),
    ],
)
def test_wrong_arguments_are_named(arguments, said):
    with pytest.raises(ValueError, match=said):
        maestro.advise(LeNet(), EXAMPLE, **arguments)


def test_a_report_takes_networks_whose_weights_are_read():
    net = maestro.factorize(nn.Sequential(nn.LSTM(6, 5, batch_first=True)))
    found = maestro.report(net, torch.randn(1, 3, 6), batches=(1,), seconds=0.001)
    assert {row["layer"] for row in found.layers} == maestro.ranks(net).keys()


def test_advice_needs_something_to_train_and_keeps_random_numbers():
    with pytest.raises(ValueError, match="every parameter of net is frozen"):
        maestro.advise(LeNet().requires_grad_(False), EXAMPLE, 100)
    net, before = maestro.factorize(LeNet()), torch.get_rng_state()
    maestro.advise(net, EXAMPLE, 100, batch=2, seconds=0.001)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_weight_that_a_module_reads_has_no_break_even():
    """`merge` keeps it dense, so the rows add up to the network's MACs."""
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    net = maestro.factorize(nn.Sequential(layer, nn.Linear(16, 16)))
    maestro.truncate(net, dict.fromkeys(maestro.ranks(net), 2))
    example = torch.randn(1, 5, 16)
    counted = maestro.costs(net, example)
    found = maestro.report(net, example, batches=(1,), seconds=0.001)
    macs = sum(row["MACs"] for row in found.layers) + counted.fixed.macs
    assert macs == found.whole["MACs"]
    advice = maestro.advise(net, example, 10, batch=1, seconds=0.001)
    for row in (*found.layers, *advice.layers):
        assert ("break-even" in row) == (row["layer"] not in counted.read)
    assert 0 < len(counted.read) < len(found.layers)
