"""The ablation's extra pass: its gradient, its cost, and the course of a training."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from maestro.config import Recipe
from maestro.lowrank import columns_in_use, expected_columns, low_rank_layers
from maestro.methods import FullPass, Maestro, Phase
from maestro.training.loop import Training
from maestro.training.record import record_of
from maestro.training.step import Step


class Rows:
    """A task of two tensors."""

    def loss(self, model, batch, label_smoothing=0.0):
        x, labels = batch
        loss = F.cross_entropy(model(x), labels)
        return loss, loss.detach() * len(labels)


def one_step(method):
    """The method after a step of rate 0, the network, its batch, and loss_sum."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    batch = torch.randn(8, 6), torch.randint(3, (8,))
    generator = torch.Generator().manual_seed(0)
    net = method.prepare(net, torch.zeros(1, 6), generator)
    training = SimpleNamespace(
        autocast=nullcontext,
        phase=(Phase("training", Recipe(1, 8, 0.1)), 0),
        task=Rows(),
        model=net,
        optimizer=torch.optim.SGD(net.parameters(), 0.0),
    )
    method.cut = {"0": 2}
    loss_sum = method.descend(Step(training, net, batch))
    return net, batch, loss_sum


@pytest.mark.course
@pytest.mark.parametrize("distilled", [False, True])
def test_the_gradient_is_that_of_both_losses(distilled):
    method = FullPass(distilled=distilled)
    net, (x, labels), loss_sum = one_step(method)
    full = net(x)
    whole = F.cross_entropy(full, labels)
    with columns_in_use(low_rank_layers(net), method.cut):
        sampled = net(x)
    assert not torch.allclose(sampled, full)
    aims = full.detach().softmax(1) if distilled else labels
    loss = whole + F.cross_entropy(sampled, aims)
    expected = torch.autograd.grad(loss, list(net.parameters()))
    for parameter, grad in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, grad, rtol=1e-10, atol=1e-12)
    assert loss_sum.item() == pytest.approx(8 * whole.item(), rel=1e-12)


def test_a_step_costs_the_whole_network_more():
    method, plain = FullPass(sampler="pair"), Maestro(sampler="pair")
    net, _, _ = one_step(method)
    same, _, _ = one_step(plain)
    ranks = method.ranks(net)
    macs = method.costs.footprint(ranks).macs
    sampled = method.costs.footprint(expected_columns(ranks, "pair")).macs
    assert plain.training_cost(same)[1] == sampled
    assert method.training_cost(net)[1] == sampled + macs
    assert method.size(net) == plain.size(same)


def test_outputs_that_are_no_logits_are_refused():
    class Net(nn.Linear):
        def forward(self, x):
            return super().forward(x)[None]

    step = Step(SimpleNamespace(model=None, optimizer=None), Net(2, 2), None)
    step._training.autocast = nullcontext
    step._forward(torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"outputs of shape \(1, 3, 2\): distillation"):
        step.distil()


@pytest.mark.parametrize("distilled", [False, True])
def test_a_training_shrinks_as_maestro_does(distilled, few_digits, digits_config):
    config = digits_config("full_pass", epochs=2, batch_size=32, distilled=distilled)
    run = Training(config, task=few_digits)
    while not run.finished:
        run.run_epoch()
    assert len(run.history.ranks) > 1
    assert record_of(run)["history"]["train_macs"][0] > run.dense.macs


def test_distilled_takes_true_or_false():
    with pytest.raises(ValueError, match="distilled=1: it takes true or false"):
        FullPass(distilled=1)
