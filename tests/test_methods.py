"""The methods' hooks: a step of them is the step that the equations print."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

import maestro
from maestro import methods
from maestro.lowrank import low_rank_layers

LAMBDA, LR, MOMENTUM = 3e-3, 0.05, 0.9


def network():
    """Layers that run as a product and as two maps, in float64."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, stride=2, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 5, 2, padding=1),
        nn.Flatten(),
        nn.Linear(80, 12),
        nn.ReLU(),
        nn.Linear(12, 4),
    ).double()


def plain_step(dense, factors, buffers, cut, x, y):
    """Algorithm 1's step by the book: dense weights U V^T, suffixes in loops.

    factors: {name: tensor} to descend on; cut: {layer: b}. Returns loss, gradients.
    """
    weights = {}
    for name, weight in dense.state_dict().items():
        layer = name.removesuffix(".weight")
        if layer + ".U" in factors:
            U, V = factors[layer + ".U"], factors[layer + ".V"]
            b = cut.get(layer, U.shape[1])
            weights[name] = (U[:, :b] @ V[:, :b].t()).view_as(weight)
        elif name in factors:
            weights[name] = factors[name]
    loss = F.cross_entropy(functional_call(dense, weights | buffers, (x,)), y)
    penalty = sum(
        factor[:, b:].norm()
        for name, factor in factors.items()
        if name.endswith((".U", ".V"))
        for b in range(factor.shape[1])
    )
    named = list(factors.values())
    return loss.item(), torch.autograd.grad(loss + LAMBDA * penalty, named)


@pytest.mark.parametrize("ranks", [{}, {"0": 3, "3": 2, "5": 1}])
def test_steps_of_maestro_are_those_of_the_plain_implementation(ranks):
    torch.manual_seed(0)
    dense = network()
    x, y = torch.randn(8, 1, 8, 8).double(), torch.randint(4, (8,))
    method = methods.Maestro(lambda_gl=LAMBDA)
    generator = torch.Generator().manual_seed(0)
    net = method.prepare(copy.deepcopy(dense), x[:1], generator)
    maestro.truncate(net, ranks)
    optimizer = torch.optim.SGD(net.parameters(), LR, MOMENTUM)
    factors = {n: p.detach().clone() for n, p in net.named_parameters()}
    buffers = {n: b.clone() for n, b in net.named_buffers()}
    momentum = {n: torch.zeros_like(p) for n, p in factors.items()}
    for _ in range(12):  # of which each cuts some layer
        method.draw()
        with method.step():
            loss = F.cross_entropy(net(x), y)
            loss.backward()
        method.penalise(net)
        wanted = {n: p.requires_grad_() for n, p in factors.items()}
        expected, grads = plain_step(dense, wanted, buffers, method.cut, x, y)
        assert loss.item() == pytest.approx(expected, rel=1e-12)
        for (name, ours), grad in zip(net.named_parameters(), grads, strict=True):
            torch.testing.assert_close(ours.grad, grad, rtol=1e-9, atol=1e-13)
            momentum[name] = MOMENTUM * momentum[name] + grad
            factors[name] = factors[name].detach() - LR * momentum[name]
        optimizer.step()
        optimizer.zero_grad()
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(
            parameter.detach(), factors[name], rtol=1e-9, atol=1e-12
        )


def test_without_lambda_nothing_is_added():
    net = maestro.factorize(network())
    for method in (methods.Dense(), methods.Maestro(lambda_gl=0.0)):
        method.penalise(net)
        assert all(p.grad is None for p in net.parameters())


def test_masked_columns_stay_under_the_lasso():
    net = maestro.factorize(network())
    for layer in low_rank_layers(net).values():
        layer.columns = 1
    methods.Masked(lambda_gl=0.1).penalise(net)
    for layer in low_rank_layers(net).values():
        assert layer.U.grad.all() and layer.V.grad.any(0).all()
