"""DLRT: the integrator against the matrix equation, and ranks that go both ways."""

from dataclasses import replace

import pytest
import torch
from runs import Pictures, run_of_pictures
from torch import nn

import maestro
from maestro.config import Recipe, RunConfig
from maestro.methods import DLRT, resolve
from maestro.methods.dlrt import integrate, rank_within
from maestro.methods.dlrt_augmented import balance, widen
from maestro.training.loop import Training


def factors(sigma, m=9, n=7):
    """A and B of W with these singular values, and W."""
    torch.manual_seed(0)
    sigma = torch.tensor(sigma, dtype=torch.float64)
    U = torch.linalg.qr(torch.randn(m, len(sigma), dtype=torch.float64))[0]
    V = torch.linalg.qr(torch.randn(n, len(sigma), dtype=torch.float64))[0]
    return U * sigma.sqrt(), V * sigma.sqrt(), U * sigma @ V.t()


def parallel(A, B, gradient, length):
    """One step of the parallel integrator, not yet cut."""
    G = gradient(A @ B.t())
    return integrate(A, B, G @ B, G.t() @ A, length)


def augmented(A, B, gradient, length):
    """One cycle of the augmented integrator, with one step of S, not yet cut."""
    G = gradient(A @ B.t())
    U, A, B = widen(A, B, G @ B, G.t() @ A)
    A = A - length * U @ U.t() @ gradient(A @ B.t()) @ B
    return balance(U, A, B)[:2]


both = pytest.mark.parametrize("step", [parallel, augmented])


@both
def test_a_step_is_the_flow_to_second_order(step):
    """Of W' = -G(W) at full freedom: the error of one step falls with its square."""
    A, B, W = factors([3.0, 2.0, 1.0])
    target = factors([2.5, 2.0, 0.7])[2]  # in the same spaces: the rank is enough
    errors = []
    for length in (0.1, 0.05, 0.025):
        one, two = step(A, B, lambda W: W - target, length)
        flow = target + (W - target) * torch.exp(torch.tensor(-length))
        errors.append((one @ two.t() - flow).norm().item())
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.1)


def test_a_step_reaches_directions_that_the_factors_lack():
    """W' = W - h P(G), where P projects to the tangent space of rank 2 at W."""
    A, B, W = factors([3.0, 2.0])
    target = factors([3.0, 2.0, 1.5, 0.5])[2] + 0.3 * torch.randn(9, 7).double()
    U, V = A / A.norm(dim=0), B / B.norm(dim=0)
    G = W - target
    tangent = U @ U.t() @ G + G @ V @ V.t() - U @ U.t() @ G @ V @ V.t()
    one, two = integrate(A, B, G @ B, G.t() @ A, 0.01)
    torch.testing.assert_close((W - one @ two.t()) / 0.01, tangent)
    assert one.shape[1] == 4 and torch.linalg.matrix_rank(one @ two.t()) == 4


@pytest.mark.parametrize("step, order", [(parallel, 2), (augmented, 1)])
def test_the_order_of_new_directions_in_the_step(step, order):
    """Half the step: a quarter of what the factors lacked, or half of it."""
    A, B, _ = factors([3.0, 2.0])
    G = torch.randn(9, 7).double()
    new = []
    for length in (1e-4, 5e-5):
        one, two = step(A, B, lambda W: G, length)
        new.append((one.norm(dim=0) * two.norm(dim=0))[2:])
    torch.testing.assert_close(
        new[0] / new[1], torch.full_like(new[0], 2**order), rtol=0.01, atol=0
    )


@both
def test_the_factors_stay_orthogonal_and_balanced(step):
    A, B, _ = factors([3.0, 2.0, 1.0])
    G = torch.randn(9, 7).double()
    one, two = step(A, B, lambda W: G, 0.1)
    for factor in (one, two):
        gram = factor.t() @ factor
        torch.testing.assert_close(
            gram, torch.diag(gram.diagonal()), atol=1e-10, rtol=0
        )
    torch.testing.assert_close(one.norm(dim=0), two.norm(dim=0))
    assert torch.equal(one.norm(dim=0).sort(descending=True).values, one.norm(dim=0))


def test_the_tail_rule_on_known_values():
    sigma = torch.tensor([0.9**i for i in range(64)], dtype=torch.float64)
    ranks = [rank_within(sigma, theta) for theta in (0.05, 0.1, 0.2, 0.3, 0.45)]
    assert ranks == [29, 22, 16, 12, 8]


@pytest.mark.parametrize("step, most", [(parallel, 3), (augmented, 4)])
def test_ranks_go_up_and_down_with_what_the_loss_wants(step, most):
    """Gradient descent on ||W - target||^2 / 2, whose target changes its rank.

    The fourth direction is small. The augmented integrator takes it in while the others
    are small too; the parallel one adds too little of it to stay above the tolerance.
    """

    def after(A, B, target):
        for _ in range(80):
            A, B = step(A, B, lambda W: W - target, 0.2)
            rank = rank_within(A.norm(dim=0) * B.norm(dim=0), 0.05)
            A, B = A[:, :rank], B[:, :rank]
        return A, B

    A, B = after(*factors([1.0])[:2], factors([3.0, 2.0, 1.5, 0.5])[2])
    assert A.shape[1] == most
    A, B = after(A, B, factors([3.0, 2.0])[2])
    assert A.shape[1] == 2


@pytest.mark.parametrize("method", ["dlrt", "dlrt_augmented"])
def test_a_training_ends_at_other_ranks(method, few_digits):
    options = {"theta": 0.6, "start": 1.0, "floor": 3, "skip": ["fc3"]}
    recipe = Recipe(2, 25, 0.1, momentum=0.0)
    run = Training(
        resolve(RunConfig("digits", "lenet", method, recipe, options)), task=few_digits
    )
    while not run.finished:
        run.run_epoch()
    before, after = run.history.ranks[0][1], run.history.ranks[-1][1]
    assert before == {"conv1": 3, "conv2": 8, "fc1": 60, "fc2": 42}
    assert after["fc1"] < before["fc1"] and min(after.values()) >= 3
    # an epoch costs what its steps do, which have fewer and fewer columns
    first, second = (line["train_params"] for line in run.history.lines)
    assert first > second
    if method == "dlrt":  # which has no wider bases
        full, least = (run.method.costs.footprint(r).params for r in (before, after))
        assert full >= first and second >= least


def test_the_optimiser_has_all_but_the_factors():
    net = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4))
    method = DLRT(skip="2")
    net = method.prepare(net, torch.zeros(1, 12), None)
    assert maestro.ranks(net) == {"0": 4}
    groups = [{"params": list(net.parameters()), "weight_decay": 0.1}]
    group, theirs = method.groups(groups, net)
    assert {id(p) for p in group["params"]} == {
        id(p) for p in (net[0].bias, net[2].weight, net[2].bias)
    }
    assert theirs == {"params": [], "weight_decay": 0.1}


@pytest.mark.course
def test_a_step_goes_as_far_as_momentum_and_decay_carry_the_others():
    """By lr / (1 - momentum) (G + decay W), exact where G and W share their spaces."""
    net, method = nn.Linear(20, 8), DLRT(theta=1e-9)
    with torch.no_grad():
        net.weight.copy_(factors([3.0, 2.0, 1.5, 1.0], 8, 20)[2])
    net = method.prepare(net, torch.zeros(1, 20), None)
    before, G = net.weight.detach(), factors([1.0, 0.5, 0.2, 0.1], 8, 20)[2]
    net.U.grad, net.V.grad = G @ net.V.detach(), G.t() @ net.U.detach()
    every = [{"params": list(net.parameters()), "weight_decay": 0.3}]
    optimizer = torch.optim.SGD(method.groups(every, net), 0.01, momentum=0.9)
    method.after_step(net, optimizer)
    expected = before - 0.1 * (G + 0.3 * before)
    torch.testing.assert_close(net.weight, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", ["dlrt", "dlrt_augmented"])
def test_a_run_that_diverges_is_recorded_as_such(method):
    config = run_of_pictures(method, 15)
    config = replace(config, recipe=replace(config.recipe, lr=1e6))
    training = Training(config, task=Pictures(3, 8, 8))
    training.run_epoch()
    assert training.history.diverged


@pytest.mark.parametrize(
    "change",
    [{"optimizer": "adam"}, {"lookahead": 5}, {"clip": 1.0}],
    ids=["adam", "lookahead", "clip"],
)
def test_recipes_whose_steps_mean_something_else_are_refused(change):
    with pytest.raises(ValueError, match="dlrt with optimizer=.* it takes sgd"):
        DLRT().phases(Recipe(1, 1, 0.1, **change))


@pytest.mark.parametrize("wrong", [{"theta": 0}, {"theta": 1.2}, {"start": 0}])
def test_wrong_numbers_are_refused(wrong):
    [(name, value)] = wrong.items()
    with pytest.raises(ValueError, match=f"{name}={value}: it takes a number in"):
        DLRT(**wrong)


def test_what_is_held_is_the_most_of_an_epoch_and_macs_are_its_mean(few_digits):
    config = RunConfig("digits", "lenet", "dlrt", Recipe(1, 50, 0.05), {"theta": 0.5})
    training = Training(resolve(config), task=few_digits)
    first = training.method.costs.footprint(training.method.ranks(training.model))
    training.run_epoch()
    [line] = training.history.lines
    held, macs = line["train_params"], line["train_macs"]
    last = training.method.costs.footprint(training.method.ranks(training.model))
    assert held == first.params > last.params
    assert last.macs < macs < first.macs
