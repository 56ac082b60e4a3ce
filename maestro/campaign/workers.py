"""Train the runs without a record, several at a time.

Each run has a process of its own (process.py). If the system kills that process, for
lack of memory say, the run is reported as failed and the other runs continue. Under
torchrun the runs are trained one after another, each by all processes; the first
process claims the runs, decides and reports.
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
from ..system import require_writable, threads
from ..training.checkpoints import checkpoint_path, weights_path
from ..training.distributed import ALONE
from ..training.fit import Interrupted
from ..training.machine import check_precision, pick_device
from .process import SIGNALS, Worker, over, reason, train
from .progress import Pace, bar, describe, result


class RunsFailed(RuntimeError):
    """Runs of a campaign failed. The message names each; the others are recorded."""


def missing(configs, folder=None):
    """The ``configs`` without a record, in their order, each once."""
    recorded = records.find(configs, folder)
    return list({c.id: c for c in configs if c.id not in recorded}.values())


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
    """Train the ``configs`` without a record.

    A run that another process has claimed is left to that process.

    Args:
        configs: a list of RunConfigs.
        device: the device to train on, as for `pick_device`.
        workers: the number of runs at the same time. On a CPU each run has an equal
            share of the threads, even when few runs are left, so that a resumed run
            ends bit for bit like an uninterrupted one.
        folder: the folder of the records; data/runs if None.
        progress: whether to show progress on stderr.
        minutes: a time budget. A run that is not expected to finish within the budget
            is not started. When the budget is spent, the runs in progress write their
            checkpoints and stop.
        group: torchrun's processes. All of them call `run` and train together;
            ``workers`` is then ignored, and the first failed run ends the campaign,
            because the processes cannot agree on how to continue.
        eager, precision: as for `fit`.

    Returns:
        {id: record} of all ``configs`` with a record.

    Raises:
        ValueError: a config or an argument is wrong.
        DataError: data is missing or damaged.
        DiskError: a folder cannot be written. These three come before any training.
        RunsFailed: runs failed. The other runs are finished and recorded first.
        KeyboardInterrupt: on Ctrl-C or SIGTERM, after the runs in progress have
            written their checkpoints; a second signal ends these at once.
    """
    _check_configs(configs)
    records.folder_of(folder)  # raises if it is no path
    integer("workers", workers, low=1)
    if minutes is not None and not number("minutes", minutes):
        raise ValueError(f"minutes={minutes!r}: it takes a number > 0")
    deadline = None if minutes is None else time.time() + 60 * minutes
    check_precision(precision)
    pick_device(device)  # raises if the device is wrong
    todo = group.broadcast(missing(configs, folder))
    if todo:
        _check_todo(todo, folder)
    if todo and group is not ALONE:
        how = {"group": group, "precision": precision}
        _run_together(todo, device, folder, progress, deadline, how)
    elif todo:
        how = {"eager": eager, "precision": precision}
        given = (device, folder, max(1, threads() // workers), deadline, how)
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
    """Check names, folders and data before any run starts, each once."""
    for config in todo:
        methods.make(config)
    for config in {(c.model, str(c.size)): c for c in todo}.values():
        with torch.device("meta"):  # without its weights
            models.make(config.model, 10, config.size)
    for path in (checkpoint_path(todo[0]), weights_path(todo[0])):
        require_writable(path.parent)
    require_writable(records.folder_of(folder))
    for task in dict.fromkeys(config.task for config in todo):
        datasets.load(task)


# ---------------------------------------------------------------- several at a time


def _run_all(todo, workers, given, progress):
    """Train ``todo``, each run in a process of its own.

    Args:
        todo: the configs to train.
        workers: the number of runs at the same time.
        given: further arguments of `Worker`: (device, folder, threads, deadline, how).
        progress: whether to show progress on stderr.

    Returns:
        A description of each failed run.
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
                    break  # the waiting runs, if any, do not fit into the budget
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
        finally:  # only if this process fails are workers left
            for worker in working:
                worker.stop()
    if stopping:
        raise KeyboardInterrupt
    _report_waiting(waiting, todo, progress)
    return [str(worker) for worker in ended if worker.end.failed]


def _fitting(waiting, free, pace, deadline):
    """The next runs to start: at most ``free``, in order, and within the budget."""
    left = float("inf") if deadline is None else deadline - time.time()
    if left <= 0:
        return []
    return [config for config in waiting if pace.expected(config) <= left][:free]


def _take_in(epoch, shown, pace):
    shown.update(epoch.count)
    shown.set_postfix_str(epoch.words)
    pace.note(epoch.config, epoch.seconds)


def _report_waiting(waiting, todo, shown):
    if waiting and shown:
        words = f"no time left for {len(waiting)} of {len(todo)} runs"
        print(words, file=sys.stderr)


@contextmanager
def _signals_noted():
    """Inside the context SIGTERM and Ctrl-C do not interrupt; yields a connection.

    The connection receives one message for each signal. Outside the main thread, where
    Python delivers no signals, the connection receives none.
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
    """Train ``todo`` one after another, each run by all processes of the group."""
    group = how["group"]
    pace, waiting = Pace(device, folder, group.processes), list(todo)
    shown = progress and group.main
    with _signals_noted() as signals, bar(todo, shown) as shown_bar:

        def note(epoch):
            _take_in(epoch, shown_bar, pace)

        def stop():
            return signals.poll() or over(deadline)

        def report(words):
            if shown and shown_bar.disable:
                print(words, file=sys.stderr, flush=True)

        while config := group.broadcast(_fitting(waiting, 1, pace, deadline)):
            [config] = config
            waiting.remove(config)
            name = f"[{len(todo) - len(waiting)}/{len(todo)}] {describe(config)}: "
            try:
                report(name + result(train(config, device, folder, note, stop, **how)))
            except Interrupted:
                report(name + "stopped; its checkpoint is written")
                break
            except Exception as error:
                # at once: torchrun soon ends this process if another one died
                report(name + reason(error))
                raise RunsFailed(f"{describe(config)}: {error}") from error
        if group.any(signals.poll()):
            raise KeyboardInterrupt
    _report_waiting(waiting, todo, shown)
