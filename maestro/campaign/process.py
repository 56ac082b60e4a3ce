"""One run: claimed, and trained in this process or in a process of its own.

With a process for each run, the peak memory of the process is the peak memory of the
run, and the number of threads does not depend on other runs. The cost is a few seconds
a run, to start Python and PyTorch and to read the data.

A run is claimed by locking a file. The system releases the lock when the process ends,
in whatever way. Two campaigns on one folder therefore share the work, and a killed
campaign blocks no other.
"""

import fcntl
import multiprocessing
import os
import signal
import threading
import time
from contextlib import contextmanager, nullcontext
from multiprocessing import resource_tracker
from typing import NamedTuple

from ..results import records
from ..system import remove_parts, writing
from ..training.checkpoints import (
    checkpoint_path,
    epochs_done,
    lock_path,
    weights_path,
)
from ..training.distributed import ALONE
from ..training.fit import Interrupted, fit
from .progress import describe, result

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Epoch(NamedTuple):
    """The message of a run in progress: ``count`` more epochs are done."""

    config: object
    words: str
    count: int
    seconds: float  # of the last epoch


class Ended(NamedTuple):
    """The last message of a run."""

    words: str
    failed: bool = False


@contextmanager
def claim(config, wait=False):
    """Claim the run for this process. Yields whether the run was free.

    Args:
        config: the RunConfig.
        wait: if another process has claimed the run, wait until it is free.
    """
    path = lock_path(config)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def train(config, device, folder, note, stop, group=ALONE, **how):
    """Claim and train one run.

    Args:
        config, device, folder: as for `fit`.
        note: called with an `Epoch` after each epoch.
        stop: as for `fit`.
        group: the processes that share the run; the first one claims the run.
        how: further arguments of `fit`.

    Returns:
        The record; None if another process has claimed the run.

    Raises:
        Interrupted: as `fit`.
    """
    if group.any(stop()):
        raise Interrupted(config.id)
    with claim(config) if group.main else nullcontext() as free:
        if not group.broadcast(free):
            return None
        recorded = group.broadcast(records.find([config], folder))
        if recorded:  # another process has finished the run since this campaign began
            return recorded[config.id]
        noted = epochs_done(config)
        if group.main:  # with the claim, no other process writes these files
            for path in (checkpoint_path(config), weights_path(config)):
                remove_parts(path)
            remove_parts(records.path_of(config.id, folder))

        def report(training):
            nonlocal noted
            last = training.history.lines[-1]
            words = describe(config)
            if "test_accuracy" in last:
                words += f": {last['test_accuracy']:.2f} %"
            seconds = last["seconds"] + last["evaluation_seconds"]
            note(Epoch(config, words, training.epoch - noted, seconds))
            noted = training.epoch

        how |= {"report": report, "stop": stop, "folder": folder}
        return fit(config, device, group=group, **how)


def reason(error):
    """The exception ``error`` in one line: its type and its message."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def over(deadline):
    """Whether ``deadline`` (a time.time(), or None for none) is past."""
    return deadline is not None and time.time() > deadline


# ---------------------------------------------------------------- a process of its own


class Worker:
    """A handle on a run in a process of its own.

    Attributes:
        ends: objects to wait for; one of them is ready when there is a message.
        end: the `Ended` of the run; None while the run is in progress.
    """

    def __init__(self, config, *given):
        spawn = multiprocessing.get_context("spawn")
        self.config, self.end = config, None
        self.pipe, its_end = spawn.Pipe(duplex=False)
        self.process = spawn.Process(target=_work, args=(its_end, config, *given))
        with _signals_blocked():
            self.process.start()
        its_end.close()  # so that the pipe closes when the process ends
        self.ends = self.pipe, self.process.sentinel

    def __str__(self):
        return f"{describe(self.config)}: {self.end.words if self.end else 'under way'}"

    def heard(self):
        """The `Epoch` messages since the last call; sets ``end`` if the run ended."""
        epochs, alive = [], self.process.is_alive()
        try:
            while self.pipe.poll():
                message = self.pipe.recv()
                if isinstance(message, Ended):
                    self.end = message
                else:
                    epochs.append(message)
        except (EOFError, OSError):
            alive = False
        if self.end or not alive:
            self.process.join()
            self.end = self.end or Ended(_died(self.process.exitcode), failed=True)
        return epochs

    def stop(self, at_once=False):
        """Ask the process to write its checkpoint and end; ``at_once``: kill it."""
        (self.process.kill if at_once else self.process.terminate)()


def _died(code):
    """The reason in words why a process ended without a last message."""
    if code == -signal.SIGKILL:
        return "killed (SIGKILL), as the system does when memory runs out"
    if code < 0:
        return f"killed ({signal.Signals(-code).name})"
    return f"its process ended with status {code} and no message"


@contextmanager
def _signals_blocked():
    """Processes started inside the context receive signals once they unblock them.

    Python and PyTorch take seconds to start, and handle no signal before.
    """
    resource_tracker.ensure_running()  # its start would unblock the signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(pipe, config, device, folder, threads, deadline, how):
    """The main function of a worker process: train one run and send messages."""
    import torch

    torch.set_num_threads(threads)
    stopped = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def stop():
        return stopped.is_set() or over(deadline)

    try:
        record = train(config, device, folder, pipe.send, stop, **how)
        pipe.send(Ended(result(record)))
    except Interrupted:
        pipe.send(Ended("stopped; its checkpoint is written"))
    except Exception as error:
        pipe.send(Ended(reason(error), failed=True))


def _end_with_parent():
    """End with the parent, so that a killed campaign leaves no worker with a claim."""
    multiprocessing.parent_process().join()
    os._exit(1)
