"""The method "tangent": a dense start, then Algorithm 1 with tangent gradients."""

import pytest
import torch
from torch import nn

from maestro import ranks
from maestro.config import Recipe
from maestro.methods import Change, Tangent


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 4))


def prepared(**options):
    method = Tangent(**options)
    net = method.prepare(network(), (torch.randn(1, 8),), torch.Generator())
    return method, net


def test_the_warm_up_trains_the_dense_network():
    method, net = prepared(warm_up=2)
    recipe = Recipe(epochs=5, batch_size=4, lr=0.1)
    warm_up, low_rank = method.phases(recipe)
    assert (warm_up.epochs, low_rank.epochs) == (2, 3)
    assert not ranks(net) and method.training_cost(net)[0] == 8 * 6 + 6 * 4 + 10
    before = [p.clone() for p in net.parameters()]
    change = method.after_phase(warm_up, net, None)
    assert change is Change.NEW_OPTIMIZER
    assert ranks(net) == {"0": 6, "2": 4}
    assert torch.allclose(net[0].matrix(), before[0], atol=1e-6)
    assert method.after_phase(low_rank, net, None) is Change.NOTHING


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_warm_up_as_long_as_the_training_is_refused(epochs):
    with pytest.raises(ValueError, match=f"warm_up=2.*{epochs} epochs"):
        Tangent(warm_up=2).phases(Recipe(epochs=epochs, batch_size=4, lr=0.1))


def test_the_factors_decay_half_as_fast():
    method, net = prepared(warm_up=0)
    groups = [{"params": list(net.parameters()), "weight_decay": 0.2, "lr_scale": 1.0}]
    decays = {
        id(p): group["weight_decay"]
        for group in method.groups(groups, net)
        for p in group["params"]
    }
    assert {name: decays[id(p)] for name, p in net.named_parameters()} == {
        "0.U": 0.1, "0.V": 0.1, "0.bias": 0.2, "2.U": 0.1, "2.V": 0.1, "2.bias": 0.2,
    }  # fmt: skip


@pytest.mark.course
def test_one_step_decays_the_product_as_a_dense_layer():
    """Without a gradient, SGD's decay alone: W (1 - lr wd) to first order."""
    method, net = prepared(warm_up=0)
    groups = method.groups([{"params": list(net.parameters()), "weight_decay": 1}], net)
    before = net[0].matrix().detach()
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    torch.optim.SGD(groups, lr=1e-6).step()
    moved = (before - net[0].matrix().detach()) / 1e-6
    assert torch.allclose(moved, before, rtol=1e-5)


@pytest.mark.course
@pytest.mark.parametrize("sampler", ["none", "pair"])
def test_columns_that_did_not_run_do_not_move(sampler):
    method, net = prepared(warm_up=0, sampler=sampler)
    method.sampler.generator.manual_seed(3)
    method.draw()
    with method.active(training=True):
        net(torch.randn(5, 8)).square().sum().backward()
    method.after_backward(net)
    for name, b in method.cut.items():
        layer = net.get_submodule(name)
        assert not layer.U.grad[:, b:].any() and not layer.V.grad[:, b:].any()
        assert layer.U.grad[:, :b].any()
    assert bool(method.cut) == (sampler == "pair")
