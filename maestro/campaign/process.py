"""One run: claimed, and trained, here or in a process of its own.

A process is started for the run and ended with it, so that its peak memory is the
run's and its threads do not depend on what else runs. The price is a start of Python
and PyTorch and the reading of the data, some seconds a run.

A run is claimed by locking a file, which the system lets go of when the process ends,
however it ends: two campaigns on one folder share the work, and a killed one blocks
nobody.
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
    """What a run under way tells: so many epochs more are done."""

    config: object
    words: str
    count: int
    seconds: float  # of the last


class Ended(NamedTuple):
    """What a run tells last."""

    words: str
    failed: bool = False


@contextmanager
def claim(config, wait=False):
    """Hold the run for this process; yields whether it was free.

    wait: until it is, if another process has it.
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
    """Train one run and return its record; None if another process has it.

    Of a group, the first process claims and looks. how: what else `fit` takes.
    """
    if group.any(stop()):
        raise Interrupted(config.id)
    with claim(config) if group.main else nullcontext() as free:
        if not group.broadcast(free):
            return None
        found = group.broadcast(records.find([config], folder))
        if found:  # another process had it when this one made its list
            return found[config.id]
        told = epochs_done(config)
        if group.main:  # the claim makes it the only one that writes these
            for path in (checkpoint_path(config), weights_path(config)):
                remove_parts(path)
            remove_parts(records.path_of(config.id, folder))

        def report(training):
            nonlocal told
            last = training.history.lines[-1]
            words = f"{describe(config)}: {last['test_accuracy']:.2f} %"
            seconds = last["seconds"] + last["evaluation_seconds"]
            note(Epoch(config, words, training.epoch - told, seconds))
            told = training.epoch

        how |= {"report": report, "stop": stop, "folder": folder}
        return fit(config, device, group=group, **how)


def over(deadline):
    """Whether ``deadline``, a time.time() or None, is past."""
    return deadline is not None and time.time() > deadline


# ---------------------------------------------------------------- a process of its own


class Worker:
    """One run in a process of its own, as its parent sees it.

    ends: what is ready when there is something to hear. end: an `Ended`, or None.
    """

    def __init__(self, config, *given):
        spawn = multiprocessing.get_context("spawn")
        self.config, self.end = config, None
        self.pipe, its_end = spawn.Pipe(duplex=False)
        self.process = spawn.Process(target=_work, args=(its_end, config, *given))
        with _signals_blocked():
            self.process.start()
        its_end.close()  # the process has the only one: when it ends, the pipe does
        self.ends = self.pipe, self.process.sentinel

    def __str__(self):
        return f"{describe(self.config)}: {self.end.words if self.end else 'under way'}"

    def heard(self):
        """The epochs that it reported since they were last asked for."""
        epochs, alive = [], self.process.is_alive()
        try:
            while self.pipe.poll():
                told = self.pipe.recv()
                if isinstance(told, Ended):
                    self.end = told
                else:
                    epochs.append(told)
        except (EOFError, OSError):
            alive = False
        if self.end or not alive:
            self.process.join()
            self.end = self.end or Ended(_died(self.process.exitcode), failed=True)
        return epochs

    def stop(self, at_once=False):
        """Have it write its checkpoint and end; or end without."""
        (self.process.kill if at_once else self.process.terminate)()


def _died(code):
    """How a process ended that told nothing, in words."""
    if code == -signal.SIGKILL:
        return "killed (SIGKILL), as the system does when memory runs out"
    if code < 0:
        return f"killed ({signal.Signals(-code).name})"
    return f"its process ended with status {code}, without a word"


@contextmanager
def _signals_blocked():
    """What is started within it gets SIGTERM and Ctrl-C when it asks for them.

    Python and PyTorch start for seconds, in which they would not know what to do.
    """
    resource_tracker.ensure_running()  # its start would let them through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(pipe, config, device, folder, threads, deadline, how):
    """What a worker's process does: train one run, and tell of it."""
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
        told = f"{type(error).__name__}: {error}".splitlines()[0]
        pipe.send(Ended(told, failed=True))


def _end_with_parent():
    """No worker trains on for a campaign that was killed, holding its claims."""
    multiprocessing.parent_process().join()
    os._exit(1)
