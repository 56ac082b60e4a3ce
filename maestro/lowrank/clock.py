"""Timing calls against each other: in turn, because machines drift."""

import time

import torch

SLICE = 0.002  # seconds; a shorter call is timed many times over
ROUNDS = 5


def seconds(calls, device):
    """{name: seconds of one call}, the least of a few rounds, all in turn in each."""
    repeats = {}
    for name, call in calls.items():
        seconds_of(call, device)  # the first one may be slow
        repeats[name] = 1 + int(SLICE / seconds_of(call, device))
    least = dict.fromkeys(calls, float("inf"))
    for _ in range(ROUNDS):
        for name, call in calls.items():
            least[name] = min(least[name], seconds_of(call, device, repeats[name]))
    return least


def seconds_of(call, device, repeats=1):
    """Seconds of one call, when it is made so many times."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - start) / repeats
