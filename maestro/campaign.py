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
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

from . import datasets, records
from .config import CACHE
from .training import Interrupted, fit, pick_device


def missing(configs, folder=None):
    """Those of ``configs`` that have no record yet, in their order, each once."""
    found = records.find(configs, folder)
    return list({c.id: c for c in configs if c.id not in found}.values())


def run(configs, device="auto", workers=1, folder=None, progress=True):
    """Train those of ``configs`` that have no record; returns {id: record} of all.

    workers: runs at the same time; on a CPU they share the cores evenly. A run that
    another process has under way is left to it. Raises DataError before anything is
    trained if data is missing, and RuntimeError, naming the runs, if some failed (the
    others are finished and recorded first). SIGTERM is as Ctrl-C: KeyboardInterrupt,
    after the runs under way have written their checkpoints.
    """
    if type(workers) is not int or workers < 1:
        raise ValueError(f"workers={workers!r}: it takes an integer >= 1")
    pick_device(device)  # raises, saying what is wrong
    todo = missing(configs, folder)
    for task in {config.task for config in todo}:
        if not datasets.available(task):
            datasets.load(task)  # raises, saying what to do
    if todo:
        failed = _run_all(todo, device, workers, folder, progress)
        if failed:
            raise RuntimeError(
                f"{len(failed)} of {len(todo)} runs failed: {'; '.join(failed)}"
            )
    return records.find(configs, folder)


def describe(config):
    """A run in a few words: 'lenet/mnist maestro lambda_gl=8e-05 seed 0'."""
    options = " ".join(
        f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}"
        for k, v in config.options.items()
    )
    words = (f"{config.model}/{config.task}", config.method, options)
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


def _run_all(todo, device, workers, folder, progress):
    """Train ``todo`` in a pool of processes; returns which failed and why, in words."""
    from tqdm import tqdm

    workers = min(workers, len(todo))
    threads = max(1, (os.cpu_count() or 1) // workers)
    context = multiprocessing.get_context("spawn")
    epochs = context.Queue()
    total = sum(config.recipe.epochs for config in todo)
    failed, jobs = [], {}
    with (
        _sigterm_as_interrupt(),
        ProcessPoolExecutor(workers, context, _start_worker, (threads, epochs)) as pool,
        tqdm(
            total=total,
            unit="epoch",
            disable=None if progress else True,  # None: unless stderr is a terminal
            smoothing=0.05,
        ) as bar,
    ):
        try:
            for config in todo:
                jobs[pool.submit(_run_one, config, device, folder)] = config
            for count, job in enumerate(_finished(jobs, epochs, bar), 1):
                told = f"{describe(jobs[job])}: {_outcome(job)}"
                if job.exception():
                    failed.append(told)
                if progress and bar.disable:
                    print(f"[{count}/{len(jobs)}] {told}", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            for job in jobs:
                job.cancel()
            for process in pool._processes.values():
                process.terminate()  # they write their checkpoints; the pool waits
            raise
    return failed


def _finished(jobs, epochs, bar):
    """The jobs as they end; meanwhile the bar follows the epochs they report."""
    waiting = list(jobs)
    while waiting:
        done = [job for job in waiting if job.done()]
        waiting = [job for job in waiting if job not in done]
        try:
            while True:
                words, count = epochs.get(timeout=0.2 if not done else 0)
                bar.update(count)
                bar.set_postfix_str(words)
        except queue.Empty:
            pass
        yield from done


def _outcome(job):
    """What came of a job that ended, in words: '98.91 %, 31,363 parameters, 105 s'."""
    error = job.exception()
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
_epochs = None  # the queue that tells the parent of (words, epochs done)


def _start_worker(threads, epochs):
    global _epochs
    import torch

    _epochs = epochs
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
    if _stopped.is_set():
        raise Interrupted(config.id)
    with claim(config) as free:
        if not free:
            return None
        found = records.find([config], folder)
        if found:  # another process had it when this one made its list
            return found[config.id]
        told = 0

        def report(training):
            nonlocal told
            accuracy = training.history[-1]["test_accuracy"]
            words = f"{describe(config)}: {accuracy:.2f} %"
            _epochs.put((words, training.epoch - told))
            told = training.epoch

        return fit(config, device, report=report, stop=_stopped.is_set, folder=folder)
