"""Run what has no record, several at a time, so that nothing finished is ever lost.

Each run is a process of its own. A run is claimed by locking a file, which the system
lets go of when the process ends, however it ends: two campaigns on one folder share
the work, and a killed one blocks nobody.
"""

import fcntl
import multiprocessing
import os
import queue
import signal
import statistics
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

from . import datasets, records
from .config import CACHE, RunConfig
from .training import Interrupted, device_name, epochs_done, fit, pick_device


def missing(configs, folder=None):
    """Those of ``configs`` that have no record yet, in their order, each once."""
    found = records.find(configs, folder)
    return list({c.id: c for c in configs if c.id not in found}.values())


def run(configs, device="auto", workers=1, folder=None, progress=True, minutes=None):
    """Train those of ``configs`` that have no record; returns {id: record} of all.

    workers: runs at the same time; on a CPU they share the cores evenly. minutes: a
    budget: a run that is not expected to finish in what is left of it is not started,
    and when it is over the runs under way write their checkpoints. A run that another
    process has under way is left to it. Raises DataError before anything is
    trained if data is missing, and RuntimeError, naming the runs, if some failed (the
    others are finished and recorded first). SIGTERM is as Ctrl-C: KeyboardInterrupt,
    after the runs under way have written their checkpoints.
    """
    if type(workers) is not int or workers < 1:
        raise ValueError(f"workers={workers!r}: it takes an integer >= 1")
    if minutes is not None and not 0 < minutes < float("inf"):
        raise ValueError(f"budget_minutes={minutes!r}: it takes a number > 0")
    deadline = None if minutes is None else time.time() + 60 * minutes
    pick_device(device)  # raises, saying what is wrong
    todo = missing(configs, folder)
    for task in {config.task for config in todo}:
        if not datasets.available(task):
            datasets.load(task)  # raises, saying what to do
    if todo:
        failed = _run_all(todo, device, workers, folder, progress, deadline)
        if failed:
            raise RuntimeError(
                f"{len(failed)} of {len(todo)} runs failed: {'; '.join(failed)}"
            )
    return records.find(configs, folder)


def describe(config):
    """A run in a few words: 'lenet/mnist maestro lambda_gl=8e-05 seed 0'.

    The scale is said where it is not the paper's.
    """
    options = " ".join(
        f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}"
        for k, v in config.options.items()
    )
    scale = "" if config.scale == "paper" else config.scale
    words = (f"{config.model}/{config.task}", scale, config.method, options)
    return " ".join(w for w in words if w) + f" seed {config.seed}"


@contextmanager
def claim(config):
    """Hold the run for this process; yields whether it was free."""
    path = CACHE / "locks" / config.id
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


class Pace:
    """Seconds per epoch of each kind of run, learned from records and as they come.

    A kind is a task, model, size and method at one device. What was never seen has no
    expectation, and may be started: that is how it is learned.
    """

    def __init__(self, device, folder=None):
        self.device, self.seconds = pick_device(device), {}
        name = device_name(self.device)
        for record in records.read_all(folder)[0].values():
            if record["ran_on"]["device"] == name:
                config = RunConfig.from_dict(record["config"])
                for seconds in record["history"]["seconds"]:
                    self.note(config, seconds)

    def note(self, config, seconds):
        self.seconds.setdefault(self._kind(config), []).append(seconds)

    def expected(self, config):
        """Seconds that ``config`` still needs; 0 if nothing like it was ever seen."""
        seen = self.seconds.get(self._kind(config))
        if not seen:
            return 0
        left = config.recipe.epochs - epochs_done(config)
        return statistics.median(seen[-50:]) * left

    def _kind(self, config):
        size = tuple(sorted(config.size.items()))
        return config.task, config.model, size, config.method


def _run_all(todo, device, workers, folder, progress, deadline):
    """Train ``todo`` in a pool of processes; returns which failed and why, in words."""
    from tqdm import tqdm

    workers = min(workers, len(todo))
    threads = max(1, (os.cpu_count() or 1) // workers)
    context = multiprocessing.get_context("spawn")
    epochs = context.Queue()
    total = sum(config.recipe.epochs - epochs_done(config) for config in todo)
    failed, jobs, pace = [], {}, Pace(device, folder)
    given = (threads, epochs, deadline)
    with (
        _sigterm_as_interrupt(),
        ProcessPoolExecutor(workers, context, _start_worker, given) as pool,
        tqdm(
            total=total,
            unit="epoch",
            disable=None if progress else True,  # None: unless stderr is a terminal
            smoothing=0.05,
        ) as bar,
    ):
        try:
            waiting, ended = list(todo), 0
            while waiting or jobs:
                for config in _fitting(waiting, workers - len(jobs), pace, deadline):
                    waiting.remove(config)
                    jobs[pool.submit(_run_one, config, device, folder)] = config
                if not jobs:
                    break  # nothing that waits fits into what is left of the budget
                _listen(epochs, bar, pace)
                for job in [job for job in jobs if job.done()]:
                    config, ended = jobs.pop(job), ended + 1
                    told = f"{describe(config)}: {_outcome(job)}"
                    error = job.exception()
                    if error and not isinstance(error, Interrupted):
                        failed.append(told)
                    if progress and bar.disable:
                        told = f"[{ended}/{len(todo)}] {told}"
                        print(told, file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            for process in pool._processes.values():
                process.terminate()  # they write their checkpoints; the pool waits
            raise
    if waiting and progress:
        print(f"{len(waiting)} runs were not started: no time", file=sys.stderr)
    return failed


def _fitting(waiting, free, pace, deadline):
    """The next runs to start, at most ``free``, in their order; those with time."""
    left = float("inf") if deadline is None else deadline - time.time()
    if left <= 0:
        return []
    return [config for config in waiting if pace.expected(config) <= left][:free]


def _listen(epochs, bar, pace):
    """Take in the epochs that workers report, for a fifth of a second."""
    try:
        while True:
            config, words, count, seconds = epochs.get(timeout=0.2)
            bar.update(count)
            bar.set_postfix_str(words)
            pace.note(config, seconds)
    except queue.Empty:
        pass


def _outcome(job):
    """What came of a job that ended, in words: '98.91 %, 31,363 parameters, 105 s'."""
    error = job.exception()
    if isinstance(error, Interrupted):
        return "out of time; its checkpoint is written"
    if error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    record = job.result()
    if record is None:
        return "left to the process that has it under way"
    final, seconds = record["final"], record["ran_on"]["wall_seconds"]
    return (
        f"{final['test_accuracy']:.2f} %, {final['params']:,} parameters, "
        f"{seconds:.0f} s" + (", diverged" if record["status"] == "diverged" else "")
    )


@contextmanager
def _sigterm_as_interrupt():
    """Within it SIGTERM raises KeyboardInterrupt, where signals can be seen at all."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# ---------------------------------------------------------------- in a worker

_stopped = threading.Event()  # the parent asked for checkpoints and an end
_epochs = None  # the queue for (config, words, epochs done, seconds of the last)
_deadline = None  # time.time() at which the budget is over


def _start_worker(threads, epochs, deadline):
    global _epochs, _deadline
    import torch

    _epochs, _deadline = epochs, deadline
    epochs.cancel_join_thread()  # what nobody reads any more must not hold it up
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    signal.signal(signal.SIGTERM, lambda *_: _stopped.set())
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    """No worker trains on for a campaign that was killed, holding its claims."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _run_one(config, device, folder):
    """Train one run and return its record; None if another process has it."""
    if _time_to_stop():
        raise Interrupted(config.id)
    with claim(config) as free:
        if not free:
            return None
        found = records.find([config], folder)
        if found:  # another process had it when this one made its list
            return found[config.id]
        told = epochs_done(config)

        def report(training):
            nonlocal told
            last = training.history[-1]
            words = f"{describe(config)}: {last['test_accuracy']:.2f} %"
            _epochs.put((config, words, training.epoch - told, last["seconds"]))
            told = training.epoch

        return fit(config, device, report=report, stop=_time_to_stop, folder=folder)


def _time_to_stop():
    over = _deadline is not None and time.time() > _deadline
    return over or _stopped.is_set()
