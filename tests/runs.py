"""Short runs that tests of the training loop and of `fit` share."""

import copy

import pytest
import torch
from torch import nn

from maestro import methods
from maestro.config import Recipe, RunConfig
from maestro.results import records
from maestro.training import checkpoints
from maestro.training.fit import Interrupted
from maestro.training.loop import Training
from maestro.training.record import record_of

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
    return next_state(Training(config, task=task), steps)


def next_state(run, steps=1):
    """The state of ``run`` after ``steps`` more steps."""
    taken = []

    def after_step(run):
        nonlocal steps
        steps -= 1
        if steps == 0:
            taken.append(run.state_dict())
            raise Interrupted

    with pytest.raises(Interrupted):
        while not run.finished:
            run.run_epoch(after_step)
    return taken[0]


CLOCKS = {"meter", "peak_memory", *records.MEASURED}  # in a state, never twice alike


def equal(one, other):
    """Whether two states are the same to the bit, but for their clocks."""
    if isinstance(one, dict):
        names = one.keys() - CLOCKS
        alike = names == other.keys() - CLOCKS
        return alike and all(equal(one[name], other[name]) for name in names)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return one == other


def goes_on_from_every_step(make, resumed=None):
    """Assert that a run continued from any step is the uninterrupted one, to the bit.

    Each continued run takes one step, and its state is the uninterrupted run's. What
    follows from that state, the run that continues there shows. Those of the first step
    and of the last are trained to the end.

    Args:
        make: makes a new Training.
        resumed: makes a Training that continues from a given state.
    Returns:
        The uninterrupted Training at its end, and its state after each step.
    """

    def loaded(state):
        run = make()
        run.load_state_dict(copy.deepcopy(state))
        return run

    straight, states = make(), []
    while not straight.finished:
        straight.run_epoch(lambda run: states.append(copy.deepcopy(run.state_dict())))
    for step, state in enumerate(states, 1):
        torch.manual_seed(99)  # all randomness is part of the state
        run = (resumed or loaded)(state)
        if step in (1, len(states)):
            run_to_the_end(run)
            assert figures(record_of(run)) == figures(record_of(straight)), step
            assert same(run.model.state_dict(), straight.model.state_dict()), step
        else:
            assert equal(next_state(run), states[step]), step
    return straight, states


# every method of `maestro.methods`, with phases as short as they go; two epochs
EVERY_METHOD = {
    "dense": {},
    "maestro": {"lambda_gl": 3e-3, "eps_ps": 0.3, "sampler": "shuffled"},
    "masked": {"lambda_gl": 3e-3, "eps_ps": 0.3},
    "proximal": {"lambda_gl": 0.1},
    "tangent": {"lambda_gl": 3e-3, "eps_ps": 0.3, "sampler": "pair"},
    "tangent_cut": {"sampler": "pair", "warm_up": 0, "settled": 0.5},
    "pretrained": {"lambda_gl": 3e-3, "eps_ps": 0.3, "tune": 2},
    "budgeted": {"target": 0.5},
    "unshrunken": {"lambda_gl": 3e-3, "eps_ps": 0.3},
    "full_pass": {"lambda_gl": 3e-3, "eps_ps": 0.3, "distilled": True},
    "pufferfish": {"warm_up": 1},
    "cuttlefish": {"window": 1, "patience": 0, "threshold": 99, "frobenius_decay": 0.1},
    "spectral": {"params_share": 0.5, "frobenius_decay": 0.1},
    "svd": {"rank_ratio": 0.5, "tune": 2},
    "spectral_decay": {"coefficient": 1.0, "every": 3},
    "dlrt": {"theta": 0.3},
    "dlrt_augmented": {"theta": 0.3},
    "imp": {"rounds": 2, "rewind": 1},
    "raregems": {"density": 0.3, "search": 3, "every": 1, "score_decay": 0.1},
    "depgraph": {"tune": 2, "skip": ["fc"]},
    "xnor": {},
}


class Pictures:
    """Four classes of small pictures, 90 of them; in the type that is the default."""

    classes, metric, fingerprint = 4, "accuracy", "none"

    def __init__(self, *shape):
        generator = torch.Generator().manual_seed(0)
        self.example = torch.zeros(1, *shape)
        self.labels = torch.randint(4, (90,), generator=generator)
        means = torch.randn(4, *shape, generator=generator)
        self.images = means[self.labels] + torch.randn(90, *shape, generator=generator)

    def __len__(self):
        return len(self.labels)

    def epoch(self, batch_size, seed, done=0, turn=(0, 0)):
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self.labels), generator=generator)
        for picked in order.split(batch_size)[done:]:
            yield self.images[picked], self.labels[picked]

    def loss(self, model, batch, label_smoothing=0.0):
        images, labels = batch
        loss = nn.functional.cross_entropy(model(images), labels)
        return loss, loss.detach() * len(labels)

    def count(self, batch):
        return len(batch[1])

    @torch.no_grad()
    def evaluate(self, model):
        logits = model(self.images)
        right = (logits.argmax(1) == self.labels).sum().item()
        loss = nn.functional.cross_entropy(logits, self.labels).item()
        return {"test_accuracy": right / 0.9, "test_loss": loss}


def run_of_pictures(method, batch_size=45, **options):
    """A narrow ResNet-18, two epochs of ``method`` with all of its options."""
    recipe = Recipe(2, batch_size, 0.02, weight_decay=1e-3)
    size = {"width": 4}
    run = RunConfig("pictures", "resnet18", method, recipe, options, size=size)
    return methods.resolve(run)
