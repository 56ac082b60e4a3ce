"""Run what has no record, several at a time, so that nothing finished is ever lost.

Each run is a process of its own. A run is claimed by locking a file, which the system
lets go of when the process ends, however it ends: two campaigns on one folder share
the work, and a killed one blocks nobody. Under torchrun one run after another has all
the processes, and the first of them claims, decides and tells.
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
from contextlib import contextmanager, nullcontext

from .. import datasets
from ..config import RunConfig
from ..paths import CACHE
from ..results import records
from ..training.distributed import ALONE
from ..training.loop import Interrupted, epochs_done, fit
from ..training.machine import device_name, pick_device


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
):
    """Train those of ``configs`` that have no record; returns {id: record} of all.

    workers: runs at the same time; on a CPU they share the cores evenly. minutes: a
    budget: a run that is not expected to finish in what is left of it is not started,
    and when it is over the runs under way write their checkpoints. A run that another
    process has under way is left to it. Raises DataError before anything is
    trained if data is missing, and RuntimeError, naming the runs, if some failed (the
    others are finished and recorded first). SIGTERM is as Ctrl-C: KeyboardInterrupt,
    after the runs under way have written their checkpoints. group: torchrun's
    processes, all of which call this and train together; ``workers`` says nothing
    then, and the first run that fails ends it all, because processes that wait for
    each other do not agree on how to go on. eager: as `fit` takes it.
    """
    if type(workers) is not int or workers < 1:
        raise ValueError(f"workers={workers!r}: it takes an integer >= 1")
    if minutes is not None and not 0 < minutes < float("inf"):
        raise ValueError(f"budget_minutes={minutes!r}: it takes a number > 0")
    deadline = None if minutes is None else time.time() + 60 * minutes
    pick_device(device)  # raises, saying what is wrong
    todo = group.broadcast(missing(configs, folder))
    for task in {config.task for config in todo}:
        if not datasets.available(task):
            datasets.load(task)  # raises, saying what to do
    if todo and group is not ALONE:
        _run_together(todo, device, folder, progress, deadline, group)
    elif todo:
        failed = _run_all(todo, device, workers, folder, progress, deadline, eager)
        if failed:
            raise RuntimeError(
                f"{len(failed)} of {len(todo)} runs failed: {'; '.join(failed)}"
            )
    return records.find(configs, folder)


def describe(config):
    """A run in a few words: 'lenet/mnist maestro lambda_gl=8e-05 seed 0'.

    The scale is said where it is not the paper's.
    """
    options = " ".join(f"{k}={_short(v)}" for k, v in config.options.items())
    scale = "" if config.scale == "paper" else config.scale
    words = (f"{config.model}/{config.task}", scale, config.method, options)
    return " ".join(w for w in words if w) + f" seed {config.seed}"


def _short(value):
    if isinstance(value, list):
        return ",".join(value)
    return f"{value:g}" if isinstance(value, float) else value


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

    A kind is a task, model, size and method at one device, or so many processes. What
    was never seen has no expectation, and may be started: that is how it is learned.
    """

    def __init__(self, device, folder=None, processes=1):
        self.device, self.seconds = pick_device(device), {}
        name = device_name(self.device)
        for record in records.read_all(folder)[0].values():
            ran_on = record["ran_on"]
            if (ran_on["device"], ran_on.get("processes", 1)) == (name, processes):
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


def _run_all(todo, device, workers, folder, progress, deadline, eager):
    """Train ``todo`` in a pool of processes; returns which failed and why, in words."""
    workers = min(workers, len(todo))
    threads = max(1, (os.cpu_count() or 1) // workers)
    context = multiprocessing.get_context("spawn")
    epochs = context.Queue()
    failed, jobs, pace = [], {}, Pace(device, folder)
    given = (threads, epochs, deadline)
    with (
        _sigterm_as_interrupt(),
        ProcessPoolExecutor(workers, context, _start_worker, given) as pool,
        _bar(todo, progress) as bar,
    ):
        try:
            waiting, ended = list(todo), 0
            while waiting or jobs:
                for config in _fitting(waiting, workers - len(jobs), pace, deadline):
                    waiting.remove(config)
                    job = pool.submit(_run_one, config, device, folder, eager=eager)
                    jobs[job] = config
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
            _take_in(epochs.get(timeout=0.2), bar, pace)
    except queue.Empty:
        pass


def _take_in(epoch, bar, pace):
    config, words, count, seconds = epoch
    bar.update(count)
    bar.set_postfix_str(words)
    pace.note(config, seconds)


def _outcome(job):
    """What came of a job that ended, in words: '98.91 %, 31,363 parameters, 105 s'."""
    error = job.exception()
    if isinstance(error, Interrupted):
        return "out of time; its checkpoint is written"
    if error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return _result(job.result())


def _result(record):
    if record is None:
        return "left to the process that has it under way"
    final, seconds = record["final"], record["ran_on"]["wall_seconds"]
    return (
        f"{final['test_accuracy']:.2f} %, {final['params']:,} parameters, "
        f"{seconds:.0f} s" + (", diverged" if record["status"] == "diverged" else "")
    )


def _run_together(todo, device, folder, progress, deadline, group):
    """Train ``todo`` here, one after another, each in all processes of ``group``."""
    global _note, _deadline
    _deadline, waiting = deadline, list(todo)
    pace = Pace(device, folder, group.world)
    shown = progress and group.main
    with _signals_stop(), _bar(todo, shown) as bar:

        def _note(epoch):
            _take_in(epoch, bar, pace)

        def tell(words):
            if shown and bar.disable:
                print(words, file=sys.stderr, flush=True)

        while config := group.broadcast(_fitting(waiting, 1, pace, deadline)):
            [config] = config
            waiting.remove(config)
            told = f"[{len(todo) - len(waiting)}/{len(todo)}] {describe(config)}: "
            try:
                tell(told + _result(_run_one(config, device, folder, group)))
            except Interrupted:
                tell(told + "stopped; its checkpoint is written")
                break
            except Exception as error:
                raise RuntimeError(f"{describe(config)}: {error}") from error
        if group.any(_stopped.is_set()):
            raise KeyboardInterrupt
    if waiting and shown:
        print(f"{len(waiting)} runs were not started: no time", file=sys.stderr)


def _bar(todo, shown):
    """A bar of all epochs that ``todo`` has left, if stderr is a terminal."""
    from tqdm import tqdm

    total = sum(config.recipe.epochs - epochs_done(config) for config in todo)
    disable = None if shown else True  # None: unless stderr is a terminal
    return tqdm(total=total, unit="epoch", disable=disable, smoothing=0.05)


@contextmanager
def _signals_stop():
    """Within it SIGTERM and Ctrl-C are noted, for the processes to agree on the end."""
    _stopped.clear()
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, lambda *_: _stopped.set())
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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


# ---------------------------------------------------------------- where it trains

_stopped = threading.Event()  # the parent asked for checkpoints and an end
_note = None  # takes (config, words, epochs done, seconds of the last)
_deadline = None  # time.time() at which the budget is over


def _start_worker(threads, epochs, deadline):
    global _note, _deadline
    import torch

    _note, _deadline = epochs.put, deadline
    epochs.cancel_join_thread()  # what nobody reads any more must not hold it up
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    signal.signal(signal.SIGTERM, lambda *_: _stopped.set())
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    """No worker trains on for a campaign that was killed, holding its claims."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _run_one(config, device, folder, group=ALONE, eager=False):
    """Train one run and return its record; None if another process has it.

    Of a group, the first process claims and looks.
    """
    if group.any(_time_to_stop()):
        raise Interrupted(config.id)
    with claim(config) if group.main else nullcontext() as free:
        if not group.broadcast(free):
            return None
        found = group.broadcast(records.find([config], folder))
        if found:  # another process had it when this one made its list
            return found[config.id]
        told = epochs_done(config)

        def report(training):
            nonlocal told
            last = training.history[-1]
            words = f"{describe(config)}: {last['test_accuracy']:.2f} %"
            _note((config, words, training.epoch - told, last["seconds"]))
            told = training.epoch

        ask = {"report": report, "stop": _time_to_stop, "eager": eager}
        return fit(config, device, **ask, folder=folder, group=group)


def _time_to_stop():
    over = _deadline is not None and time.time() > _deadline
    return over or _stopped.is_set()
