"""Tangent gradients move the product as a dense layer's step would."""

import pytest
import torch
from torch import nn

import maestro
from maestro.lowrank import tangent_gradients


def product_moved_by(layer, damping=0.0, columns=None, rate=1e-7):
    """How far W moves in a small step, divided by its length, and the gradient of W."""
    loss = layer.matrix().square().sum() + layer.matrix().sum()
    if columns:
        U, V = layer.U[:, : columns[""]], layer.V[:, : columns[""]]
        loss = (U @ V.t()).square().sum() + (U @ V.t()).sum()
    loss.backward()
    before = layer.matrix().detach()
    tangent_gradients(layer, damping, columns)
    with torch.no_grad():
        for factor in (layer.U, layer.V):
            factor.sub_(rate * factor.grad)
    return (before - layer.matrix().detach()) / rate, 2 * before + 1


@pytest.mark.course
@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (4, 9)])
def test_at_full_rank_the_product_moves_as_if_it_were_dense(shape):
    moved, gradient = product_moved_by(maestro.factorize(nn.Linear(*shape)))
    assert torch.allclose(moved, gradient, rtol=1e-5, atol=1e-5)


@pytest.mark.course
def test_below_full_rank_the_product_moves_by_the_gradient_s_tangent_part():
    layer = maestro.factorize(nn.Linear(7, 5))
    maestro.truncate(layer, {"": 2})
    U, V = layer.U.detach(), layer.V.detach()
    Q, P = U @ torch.linalg.pinv(U), V @ torch.linalg.pinv(V)
    moved, gradient = product_moved_by(layer)
    expected = gradient @ P + Q @ gradient - Q @ gradient @ P
    assert torch.allclose(moved, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.course
def test_singular_values_do_not_matter():
    """The step of W is the same, whichever way W is split into factors."""
    layer = maestro.factorize(nn.Linear(5, 5))
    other = maestro.factorize(nn.Linear(5, 5))
    mixing = torch.randn(5, 5)
    with torch.no_grad():
        other.U.copy_(layer.U @ mixing)
        other.V.copy_(layer.V @ torch.linalg.inv(mixing).t())
    one, another = product_moved_by(layer)[0], product_moved_by(other)[0]
    assert torch.allclose(one, another, rtol=1e-4, atol=1e-4)


@pytest.mark.course
def test_columns_that_did_not_run_do_not_move():
    layer = maestro.factorize(nn.Linear(6, 6))
    cut = maestro.factorize(nn.Linear(6, 6))
    with torch.no_grad():
        cut.U.copy_(layer.U)
        cut.V.copy_(layer.V)
    maestro.truncate(cut, {"": 2})
    before = layer.U.detach().clone()
    product_moved_by(layer, columns={"": 2})
    product_moved_by(cut)
    assert torch.equal(layer.U[:, 2:], before[:, 2:])
    assert torch.allclose(layer.U[:, :2], cut.U, rtol=1e-12)
    assert torch.allclose(layer.V[:, :2], cut.V, rtol=1e-12)


@pytest.mark.course
@pytest.mark.parametrize("damping", [0.0, 0.1])
def test_columns_that_are_zero_stay_finite(damping):
    layer = maestro.factorize(nn.Linear(6, 6))
    with torch.no_grad():
        layer.U[:, 3:] = layer.V[:, 3:] = 0
    product_moved_by(layer, damping)
    assert layer.U.isfinite().all() and layer.V.isfinite().all()
    assert not layer.U[:, 3:].any()


@pytest.mark.course
def test_damping_shortens_the_steps_of_small_columns():
    torch.manual_seed(1)
    layer = maestro.factorize(nn.Linear(6, 6))
    with torch.no_grad():
        layer.V[:, 5] *= 1e-6
    layer.U.grad, layer.V.grad = torch.ones(6, 6) * 1e-6, torch.zeros(6, 6)
    tangent_gradients(layer, 0.1)
    mean = layer.V.square().sum(0).mean().item()
    assert layer.U.grad[:, 5].abs().max() < 1e-5 / (0.1 * mean)
    with pytest.raises(ValueError, match="damping=-1"):
        tangent_gradients(layer, -1)


@pytest.mark.course
def test_each_block_of_a_grouped_convolution_moves_as_a_layer_of_its_own():
    torch.manual_seed(2)
    layer = maestro.factorize(nn.Conv2d(4, 6, 3, groups=2))
    W = layer.matrix().detach().requires_grad_()
    W.square().sum().add(W.sum()).backward()
    moved, gradient = product_moved_by(layer)
    assert layer.blocks == 2
    assert torch.allclose(moved, W.grad, rtol=1e-5, atol=1e-5)
    assert torch.allclose(gradient, W.grad)
