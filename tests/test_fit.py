"""`fit`: a run can be killed at any moment; its files are whole or not there."""

import math
import multiprocessing
import random

import pytest
import torch
from runs import (
    EVERY_METHOD,
    METHODS,
    Pictures,
    equal,
    figures,
    goes_on_from_every_step,
    run_of_pictures,
    run_to_the_end,
    same,
    saved_weights,
    state_after,
)

from maestro import methods
from maestro.results import records
from maestro.training import checkpoints, energy, fit
from maestro.training.fit import Interrupted
from maestro.training.loop import Training
from maestro.training.record import record_of

pytestmark = pytest.mark.usefixtures("one_thread")  # a resumed run is then exact

# ---------------------------------------------------------------- killed and resumed


def train_and_tell(config, cache, runs, steps):
    """In a child: train, with a checkpoint after each step, which ``steps`` hears."""
    torch.set_num_threads(1)
    fit.CHECKPOINT_SECONDS = -1
    checkpoints.CACHE = cache
    fit.fit(config, stop=lambda: steps.send_bytes(b"."), folder=runs)


@pytest.fixture(scope="module")
def processes():
    """What starts a process quickly: forks of one that has everything imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sklearn.datasets", "torch._dynamo", __name__])
    return context


@pytest.mark.parametrize("name", ["pair", "pufferfish"])  # cuts; changes its layers
def test_a_killed_run_ends_in_the_same_record(
    name, processes, digits, digits_config, folders
):
    config = digits_config(**METHODS[name])
    straight = fit.fit(config, task=digits, folder=folders.runs / "straight")
    weights = saved_weights(config)
    # it shrank on the way: two columns after the first epoch, 10 after the second, 27
    # after the third, of any seed, give or take three
    changes = {"pufferfish": 1}.get(name, 2)
    assert len(straight["ranks"]) > changes
    steps = random.SystemRandom().randrange(1, 36)
    heard, steps_done = processes.Pipe(duplex=False)
    where = folders.cache, folders.runs
    child = processes.Process(target=train_and_tell, args=(config, *where, steps_done))
    child.start()
    steps_done.close()  # the child has its own; if it fails, `recv_bytes` raises
    try:
        for _ in range(steps):
            assert heard.recv_bytes() == b"."
    finally:
        child.kill()  # SIGKILL, while it trains on or writes
        child.join()
    again = fit.fit(config, task=digits)
    assert figures(again) == figures(straight), f"killed after {steps} steps"
    assert same(saved_weights(config), weights), f"killed after {steps} steps"
    assert records.read_all()[0] == {config.id: again}
    assert list(folders.checkpoints.glob(f"{config.id}.pt")) == []


@pytest.mark.parametrize("name", EVERY_METHOD)
def test_a_run_goes_on_from_every_step_of_every_phase(
    name, tmp_path, capsys, monkeypatch
):
    """Two steps an epoch: the first and the last of every phase are among them."""
    if name == "depgraph":
        pytest.importorskip("torch_pruning")
        monkeypatch.setattr(methods.depgraph, "STEPS", 4)
    config, task = run_of_pictures(name, **EVERY_METHOD[name]), Pictures(3, 8, 8)
    path = tmp_path / "state.pt"

    def resumed(state):
        checkpoints.save_state(state, path)
        run = fit.resume(Training(config, task=task), path)
        assert (run.epoch, run.step) == (state["epoch"], state["step"])
        return run

    run, states = goes_on_from_every_step(lambda: Training(config, task=task), resumed)
    assert record_of(run)["status"] == "finished"
    every = [(e, s) for e in range(methods.epochs(config)) for s in (1, 2)]
    assert [(state["epoch"], state["step"]) for state in states] == every
    assert capsys.readouterr().err == ""


def test_what_sets_two_states_apart_is_seen():
    state = {"w": [torch.zeros(2)], "lines": [{"lr": 0.1, "seconds": 1.0}]}
    later = {"w": [torch.zeros(2)], "lines": [{"lr": 0.1, "seconds": 2.0}], "meter": 1}
    assert equal(state, later)
    for other in (
        {"w": [torch.tensor([0, 1e-30])]},
        {"w": [torch.zeros(2).double()]},
        {"w": []},
        {"lines": [{"lr": 0.2}]},
        {"more": None},
    ):
        assert not equal(state, later | other)


def test_every_method_is_resumed():
    assert EVERY_METHOD.keys() == methods.METHODS.keys()


def garbage(path):
    path.write_bytes(b"garbage" * 100)


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-5000])


def empty(path):
    path.write_bytes(b"")


def not_a_state(path):
    torch.save([1, 2, 3], path)


def without(key):
    def damage(path):
        state = torch.load(path, weights_only=True)
        del state[key]
        torch.save(state, path)

    return damage


def of_another_run(path):
    state = torch.load(path, weights_only=True)
    state["config"]["seed"] += 1
    torch.save(state, path)


DAMAGE = {
    "garbage": garbage,
    "cut off": cut_off,
    "empty": empty,
    "not a state": not_a_state,
    "no generators": without("generators"),
    "no history": without("history"),  # noticed when the model is loaded already
    "of another run": of_another_run,
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_checkpoint_stops_nothing(
    name, few_digits, digits_config, folders, capsys, monkeypatch
):
    monkeypatch.setattr(fit, "CHECKPOINT_SECONDS", math.inf)
    config = digits_config(epochs=2, batch_size=32)
    straight = record_of(run_to_the_end(Training(config, task=few_digits)))
    path = checkpoints.checkpoint_path(config)
    checkpoints.save_state(state_after(config, few_digits, 7), path)
    DAMAGE[name](path)
    there = []
    record = fit.fit(
        config, task=few_digits, report=lambda _: there.append(path.exists())
    )
    assert figures(record) == figures(straight)
    assert there == [False, False]
    assert path.with_name(f"{path.name}.damaged").is_file()
    told = capsys.readouterr().err
    assert told.startswith(f"{path}: not usable (") and told.count("\n") == 1


@pytest.mark.parametrize("error", [OSError(5, "I/O error"), MemoryError("full")])
def test_a_checkpoint_that_cannot_be_read_now_is_kept(
    error, few_digits, digits_config, folders, monkeypatch
):
    config = digits_config(epochs=2, batch_size=32)
    path = checkpoints.checkpoint_path(config)
    checkpoints.save_state(state_after(config, few_digits, 7), path)

    def failing(*args, **kwargs):
        raise error

    monkeypatch.setattr(fit.torch, "load", failing)
    with pytest.raises(type(error), match=str(error.args[-1])):
        fit.fit(config, task=few_digits)
    assert path.is_file()


def test_stop_writes_the_checkpoint_and_the_run_goes_on(
    few_digits, digits_config, folders
):
    config = digits_config(epochs=2, batch_size=32)
    straight = record_of(run_to_the_end(Training(config, task=few_digits)))
    asked = []

    def stop():
        asked.append(True)
        return len(asked) == 7

    with pytest.raises(Interrupted):
        fit.fit(config, task=few_digits, stop=stop)
    assert records.read_all() == ({}, {})
    path = checkpoints.checkpoint_path(config)
    run = fit.resume(Training(config, task=few_digits), path)
    assert (run.epoch, run.step) == (1, 2)
    seen = []
    record = fit.fit(config, task=few_digits, report=lambda t: seen.append(t.epoch))
    assert seen == [2]
    assert figures(record) == figures(straight)


def test_a_finished_run_leaves_its_record_and_weights_only(
    few_digits, digits_config, folders, monkeypatch
):
    monkeypatch.setattr(fit, "CHECKPOINT_SECONDS", -1)
    config, seen = digits_config(epochs=2, batch_size=32), []

    def report(run):
        path = checkpoints.checkpoint_path(config)
        state = torch.load(path, weights_only=True)
        seen.append((run.epoch, state["epoch"], state["step"]))

    record = fit.fit(config, task=few_digits, report=report)
    assert seen == [(1, 0, 5), (2, 1, 5)]
    files = [p.relative_to(folders.cache.parent) for p in folders.cache.rglob("*.*")]
    assert [str(p) for p in files] == [f"cache/weights/{config.id}.pt"]
    assert records.read(records.path_of(config.id)) == record
    model = Training(config, task=few_digits).model
    model.load_state_dict(saved_weights(config))
    assert few_digits.evaluate(model.eval()).items() <= record["final"].items()


@pytest.mark.parametrize(("seconds", "count"), [(0.5, 10), (4, 3)])
def test_checkpoints_that_take_long_are_written_less_often(
    seconds, count, few_digits, digits_config, folders, monkeypatch
):
    """One is due after a second; of 4 seconds to write, 4 seconds after it is there."""
    now, written = [0.0], []

    def save(state, path):
        if path.parent.name == "checkpoints":
            written.append(now[0])
            now[0] += seconds

    def stop():  # a step takes a bit more than a second
        now[0] += 1.1

    monkeypatch.setattr(fit, "CHECKPOINT_SECONDS", 1)
    monkeypatch.setattr(fit.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(fit, "save_state", save)
    fit.fit(digits_config(epochs=2, batch_size=32), task=few_digits, stop=stop)
    assert len(written) == count


def test_a_full_disk_at_the_end_keeps_the_checkpoint(
    few_digits, digits_config, folders, monkeypatch
):
    def full(record, folder):
        raise OSError(28, "No space left on device")

    config = digits_config(epochs=1, batch_size=32)
    monkeypatch.setattr(fit, "CHECKPOINT_SECONDS", -1)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(records, "save", full)
        fit.fit(config, task=few_digits)
    assert checkpoints.checkpoint_path(config).is_file()
    assert fit.fit(config, task=few_digits)["status"] == "finished"


# ---------------------------------------------------------------- measured time


def test_writing_a_checkpoint_is_neither_training_nor_evaluation(
    few_digits, digits_config, folders, monkeypatch
):
    """On a clock that stands still but for what is named here."""
    now = [0.0]

    def taking(seconds, call):
        def timed(*args, **options):
            now[0] += seconds
            return call(*args, **options)

        return timed

    monkeypatch.setattr(energy.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(fit, "CHECKPOINT_SECONDS", -1)  # one after each step
    monkeypatch.setattr(fit, "save_state", taking(1000, fit.save_state))
    monkeypatch.setattr(Training, "_train_step", taking(2, Training._train_step))
    monkeypatch.setattr(Training, "_end_epoch", taking(0.5, Training._end_epoch))
    monkeypatch.setattr(Training, "evaluate", taking(30, Training.evaluate))
    config = digits_config(epochs=2, batch_size=50)
    record = fit.fit(config, task=few_digits)  # three steps an epoch
    assert record["history"]["seconds"] == [6.5, 6.5]
    assert record["history"]["evaluation_seconds"] == [30, 30]
    assert record["ran_on"]["wall_seconds"] == 2 * 36.5
    assert records.epoch_seconds(record["history"]) == [36.5, 36.5]
    assert not set(records.MEASURED) & record["final"].keys()
