"""Cuttlefish: stable ranks, the epoch of the switch, and the ranks it leaves."""

import pytest
import torch
from torch import nn

from maestro.config import Recipe, RunConfig
from maestro.methods import Change, Cuttlefish, resolve
from maestro.methods.cuttlefish import slope_of_average, stable_rank
from maestro.methods.fixed import add_frobenius_gradient
from maestro.training.loop import Training
from maestro.training.record import record_of


def test_the_stable_rank_of_known_matrices():
    assert stable_rank(torch.eye(5)[:, :3]) == pytest.approx(3)
    assert stable_rank(torch.diag(torch.tensor([2.0, 1.0, 1.0]))) == pytest.approx(1.5)
    assert stable_rank(torch.ones(4, 7)) == pytest.approx(1)


def test_the_slope_is_of_the_exponential_average():
    # weight 2 / (1 + 1) keeps the last value: central differences of the values
    assert slope_of_average([1, 2, 4], 1) == pytest.approx([1, 1.5, 2])
    assert slope_of_average([5], 15) == pytest.approx([0])


def method_of(courses, **options):
    """A method that has followed these stable ranks; one layer each."""
    method = Cuttlefish(**options)
    method.course = {name: list(course) for name, course in courses.items()}
    return method


def test_a_layer_settles_when_its_slope_has_and_stays_settled():
    rising = [float(i) for i in range(20)]
    method = method_of({"a": [9.0] * 20, "b": rising, "c": rising})
    method._settle()
    assert method.settled == {"a"}
    method.course["a"].append(30.0)
    method._settle()
    assert method.settled == {"a"}


@pytest.mark.parametrize(
    ("layers", "slope", "settles"),
    [(3, 0.15, False), (2, 0.15, True), (2, 0.3, False), (1, 0.45, True)],
)
def test_the_last_layers_need_less(layers, slope, settles):
    # after so many epochs the average rises as fast as the values
    course = [slope * i for i in range(120)]
    method = method_of({str(i): course for i in range(layers)})
    method._settle()
    assert bool(method.settled) == settles


def test_nothing_settles_before_the_patience_is_over():
    early = method_of({"a": [9.0] * 15})
    late = method_of({"a": [9.0] * 16})
    early._settle()
    late._settle()
    assert (early.settled, late.settled) == (set(), {"a"})


def test_the_switch_comes_at_the_epoch_that_a_recorded_course_tells():
    """A network that stands still settles as soon as its slope is known."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 12), nn.Linear(12, 4))
    method = Cuttlefish(window=2, threshold=0.1, patience=1, smoothing=1, skip="1")
    net = method.prepare(net, torch.zeros(1, 16), None)
    changes = [method.before_epoch(net, None) for _ in range(4)]
    # settled before the second epoch, factorised before the one after it
    assert changes == 2 * [Change.NOTHING] + [Change.NEW_OPTIMIZER, Change.NOTHING]
    # the scaled stable rank of a weight that has not moved is its full rank
    assert method.ranks(net) == {"0": 12}
    assert isinstance(net[1], nn.Linear)


def test_no_rank_is_below_the_floor():
    with pytest.raises(ValueError, match="floor=1.5: it takes a number from 0 to 1"):
        Cuttlefish(floor=1.5)
    torch.manual_seed(0)
    for floor, rank in ((0.0, 1), (0.3, 4), (1.0, 12)):
        method = Cuttlefish(window=1, patience=0, floor=floor)
        net = method.prepare(nn.Sequential(nn.Linear(16, 12)), torch.zeros(1, 16), None)
        with torch.no_grad():
            net[0].weight.copy_(torch.ones(12, 16))  # of rank 1
        method.scales["0"] = 1.0
        for _ in range(3):
            method.before_epoch(net, None)
        assert method.ranks(net) == {"0": rank}


def test_frobenius_decay_is_the_gradient_of_the_product():
    torch.manual_seed(0)
    method = Cuttlefish(window=1, patience=0, frobenius_decay=0.3)
    net = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3)).double()
    net = method.prepare(net, torch.zeros(1, 6).double(), None)
    for _ in range(3):
        method.before_epoch(net, None)
    U, V = net[0].U, net[0].V
    (
        0.15 * (U @ V.t()).square().sum() + 0 * sum(p.sum() for p in net.parameters())
    ).backward()
    expected = U.grad.clone(), V.grad.clone()
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    add_frobenius_gradient(net, 0.3)
    for factor, grad in zip((U, V), expected, strict=True):
        torch.testing.assert_close(factor.grad, grad)
    groups = method.groups([{"params": list(net.parameters()), "weight_decay": 1}], net)
    assert [g["weight_decay"] for g in groups] == [1, 0.0]
    assert {id(p) for p in groups[1]["params"]} == {
        id(p) for layer in net for p in (layer.U, layer.V)
    }


def test_a_training_switches_and_says_the_ranks(few_digits):
    options = {"window": 1, "patience": 1, "threshold": 50.0, "skip": ["conv1", "fc3"]}
    recipe = Recipe(4, 50, 0.05)
    config = resolve(RunConfig("digits", "lenet", "cuttlefish", recipe, options))
    run = Training(config, task=few_digits)
    while not run.finished:
        run.run_epoch()
    first, (epoch, ranks) = run.history.ranks
    assert first == [0, {}] and epoch == 3
    assert ranks.keys() == {"conv2", "fc1", "fc2"} and min(ranks.values()) >= 1
    record = record_of(run)
    assert record["final"]["params"] <= record["dense"]["params"]
