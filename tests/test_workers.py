"""What has no record is trained, once, and nothing that is finished gets lost."""

import fcntl
import json
import os
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from maestro import datasets
from maestro.campaign import experiments, workers
from maestro.results import records
from maestro.training.loop import Training

# A campaign in a process of its own, in a copy of the package. Its workers import
# this file too: there, the data are few and quick to load, and the log gets a line for
# each training that begins.
DRIVER = """
import json, os, sys, time
from pathlib import Path
import numpy as np
from maestro import datasets
from maestro.campaign import workers
from maestro.config import RunConfig

def few_digits(device):
    return datasets.ImageTask(np.load("digits.npz"), 0.1307, 0.3081, device)

datasets.TASKS["digits"] = few_digits

together = int(sys.argv[3])  # campaigns that must be at work before any goes on
fit, log = workers.fit, Path("log")

def logged(config, *rest, **named):
    with open(log, "a") as file:
        file.write(f"{config.id} {os.getppid()} {os.getpid()}\\n")
    while len({line.split()[1] for line in log.read_text().splitlines()}) < together:
        time.sleep(0.02)
    return fit(config, *rest, **named)

workers.fit = logged
os.cpu_count = lambda: 1  # one thread for each training

if __name__ == "__main__":
    configs = [RunConfig.from_dict(c) for c in json.loads(sys.argv[1])]
    try:
        workers.run(configs, "cpu", int(sys.argv[2]))
    except KeyboardInterrupt:
        sys.exit(130)
    except RuntimeError as error:
        sys.exit(f"failed: {error}")
"""


def start(house, configs, workers=1, together=1):
    (house.root / "driver.py").write_text(DRIVER)
    images = np.random.default_rng(0).integers(0, 256, (64, 28, 28, 1), np.uint8)
    arrays = {"train_images": images, "test_images": images}
    arrays |= dict.fromkeys(("train_labels", "test_labels"), np.arange(64) % 10)
    np.savez(house.root / "digits.npz", **arrays)
    told = json.dumps([config.to_dict() for config in configs])
    return house.start("driver.py", told, workers, together)


def trained(house):
    """The ids in the log, in the order in which their training began."""
    log = house.root / "log"
    lines = log.read_text().splitlines() if log.is_file() else []
    return [line.split()[0] for line in lines]


def wait_for(condition):
    """Wait until ``condition()`` is true; no test passes by waiting too short."""
    deadline = time.monotonic() + 120
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
    assert workers.describe(digits_config("dense", 3)) == "lenet/digits dense seed 3"
    words = workers.describe(digits_config(lambda_gl=8e-5, sampler="pair"))
    assert words.startswith("lenet/digits maestro lambda_gl=8e-05 ")
    assert words.endswith(" sampler=pair seed 0")


def test_a_claimed_run_is_left_alone(folders, digits_config):
    one, other = digits_config(), digits_config(seed=1)
    with workers.claim(one) as mine:
        assert mine
        with workers.claim(one) as again, workers.claim(other) as another:
            assert not again and another
    with workers.claim(one) as mine:
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
    with pytest.raises(datasets.DataError, match="mnist.npz is not there"):
        workers.run(configs)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"workers": 0}, "workers=0: it takes an integer >= 1"),
        ({"workers": "2"}, "workers='2': it takes an integer >= 1"),
        ({"device": "gpu"}, "device='gpu'; it is auto"),
    ],
)
def test_a_wrong_setting_is_told_before_anything_is_trained(
    wrong, message, nothing_runs, folders, digits_config
):
    with pytest.raises(ValueError, match=message):
        workers.run([digits_config()], **wrong)


def test_without_anything_to_do_nothing_is_started(nothing_runs, folders):
    assert workers.run([]) == {}


# ---------------------------------------------------------------- real processes


def test_two_workers_finish_what_can_be_finished_and_name_what_failed(
    house, digits_config
):
    good = [digits_config(seed=seed, epochs=1) for seed in range(3)]
    bad = digits_config(lr=0.05, epochs=1, sampler="pairs")
    process = start(house, [good[0], bad, *good[1:]], workers=2)
    out, err = process.communicate()
    assert process.returncode == 1 and out == ""
    found, damaged = records.read_all(house.runs)
    assert set(found) == {config.id for config in good} and not damaged
    *lines, last = err.splitlines()
    words = workers.describe(bad)
    assert last.startswith(
        f"failed: 1 of 4 runs failed: {words}: ValueError: mode='pairs'"
    )
    # stderr is no terminal here: a line for each run that ended, in that order
    assert [line.split(" ")[0] for line in lines] == [f"[{n}/4]" for n in (1, 2, 3, 4)]
    for config in good:
        final = found[config.id]["final"]
        told = f"] {workers.describe(config)}: {final['test_accuracy']:.2f} %, "
        told += f"{final['params']:,} parameters, "
        assert sum(told in line and line.endswith(" s") for line in lines) == 1


def test_two_campaigns_on_one_folder_train_each_run_once(house, digits_config):
    configs = [digits_config(seed=seed, epochs=1) for seed in range(4)]
    processes = [start(house, configs, together=2) for _ in range(2)]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert sorted(trained(house)) == sorted(config.id for config in configs)
    found, damaged = records.read_all(house.runs)
    assert set(found) == {config.id for config in configs} and not damaged
    assert "left to the process that has it under way" in "".join(errors)


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


def test_a_campaign_that_is_killed_blocks_nobody(house, digits_config):
    config = digits_config(epochs=100_000)
    process = start(house, [config])
    wait_for(lambda: trained(house))
    assert not is_free(house, config)
    process.kill()
    process.wait()
    wait_for(lambda: is_free(house, config))  # its worker ended too


def test_a_worker_that_dies_is_named_and_its_claim_is_free(house, digits_config):
    config = digits_config(epochs=100_000)
    process = start(house, [config])
    wait_for(lambda: trained(house))
    worker = (house.root / "log").read_text().split()[2]
    os.kill(int(worker), signal.SIGKILL)
    _, err = process.communicate()
    assert process.returncode == 1
    assert f"failed: 1 of 1 runs failed: {workers.describe(config)}: Broken" in err
    assert is_free(house, config)
