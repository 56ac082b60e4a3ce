"""Methods with a dense start: what the fine-tuning of a trained network begins with."""

import pytest
import torch
from torch import nn

from maestro import ranks
from maestro.config import Recipe, RunConfig
from maestro.methods import Change, Pretrained, resolve
from maestro.training.loop import Training


def test_the_trained_network_is_factorised_as_it_is():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 4))
    method = Pretrained(tune=3)
    net = method.prepare(net, (torch.randn(1, 8),), torch.Generator())
    training, tuning = method.phases(Recipe(epochs=4, batch_size=4, lr=0.1))
    assert (training.epochs, tuning.epochs, tuning.first) == (4, 3, 4)
    x = torch.randn(5, 8)
    before = net(x)
    assert method.after_phase(training, net, None) is Change.NEW_OPTIMIZER
    assert ranks(net) == {"0": 6, "2": 4}
    assert torch.allclose(net(x), before, atol=1e-5)
    assert method.after_phase(tuning, net, None) is Change.NOTHING


def test_columns_fall_in_the_fine_tuning_alone(few_digits):
    """And the lasso, the cuts and the cost of training are those of Algorithm 1."""
    recipe = Recipe(2, 50, 0.05)
    options = {"lambda_gl": 3e-3, "eps_ps": 0.3, "tune": 2, "skip": ["fc3"]}
    config = resolve(RunConfig("digits", "lenet", "pretrained", recipe, options))
    run = Training(config, task=few_digits)
    while not run.finished:
        run.run_epoch()
    dense, *cuts = run.history.ranks
    assert dense == [0, {}] and [epoch for epoch, _ in cuts][:2] == [2, 3]
    full = {"conv1": 6, "conv2": 16, "fc1": 120, "fc2": 84}
    assert cuts[0][1] == full and sum(cuts[-1][1].values()) < sum(full.values())
    held = [line["train_params"] for line in run.history.lines]
    assert held[0] == held[1] == 44_426 and held[2] > held[3]


@pytest.mark.parametrize("tune", [0, -1, 1.5, True])
def test_without_an_epoch_of_fine_tuning_it_is_refused(tune):
    with pytest.raises(ValueError, match=f"tune={tune!r}: it takes an integer >= 1"):
        Pretrained(tune=tune)
