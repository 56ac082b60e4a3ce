"""Run what has no record, several at a time, so that nothing finished is ever lost.

Each run has a process of its own (process.py); if the system kills that, for memory
say, this one run is named and the others go on. Under torchrun one run after another
has all the processes, and the first of them claims, decides and tells.
"""

import multiprocessing
import signal
import sys
import threading
import time
from contextlib import contextmanager
from multiprocessing import connection

import torch

from .. import datasets, methods, models
from ..config import RunConfig, integer, number
from ..results import records
from ..system import cores, require_writable
from ..training.checkpoints import checkpoint_path, weights_path
from ..training.distributed import ALONE
from ..training.fit import Interrupted
from ..training.machine import check_precision, pick_device
from .process import SIGNALS, Worker, over, train
from .progress import Pace, bar, describe, result


class RunsFailed(RuntimeError):
    """Some runs of a campaign failed; names each and why. The others are recorded."""


def missing(configs, folder=None):
    """Those of ``configs`` that have no record yet, in their order, each once."""
    found = records.find(configs, folder)
    return list({c.id: c for c in configs if c.id not in found}.values())


def run(
    configs,
    device="auto",
    workers=1,
    folder=None,
    progress=True,
    minutes=None,
    group=ALONE,
    eager=False,
    precision="auto",
):
    """Train those of ``configs`` that have no record; returns {id: record} of all.

    Args:
        workers: runs at the same time. On a CPU each has its share of the cores, the
            same however few runs are left, so that a resumed run ends bit for bit as
            an uninterrupted one.
        minutes: a budget: a run that is not expected to finish in what is left of it
            is not started, and when it is over the runs under way write their
            checkpoints.
        group: torchrun's processes, all of which call this and train together;
            ``workers`` says nothing then, and the first run that fails ends it all,
            because processes that wait for each other do not agree on how to go on.
        eager, precision: as `fit` takes them.

    A run that another process has under way is left to it. Raises, before anything is
    trained, ValueError on what cannot be run, DataError if data is missing or damaged
    and DiskError if a folder cannot be written; RunsFailed after the others are
    finished and recorded. SIGTERM is as Ctrl-C: KeyboardInterrupt, after the runs under
    way have written their checkpoints; a second one does not wait for these.
    """
    _check_configs(configs)
    integer("workers", workers, low=1)
    if minutes is not None and not number("minutes", minutes):
        raise ValueError(f"minutes={minutes!r}: it takes a number > 0")
    deadline = None if minutes is None else time.time() + 60 * minutes
    check_precision(precision)
    pick_device(device)  # raises, saying what is wrong
    todo = group.broadcast(missing(configs, folder))
    if todo:
        _check_todo(todo, folder)
    if todo and group is not ALONE:
        how = {"group": group, "precision": precision}
        _run_together(todo, device, folder, progress, deadline, how)
    elif todo:
        how = {"eager": eager, "precision": precision}
        given = (device, folder, max(1, cores() // workers), deadline, how)
        failed = _run_all(todo, workers, given, progress)
        if failed:
            raise RunsFailed(
                f"{len(failed)} of {len(todo)} runs failed: {'; '.join(failed)}"
            )
    return records.find(configs, folder)


def _check_configs(configs):
    """Raise ValueError unless ``configs`` is a list of runs."""
    if not isinstance(configs, list | tuple):
        raise ValueError(f"configs={configs!r}: it takes a list of RunConfigs")
    for config in configs:
        if not isinstance(config, RunConfig):
            raise ValueError(f"{config!r} among the configs is no RunConfig")


def _check_todo(todo, folder):
    """Raise what runs would stumble over later: names, folders and data, each once."""
    for config in todo:
        methods.make(config)
    for config in {(c.model, str(c.size)): c for c in todo}.values():
        with torch.device("meta"):  # without its weights
            models.make(config.model, 10, config.size)
    for path in (checkpoint_path(todo[0]), weights_path(todo[0])):
        require_writable(path.parent)
    require_writable(folder or records.RUNS)
    for task in dict.fromkeys(config.task for config in todo):
        datasets.load(task)


# ---------------------------------------------------------------- several at a time


def _run_all(todo, workers, given, progress):
    """Train ``todo``, a process each; returns which failed and why, in words.

    given: what every `Worker` is given: (device, folder, threads, deadline, how).
    """
    device, folder, _, deadline, _ = given
    pace, waiting, working, ended = Pace(device, folder), list(todo), [], []
    stopping = False
    with _signals_noted() as signals, bar(todo, progress) as shown:
        try:
            while True:
                free = 0 if stopping else workers - len(working)
                for config in _fitting(waiting, free, pace, deadline):
                    waiting.remove(config)
                    working.append(Worker(config, *given))
                if not working:
                    break  # what waits, if anything, does not fit into the budget
                ends = [end for worker in working for end in worker.ends]
                if signals in connection.wait([*ends, signals]):
                    for worker in working:
                        worker.stop(at_once=stopping)
                    stopping = bool(signals.recv())
                for worker in list(working):
                    for epoch in worker.heard():
                        _take_in(epoch, shown, pace)
                    if worker.end:
                        working.remove(worker)
                        ended.append(worker)
                        if progress and shown.disable:
                            line = f"[{len(ended)}/{len(todo)}] {worker}"
                            print(line, file=sys.stderr, flush=True)
        finally:  # none is left, unless this process fails
            for worker in working:
                worker.stop()
    if stopping:
        raise KeyboardInterrupt
    _tell_waiting(waiting, progress)
    return [str(worker) for worker in ended if worker.end.failed]


def _fitting(waiting, free, pace, deadline):
    """The next runs to start, at most ``free``, in their order; those with time."""
    left = float("inf") if deadline is None else deadline - time.time()
    if left <= 0:
        return []
    return [config for config in waiting if pace.expected(config) <= left][:free]


def _take_in(epoch, shown, pace):
    shown.update(epoch.count)
    shown.set_postfix_str(epoch.words)
    pace.note(epoch.config, epoch.seconds)


def _tell_waiting(waiting, shown):
    if waiting and shown:
        print(f"{len(waiting)} runs were not started: no time", file=sys.stderr)


@contextmanager
def _signals_noted():
    """Within it SIGTERM and Ctrl-C interrupt nothing: yields what receives them.

    That is a connection, with one message for each. Outside of the main thread, where
    Python shows no signals, it receives none.
    """
    receives, sends = multiprocessing.Pipe(duplex=False)
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            before[number] = signal.signal(number, lambda n, _: sends.send(n))
    try:
        yield receives
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# ---------------------------------------------------------------- under torchrun


def _run_together(todo, device, folder, progress, deadline, how):
    """Train ``todo`` here, one after another, each in all processes of the group."""
    group = how["group"]
    pace, waiting = Pace(device, folder, group.processes), list(todo)
    shown = progress and group.main
    with _signals_noted() as signals, bar(todo, shown) as shown_bar:

        def note(epoch):
            _take_in(epoch, shown_bar, pace)

        def stop():
            return signals.poll() or over(deadline)

        def tell(words):
            if shown and shown_bar.disable:
                print(words, file=sys.stderr, flush=True)

        while config := group.broadcast(_fitting(waiting, 1, pace, deadline)):
            [config] = config
            waiting.remove(config)
            told = f"[{len(todo) - len(waiting)}/{len(todo)}] {describe(config)}: "
            try:
                tell(told + result(train(config, device, folder, note, stop, **how)))
            except Interrupted:
                tell(told + "stopped; its checkpoint is written")
                break
            except Exception as error:
                raise RunsFailed(f"{describe(config)}: {error}") from error
        if group.any(signals.poll()):
            raise KeyboardInterrupt
    _tell_waiting(waiting, shown)
