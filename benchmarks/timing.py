"""Timing calls against each other: in turn, round by round, because machines drift."""

import time

import torch

SLICE = 0.03  # seconds; a shorter call is timed many times over


def race(calls, rounds, device):
    """{name: [seconds of one call, a round each]}, all in turn in every round."""
    repeats = {}
    for name, call in calls.items():
        for _ in range(2):  # the second may be the one that is recorded
            seconds_of(call, 1, device)
        repeats[name] = 1 + int(SLICE / seconds_of(call, 1, device))
    times = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(seconds_of(call, repeats[name], device))
    return times


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
