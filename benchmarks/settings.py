"""The training step on a CPU at other settings: precision, layout, memory kept.

The setting "float32" is PyTorch's own: single precision, channels first, and the C
library returns freed memory to the system. Each setting is timed against it, round by
round. Page faults are counted as well, because other processes do not change them.

A process that has told the C library to keep memory cannot go back. The steps that keep
memory are therefore timed in one process, the others in a second one, and the two take
turns.
"""

import copy
import multiprocessing
import resource
import statistics

import torch
from step import Step
from timing import turns

from maestro.results.speed import SETTING_ROWS as ROWS
from maestro.training.memory import keep_memory

SETTINGS = {  # name: (bfloat16, channels last, memory kept)
    "float32": (False, False, False),
    "float32, memory kept": (False, False, True),
    "float32, channels last, memory kept": (False, True, True),
    "bfloat16": (True, True, False),
    "bfloat16, memory kept": (True, True, True),
}


def settings(nets, subject, batch, rounds):
    """{row: {name of a setting: {ms, ratio, faults}}} of the steps of some networks.

    ratio: to the dense step at "float32", the median over rounds. faults: the page
    faults of one step.

    Args:
        nets: {row: network}; those of ROWS are timed.
        subject: the Subject.
        batch: (inputs, targets).
        rounds: the number of rounds.
    """
    nets = {row: nets[row] for row in ROWS}
    pipes, processes = [], []
    try:
        for kept in (False, True):
            pipe, process = _start(kept, nets, subject, batch)
            pipes.append(pipe)
            processes.append(process)
        times = [_ask(pipes, "turn") for _ in range(rounds)]
        faults = _ask(pipes, "faults")
    finally:
        for process in processes:
            process.terminate()
            process.join()
    base = ROWS[0], next(iter(SETTINGS))
    rows = {row: {} for row in ROWS}
    for row, name in ((row, name) for row in ROWS for name in SETTINGS):
        ratios = [turn[row, name] / turn[base] for turn in times]
        rows[row][name] = {
            "ms": round(1000 * statistics.median(t[row, name] for t in times), 3),
            "ratio": round(statistics.median(ratios), 4),
            "faults": faults[row, name],
        }
    return rows


def _start(*given):
    """A process that times some settings: (the pipe to it, the process)."""
    spawn = multiprocessing.get_context("spawn")
    ours, its = spawn.Pipe()
    arguments = (its, torch.get_num_threads(), *given)
    process = spawn.Process(target=_serve, args=arguments, daemon=True)
    process.start()
    its.close()  # so that the pipe closes when the process ends
    return ours, process


def _ask(pipes, what):
    """The answers of all processes, one after the other, as one dict."""
    answers = {}
    for pipe in pipes:
        pipe.send(what)
        answers |= pipe.recv()
    return answers


def _serve(pipe, threads, kept, nets, subject, batch):
    """Answer "turn" with {(row, setting): seconds}, and "faults" with page faults."""
    torch.set_num_threads(threads)
    if kept:
        keep_memory()
    calls = {
        (row, name): _step(net, subject, batch, bfloat16, last)
        for row, net in nets.items()
        for name, (bfloat16, last, keeps) in SETTINGS.items()
        if keeps == kept
    }
    each = turns(calls, torch.device("cpu"))
    while True:
        if pipe.recv() == "turn":
            pipe.send(next(each))
        else:
            pipe.send({key: _faults(call) for key, call in calls.items()})


def _step(net, subject, batch, bfloat16, last):
    layout = torch.channels_last if last else torch.contiguous_format
    net = copy.deepcopy(net).train().to(memory_format=layout)
    inputs, targets = batch
    if inputs[0].ndim == 4:
        inputs = tuple(x.contiguous(memory_format=layout) for x in inputs)
    return Step(net, subject, (inputs, targets), bfloat16=bfloat16)


def _faults(call):
    """Page faults of one call, after one that lets memory grow to what it takes."""
    call()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    call()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
