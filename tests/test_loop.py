"""The loop learns, resumes from any step, and ends when a run diverges."""

import itertools
import json
from dataclasses import replace

import pytest
import torch
from runs import (
    METHODS,
    goes_on_from_every_step,
    run_to_the_end,
    same,
    state_after,
)
from torch import nn
from torch.nn import functional as F

from maestro import datasets, methods
from maestro.campaign import describe, process
from maestro.config import Recipe, RunConfig
from maestro.lowrank import expected_columns
from maestro.models import MODELS
from maestro.results import records, variants
from maestro.training import energy, loop, memory
from maestro.training.fit import Interrupted, fit
from maestro.training.loop import Training
from maestro.training.record import record_of

pytestmark = pytest.mark.usefixtures("one_thread")  # a resumed run is then exact

# ---------------------------------------------------------------- resumed


@pytest.mark.parametrize("method", ["dense", "maestro"])
def test_a_run_with_lookahead_goes_on_from_any_step(method, few_digits, digits_config):
    config = digits_config(method, epochs=2, batch_size=32)
    if method == "maestro":
        config = replace(config, options=config.options | {"eps_ps": 0.5})
    more = {"nesterov": True, "lookahead": 3, "freeze": [("conv1.bias", 1)]}
    more |= {"schedule": "triangle", "label_smoothing": 0.2}
    config = replace(config, recipe=replace(config.recipe, **more))
    run, states = goes_on_from_every_step(lambda: Training(config, task=few_digits))
    assert len(states) == 10
    if method == "maestro":
        assert len(run.history.ranks) > 1


def test_what_the_recipe_freezes_stays_as_it_is(few_digits, digits_config):
    config = digits_config("dense", epochs=3)
    config = replace(config, recipe=replace(config.recipe, freeze=[("conv1.bias", 2)]))
    run, seen = Training(config, task=few_digits), []
    start = run.model.conv1.bias.detach().clone()
    while not run.finished:
        run.run_epoch()
        seen.append(run.model.conv1.bias.detach().clone())
    assert not torch.equal(start, seen[0]) and not torch.equal(seen[0], seen[1])
    assert torch.equal(seen[1], seen[2])
    wrong = replace(config, recipe=replace(config.recipe, freeze=[("conv9", 1)]))
    with pytest.raises(ValueError, match="freeze='conv9': lenet has no such parameter"):
        Training(wrong, task=few_digits)


def test_the_precision_is_recorded_and_a_change_of_it_too(few_digits, digits_config):
    config = digits_config(epochs=1, batch_size=32)
    assert Training(config, task=few_digits).precision == "float32"
    run = Training(config, task=few_digits, precision="bfloat16")
    assert record_of(run_to_the_end(run))["ran_on"]["precision"] == "bfloat16"
    state = state_after(config, few_digits, 2)
    run = Training(config, task=few_digits, precision="bfloat16")
    run.load_state_dict(state)
    record = record_of(run_to_the_end(run))
    assert record["ran_on"]["precision"] == "float32, bfloat16"


@pytest.mark.course
def test_the_training_loss_is_the_mean_over_all_examples(few_digits, digits_config):
    config = digits_config("dense", epochs=1, batch_size=1, lr=0)
    images, labels = few_digits.train
    run = Training(config, task=few_digits)
    loss = F.cross_entropy(run.model(few_digits.normalised(images)), labels).item()
    run.load_state_dict(state_after(config, few_digits, 130))  # 100 of them added up
    run_to_the_end(run)
    # two sums of 150 terms, each term off by rounding in five layers: 1e-14 at most
    assert run.history.lines[0]["train_loss"] == pytest.approx(loss, rel=1e-12)


def test_a_checkpoint_of_another_run_is_refused(few_digits, digits_config):
    state = state_after(digits_config(), few_digits, 1)
    other = Training(digits_config(seed=1), task=few_digits)
    with pytest.raises(ValueError, match="another configuration"):
        other.load_state_dict(state)


def test_a_checkpoint_from_before_a_field_was_added_is_continued(
    few_digits, digits_config
):
    config = digits_config(epochs=1)
    state = state_after(config, few_digits, 1)
    del state["config"]["recipe"]["evaluate_every"]
    run = Training(config, task=few_digits)
    run.load_state_dict(state)
    assert run.step == 1


# ---------------------------------------------------------------- learning


def test_the_same_seed_gives_the_same_result_and_another_one_another(
    few_digits, digits_config
):
    def loss(seed, method="maestro"):
        config = digits_config(method, seed, epochs=1, batch_size=32)
        run = run_to_the_end(Training(config, task=few_digits))
        return run.history.lines[-1]["test_loss"]

    for method in METHODS["pair"]["method"], "dense":
        first = loss(0, method)
        torch.manual_seed(1234)
        assert loss(0, method) == first
        assert loss(1, method) != first


@pytest.mark.course
@pytest.mark.parametrize("method", ["dense", "maestro"])
def test_the_loss_falls_and_the_digits_are_learnt(method, digits, digits_config):
    """Of six seeds the worst ends at a quarter of its first loss, 88 % right."""
    config = digits_config(method, epochs=5, batch_size=32, lr=0.01)
    if method == "maestro":
        config = methods.resolve(replace(config, options={}))
    run = run_to_the_end(Training(config, task=digits))
    losses = [line["train_loss"] for line in run.history.lines]
    assert losses[-1] < losses[0] / 2
    assert run.history.lines[-1]["test_accuracy"] > 70


def test_mnist_is_learnt(mnist, folders):
    """300 steps of the recipe of App. D.3 on the real images: 90 % for any seed."""
    recipe = Recipe(epochs=20, batch_size=64, lr=0.01)
    options = {"lambda_gl": 8e-5, "eps_ps": 1e-7, "sampler": "pair"}
    config = RunConfig("mnist", "lenet", "maestro", recipe, options)
    run = Training(methods.resolve(config), task=mnist)

    def after_step(run):
        if run.step == 300:
            raise Interrupted

    with pytest.raises(Interrupted):
        run.run_epoch(after_step)
    images, labels = (tensor[:1000] for tensor in mnist.test)
    logits = run.model.eval()(mnist.normalised(images))
    right = (logits.argmax(1) == labels).float().mean()
    assert right > 0.6


def test_the_learning_rate_falls_at_the_milestones(few_digits):
    recipe = Recipe(5, 150, lr=0.1, milestones=(1, 3), lr_decay=0.5)
    expected = [0.1, 0.05, 0.05, 0.025, 0.025]
    run = Training(RunConfig("digits", "lenet", "dense", recipe), task=few_digits)
    used = []

    def after_step(run):
        used.append(run.optimizer.param_groups[0]["lr"])

    while not run.finished:
        run.run_epoch(after_step)
    assert used == pytest.approx(expected)
    assert [line["lr"] for line in run.history.lines] == pytest.approx(expected)


def test_weight_decay_can_leave_biases_and_norms_alone(digits_config, few_digits):
    config = digits_config(epochs=2, batch_size=150, eps_ps=0.5)
    recipe = replace(config.recipe, weight_decay=0.1, decay_vectors=False)
    run = Training(replace(config, recipe=recipe), task=few_digits)
    run_to_the_end(run)  # columns are cut meanwhile
    decay = {
        id(p): group["weight_decay"]
        for group in run.optimizer.param_groups
        for p in group["params"]
    }
    told = {name: decay[id(p)] for name, p in run.model.named_parameters()}
    assert {n for n, d in told.items() if d == 0} == {n for n in told if "bias" in n}


@pytest.mark.course
def test_the_history_counts_what_was_trained_and_what_would_be_shipped(
    few_digits, digits_config
):
    config = digits_config(epochs=2, batch_size=32, eps_ps=0.5)
    run = run_to_the_end(Training(config, task=few_digits))
    record = record_of(run)
    assert record["dense"] == {"params": 44_426, "macs": 281_640}
    history = record["history"]
    assert history["train_params"][0] == 66_274  # the ranks that the epoch began with
    assert [epoch for epoch, _ in record["ranks"]] == [0, 1, 2]
    ranks = record["ranks"][1][1]
    assert ranks != record["ranks"][0][1]
    held = sum(ranks[n] * (m + k) for n, (m, k, _) in record["maps"].items())
    assert history["train_params"][1] == held + record["fixed"]["params"]
    last = record["ranks"][-1][1].items()
    shapes = {n: record["maps"][n][:2] for n, _ in last}
    shipped = sum(min(r * sum(shapes[n]), shapes[n][0] * shapes[n][1]) for n, r in last)
    assert record["final"]["params"] == shipped + record["fixed"]["params"]


def test_sampling_saves_what_the_formula_says(few_digits, digits_config):
    """Expected MACs of a step at full rank: sum c_i less what a cut layer saves."""
    maps = {  # m, n, positions, rank
        "conv1": (6, 25, 576, 6),
        "conv2": (16, 150, 64, 16),
        "fc1": (120, 256, 1, 120),
        "fc2": (84, 120, 1, 84),
        "fc3": (10, 84, 1, 10),
    }
    total = sum(r for *_, r in maps.values())
    macs = 0
    for m, n, positions, r in maps.values():
        full = r * (m + n) * positions
        mean = sum(b * (m + n) * positions for b in range(1, r + 1)) / r
        macs += full - r / total * (full - mean)
    assert total == 236
    run = Training(digits_config(), task=few_digits)
    params, expected = run.method.training_cost(run.model)
    assert expected == pytest.approx(macs, rel=1e-12)
    assert macs / 281_640 == pytest.approx(1.134, abs=5e-4)
    assert params == 66_274


def test_the_sampler_decides_what_a_step_costs(few_digits, digits_config):
    """Each layer on its own: all run half of their columns, not one of them."""
    run = Training(digits_config(sampler="independent"), task=few_digits)
    full = run.method.ranks(run.model)
    macs = sum(
        (m + n) * positions * sum(range(1, full[name] + 1)) / full[name]
        for name, (m, n, positions) in run.method.costs.maps.items()
    )
    params, expected = run.method.training_cost(run.model)
    assert expected == pytest.approx(macs, rel=1e-12)
    assert expected == 184_735 and params == 66_274


def test_masked_columns_are_held_but_not_computed_with(few_digits, digits_config):
    config = digits_config("masked", epochs=2, batch_size=32, eps_ps=0.5)
    run = run_to_the_end(Training(config, task=few_digits))
    history = record_of(run)["history"]
    assert history["train_params"] == [66_274, 66_274]
    assert history["train_macs"][1] < history["train_macs"][0]
    cut = run.history.ranks[1][1]
    assert sum(cut.values()) < 236
    used = expected_columns(cut, "pair")
    assert history["train_macs"][1] == run.method.costs.footprint(used).macs


def test_a_network_that_cannot_be_counted_is_refused_before_training(
    few_digits, digits_config, folders, monkeypatch
):
    @torch.library.custom_op("maestro_tests::opaque", mutates_args=())
    def opaque(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return x @ weight.t()

    opaque.register_fake(lambda x, weight: x.new_empty(len(x), len(weight)))

    class Opaque(nn.Module):
        def __init__(self, classes):
            super().__init__()
            self.head = nn.Linear(784, classes)

        def forward(self, x):
            return torch.ops.maestro_tests.opaque(x.flatten(1), self.head.weight)

    monkeypatch.setitem(MODELS, "opaque", Opaque)
    for method in ("dense", "maestro"):
        config = replace(digits_config(method), model="opaque")
        message = "Opaque cannot be trained for a record: no MACs are known for head"
        with pytest.raises(ValueError, match=message):
            fit(config, task=few_digits)
    assert not folders.cache.exists() and not folders.runs.exists()


# ---------------------------------------------------------------- evaluated


def seldom(config, every):
    return replace(config, recipe=replace(config.recipe, evaluate_every=every))


def test_every_nth_epoch_is_evaluated_and_the_last_one(few_digits, digits_config):
    config = digits_config(epochs=5, batch_size=50, eps_ps=0.5)
    often = run_to_the_end(Training(config, task=few_digits))
    run = run_to_the_end(Training(seldom(config, 2), task=few_digits))
    history, whole = record_of(run)["history"], record_of(often)["history"]
    for name in ("test_loss", "test_accuracy"):
        _, second, _, fourth, fifth = whole[name]
        assert history[name] == [None, second, None, fourth, fifth]
    assert history["evaluation_seconds"][0] == history["evaluation_seconds"][2] == 0
    for name in ("train_loss", "params", "train_macs", "lr"):
        assert history[name] == whole[name]
    assert list(history) == list(whole)
    assert same(run.model.state_dict(), often.model.state_dict())
    assert record_of(run)["final"] == record_of(often)["final"]
    best = max(value for value in history["test_accuracy"] if value is not None)
    assert record_of(run)["best"] == {"test_accuracy": best}


def test_the_last_epoch_of_each_phase_is_evaluated(few_digits, digits_config):
    config = digits_config(**METHODS["pufferfish"], epochs=4, batch_size=150)
    run = run_to_the_end(Training(seldom(config, 9), task=few_digits))
    accuracies = record_of(run)["history"]["test_accuracy"]
    assert [value is None for value in accuracies] == [False, True, True, False]


@pytest.mark.parametrize("name", ["pair", "pufferfish"])
def test_a_run_that_is_seldom_evaluated_goes_on_from_any_step(
    name, few_digits, digits_config
):
    config = seldom(digits_config(**METHODS[name], epochs=3, batch_size=50), 2)
    goes_on_from_every_step(lambda: Training(config, task=few_digits))


def test_a_record_with_epochs_that_were_not_evaluated_is_good(
    few_digits, digits_config, folders
):
    config = seldom(digits_config(epochs=3, batch_size=150), 2)
    record = fit(config, task=few_digits)
    assert records.read_all() == ({config.id: record}, {})
    row = variants.summary({config.id: record}).iloc[0]
    assert row.test_accuracy == record["history"]["test_accuracy"][-1]


def test_a_loss_that_is_not_finite_is_evaluated_at_once(
    few_digits, digits_config, folders
):
    config = seldom(digits_config("dense", epochs=3, batch_size=32, lr=1e6), 2)
    record = fit(config, task=few_digits)
    assert record["status"] == "diverged" and len(record["history"]["lr"]) == 1
    assert "test_accuracy" in record["final"]
    assert records.read_all() == ({config.id: record}, {})


def test_progress_is_reported_without_an_accuracy_too(
    few_digits, digits_config, folders, monkeypatch
):
    monkeypatch.setattr(datasets, "load", lambda *_: few_digits)
    config, notes = seldom(digits_config(epochs=2, batch_size=150), 2), []
    process.train(config, "cpu", None, notes.append, lambda: False)
    first, second = (note.words for note in notes)
    assert first == describe(config)
    assert second.startswith(f"{first}: ") and second.endswith(" %")


# ---------------------------------------------------------------- divergence


@pytest.mark.parametrize("method", ["dense", "maestro", "masked"])
def test_a_run_that_diverges_ends_there_and_says_so(
    method, few_digits, digits_config, folders
):
    config = digits_config(method, epochs=3, batch_size=32, lr=1e6)
    record = fit(config, task=few_digits)
    assert record["status"] == "diverged"
    assert len(record["history"]["lr"]) == 1
    assert record["final"]["train_loss"] is None

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    text = records.path_of(config.id).read_text()
    assert json.loads(text, parse_constant=refuse) == record
    assert records.read_all() == ({config.id: record}, {})


@pytest.mark.parametrize(("lr", "epochs"), [(1e15, 2), (1e25, 2), (1e38, 1)])
@pytest.mark.parametrize("method", ["dense", "maestro", "masked"])
def test_a_last_step_that_diverges_is_noticed(
    method, lr, epochs, few_digits, digits_config, folders
):
    """One step an epoch: its loss is finite, the weights that it leaves are not."""
    config = digits_config(method, epochs=epochs, batch_size=150, lr=lr)
    record = fit(config, task=few_digits)
    assert record["status"] == "diverged"
    assert records.read_all() == ({config.id: record}, {})


@pytest.mark.parametrize("method", ["dense", "masked", "maestro"])
def test_every_network_is_recalibrated_before_it_is_evaluated(
    method, few_digits, digits_config, monkeypatch
):
    called = []
    monkeypatch.setattr(loop, "recalibrate", lambda *a: called.append(a))
    Training(digits_config(method), task=few_digits).evaluate()
    assert called


@pytest.mark.parametrize("method", ["pufferfish", "tangent"])
def test_a_schedule_of_steps_starts_again_after_a_warm_up(
    method, few_digits, digits_config, folders
):
    config = digits_config(method, epochs=2, batch_size=50, warm_up=1)
    schedule = {"schedule": "inverse_sqrt", "warmup": 2, "optimizer": "adam"}
    recipe = replace(config.recipe, **schedule, momentum=0.0, lr=0.001)
    record = fit(replace(config, recipe=recipe), task=few_digits)
    third = 0.001 * (3 / 2) ** -0.5
    assert record["history"]["lr"] == pytest.approx([third, third])


def test_the_last_epoch_of_a_phase_is_recalibrated_with_all_batches(
    few_digits, digits_config, monkeypatch
):
    counts = []
    monkeypatch.setattr(
        loop, "recalibrate", lambda net, batches: counts.append(len(list(batches)))
    )
    training = Training(digits_config(epochs=2, batch_size=5), task=few_digits)
    while not training.finished:
        training.run_epoch()
    assert counts == [loop.BRIEF, 30]  # 30 batches are all 150 digits


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "lent"}, "model='lent'; it is one of .*lenet"),
        ({"method": "mastro"}, "method='mastro'; it is one of dense, maestro, masked"),
        ({"task": "mnits"}, "task='mnits'; it is one of mnist, digits"),
        ({"options": {"lamda": 1}}, "no option 'lamda'; it takes: lambda_gl, eps_ps,"),
        ({"options": {"lambda_gl": -1}}, "lambda_gl=-1: it takes a finite number >= 0"),
        ({"options": {"lambda_gl": "1"}}, "lambda_gl='1': it takes a finite"),
        ({"options": {"eps_ps": None}}, "eps_ps=None: it takes a finite number >= 0"),
        ({"options": {"sampler": "pairs"}}, "mode='pairs'; it is one of pair"),
        ({"method": "dense"}, "dense has no option 'lambda_gl'; it takes: none"),
    ],
)
def test_a_wrong_name_or_value_is_told_what_is_right(change, message, digits_config):
    with pytest.raises(ValueError, match=message):
        Training(methods.resolve(replace(digits_config(), **change)))


def test_options_that_are_missing_are_named(digits_config):
    config = replace(digits_config(), options={"lambda_gl": 1e-3})
    message = "maestro also takes eps_ps, sampler, skip; methods.resolve"
    with pytest.raises(ValueError, match=message):
        Training(config)


def test_a_resumed_run_counts_all_seconds_of_its_epoch(few_digits, digits_config):
    config = digits_config(epochs=1, batch_size=50)
    state = state_after(config, few_digits, 2)
    run = Training(config, task=few_digits)
    state["meter"]["seconds"]["training"] = 1e6
    run.load_state_dict(state)
    assert run_to_the_end(run).history.lines[0]["seconds"] > 1e6


def test_peak_memory_is_of_one_run_or_not_recorded(
    few_digits, digits_config, monkeypatch
):
    """The system reports the process's, and this process trains two."""
    monkeypatch.setattr(memory, "_runs", itertools.count())
    monkeypatch.setattr(memory, "peak_memory", lambda device: 7000)
    config = digits_config(epochs=1, batch_size=150)
    first, second = (Training(config, task=few_digits) for _ in range(2))
    assert record_of(run_to_the_end(first))["ran_on"]["peak_memory"] == 7000
    assert "peak_memory" not in record_of(run_to_the_end(second))["ran_on"]


def test_a_resumed_run_has_the_largest_peak_of_its_processes(
    few_digits, digits_config, monkeypatch
):
    config, peaks = digits_config(epochs=1, batch_size=50), iter((9000, 7000))
    monkeypatch.setattr(memory, "_runs", itertools.repeat(0))  # each is its first
    monkeypatch.setattr(memory, "peak_memory", lambda device: next(peaks))
    run = Training(config, task=few_digits)
    run.load_state_dict(state_after(config, few_digits, 2))
    assert record_of(run_to_the_end(run))["ran_on"]["peak_memory"] == 9000


def test_a_record_says_how_long_each_phase_was(few_digits, digits_config):
    run = run_to_the_end(Training(digits_config(epochs=2), task=few_digits))
    record = record_of(run)
    assert record["phases"] == [{"name": "training", "epochs": 2}]
    assert record["final"]["bits"] == 32 * record["final"]["params"]


def test_energy_is_recorded_where_the_device_tells_it(
    few_digits, digits_config, monkeypatch
):
    config = digits_config(epochs=2, batch_size=150)
    counter = iter(range(0, 1000, 10))
    monkeypatch.setattr(energy, "joules", lambda device: next(counter))
    run = Training(config, task=few_digits)
    run.run_epoch()
    middle = run.state_dict()  # counts what was used until then
    run = Training(config, task=few_digits)
    run.load_state_dict(middle)
    monkeypatch.setattr(energy, "joules", lambda device: next(counter) - 500)
    record = record_of(run_to_the_end(run))
    assert record["history"]["joules"] == [10, 10]
    assert "joules" not in record["final"]
    monkeypatch.setattr(energy, "joules", lambda device: None)
    record = record_of(run_to_the_end(Training(config, task=few_digits)))
    assert "joules" not in record["history"]


def test_energy_that_only_some_epochs_have_is_left_out(
    few_digits, digits_config, monkeypatch
):
    run = Training(digits_config(epochs=2, batch_size=150), task=few_digits)
    monkeypatch.setattr(energy, "joules", lambda device: 1.0)
    run.run_epoch()
    monkeypatch.setattr(energy, "joules", lambda device: None)
    assert "joules" not in record_of(run_to_the_end(run))["history"]
