"""Every test starts from the same random numbers, on one thread unless told otherwise.

What the tests of training, records and campaigns share: small runs on scikit-learn's
digits, folders of their own to write to, the real MNIST where it is there, and a
browser for the pages.
"""

import copy
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from types import SimpleNamespace

import pytest
import tape
import torch

from maestro import datasets, methods
from maestro.config import Recipe, RunConfig
from maestro.paths import ROOT, data_folder
from maestro.publish.browser import NO_BROWSER, find_browser
from maestro.results import records
from maestro.training import checkpoints
from maestro.training.fit import fit

THREADS = os.environ.get("OMP_NUM_THREADS", "1")
torch.set_num_threads(int(THREADS))
QUIET = """--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync
    --disable-background-networking --disable-component-update""".split()


@pytest.fixture(autouse=True)
def same_start(request):
    """The same random numbers; in double precision for a test marked ``course``.

    Two ways to compute one step differ by rounding, each processor's in its own way,
    and training multiplies the difference. Of single precision's 6e-8 it can make
    anything within a few dozen steps; of 1e-16 it makes some 1e-14 in the hundred
    steps that a test takes.
    """
    double = request.node.get_closest_marker("course")
    torch.set_default_dtype(torch.float64 if double else torch.float32)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def browser():
    """A Chromium without a window, where there is one."""
    sync_api = pytest.importorskip("playwright.sync_api")
    path = find_browser()
    if path is None:
        pytest.skip(NO_BROWSER)
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=QUIET)
        yield chromium
        chromium.close()


@pytest.fixture
def one_thread():
    """One thread, on which a resumed run is the uninterrupted one to the bit."""
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(int(THREADS))


@pytest.fixture
def card(monkeypatch):
    """Tapes in place of CUDA graphs."""
    tape.put_in_place_of_a_card(monkeypatch)


@pytest.fixture
def recorder(card):
    """A `CudaRecorder`, of tapes, that counts what it did."""
    return tape.CountingRecorder()


def digits_run(method="maestro", seed=0, epochs=3, batch_size=128, lr=0.05, **options):
    """LeNet on digits; factorised, it loses ranks after each of its few epochs."""
    if method not in ("dense", "pufferfish"):
        options = {"lambda_gl": 3e-3, "eps_ps": 0.1} | options
    recipe = Recipe(epochs=epochs, batch_size=batch_size, lr=lr)
    run = RunConfig("digits", "lenet", method, recipe, options, seed)
    return methods.resolve(run)


@pytest.fixture(scope="session")
def digits_config():
    """`digits_run`: (method, seed, epochs, batch_size, lr, **options) -> RunConfig."""
    return digits_run


@pytest.fixture(scope="session")
def digits():
    """The digits, loaded once; 1,437 images to train on."""
    return datasets.load("digits")


@pytest.fixture(scope="session")
def few_digits(digits):
    """150 digits to train on and 100 to test: an epoch takes a moment."""
    task = copy.copy(digits)
    task.train = tuple(t[:150] for t in task.train)
    task.test = tuple(t[:100] for t in task.test)
    return task


@pytest.fixture(scope="session")
def mnist():
    """The real MNIST, where it is prepared."""
    if not datasets.available("mnist"):
        pytest.skip(f"no mnist.npz in {data_folder()}: python -m maestro data mnist")
    return datasets.load("mnist")


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Checkpoints, weights, locks and records go to folders of this test alone."""
    cache, runs = tmp_path / "cache", tmp_path / "runs"
    monkeypatch.setattr(checkpoints, "CACHE", cache)
    monkeypatch.setattr(records, "RUNS", runs)
    return SimpleNamespace(cache=cache, runs=runs, checkpoints=cache / "checkpoints")


@pytest.fixture
def studied(few_digits, folders, monkeypatch):
    """A dense run, one by LoD without a lasso and one with it, trained for studies.

    Each has one epoch on `few_digits`, which is every task's data in this test.
    """
    monkeypatch.setattr(datasets, "load", lambda *_: few_digits)
    configs = [
        digits_run("dense", epochs=1),
        digits_run(epochs=1, lambda_gl=0.0, eps_ps=0.0),
        digits_run(epochs=1),
    ]
    for config in configs:
        fit(config, task=few_digits)
    return configs


class House:
    """A copy of the package in a folder of its own, for what needs real processes."""

    def __init__(self, root):
        shutil.copytree(ROOT / "maestro", root / "maestro")
        self.root, self.runs = root, root / "data" / "runs"
        self.cache = root / "data" / "cache"

    def start(self, *words, **more):
        """Start Python with ``words`` in the copy; as many threads, piped as text."""
        env = os.environ | {"OMP_NUM_THREADS": THREADS, "PYTHONPATH": str(self.root)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        command = [sys.executable, *map(str, words)]
        where = {"cwd": self.root, "env": env, "start_new_session": True}
        return subprocess.Popen(command, **where, **pipes | more)


@pytest.fixture
def house(tmp_path):
    """A `House`; whatever it started, and what that started, ends with the test."""
    started = []

    class Watched(House):
        def start(self, *words, **more):
            started.append(super().start(*words, **more))
            return started[-1]

    yield Watched(tmp_path)
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture(scope="session")
def sections():
    """Every claim of the paper, judged on the repository's own evidence, once."""
    from maestro.publish import evidence, register

    return register.judged(evidence.Evidence(runs=ROOT / "data" / "runs"))
