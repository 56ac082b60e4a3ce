"""What has no record is trained, once, and nothing that is finished gets lost."""

import errno
import fcntl
import json
import math
import os
import re
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from maestro import datasets
from maestro.campaign import experiments, workers
from maestro.campaign.process import claim
from maestro.campaign.progress import Pace, describe
from maestro.results import records
from maestro.system import DiskError, threads
from maestro.training.loop import Training

# A campaign in a process of its own, in a copy of the package. Its workers import
# this file too: there, the data are few and quick to load, and the log gets a line for
# each training that begins.
DRIVER = """
import json, os, sys, time
from pathlib import Path
import numpy as np
from maestro import datasets
from maestro.campaign import process, workers
from maestro.config import RunConfig

def few_digits(device):
    return datasets.ImageTask(np.load("digits.npz"), 0.1307, 0.3081, device)

datasets.TASKS["digits"] = few_digits

together = int(sys.argv[3])  # campaigns that must be at work before any goes on
fit, log = process.fit, Path("log")

def logged(config, *rest, **named):
    with open(log, "a") as file:
        file.write(f"{config.id} {os.getppid()} {os.getpid()}\\n")
    while len({line.split()[1] for line in log.read_text().splitlines()}) < together:
        time.sleep(0.02)
    if config.seed == 98:
        raise ValueError("made to fail\\nand more")
    if config.seed == 99:  # it hears that it is to stop, and does not
        while not named["stop"]():
            time.sleep(0.02)
        Path("asked").touch()
        time.sleep(1000)
    return fit(config, *rest, **named)

process.fit = logged

if __name__ == "__main__":
    configs = [RunConfig.from_dict(c) for c in json.loads(sys.argv[1])]
    try:
        workers.run(configs, "cpu", int(sys.argv[2]), minutes=json.loads(sys.argv[4]))
    except KeyboardInterrupt:
        sys.exit(130)
    except RuntimeError as error:
        sys.exit(f"failed: {error}")
"""


def start(house, configs, workers=1, together=1, minutes=None):
    (house.root / "driver.py").write_text(DRIVER)
    images = np.random.default_rng(0).integers(0, 256, (64, 28, 28, 1), np.uint8)
    arrays = {"train_images": images, "test_images": images}
    arrays |= dict.fromkeys(("train_labels", "test_labels"), np.arange(64) % 10)
    np.savez(house.root / "digits.npz", **arrays)
    told = json.dumps([config.to_dict() for config in configs])
    return house.start("driver.py", told, workers, together, json.dumps(minutes))


def trained(house):
    """The ids in the log, in the order in which their training began."""
    log = house.root / "log"
    lines = log.read_text().splitlines() if log.is_file() else []
    return [line.split()[0] for line in lines]


def wait_for(condition):
    """Wait until ``condition()`` is true; no test passes by waiting too short.

    None fails by it either, but where nothing happens any more: on a machine with ten
    jobs a core it takes a minute to start a campaign.
    """
    deadline = time.monotonic() + 900
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def is_free(house, config):
    """Whether no process holds the run."""
    with open(house.cache / "locks" / config.id) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


# ---------------------------------------------------------------- the list


def test_missing_keeps_the_order_and_names_each_run_once(folders, digits_config):
    first, second, third = (digits_config(seed=s) for s in (2, 0, 1))
    given = [first, second, first, third, second]
    assert workers.missing(given) == [first, second, third]
    folders.runs.mkdir()
    path = records.path_of(second.id)
    path.write_text("{")  # a damaged record is as none
    with pytest.warns(UserWarning, match="left out"):
        assert workers.missing(given) == [first, second, third]


def test_a_run_in_a_few_words(digits_config):
    dense = digits_config("dense", 3)
    assert describe(dense) == "lenet/digits dense seed 3, 3 epochs, batch 128, lr 0.05"
    words = describe(digits_config(lambda_gl=8e-5, sampler="pair"))
    assert words.startswith("lenet/digits maestro lambda_gl=8e-05 ")
    assert words.endswith(" sampler=pair seed 0, 3 epochs, batch 128, lr 0.05")
    narrow = replace(dense, size={"width": 8}, scale="laptop")
    words = "lenet/digits laptop width=8 dense seed 3, 3 epochs, batch 128, lr 0.05"
    assert describe(narrow) == words
    quick = replace(narrow, recipe=replace(narrow.recipe, precision="auto"))
    assert describe(quick) == f"{words}, precision auto"


def test_the_time_of_a_run_is_that_of_its_kind_else_of_its_network(
    folders, digits_config
):
    pace, dense, maestro = Pace("cpu"), digits_config("dense"), digits_config("maestro")
    assert pace.expected(dense) == 0  # nothing is known
    for seconds in (5, 2, 4):
        pace.note(dense, seconds)
    assert pace.expected(dense) == 3 * 4  # epochs times their median
    assert pace.expected(maestro) == 3 * 4  # another method, the same network
    pace.note(maestro, 10)
    assert (pace.expected(maestro), pace.expected(dense)) == (3 * 10, 3 * 4)
    assert pace.expected(replace(dense, task="mnist")) == 0


def test_what_does_not_fit_into_the_time_left_is_not_started(folders, digits_config):
    pace, now = Pace("cpu"), time.time()
    long, short = digits_config(epochs=30), digits_config(epochs=2)
    pace.note(long, 10)
    assert workers._fitting([long, short], 2, pace, None) == [long, short]
    assert workers._fitting([long, short], 2, pace, now + 100) == [short]
    assert workers._fitting([short, short], 1, pace, now + 100) == [short]
    assert workers._fitting([long, short], 2, pace, now - 1) == []


def test_a_claimed_run_is_left_alone(folders, digits_config):
    one, other = digits_config(), digits_config(seed=1)
    with claim(one) as mine:
        assert mine
        with claim(one) as again, claim(other) as another:
            assert not again and another
    with claim(one) as mine:
        assert mine


# ---------------------------------------------------------------- before anything runs


@pytest.fixture
def nothing_runs(monkeypatch):
    def refuse(*_):
        raise AssertionError("something was trained")

    monkeypatch.setattr(workers, "_run_all", refuse)


def test_missing_data_are_told_before_anything_is_trained(
    nothing_runs, folders, digits_config, monkeypatch, tmp_path
):
    monkeypatch.setenv("MAESTRO_DATA", str(tmp_path))
    configs = [digits_config(), experiments.lenet_mnist()[0]]
    with pytest.raises(datasets.DataError, match="mnist.npz is missing"):
        workers.run(configs)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"workers": 0}, "workers=0: it takes an integer >= 1"),
        ({"workers": "2"}, "workers='2': it takes an integer >= 1"),
        ({"workers": True}, "workers=True: it takes an integer >= 1"),
        ({"device": "gpu"}, "device='gpu'; it is auto"),
        ({"device": None}, "device=None; it is auto"),
        ({"folder": 3}, "folder=3: it takes a path"),
        ({"minutes": math.nan}, "minutes=nan: it takes a finite number"),
        ({"minutes": 0}, "minutes=0: it takes a number > 0"),
        ({"minutes": "5"}, "minutes='5': it takes a finite number"),
        ({"minutes": True}, "minutes=True: it takes a finite number"),
    ],
)
def test_a_wrong_setting_is_told_before_anything_is_trained(
    wrong, message, nothing_runs, folders, digits_config
):
    with pytest.raises(ValueError, match=message):
        workers.run([digits_config()], **wrong)


@pytest.mark.parametrize(
    ("configs", "message"),
    [
        (None, "configs=None: it takes a list of RunConfigs"),
        ("mnist", "configs='mnist': it takes a list of RunConfigs"),
        (["mnist"], "'mnist' among the configs is no RunConfig"),
        ({"model": "lent"}, "model='lent'; it is one of compact, lenet"),
        ({"method": "dens"}, "method='dens'; it is one of dense, maestro"),
        ({"task": "digit"}, "task='digit'; it is one of mnist, digits"),
        ({"options": {"lamda": 1}}, "maestro has no option 'lamda'; it takes: "),
        ({"size": {"width": 8}}, "size={'width': 8}: lenet takes no size"),
        (
            {"model": "resnet18", "size": {"width": 0}},
            "size={'width': 0}: width is an integer >= 1",
        ),
        (
            {"model": "resnet18", "size": {"width": "8"}},
            "size={'width': '8'} of resnet18: ",
        ),
    ],
)
def test_a_run_that_cannot_be_is_told_before_anything_is_trained(
    configs, message, nothing_runs, folders, digits_config
):
    if isinstance(configs, dict):
        configs = [digits_config(), replace(digits_config(), **configs)]
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        workers.run(configs)


def test_damaged_data_are_named_once_before_anything_is_trained(
    nothing_runs, folders, monkeypatch, tmp_path
):
    monkeypatch.setenv("MAESTRO_DATA", str(tmp_path))
    (tmp_path / "mnist.npz").write_bytes(b"PK no archive")
    with pytest.raises(datasets.DataError, match="mnist.npz is damaged") as caught:
        workers.run(experiments.lenet_mnist())
    assert str(caught.value).count("mnist.npz") == 1


@pytest.mark.parametrize("place", ["runs", "cache"])
def test_a_folder_in_whose_place_is_a_file_is_named_before_anything_is_trained(
    place, nothing_runs, folders, digits_config
):
    path = getattr(folders, place)
    path.write_text("")
    with pytest.raises(DiskError, match=f"{place}.*; move the file that is in the pla"):
        workers.run([digits_config()])


def test_a_full_disk_is_named_before_anything_is_trained(
    nothing_runs, folders, digits_config, monkeypatch
):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskError, match="No space left on device; free some space th"):
        workers.run([digits_config()])


@pytest.mark.parametrize(("at_once", "threads"), [(1, 8), (3, 2), (16, 1)])
def test_the_threads_of_a_run_depend_on_nothing_else_that_runs(
    at_once, threads, folders, digits_config, monkeypatch
):
    """With one run to go as with many, so that a resumed one ends in the same bits."""
    given = []
    monkeypatch.setattr(workers, "threads", lambda: 8)
    monkeypatch.setattr(workers, "_run_all", lambda *a: given.append(a) or [])
    for count in (1, 5):
        workers.run([digits_config(seed=s) for s in range(count)], "cpu", at_once)
    assert [(a[1], a[2][2]) for a in given] == [(at_once, threads)] * 2


def test_without_anything_to_do_nothing_is_started(nothing_runs, folders):
    assert workers.run([]) == {}


# ---------------------------------------------------------------- real processes


def test_two_workers_finish_what_can_be_finished_and_name_what_failed(
    house, digits_config
):
    good = [digits_config(seed=seed, epochs=1) for seed in range(3)]
    bad = digits_config(seed=98, epochs=1)
    process = start(house, [good[0], bad, *good[1:]], workers=2)
    out, err = process.communicate()
    assert process.returncode == 1 and out == ""
    found, damaged = records.read_all(house.runs)
    assert set(found) == {config.id for config in good} and not damaged
    *lines, last = err.splitlines()
    words = describe(bad)
    assert last.startswith(
        f"failed: 1 of 4 runs failed: {words}: ValueError: made to fail"
    )
    # stderr is no terminal here: a line for each run that ended, in that order
    assert [line.split(" ")[0] for line in lines] == [f"[{n}/4]" for n in (1, 2, 3, 4)]
    for config in good:
        final = found[config.id]["final"]
        told = f"] {describe(config)}: {final['test_accuracy']:.2f} %, "
        told += f"{final['params']:,} parameters, "
        assert sum(told in line and line.endswith(" s") for line in lines) == 1
    # each run has a process of its own, and says how many threads that had
    pids = [line.split()[2] for line in (house.root / "log").read_text().splitlines()]
    assert len(set(pids)) == 4
    for record in found.values():
        assert record["ran_on"]["threads"] == max(1, threads() // 2)


def test_two_campaigns_on_one_folder_train_each_run_once(house, digits_config):
    configs = [digits_config(seed=seed, epochs=1) for seed in range(3)]
    processes = [start(house, configs, together=2) for _ in range(2)]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert sorted(trained(house)) == sorted(config.id for config in configs)
    found, damaged = records.read_all(house.runs)
    assert set(found) == {config.id for config in configs} and not damaged
    assert "left to another process, which is training it" in "".join(errors)


def test_a_campaign_that_is_stopped_keeps_all_that_was_done(house, digits_config):
    """By SIGTERM, which it takes as the KeyboardInterrupt that Ctrl-C is."""
    lengths = (1, 100_000, 100_000)
    short, long, never = (digits_config(seed=e, epochs=e) for e in lengths)
    never = replace(never, seed=0)
    process = start(house, [short, long, never])
    wait_for(lambda: len(trained(house)) == 2)
    process.terminate()
    _, err = process.communicate()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert trained(house) == [short.id, long.id]
    found, damaged = records.read_all(house.runs)
    assert set(found) == {short.id} and not damaged
    assert is_free(house, long)
    path = house.cache / "checkpoints" / f"{long.id}.pt"
    run = Training(long)
    run.load_state_dict(torch.load(path, weights_only=True))
    assert run.step + run.epoch > 0 and not run.finished
    assert list(house.root.rglob("*.part")) == []


def test_a_campaign_keeps_its_time_budget(house, digits_config):
    """Runs in progress stop with their checkpoints; the others are not started."""
    long, never = (digits_config(seed=s, epochs=100_000) for s in (0, 1))
    process = start(house, [long, never], minutes=0.25)
    _, err = process.communicate()
    assert process.returncode == 0 and "Traceback" not in err
    stopped, waiting = err.splitlines()
    assert stopped == f"[1/2] {describe(long)}: stopped; its checkpoint is written"
    assert waiting == "no time left for 1 of 2 runs"
    assert never.id not in trained(house)
    assert records.read_all(house.runs) == ({}, {})


def test_a_campaign_that_is_killed_blocks_nobody(house, digits_config):
    config = digits_config(epochs=100_000)
    process = start(house, [config])
    wait_for(lambda: trained(house))
    assert not is_free(house, config)
    process.kill()
    process.wait()
    wait_for(lambda: is_free(house, config))  # its worker ended too


def test_a_run_that_is_killed_is_named_and_the_others_go_on(house, digits_config):
    long = digits_config(epochs=100_000)
    short = [digits_config(seed=seed, epochs=1) for seed in range(2)]
    process = start(house, [short[0], long, short[1]])
    wait_for(lambda: len(trained(house)) == 2)
    victim = (house.root / "log").read_text().split()[5]
    os.kill(int(victim), signal.SIGKILL)
    _, err = process.communicate()
    assert process.returncode == 1
    told = f"failed: 1 of 3 runs failed: {describe(long)}: killed (SIGKILL), as the"
    assert told in err and "Traceback" not in err
    assert is_free(house, long)
    found, damaged = records.read_all(house.runs)
    assert set(found) == {config.id for config in short} and not damaged


def test_a_worker_that_always_has_something_to_tell_keeps_no_other_waiting(
    house, digits_config
):
    chatty = digits_config(epochs=100_000)  # a few milliseconds each
    short = [digits_config(seed=seed, epochs=1) for seed in range(2)]
    process = start(house, [chatty, *short], workers=2)
    wait_for(lambda: len(records.read_all(house.runs)[0]) == 2)
    process.terminate()
    process.communicate()
    assert process.returncode == 130


def test_who_asks_again_does_not_wait_for_checkpoints(house, digits_config):
    process = start(house, [digits_config(seed=99)])
    wait_for(lambda: trained(house))
    process.terminate()
    wait_for((house.root / "asked").exists)
    process.terminate()
    _, err = process.communicate()
    assert process.returncode == 130 and "Traceback" not in err
