"""DepGraph: the wanted size, whole channels, and shapes that come back."""

import sys

import pytest
import torch

import maestro
from maestro.config import Recipe, RunConfig
from maestro.methods import DepGraph, depgraph, make, resolve
from maestro.models import MODELS
from maestro.training.loop import Training

EXAMPLES = {
    "lenet": ({}, torch.zeros(1, 1, 28, 28), ["fc3"]),
    "resnet18": ({"width": 8}, torch.zeros(1, 3, 32, 32), ["fc"]),
}


def config_of(**options):
    recipe = Recipe(2, 50, 0.1, milestones=(1,))
    options = {"tune": 4, "skip": ["fc3"]} | options
    return resolve(RunConfig("digits", "lenet", "depgraph", recipe, options))


@pytest.fixture
def package():
    pytest.importorskip("torch_pruning")


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("name", "scope"), [("lenet", "local"), ("lenet", "global"), ("resnet18", "local")]
)
def test_the_wanted_size_is_met_from_below_and_not_by_far(name, scope, monkeypatch):
    monkeypatch.setattr(depgraph, "STEPS", 50)
    size, example, skip = EXAMPLES[name]
    net = MODELS[name](**size)
    method = DepGraph(params_share=0.3, scope=scope, skip=skip)
    net = method.prepare(net, example, None)
    dense = method.size(net)
    [training, _] = method.phases(Recipe(2, 1, 0.1))
    method.after_phase(training, net, None)
    pruned = method.size(net)
    assert 0.2 < pruned.params / dense.params <= 0.3
    assert pruned.params == maestro.footprint(net, example).params
    assert pruned.macs < dense.macs and pruned.bits == 32 * pruned.params
    assert method.training_cost(net) == pruned[:2]
    assert net.training and net(example.repeat(2, 1, 1, 1)).shape == (2, 10)


@pytest.mark.usefixtures("package")
def test_what_is_frozen_stays_frozen(monkeypatch):
    """The package makes new parameters, the compact network's norms among them."""
    monkeypatch.setattr(depgraph, "STEPS", 20)
    net = MODELS["compact"](width=8)
    frozen = [name for name, p in net.named_parameters() if not p.requires_grad]
    method = DepGraph(params_share=0.5, skip=["whiten", "head"])
    net = method.prepare(net, torch.zeros(1, 3, 32, 32), None)
    method.after_phase(method.phases(Recipe(2, 1, 0.1))[0], net, None)
    after = [name for name, p in net.named_parameters() if not p.requires_grad]
    assert frozen and after == frozen
    resumed = method.restore_shapes(MODELS["compact"](width=8), method.state_dict())
    resumed.load_state_dict(net.state_dict())
    again = [name for name, p in resumed.named_parameters() if not p.requires_grad]
    assert again == frozen


@pytest.mark.usefixtures("package")
def test_the_channels_of_the_smallest_norms_leave_first():
    """And with each of them all that reads it."""
    net = MODELS["lenet"]()
    with torch.no_grad():
        for small in (7, 31, 90):
            net.fc1.weight[small] *= 1e-3
            net.fc2.weight[:, small] *= 1e-3
    kept = [i for i in range(120) if i not in (7, 31, 90)]
    rows, columns = net.fc1.weight[kept].clone(), net.fc2.weight[:, kept].clone()
    skip = ["conv1", "conv2", "fc2", "fc3"]
    method = DepGraph(params_share=0.981, scope="local", skip=skip)
    net = method.prepare(net, torch.zeros(1, 1, 28, 28), None)
    method.after_phase(method.phases(Recipe(2, 1, 0.1))[0], net, None)
    assert torch.equal(net.fc1.weight, rows) and torch.equal(net.fc2.weight, columns)


@pytest.mark.usefixtures("package")
def test_a_training_prunes_and_tunes_at_a_lower_rate(few_digits):
    run = Training(config_of(params_share=0.5), task=few_digits)
    while not run.finished:
        run.run_epoch()
    lines, dense = run.history.lines, 44_426
    rates = [0.1, 0.01, 0.01, 0.01, 0.001, 0.001]
    assert [line["lr"] for line in lines] == pytest.approx(rates)
    held = [line["train_params"] for line in lines]
    assert held[:2] == [dense, dense] and 0.45 * dense < held[2] <= 0.5 * dense
    assert lines[1]["params"] == lines[-1]["params"] == held[2] == held[-1]


@pytest.mark.usefixtures("package")
def test_a_pruned_network_comes_back_without_the_package(few_digits, monkeypatch):
    run = Training(config_of(tune=0), task=few_digits)
    while not run.finished:
        run.run_epoch()
    state = run.network_state()
    again = Training(config_of(tune=0), task=few_digits)
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    again.restore_network(state)
    assert again.evaluate() == run.evaluate()
    assert again.method.size(again.model) == run.method.size(run.model)
    for layer, other in zip(again.model.modules(), run.model.modules(), strict=True):
        assert str(layer) == str(other)  # sizes that layers say of themselves


def test_without_the_package_an_error_says_what_to_install(few_digits, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    make(config_of())  # the list of runs needs no package
    with pytest.raises(ModuleNotFoundError, match="pip install torch-pruning==1.6.1"):
        Training(config_of(), task=few_digits)


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"params_share": 0.0}, r"params_share=0.0: it takes a number in \(0, 1\]"),
        ({"tune_rate": 2}, "tune_rate=2: it takes a number in"),
        ({"scope": "some"}, "scope='some'; it is one of local, global"),
        ({"tune": -1}, "tune=-1: it takes an integer >= 0"),
        ({"skip": ["fc9"]}, "names no module"),
    ],
)
def test_wrong_numbers_are_refused(wrong, message, few_digits):
    with pytest.raises(ValueError, match=message):
        Training(config_of(**wrong), task=few_digits)


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"params_share": 0.05, "most": 0.2, "skip": ["fc3"]}, "pruning a part of 0.2"),
        ({"skip": []}, "the last layer lost outputs; name it as well"),
    ],
)
def test_what_cannot_be_pruned_so_is_refused(options, message):
    method, example = DepGraph(**options), torch.zeros(1, 1, 28, 28)
    net = method.prepare(MODELS["lenet"](), example, None)
    with pytest.raises(ValueError, match=message):
        method.after_phase(method.phases(Recipe(2, 1, 0.1))[0], net, None)
