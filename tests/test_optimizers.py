"""The recipe's optimiser: its numbers, its kernels, its rate."""

import pytest
import torch

import maestro
from maestro.config import Recipe
from maestro.models import LeNet
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
