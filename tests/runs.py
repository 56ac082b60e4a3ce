"""Short runs that tests of the training loop and of `fit` share."""

import pytest
import torch

from maestro.results import records
from maestro.training import checkpoints
from maestro.training.fit import Interrupted
from maestro.training.loop import Training

METHODS = {
    "dense": {"method": "dense"},
    "pair": {"method": "maestro", "sampler": "pair"},
    "shuffled": {"method": "maestro", "sampler": "shuffled"},
    "masked": {"method": "masked", "sampler": "pair"},
    "pufferfish": {"method": "pufferfish", "warm_up": 1, "skip": ["fc3"]},
}


def figures(record):
    """The parts of a record that interruptions must not change."""
    history = record["history"].items()
    history = {k: v for k, v in history if k not in records.MEASURED}
    return {k: v for k, v in record.items() if k not in ("history", "ran_on")} | history


def same(weights, others):
    return weights.keys() == others.keys() and all(
        torch.equal(weights[name], others[name]) for name in weights
    )


def saved_weights(config):
    path = checkpoints.weights_path(config)
    return torch.load(path, weights_only=True)["model"]


def run_to_the_end(state):
    while not state.finished:
        state.run_epoch()
    return state


def state_after(config, task, steps):
    """The state of a run after ``steps`` steps."""
    taken = []

    def after_step(state):
        nonlocal steps
        steps -= 1
        if steps == 0:
            taken.append(state.state_dict())
            raise Interrupted

    run = Training(config, task=task)
    with pytest.raises(Interrupted):
        while not run.finished:
            run.run_epoch(after_step)
    return taken[0]
