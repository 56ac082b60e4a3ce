"""Pufferfish: its published sizes, its one SVD, and a training through both phases."""

import copy

import pytest
import torch
from torch import nn

import maestro
from maestro.campaign.baselines import PUFFERFISH_SKIPS, pufferfish
from maestro.config import Recipe
from maestro.lowrank.counting import costs
from maestro.methods import Change, Pufferfish
from maestro.models import MODELS
from maestro.training.loop import Training
from maestro.training.record import record_of

PICTURE = torch.zeros(1, 3, 32, 32)
# Sizes of the released code. Its ResNet-18 has no batch norm after the stem: 128 fewer.
# In its ResNet-50 the shortcut's first factor runs before the stride, here after it.
STEM_NORM = 2 * 64
BEFORE_STRIDE = 1024 * 256 * (14 * 14 - 7 * 7)
PUBLISHED = {
    "resnet18": ({}, PICTURE, 3_336_138 + STEM_NORM, 216.2e6),
    "vgg19": ({"hidden": (512, 512)}, PICTURE, 8_370_634, 289.3e6),
    "resnet50": (
        {},
        torch.zeros(1, 3, 224, 224),
        15_202_344,
        3.572e9 - BEFORE_STRIDE,
    ),
    "transformer": (
        {"tied": True},
        (torch.full((1, 28), 2), torch.full((1, 28), 2)),
        26_696_192,
        0.746e9,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_sizes(name):
    kwargs, example, params, macs = PUBLISHED[name]
    net = MODELS[name](**kwargs)
    skip = PUFFERFISH_SKIPS[name]
    skip = [*skip, "classifier.4"] if name == "vgg19" else skip
    method = Pufferfish(warm_up=0, skip=skip)
    size = method.size(method.prepare(net, example, None))
    assert size.params == params
    assert size.macs == pytest.approx(macs, rel=1e-3)
    assert size.bits == 32 * params


def test_the_warm_up_ends_in_the_best_approximation_of_each_rank():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4)).double()
    weight, last = net[0].weight.detach().clone(), net[2]
    method = Pufferfish(warm_up=3, rank_ratio=0.4, skip="2")
    [warm_up, _] = phases = method.phases(Recipe(10, 1, 0.1))
    assert [(p.first, p.epochs) for p in phases] == [(0, 3), (3, 7)]
    net = method.prepare(net, torch.zeros(1, 12).double(), None)
    assert method.ranks(net) == {} and method.size(net).params == 8 * 13 + 4 * 9
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    assert method.after_phase(warm_up, net, optimizer) == Change.NEW_OPTIMIZER
    assert method.ranks(net) == {"0": 3} and net[2] is last  # int(0.4 * 8)
    P, S, Qt = torch.linalg.svd(weight)
    best = P[:, :3] * S[:3] @ Qt[:3]
    torch.testing.assert_close(net[0].weight, best, rtol=1e-9, atol=1e-12)
    assert method.size(net).params == 3 * (8 + 12) + 8 + 4 * 9


def test_a_training_warms_up_dense_and_goes_on_with_a_new_optimiser(few_digits):
    [config] = pufferfish("lenet", seeds=(0,))
    options = config.options | {"warm_up": 2}
    recipe = Recipe(4, 50, 0.05, milestones=(3,))
    config = type(config)("digits", "lenet", "pufferfish", recipe, options)
    run = Training(config, task=few_digits)
    optimizers = []
    while not run.finished:
        optimizers.append(run.optimizer)
        run.run_epoch()
    lines = run.history.lines
    assert [line["lr"] for line in lines] == pytest.approx([0.05] * 3 + [0.005])
    assert len({id(optimizer) for optimizer in optimizers}) == 2
    dense = costs(MODELS["lenet"](), few_digits.example).footprint({}).params
    # the network is cut at the end of the warm-up, before it is evaluated
    assert [line["train_params"] == dense for line in lines] == [True, True] + 2 * [
        False
    ]
    ranks = {"conv2": 4, "fc1": 30, "fc2": 21}
    assert run.history.ranks == [[0, {}], [2, ranks]]
    record = record_of(run)
    assert record["final"]["params"] == lines[-1]["train_params"] < dense / 2


def test_a_whole_network_comes_back_from_its_weights(few_digits):
    [config] = pufferfish("lenet", seeds=(0,))
    recipe = Recipe(2, 50, 0.05)
    options = config.options | {"warm_up": 1}
    config = type(config)("digits", "lenet", "pufferfish", recipe, options)
    run = Training(config, task=few_digits)
    while not run.finished:
        run.run_epoch()
    state = copy.deepcopy(run.network_state())
    again = Training(config, task=few_digits)
    again.restore_network(state)
    assert maestro.ranks(again.model) == maestro.ranks(run.model)
    assert again.evaluate() == run.evaluate()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"warm_up": -1}, "warm_up=-1: it takes an integer >= 0"),
        ({"warm_up": 2.5}, "warm_up=2.5: it takes an integer"),
        ({"rank_ratio": 0}, r"rank_ratio=0: it takes a number in \(0, 1\]"),
        ({"rank_ratio": 1.5}, "rank_ratio=1.5: it takes"),
    ],
)
def test_wrong_numbers_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Pufferfish(**wrong)


def test_a_warm_up_as_long_as_the_training_is_refused():
    with pytest.raises(ValueError, match="warm_up=10: it takes fewer than the recipe"):
        Pufferfish(warm_up=10).phases(Recipe(10, 1, 0.1))
