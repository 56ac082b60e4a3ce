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
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

from . import datasets, records
from .config import CACHE


def missing(configs, folder=None):
    """Those of ``configs`` that have no record yet, in their order, each once."""
    found = records.find(configs, folder)
    return list({c.id: c for c in configs if c.id not in found}.values())


def run(configs, device="auto", workers=1, folder=None, progress=True):
    """Train those of ``configs`` that have no record; returns {id: record} of all.

    workers: runs at the same time; on a CPU they share the cores evenly. A run that
    another process has under way is left to it. Raises DataError before anything is
    trained if data is missing, and RuntimeError, naming the runs, if some failed (the
    others are finished and recorded first).
    """
    todo = missing(configs, folder)
    for task in {config.task for config in todo}:
        if not datasets.available(task):
            datasets.load(task)  # raises, saying what to do
    if todo:
        failed = _run_all(todo, device, workers, folder, progress)
        if failed:
            names = "; ".join(f"{name}: {why}" for name, why in failed.items())
            raise RuntimeError(f"{len(failed)} of {len(todo)} runs failed: {names}")
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
    """Train ``todo`` in a pool of processes; returns {description: error}."""
    from tqdm import tqdm

    workers = min(workers, len(todo))
    threads = max(1, (os.cpu_count() or 1) // workers)
    context = multiprocessing.get_context("spawn")
    epochs = context.Manager().Queue()
    total = sum(config.recipe.epochs for config in todo)
    failed = {}
    with (
        ProcessPoolExecutor(workers, context, _start_worker, (threads,)) as pool,
        tqdm(
            total=total,
            unit="epoch",
            disable=None if progress else True,
            smoothing=0.05,
        ) as bar,
    ):
        jobs = {
            pool.submit(_run_one, config, device, folder, epochs): config
            for config in todo
        }
        try:
            for job in _finished(jobs, epochs, bar):
                if job.exception():
                    failed[describe(jobs[job])] = _one_line(job.exception())
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in pool._processes.values():
                process.terminate()  # they write their checkpoints
            raise
    return failed


def _finished(jobs, epochs, bar):
    """The jobs as they end; meanwhile the bar follows the epochs they report."""
    waiting = set(jobs)
    while waiting:
        done = {job for job in waiting if job.done()}
        waiting -= done
        try:
            while True:
                words, count = epochs.get(timeout=0.2 if not done else 0)
                bar.update(count)
                bar.set_postfix_str(words)
        except queue.Empty:
            pass
        yield from done


def _start_worker(threads):
    import torch

    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides


def _run_one(config, device, folder, epochs):
    from .training import fit

    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    with claim(config) as free:
        if not free or records.find([config], folder):
            return
        reported = [0]

        def report(training):
            line = training.history[-1]
            words = f"{describe(config)}: {line['test_accuracy']:.2f} %"
            epochs.put((words, training.epoch - reported[0]))
            reported[0] = training.epoch

        fit(config, device, report=report, stop=lambda: bool(stopped), folder=folder)


def _one_line(error):
    return f"{type(error).__name__}: {error}".splitlines()[0]
