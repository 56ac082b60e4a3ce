"""The methods' hooks: a step of them is the step that the equations print."""

import copy
import inspect
import sys
from dataclasses import fields, replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import maestro
from maestro import methods
from maestro.config import Recipe, RunConfig
from maestro.lowrank import low_rank_layers
from maestro.paths import ROOT
from maestro.results import records

sys.path.insert(0, str(ROOT / "benchmarks"))
import plain

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


@pytest.mark.course
@pytest.mark.parametrize("ranks", [{}, {"0": 3, "3": 2, "5": 1}])
def test_steps_of_maestro_are_those_of_the_plain_implementation(ranks):
    torch.manual_seed(0)
    dense = network()
    x, y = torch.randn(8, 1, 8, 8).double(), torch.randint(4, (8,))
    method = methods.Maestro(lambda_gl=LAMBDA)
    generator = torch.Generator().manual_seed(0)
    net = method.prepare(copy.deepcopy(dense), x[:1], generator)
    maestro.truncate(net, ranks)
    by_the_book = copy.deepcopy(net)
    optimizers = [
        torch.optim.SGD(n.parameters(), LR, MOMENTUM) for n in (net, by_the_book)
    ]
    for _ in range(12):  # of which each cuts some layer
        method.draw()
        with method.active(training=True):
            loss = F.cross_entropy(net(x), y)
            loss.backward()
        method.after_backward(net)
        expected = F.cross_entropy(plain.outputs(dense, by_the_book, method.cut, x), y)
        (expected + LAMBDA * plain.penalty(by_the_book)).backward()
        # rounding makes 1e-16 of a loss and 2e-15 of a gradient
        assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
        close(net, by_the_book, lambda parameter: parameter.grad, 1e-9)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    close(net, by_the_book, lambda parameter: parameter, 1e-9)


def close(net, other, part, tolerance):
    expected = dict(other.named_parameters())
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(
            part(parameter), part(expected[name]), rtol=tolerance, atol=1e-12
        )


@pytest.mark.course
def test_a_proximal_step_is_as_long_as_the_lassos_way():
    """Momentum carries a subgradient on; over many steps both go as far."""
    torch.manual_seed(0)
    start, ends = maestro.factorize(network()), []
    for kind in (methods.Maestro, methods.Proximal):
        net, method = copy.deepcopy(start), kind(lambda_gl=1e-4)
        optimizer = torch.optim.SGD(net.parameters(), 1e-3, MOMENTUM)
        for _ in range(300):
            for p in net.parameters():
                p.grad = torch.zeros_like(p)
            method.after_backward(net)
            optimizer.step()
            method.after_step(net, optimizer)
        ends.append(net[5].U.detach())
    moved = [(end - start[5].U.detach()).norm().item() for end in ends]
    assert moved[1] == pytest.approx(moved[0], rel=0.05)
    assert moved[0] > 1e-4


def test_proximal_steps_take_sgd():
    adam = replace(RECIPE, optimizer="adam")
    with pytest.raises(ValueError, match="'adam' with method=proximal: it takes sgd"):
        methods.Proximal(lambda_gl=0.1).phases(adam)


def test_a_proximal_step_is_as_long_as_the_schedule_says():
    """Not as the first group says, whose learning rate may be another."""
    ends, start = [], maestro.factorize(network())
    for scale in (1.0, 64.0):
        net, method = copy.deepcopy(start), methods.Proximal(lambda_gl=0.01)
        groups = [{"params": net.parameters(), "lr": 0.1 * scale, "lr_scale": scale}]
        method.after_step(net, torch.optim.SGD(groups, 0.1, MOMENTUM))
        ends.append([p.detach().clone() for p in net.parameters()])
    assert all(map(torch.equal, *ends))


def test_without_lambda_nothing_is_added():
    net = maestro.factorize(network())
    for method in (methods.Dense(), methods.Maestro(lambda_gl=0.0)):
        method.after_backward(net)
        assert all(p.grad is None for p in net.parameters())


RECIPE = Recipe(epochs=1, batch_size=1, lr=0.1)


def test_resolved_options_are_all_options_of_the_method():
    config = RunConfig("digits", "lenet", "maestro", RECIPE, {"eps_ps": 0.1})
    resolved = methods.resolve(config)
    assert resolved.options == {
        "lambda_gl": 0.0,
        "eps_ps": 0.1,
        "sampler": "pair",
        "skip": [],
    }
    assert methods.resolve(resolved) == resolved
    method = methods.make(resolved)
    assert (method.lambda_gl, method.eps_ps, method.mode) == (0.0, 0.1, "pair")


def test_a_method_that_changes_a_default_changes_no_recorded_run(monkeypatch):
    given = RunConfig("digits", "lenet", "maestro", RECIPE, {"lambda_gl": 1e-3})
    before = methods.resolve(given)

    class Later(methods.Maestro):
        def __init__(self, lambda_gl=0.0, eps_ps=1e-5, sampler="shuffled", skip=()):
            super().__init__(lambda_gl, eps_ps, sampler, skip)

    monkeypatch.setitem(methods.METHODS, "maestro", Later)
    again = RunConfig.from_dict(before.to_dict())
    assert again.id == before.id and methods.make(again).eps_ps == 1e-7
    assert methods.resolve(given).id != before.id


def test_options_are_not_named_as_the_columns_of_a_record():
    good, _ = records.read_all()
    config = {f.name for kind in (RunConfig, Recipe) for f in fields(kind)}
    columns = {
        name
        for record in good.values()
        for name in records.row(record).keys() - record["config"]["options"].keys()
    }
    for name, method in methods.METHODS.items():
        options = inspect.signature(method).parameters.keys()
        assert not options & (columns | config), name


def test_masked_columns_stay_under_the_lasso():
    net = maestro.factorize(network())
    for layer in low_rank_layers(net).values():
        layer.columns = 1
    methods.Masked(lambda_gl=0.1).after_backward(net)
    for layer in low_rank_layers(net).values():
        assert layer.U.grad.all() and layer.V.grad.any(0).all()


def test_fine_tuning_needs_a_last_rate():
    recipe = replace(RECIPE, epochs=3, schedule="inverse_sqrt", warmup=4)
    with pytest.raises(ValueError, match="inverse_sqrt' has no last rate"):
        methods.SVD(tune=1).phases(recipe)
    late = replace(RECIPE, epochs=3, milestones=(2, 4))
    assert methods.SVD(tune=2).phases(late)[1].recipe.milestones == (2,)


@pytest.mark.parametrize("method", [methods.RareGems(0.5), methods.Spectral(0.5)])
def test_another_padding_than_zeros_is_refused(method):
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, padding_mode="circular"))
    with pytest.raises(ValueError, match="takes zero padding, not circular"):
        method.prepare(net, torch.zeros(1, 3, 8, 8), torch.Generator())


def test_spectral_names_the_layers_that_it_cannot_take():
    net = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.Conv2d(8, 8, 3))
    with pytest.raises(ValueError, match="without groups; leave out with skip: 0$"):
        methods.Spectral(0.5).prepare(net, torch.zeros(1, 4, 8, 8), None)
