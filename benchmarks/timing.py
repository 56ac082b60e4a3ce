"""Timing calls against each other: in turn, round by round, because machines drift."""

import time

import torch

SLICE = 0.03  # seconds; a shorter call is timed many times over


def race(calls, rounds, device):
    """{name: [seconds of one call, a round each]}, all in turn in every round."""
    each = turns(calls, device)
    taken = [next(each) for _ in range(rounds)]
    return {name: [turn[name] for turn in taken] for name in calls}


def turns(calls, device):
    """Yield {name: seconds of one call}, round after round, without an end."""
    repeats = {}
    for name, call in calls.items():
        for _ in range(2):  # the second may be the one that is recorded
            seconds_of(call, 1, device)
        repeats[name] = 1 + int(SLICE / seconds_of(call, 1, device))
    while True:
        yield {
            name: seconds_of(call, repeats[name], device)
            for name, call in calls.items()
        }


def seconds_of(call, repeats, device):
    """Of one call, when it is made so many times."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / repeats
