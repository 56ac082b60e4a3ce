"""RareGems: scores, frozen constants, cuts, and the training of what is left."""

import pytest
import torch
from torch import nn

from maestro.config import Recipe, RunConfig
from maestro.methods import Change, RareGems, resolve
from maestro.methods.raregems import Gem, Rounded, gems, leave
from maestro.training.loop import Training
from maestro.training.record import record_of


def config_of(**options):
    recipe = Recipe(2, 50, 0.05, momentum=0.9, weight_decay=1e-3)
    options = {"density": 0.25, "search": 5, "every": 2, "skip": ["fc3"]} | options
    return resolve(RunConfig("digits", "lenet", "raregems", recipe, options))


def network():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3)
    )


def test_the_gradient_passes_the_rounding_unchanged():
    scores = torch.tensor([0.0, 0.4, 0.6, 1.0], requires_grad=True)
    rounded = Rounded.apply(scores)
    assert rounded.tolist() == [0, 0, 1, 1]
    (rounded * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
    assert scores.grad.tolist() == [1, 2, 3, 4]


def test_a_scores_gradient_is_its_constant_times_the_weights_gradient():
    torch.manual_seed(0)
    gem = Gem(nn.Linear(6, 5), torch.Generator().manual_seed(0))
    gem.mask[0] = False
    gem.weight().backward(G := torch.randn(5, 6))
    expected = G * gem.layer.weight.detach() * gem.mask
    torch.testing.assert_close(gem.scores.grad, expected)
    assert not gem.weight()[0].any() and not gem.scores.grad[0].any()


def test_weights_are_frozen_constants_with_the_signs_of_their_start():
    torch.manual_seed(0)
    dense = network()
    signs = [dense[i].weight.detach().sign() for i in (0, 3)]
    method = RareGems(density=0.5, search=4, every=1)
    generator = torch.Generator().manual_seed(0)
    net = method.prepare(dense, torch.zeros(1, 1, 4, 4), generator)
    for gem, sign, fan_in in zip(gems(net), signs, (9, 16), strict=True):
        torch.testing.assert_close(gem.layer.weight, sign * (2 / fan_in) ** 0.5)
        assert not gem.layer.weight.requires_grad and not gem.layer.bias.any()
        assert 0 <= gem.scores.min() and gem.scores.max() <= 1
    assert net[1].weight is None and net[1].bias is None
    assert [p.requires_grad for p in net.parameters()].count(True) == 2
    numbers = 36 + 48 + 7
    assert method.size(net) == (numbers, 36 * 4 + 48, numbers * 32 + 84, 0)
    assert method.training_cost(net) == (numbers + 84, 36 * 4 + 48)


def test_a_cut_removes_the_smallest_scores_of_all_layers_together():
    net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 4))
    net = nn.Sequential(*(Gem(layer, torch.Generator()) for layer in net))
    with torch.no_grad():
        net[0].scores.fill_(0.2)[0] = 1.0  # ties at both ends
        net[1].scores.fill_(0.3)[:, 0] = 0.0
    leave(net, 0.5)  # of 24: 4 ones, 8 of 0.3
    assert net[0].mask.sum(1).tolist() == [4, 0, 0]
    assert net[1].mask.sum(0).tolist() == [0, 4, 4]
    with torch.no_grad():
        net[0].scores.fill_(0.1)
        net[1].scores[:, 0] = 1.0  # those have left for good
    leave(net, 0.25)
    assert not net[0].mask.any()
    assert net[1].mask.sum(0).tolist() == [0, 3, 3]


@pytest.mark.parametrize("rounded", [False, True])
def test_scores_that_round_to_zero_leave_at_the_end_if_wanted(rounded):
    method = RareGems(density=0.5, search=2, every=1, rounded=rounded)
    net = method.prepare(network(), torch.zeros(1, 1, 4, 4), torch.Generator())
    with torch.no_grad():
        gems(net)[1].scores.fill_(0.5)
    method.done = 2
    assert method.before_epoch(net, None) == Change.NEW_OPTIMIZER
    assert gems(net)[1].mask.all() != rounded
    assert not method.searching and gems(net)[1].layer.weight.requires_grad


def test_a_training_searches_cuts_and_then_trains_the_weights(few_digits, monkeypatch):
    run = Training(config_of(), task=few_digits)
    starts, prunable = [], 44_190 - 840

    def note_start():
        if run.step == 0:
            weights = [gem.layer.weight.clone() for gem in gems(run.model)]
            masks = [gem.mask.clone() for gem in gems(run.model)]
            starts.append((weights, masks))

    monkeypatch.setattr(run.method, "draw", note_start)
    while not run.finished:
        run.run_epoch()
    # two cuts, before the third epoch and the fifth; then two epochs of training
    kept = [sum(int(mask.sum()) for mask in masks) for _, masks in starts]
    parts = [1, 1, 0.5, 0.5, 0.25]
    assert kept[:5] == [pytest.approx(part * prunable, abs=1) for part in parts]
    assert kept[4] == kept[5] == kept[6]
    for before, after in zip(starts[0][0], starts[5][0], strict=True):
        assert torch.equal(before, after)  # the weights did not move in the search
    assert not torch.equal(starts[5][0][2], starts[6][0][2])
    for gem in gems(run.model):
        assert not gem.scores.requires_grad
        assert 0 <= gem.scores.min() and gem.scores.max() <= 1
    lines = run.history.lines
    assert [line["lr"] for line in lines[5:]] == [0.05, 0.05]
    rates = [line["lr"] for line in lines[:5]]
    assert 0.01 > rates[0] > rates[4] > 0 and rates[0] - rates[4] > 0.007
    assert lines[-1]["params"] == kept[6] + 840 + 236
    assert lines[-1]["bits"] == 32 * lines[-1]["params"] + prunable
    held = [line["train_params"] for line in lines]
    assert held == 5 * [44_426 + prunable] + 2 * [44_426]
    phases = [{"name": "search", "epochs": 5}, {"name": "training", "epochs": 2}]
    assert record_of(run)["phases"] == phases


def test_scores_decay_and_stay_within_bounds():
    method = RareGems(density=0.5, search=2, every=1, score_decay=0.1)
    net = method.prepare(network(), torch.zeros(1, 1, 4, 4), torch.Generator())
    for gem in gems(net):
        gem.scores.grad = torch.zeros_like(gem.scores)
    method.after_backward(net)
    for gem in gems(net):
        torch.testing.assert_close(gem.scores.grad, 0.2 * gem.scores.detach())
    with torch.no_grad():
        gems(net)[0].scores.add_(5)
    method.after_step(net, None)
    assert gems(net)[0].scores.max() == 1
    assert method.before_epoch(net, None) == Change.NOTHING


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"density": 0.0}, r"density=0.0: it takes a number in \(0, 1\)"),
        ({"search": 1}, "search=1: it takes an integer >= 2"),
        ({"every": 5}, "every=5: it takes fewer than the search's 5 epochs"),
        ({"rounded": 1}, "rounded=1: it takes true or false"),
        ({"skip": ["fc9"]}, "names no module"),
    ],
)
def test_wrong_numbers_are_refused(wrong, message, few_digits):
    with pytest.raises(ValueError, match=message):
        Training(config_of(**wrong), task=few_digits)
