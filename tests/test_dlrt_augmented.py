"""DLRT by the augmented integrator: against the matrix equation, in cycles."""

import pytest
import torch
from runs import Pictures, goes_on_from_every_step, run_of_pictures
from test_dlrt import augmented, factors
from torch import nn

import maestro
from maestro.config import Recipe, RunConfig
from maestro.methods import AugmentedDLRT, resolve
from maestro.methods.dlrt_augmented import balance, widen
from maestro.training.loop import Training


def spaces(matrix):
    """The orthogonal projection on the columns of ``matrix``."""
    return matrix @ torch.linalg.pinv(matrix)


def test_the_wider_bases_span_the_factors_and_the_gradient():
    """As qr([U, U S - h G V]) does, whatever h: and W stays as it is."""
    A, B, W = factors([3.0, 2.0])
    G = torch.randn(9, 7).double()
    U, wide, V = widen(A, B, G @ B, G.t() @ A)
    torch.testing.assert_close(wide @ V.t(), W)
    for basis, old, more in ((U, A, G @ B), (V, B, G.t() @ A)):
        torch.testing.assert_close(basis.t() @ basis, torch.eye(4).double())
        for length in (0.01, 1.0):
            stepped = torch.cat([old, old - length * more], 1)
            torch.testing.assert_close(spaces(basis), spaces(stepped))


def test_a_cycle_is_the_projected_step_of_the_paper():
    """W' = W - h U U^T G V V^T, in the wider bases."""
    A, B, W = factors([3.0, 2.0])
    G = torch.randn(9, 7).double()
    one, two = augmented(A, B, lambda W: G, 0.01)
    U, _, V = widen(A, B, G @ B, G.t() @ A)
    projected = U @ U.t() @ G @ V @ V.t()
    torch.testing.assert_close((W - one @ two.t()) / 0.01, projected)
    assert one.shape[1] == 4 and torch.linalg.matrix_rank(one @ two.t()) == 4


def test_a_cut_that_drops_nothing_leaves_the_weight():
    """The released code of 2022 turns a basis the wrong way here."""
    A, B, W = factors([3.0, 2.0, 1.0])
    G = torch.randn(9, 7).double()
    U, A, V = widen(A, B, G @ B, G.t() @ A)
    A, B, P, Q = balance(U, A, V)
    torch.testing.assert_close(A @ B.t(), W)
    sizes = A.norm(dim=0) * B.norm(dim=0)
    torch.testing.assert_close(P * sizes @ Q.t(), U.t() @ W @ V)


@pytest.mark.course
@pytest.mark.parametrize("nesterov", [False, True])
def test_the_factors_move_as_sgd_moves_a_weight_in_their_bases(nesterov):
    """With its rate, momentum and decay: exact where W and all gradients share spaces.

    Over two cycles, between which the momentum turns with the bases.
    """
    torch.manual_seed(3)
    net, method = nn.Linear(20, 8).double(), AugmentedDLRT(theta=1e-9, every=4)
    with torch.no_grad():
        net.weight.copy_(factors([3.0, 2.0, 1.5, 1.0], 8, 20)[2])
    net = method.prepare(net, torch.zeros(1, 20).double(), None)
    dense = nn.Parameter(net.weight.detach().clone())
    sgd = {"momentum": 0.9, "nesterov": nesterov}
    plain = torch.optim.SGD([dense], 0.01, weight_decay=0.3, **sgd)
    every = [{"params": list(net.parameters()), "weight_decay": 0.3}]
    optimizer = torch.optim.SGD(method.groups(every, net), 0.01, **sgd)
    for step in range(8):
        G = factors([1.0 + step, 0.5, 0.2 * step, 0.1], 8, 20)[2]
        net.U.grad, net.V.grad = G @ net.V.detach(), G.t() @ net.U.detach()
        method.after_step(net, optimizer)
        if step % 4:  # the first batch of a cycle moves nothing
            dense.grad = G
            plain.step()
        torch.testing.assert_close(net.weight, dense, rtol=1e-9, atol=1e-12)
        assert net.rank == (4 if step % 4 == 3 else 8)


def test_an_epoch_too_short_to_train_the_factors_is_refused(few_digits):
    config = RunConfig("digits", "lenet", "dlrt_augmented", Recipe(1, 1000, 0.05), {})
    with pytest.raises(
        ValueError,
        match="an epoch of 1 batches trains no factors: dlrt_augmented takes",
    ):
        Training(resolve(config), task=few_digits).run_epoch()


def test_a_weight_of_zeros_gets_its_gradients_directions():
    """Also where a factor has columns of zeros, as SVD's rank 0 gives them."""
    G = torch.randn(9, 7).double()
    for A, B in (
        (torch.zeros(9, 2), torch.eye(7, 2)),
        (torch.eye(9, 2), torch.zeros(7, 2)),
        (torch.eye(9, 2) * torch.tensor([2.0, 0.0]), torch.eye(7, 2)),
    ):
        A, B = A.double(), B.double()
        U, wide, V = widen(A, B, G @ B, G.t() @ A)
        torch.testing.assert_close(wide @ V.t(), A @ B.t())
        for basis, parts in ((U, (A, G @ B)), (V, (B, G.t() @ A))):
            size = basis.shape[1]
            torch.testing.assert_close(basis.t() @ basis, torch.eye(size).double())
            for part in parts:
                torch.testing.assert_close(basis @ basis.t() @ part, part)


def cycles(every):
    """A Training with six batches in an epoch."""
    config = run_of_pictures("dlrt_augmented", 15, theta=0.3, every=every)
    return Training(config, task=Pictures(3, 8, 8))


def test_each_step_has_the_gradient_of_its_own_batch(monkeypatch):
    """Nothing is left of those before, in a cycle or outside of it."""
    training, seen = cycles(4), []
    step = training.method.after_backward

    def watched(model):
        layers = maestro.low_rank_layers(model).values()
        held = [layer.U.grad.clone() for layer in layers]
        seen.append(len(held))
        model.zero_grad()
        training.task.loss(model, next(training._batches()))[0].backward()
        for layer, grad in zip(layers, held, strict=True):
            torch.testing.assert_close(layer.U.grad, grad)
        step(model)

    monkeypatch.setattr(training.method, "after_backward", watched)
    training.run_epoch()
    assert len(seen) == 6 and seen[0]


@pytest.mark.usefixtures("one_thread")
def test_a_run_goes_on_from_the_middle_of_a_cycle():
    _, states = goes_on_from_every_step(lambda: cycles(4))
    within = [len(state["method"]["cycles"]) > 0 for state in states]
    assert within[:6] == [True, True, True, False, True, True]


def test_an_epoch_that_ends_with_a_widening_cuts_nothing_more():
    training = cycles(5)  # of six batches, the last widens only
    ended = []
    cut = training.method._cut

    def watched(model, theta):
        cut(model, theta)
        ended.append(maestro.ranks(model))

    training.method._cut = watched
    training.run_epoch()
    assert len(ended) == 2 and ended[0] == ended[1]


def test_a_cycle_of_one_batch_is_refused():
    with pytest.raises(ValueError, match="every=1: it takes"):
        AugmentedDLRT(every=1)


def test_what_is_held_is_the_most_of_an_epoch_and_macs_are_its_mean(few_digits):
    """One batch at the ranks of the start, all others at twice these; and the bases."""
    options = {"theta": 0.5, "every": 100}
    config = RunConfig(
        "digits", "lenet", "dlrt_augmented", Recipe(1, 50, 0.05), options
    )
    training = Training(resolve(config), task=few_digits)
    costs, steps = training.method.costs, training.epoch_steps
    first = training.method.ranks(training.model)
    wide = {name: 2 * rank for name, rank in first.items()}
    mean = {name: rank * (2 - 1 / steps) for name, rank in first.items()}
    layers = maestro.low_rank_layers(training.model)
    bases = sum(layers[name].U.shape[0] * rank for name, rank in wide.items())
    training.run_epoch()
    [line] = training.history.lines
    assert 2 < steps < 100
    assert line["train_params"] == costs.footprint(wide).params + bases
    assert line["train_macs"] == pytest.approx(costs.footprint(mean).macs)
    assert line["params"] < costs.footprint(first).params
