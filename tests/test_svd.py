"""SVD after training: ranks by a part and by energy; the fine-tuning's rate."""

import pytest
import torch
from torch import nn

from maestro.config import Recipe, RunConfig
from maestro.methods import SVD, resolve
from maestro.training.loop import Training
from maestro.training.optimizers import lr_at


def diagonal(values):
    layer = nn.Linear(len(values), len(values), bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.diag(torch.tensor(values)))
    return nn.Sequential(layer)


@pytest.mark.parametrize(
    ("options", "rank"),
    [
        ({"rank_ratio": 0.5}, 2),
        ({"rank_ratio": 0.1}, 1),
        ({"energy": 0.9}, 1),  # 16 of 17.3
        ({"energy": 0.97}, 2),
        ({"energy": 1.0}, 4),
    ],
)
def test_ranks_by_a_part_or_by_the_energy(options, rank):
    net, method = diagonal([1.0, 0.5, 4.0, 0.2]), SVD(**options)
    net = method.prepare(net, torch.zeros(1, 4).double(), None)
    [phase] = method.phases(Recipe(3, 1, 0.1))
    method.after_phase(phase, net, None)
    assert method.ranks(net) == {"0": rank}
    kept = sorted([1.0, 0.5, 4.0, 0.2], reverse=True)[:rank]
    W = net[0].weight
    assert torch.linalg.svdvals(W)[:rank].tolist() == pytest.approx(kept)


def test_the_network_is_cut_after_training_and_tuned_at_the_last_rate(few_digits):
    recipe = Recipe(2, 50, 0.05, milestones=(1,))
    options = {"rank_ratio": 0.5, "tune": 2, "skip": ["fc3"]}
    config = resolve(RunConfig("digits", "lenet", "svd", recipe, options))
    run = Training(config, task=few_digits)
    while not run.finished:
        run.run_epoch()
    lines = run.history.lines
    assert [line["lr"] for line in lines] == pytest.approx([0.05] + 3 * [0.005])
    ranks = {"conv1": 3, "conv2": 8, "fc1": 60, "fc2": 42}
    assert run.history.ranks == [[0, {}], [2, ranks]]


def test_a_triangle_is_tuned_at_its_last_rate_too():
    recipe = Recipe(4, 1, 2.0, schedule="triangle", triangle=(0.2, 0.25, 0.05))
    _, tuning = SVD(tune=3).phases(recipe)
    assert (tuning.epochs, tuning.first) == (3, 4)
    rates = [lr_at(tuning.recipe, epoch, share=0.5) for epoch in (4, 5, 6)]
    assert rates == pytest.approx(3 * [lr_at(recipe, 4)])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rank_ratio": 0}, "rank_ratio=0: it takes a number in"),
        ({"energy": 1.5}, "energy=1.5: it takes"),
        ({"tune": -1}, "tune=-1: it takes an integer >= 0"),
    ],
)
def test_wrong_numbers_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        SVD(**wrong)
