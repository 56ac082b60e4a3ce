"""The same step on a CPU in other settings: precision, layout, and memory that is kept.

What a training step took until now is "float32": single precision, channels first,
freed memory given back to the system. Each setting is timed against it in turn; page
faults are counted besides, because other processes do not change them.
"""

import copy
import resource
import statistics

import torch
from step import Step
from timing import race

from maestro.training.memory import keep_memory

SETTINGS = {  # name: (bfloat16, channels last, memory kept)
    "float32": (False, False, False),
    "float32, memory kept": (False, False, True),
    "float32, channels last, memory kept": (False, True, True),
    "bfloat16": (True, True, False),
    "bfloat16, memory kept": (True, True, True),
}


def settings(net, subject, batch, rounds):
    """{name of a setting: {ms, ratio, faults}} of a training step of ``net``.

    ratio: to "float32", the median over rounds. faults: page faults of one step.
    """
    calls = {
        name: _step(net, subject, batch, *setting) for name, setting in SETTINGS.items()
    }
    try:
        times = race(calls, rounds, torch.device("cpu"))
        faults = {name: _faults(call) for name, call in calls.items()}
    finally:
        keep_memory(False)
    base = times["float32"]
    return {
        name: {
            "ms": round(1000 * statistics.median(seconds), 3),
            "ratio": round(
                statistics.median(a / b for a, b in zip(seconds, base, strict=True)), 4
            ),
            "faults": faults[name],
        }
        for name, seconds in times.items()
    }


def _step(net, subject, batch, bfloat16, last, kept):
    layout = torch.channels_last if last else torch.contiguous_format
    net = copy.deepcopy(net).train().to(memory_format=layout)
    inputs, targets = batch
    if inputs[0].ndim == 4:
        inputs = tuple(x.contiguous(memory_format=layout) for x in inputs)
    step = Step(net, subject, (inputs, targets), bfloat16=bfloat16)

    def call():
        keep_memory(kept)
        step()

    return call


def _faults(call):
    """Page faults of one call, after one that lets memory grow to what it takes."""
    call()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    call()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
