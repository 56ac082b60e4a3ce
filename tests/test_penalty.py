"""The hierarchical group lasso: its value, its closed-form gradient, its zeros."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import maestro
from maestro.lowrank import (
    add_lasso_gradient,
    proximal_step,
    suffix_norms,
    tail_floor,
)
from maestro.models import LeNet


def naive(net):
    """Eq. 5 as it is printed: a loop over layers and a loop over suffixes."""
    total = 0.0
    for layer in maestro.low_rank_layers(net).values():
        for b in range(layer.rank):
            total = total + layer.U[:, b:].norm() + layer.V[:, b:].norm()
    return total


def network(ranks=None):
    """Layers of several shapes and ranks, in float64."""
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(16, 7))
    net = maestro.factorize(net.append(nn.Linear(7, 3)).double())
    maestro.truncate(net, ranks or {})
    return net


def factors(net):
    layers = maestro.low_rank_layers(net).values()
    return [factor for layer in layers for factor in (layer.U, layer.V)]


RANKS = [{}, {"0": 1}, {"2": 2, "3": 1}, {"0": 0}, {"0": 0, "2": 3, "3": 0}]


@pytest.mark.parametrize("ranks", RANKS)
def test_value(ranks):
    net = network(ranks)
    value = maestro.hierarchical_group_lasso(net)
    assert value.shape == () and value.dtype == torch.float64
    torch.testing.assert_close(value, naive(net), rtol=1e-13, atol=0)


@pytest.mark.parametrize("ranks", RANKS)
def test_gradient_against_autograd_of_the_naive_sum(ranks):
    net = network(ranks)
    used = [factor for factor in factors(net) if factor.shape[1]]
    expected = torch.autograd.grad(0.3 * naive(net), used)
    got = torch.autograd.grad(0.3 * maestro.hierarchical_group_lasso(net), used)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


def test_gradient_against_finite_differences():
    net = network({"0": 3, "2": 4})

    def penalty(*values):
        by_name = dict(zip(names, values, strict=True))
        return torch.func.functional_call(Penalty(net), by_name, ())

    named = [(n, p) for n, p in Penalty(net).named_parameters() if p.ndim == 2]
    names = [name for name, _ in named]
    values = [p.detach().clone().requires_grad_() for _, p in named]
    assert torch.autograd.gradcheck(penalty, values)


class Penalty(nn.Module):
    def __init__(self, net, penalty=maestro.hierarchical_group_lasso):
        super().__init__()
        self.net, self.penalty = net, penalty

    def forward(self):
        return self.penalty(self.net)


def of_factors(net, penalty=maestro.hierarchical_group_lasso):
    """(the penalty as a function of the factors {name: value}, the factors now)."""
    named = {n: p.detach() for n, p in Penalty(net).named_parameters() if p.ndim == 2}

    def function(values):
        return torch.func.functional_call(Penalty(net, penalty), values, ())

    return function, named


def test_second_derivatives_against_those_of_the_naive_sum():
    net = network({"0": 3, "2": 4})
    used, vectors = factors(net), [torch.randn_like(f) for f in factors(net)]

    def product(penalty):
        """H v, and the gradient of a function of the gradient's size."""
        grads = torch.autograd.grad(penalty(net), used, create_graph=True)
        inner = sum((g * v).sum() for g, v in zip(grads, vectors, strict=True))
        return torch.autograd.grad(inner + sum(g.square().sum() for g in grads), used)

    pairs = zip(product(maestro.hierarchical_group_lasso), product(naive), strict=True)
    for one, other in pairs:
        assert other.any()
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_second_derivatives_against_finite_differences():
    function, named = of_factors(network({"0": 3, "2": 2, "3": 1}))

    def penalty(*values):
        return function(dict(zip(named, values, strict=True)))

    values = [value.clone().requires_grad_() for value in named.values()]
    assert torch.autograd.gradgradcheck(penalty, values)


def test_torch_func_differentiates_it():
    net = network({"0": 2, "2": 3, "3": 1})
    function, named = of_factors(net)
    expected = torch.autograd.grad(naive(net), factors(net))
    got = torch.func.grad(function)(named)
    for one, other in zip(got.values(), expected, strict=True):
        torch.testing.assert_close(one, other)
    forward, backward = (
        torch.func.hessian(function),
        torch.func.jacrev(torch.func.jacrev(function)),
    )
    naive_one, _ = of_factors(net, naive)
    expected = torch.func.jacrev(torch.func.jacrev(naive_one))(named)
    for way in (forward, backward):
        hessian = way(named)
        for one in named:
            for other in named:
                torch.testing.assert_close(hessian[one][other], expected[one][other])


def test_torch_func_maps_it():
    function, named = of_factors(network({"2": 3}))
    several = {name: torch.stack([p, 2 * p, -p]) for name, p in named.items()}
    one = function(named)
    mapped = torch.func.vmap(function)(several)
    torch.testing.assert_close(mapped, torch.stack([one, 2 * one, one]))
    grads = torch.func.vmap(torch.func.grad(function))(several)
    for name, grad in torch.func.grad(function)(named).items():
        torch.testing.assert_close(grads[name], torch.stack([grad, grad, -grad]))


def test_in_a_loss_it_adds_to_the_gradient():
    net, x = network(), torch.randn(2, 2, 4, 4, dtype=torch.float64)
    alone = torch.autograd.grad(net(x).square().sum(), factors(net))
    (net(x).square().sum() + 0.1 * maestro.hierarchical_group_lasso(net)).backward()
    lasso = torch.autograd.grad(0.1 * naive(net), factors(net))
    for factor, one, other in zip(factors(net), alone, lasso, strict=True):
        torch.testing.assert_close(factor.grad, one + other)


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("before", [True, False])
def test_added_without_autograd_it_is_the_same_gradient(ranks, before):
    net = network(ranks)
    for factor in factors(net):
        factor.grad = torch.randn_like(factor) if before else None
    expected = torch.autograd.grad(
        0.3 * maestro.hierarchical_group_lasso(net), factors(net)
    )
    if before:
        expected = [f.grad + g for f, g in zip(factors(net), expected, strict=True)]
    add_lasso_gradient(net, 0.3)
    for factor, grad in zip(factors(net), expected, strict=True):
        torch.testing.assert_close(factor.grad, grad, rtol=1e-14, atol=1e-16)
        # fused optimisers on a CPU take for granted that it lies as the factor does
        assert factor.grad.stride() == factor.stride()


def test_added_to_what_is_trained_only():
    net = network({"0": 2})
    net[0].requires_grad_(False)
    add_lasso_gradient(net, 0.1)
    assert net[0].U.grad is None and net[0].V.grad is None
    assert net[2].U.grad.all() and net[2].bias.grad is None


@pytest.mark.parametrize(
    "zero", [slice(2, None), slice(None), slice(0, 1), slice(1, 2)]
)
def test_finite_at_zero_columns(zero):
    net = network()
    with torch.no_grad():
        for factor in factors(net):
            factor[:, zero] = 0
    value = maestro.hierarchical_group_lasso(net)
    value.backward()
    torch.testing.assert_close(value, naive(net), rtol=1e-13, atol=0)
    for factor in factors(net):
        assert factor.grad.isfinite().all() and not factor.grad[:, zero].any()
        # what is not zero is still pulled towards zero
        assert ((factor.grad * factor).sum(0) > 0).equal(factor.detach().any(0))
    grads = torch.autograd.grad(
        maestro.hierarchical_group_lasso(net), factors(net), create_graph=True
    )
    twice = torch.autograd.grad(sum(g.square().sum() for g in grads), factors(net))
    for grad in twice:
        assert grad.isfinite().all() and not grad[:, zero].any()


@pytest.mark.parametrize("size", [1e-12, 1e-20, 1e-30, 1e-40])
def test_finite_at_columns_too_small_to_square(size):
    layer = maestro.LowRankLinear(torch.ones(4, 3), torch.ones(5, 3))
    with torch.no_grad():
        layer.U[:, 1:] *= size
    maestro.hierarchical_group_lasso(layer).backward()
    assert layer.U.grad.isfinite().all()
    assert layer.U.grad.norm(dim=0).le(3.01).all()  # r terms of at most 1 each


def test_nothing_left_is_no_penalty():
    net = network({"0": 0, "2": 0, "3": 0})
    value = maestro.hierarchical_group_lasso(net)
    value.backward()
    assert value == 0


def test_frozen_factors_count_but_get_no_gradient():
    net = network()
    net[0].requires_grad_(False)
    value = maestro.hierarchical_group_lasso(net)
    value.backward()
    torch.testing.assert_close(value, naive(net))
    assert net[0].U.grad is None and net[2].U.grad.all()


def test_single_precision():
    net = maestro.factorize(LeNet())
    value = maestro.hierarchical_group_lasso(net)
    value.backward()
    expected = naive(net.double())
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_single(dtype):
    """A float16 ends at 65,504: the squares of these factors would not fit."""
    net = network({"0": 2})
    with torch.no_grad():
        for factor in factors(net):
            factor *= 60 / factor.abs().max()
    half = copy.deepcopy(net).to(dtype)
    same = copy.deepcopy(half).double()
    value = maestro.hierarchical_group_lasso(half)
    (0.01 * value).backward()
    (0.01 * naive(same)).backward()
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), naive(same), rtol=1e-5, atol=0)
    grads = [factor.grad for factor in factors(half)]
    half.zero_grad()
    add_lasso_gradient(half, 0.01)
    rtol = 2 * torch.finfo(dtype).eps
    triples = zip(factors(half), grads, factors(same), strict=True)
    for factor, grad, expected in triples:
        assert grad.dtype == factor.grad.dtype == dtype
        for one in (grad, factor.grad):
            torch.testing.assert_close(
                one.double(), expected.grad, rtol=rtol, atol=1e-7
            )
    for one, other in ((half[2], same[2]), (half[3], same[3])):
        expected = [other.U[:, b:].norm() * other.V[:, b:].norm() for b in range(3)]
        values = maestro.importance(one)[:3].double()
        torch.testing.assert_close(
            values, torch.stack(expected).detach(), rtol=1e-5, atol=0
        )
    assert maestro.shrink(half, eps_ps=0.0) == maestro.ranks(same)


WRONG = [-1e-9, float("nan"), float("inf"), None, True, "1", [0.1]]


@pytest.mark.parametrize("value", WRONG)
def test_what_is_no_strength_is_refused(value):
    net = network()
    before = [factor.detach().clone() for factor in factors(net)]
    with pytest.raises(
        ValueError, match=r"lambda_gl=.*: it takes a finite number >= 0"
    ):
        add_lasso_gradient(net, value)
    with pytest.raises(
        ValueError, match=r"threshold=.*: it takes a finite number >= 0"
    ):
        proximal_step(net, value)
    for factor, same in zip(factors(net), before, strict=True):
        assert factor.grad is None and torch.equal(factor, same)


@pytest.mark.parametrize("value", [0, 1, np.float32(0.5), torch.tensor(0.5)])
def test_every_kind_of_number_is_a_strength(value):
    net = network()
    add_lasso_gradient(net, value)
    grad = torch.autograd.grad(float(value) * naive(net), net[2].U)[0]
    torch.testing.assert_close(net[2].U.grad, grad)
    proximal_step(net, value)


def test_without_low_rank_layers_it_is_a_mistake():
    with pytest.raises(ValueError, match="LeNet has no low-rank layers to penalise"):
        maestro.hierarchical_group_lasso(LeNet())
    with pytest.raises(ValueError, match="LeNet has no low-rank layers to penalise"):
        add_lasso_gradient(LeNet(), 0.1)


def test_suffix_norms():
    matrix = torch.tensor([[3.0, 0.0, 2.0], [0.0, 4.0, 0.0]]).double()
    expected = torch.tensor([29.0, 20.0, 4.0]).double().sqrt()
    torch.testing.assert_close(suffix_norms(matrix), expected)
    assert suffix_norms(torch.zeros(4, 0)).shape == (0,)


def test_small_tails_are_not_lost_in_large_heads():
    matrix = torch.cat([torch.full((1, 50), 1e-6), torch.zeros(1, 1)], 1)
    matrix[0, 0] = 1e3
    torch.testing.assert_close(
        suffix_norms(matrix).double(),
        torch.stack([matrix[:, b:].double().norm() for b in range(51)]),
        rtol=1e-5,
        atol=0,
    )


def test_importance_is_a_falling_product_of_suffix_norms():
    layer = maestro.factorize(nn.Linear(9, 6).double())
    expected = [layer.U[:, b:].norm() * layer.V[:, b:].norm() for b in range(6)]
    values = maestro.importance(layer)
    torch.testing.assert_close(values, torch.stack(expected).detach())
    assert (values.diff() < 0).all() and not values.requires_grad


# ------------------------------------------------------------------ the proximal step


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("threshold", [1e-6, 0.03, 0.3, 2.0])
def test_a_proximal_step_is_the_minimum(ranks, threshold):
    """By conditions of optimality where columns are left, by trial where none are."""
    net = network(ranks)
    before = [factor.detach().clone() for factor in factors(net)]
    proximal_step(net, threshold)
    for M, factor in zip(before, factors(net), strict=True):
        X = factor.detach()
        left = int((X != 0).any(0).sum())
        assert (X[:, :left] != 0).any(0).all() and not X[:, left:].any()
        norms = [X[:, b:].norm() for b in range(left)]
        for j in range(left):
            force = sum(1 / norms[b] for b in range(j + 1))
            expected = X[:, j] * (1 + threshold * force)
            torch.testing.assert_close(M[:, j], expected, rtol=1e-9, atol=1e-12)
        least = objective(X, M, threshold)
        for scale in (1e-3, 1e-2, 0.1):
            moved = X + scale * torch.randn_like(X)
            assert objective(moved, M, threshold) >= least
            assert objective(X + scale * (M - X), M, threshold) >= least


def objective(X, M, threshold):
    suffixes = sum(X[:, b:].norm() for b in range(X.shape[1]))
    return (X - M).square().sum() / 2 + threshold * suffixes


def test_a_large_enough_threshold_leaves_nothing():
    net = network()
    proximal_step(net, torch.tensor(100.0))
    assert not any(factor.any() for factor in factors(net))
    assert set(maestro.shrink(net, eps_ps=0).values()) == {0}


def test_frozen_factors_stay_under_a_proximal_step():
    net = network()
    net[0].requires_grad_(False)
    before = net[0].U.clone()
    proximal_step(net, 0.1)
    assert torch.equal(net[0].U, before)


def test_a_small_proximal_step_is_a_step_along_the_gradient():
    net = network()
    start = [factor.detach().clone() for factor in factors(net)]
    add_lasso_gradient(net, 1e-7)
    expected = [m - factor.grad for m, factor in zip(start, factors(net), strict=True)]
    proximal_step(net, 1e-7)
    for factor, want in zip(factors(net), expected, strict=True):
        torch.testing.assert_close(factor.detach(), want, rtol=1e-9, atol=1e-12)


def test_a_tail_that_only_the_lasso_moves_stays_at_its_floor():
    """Without momentum; the chapter on exact zeros checks the floor with momentum."""
    generator = torch.Generator().manual_seed(0)
    factors = [
        1e-3 * torch.randn(m, 12, generator=generator, dtype=torch.float64)
        for m in (9, 7)
    ]
    net = nn.Sequential(maestro.LowRankLinear(*factors))
    sgd = torch.optim.SGD(net.parameters(), 0.01)
    for _ in range(3000):
        sgd.zero_grad()
        (1e-3 * maestro.hierarchical_group_lasso(net)).backward()
        sgd.step()
    floor = tail_floor(0.01, 1e-3, 12)
    assert maestro.importance(net[0])[0].item() == pytest.approx(floor, rel=0.02)


def test_with_momentum_a_tail_can_stay_above_its_floor():
    """A swing of two steps each way, at 1 and 0.9 times lr * lambda_gl / (1 + 0.9^2).

    From the balance of v' = 0.9 v + g and u' = u - lr v', with g = +1, +1, -1, -1.
    """
    lr, lambda_gl, momentum = 0.01, 1e-3, 0.9
    unit = lambda_gl / (1 + momentum**2)
    ones = [torch.tensor([[1.0]], dtype=torch.float64) for _ in range(2)]
    net = nn.Sequential(maestro.LowRankLinear(*(lr * unit * one for one in ones)))
    sgd = torch.optim.SGD(net.parameters(), lr, momentum)
    for factor in factors(net):
        sgd.state[factor]["momentum_buffer"] = torch.full_like(
            factor, -(1 + momentum) * unit
        )
    norms = []
    for _ in range(8):
        sgd.zero_grad()
        (lambda_gl * maestro.hierarchical_group_lasso(net)).backward()
        sgd.step()
        norms.append(maestro.importance(net[0])[0].item() ** 0.5)
    torch.testing.assert_close(norms, 4 * [momentum * lr * unit, lr * unit])
    assert min(norms) > 1.8 * tail_floor(lr, lambda_gl, 1, momentum) ** 0.5


def test_importance_is_of_one_layer():
    with pytest.raises(ValueError, match="layer is Sequential: it takes one of low_r"):
        maestro.importance(network())
