"""The recipe's optimiser: its numbers, its kernels, its rate."""

import pytest
import torch

import maestro
from maestro.config import Recipe
from maestro.models import MODELS, LeNet
from maestro.training import optimizers


def make(net, recipe, replayed=False):
    groups = optimizers.parameter_groups(net, recipe)
    return optimizers.make_optimizer(groups, recipe, replayed)


def test_a_groups_scale_multiplies_the_rate():
    net, recipe = LeNet(), Recipe(1, 1, lr=0.1)
    slow, fast = net.conv1.parameters(), net.conv2.parameters()
    groups = [{"params": list(slow)}, {"params": list(fast), "lr_scale": 64.0}]
    made = optimizers.make_optimizer(groups, recipe)
    optimizers.set_lr(made, 0.5)
    assert [group["lr"] for group in made.param_groups] == [0.5, 32.0]


def test_the_rate_falls_at_the_milestones():
    recipe = Recipe(5, 150, lr=0.1, milestones=(1, 3), lr_decay=0.5)
    rates = [optimizers.lr_at(recipe, epoch) for epoch in range(5)]
    assert rates == pytest.approx([0.1, 0.05, 0.05, 0.025, 0.025])


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_replayed_step_reads_a_rate_that_keeps_its_place(optimizer):
    recipe = Recipe(1, 1, lr=0.1, optimizer=optimizer, decay_vectors=False)
    made = make(LeNet(), recipe, replayed=True)
    places = [group["lr"] for group in made.param_groups]
    optimizers.set_lr(made, 0.25)
    assert [group["lr"] for group in made.param_groups] == places
    assert all(rate == 0.25 and isinstance(rate, torch.Tensor) for rate in places)
    assert made.defaults["fused"]


def test_the_recipe_reaches_the_optimizer():
    recipe = Recipe(1, 1, lr=0.1, momentum=0.8, weight_decay=1e-4)
    group = make(LeNet(), recipe).param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.1, 0.8, 1e-4)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("factorised", [False, True])
def test_one_fused_kernel_moves_all_weights(optimizer, factorised):
    net = maestro.factorize(LeNet()) if factorised else LeNet()
    recipe = Recipe(1, 1, lr=0.1, optimizer=optimizer)
    assert make(net, recipe).defaults["fused"]


def test_the_triangle_rises_to_the_rate_and_falls_from_it():
    recipe = Recipe(10, 1, lr=2.0, schedule="triangle", triangle=(0.25, 0.2, 0.1))
    stages = [(0, 0, 0.0), (1, 99, 0.0), (1, 0, 1.0), (5, 0, 1.0), (9, 0, 1.0)]
    rates = [optimizers.lr_at(recipe, *when) for when in stages]
    assert rates == pytest.approx([0.5, 1.25, 2.0, 1.1, 0.2])


def test_norms_have_a_rate_of_their_own_and_the_decay_of_all():
    recipe = Recipe(1, 1, lr=0.5, weight_decay=0.01, norm_lr=64, nesterov=True)
    net = MODELS["compact"](width=4)
    made = make(net, recipe)
    optimizers.set_lr(made, 0.25)
    others, norms = made.param_groups
    assert (others["lr"], norms["lr"]) == (0.25, 16.0)
    assert others["nesterov"] and norms["nesterov"]
    assert len(norms["params"]) == 12 and len(others["params"]) == 9
    assert norms["lr"] * norms["weight_decay"] == pytest.approx(0.25 * 0.01)


def test_lookahead_averages_weights_and_statistics_every_few_steps():
    torch.manual_seed(0)
    net = torch.nn.BatchNorm1d(3).double()
    net.running_mean.copy_(net.weight.detach())
    path = torch.randn(7, 3, dtype=torch.float64)
    slow, fast = net.weight.detach().clone(), net.weight.detach().clone()
    lookahead = optimizers.Lookahead(net, every=2, steps=7)
    for done, step in enumerate(path, start=1):
        fast = fast + step
        with torch.no_grad():
            net.weight.add_(step)
            net.running_mean.copy_(net.weight)
        lookahead.after_step(net, done)
        if done % 2 == 0:
            kept = 0.95**2 * (done / 7) ** 3
            slow = fast = kept * slow + (1 - kept) * fast
        if done == 7:
            fast = slow
        assert torch.allclose(net.weight, fast, rtol=1e-12)
        assert torch.allclose(net.running_mean, fast, rtol=1e-12)
    assert net.num_batches_tracked == 0


def test_lookahead_lets_go_of_the_columns_that_are_cut():
    net = maestro.factorize(LeNet())
    lookahead = optimizers.Lookahead(net, every=1, steps=2)
    before = net.fc1.U.detach().clone()
    with torch.no_grad():
        net.fc1.U.add_(1)
    maestro.truncate(net, {"fc1": 7})
    lookahead.after_step(net, 1)
    kept = 0.95 * 0.5**3
    expected = before[:, :7] + (1 - kept)
    assert torch.allclose(net.fc1.U, expected, atol=1e-6)
