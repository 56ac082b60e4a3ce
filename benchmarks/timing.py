"""Timing calls against each other: in turn, round by round, because machines drift."""

from maestro.lowrank.clock import seconds_of

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
            seconds_of(call, device)
        repeats[name] = 1 + int(SLICE / seconds_of(call, device))
    while True:
        yield {
            name: seconds_of(call, device, repeats[name])
            for name, call in calls.items()
        }
