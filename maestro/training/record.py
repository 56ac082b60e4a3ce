"""The record of a finished run."""

from ..results import records
from .machine import ran_on


def record_of(training):
    """The record of a `Training`, a dict for `records.save`."""
    config, counted = training.config, training.method.costs
    history, peak = training.history, training.peak.read()
    seconds = sum(records.epoch_seconds(history.columns()))
    return {
        "schema": records.SCHEMA,
        "id": config.id,
        "config": config.to_dict(),
        "phases": _phases_done(training),
        "dense": training.dense._asdict(),
        "fixed": counted.fixed._asdict(),
        "maps": {name: list(layer) for name, layer in counted.maps.items()},
        **history.fields(),
        "ran_on": ran_on(training.device, ", ".join(training.precisions))
        | training.group.fields
        | ({"replayed": True} if training.replay else {})
        | ({"peak_memory": peak} if peak else {})
        | {"wall_seconds": round(seconds, 1)},
        "data": {"task": config.task, "fingerprint": training.task.fingerprint},
        "studies": {},
    }


def _phases_done(training):
    """The phases that have started, with the number of epochs done in each."""
    phases, left = [], training.epoch
    for phase in training.phases:
        done = min(left, phase.epochs)
        left -= done
        if done:
            phases.append({"name": phase.name, "epochs": done})
    return phases
