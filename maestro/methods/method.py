"""The hooks of a method: what the one training loop calls, and what each call may do.

A method is one file beside this one. Every hook below does nothing that a dense
network would notice, so a method overrides only what it needs. The loop asks a method
nothing by name.
"""

from contextlib import nullcontext
from dataclasses import replace
from enum import Flag, auto
from typing import NamedTuple

from ..config import Recipe
from ..lowrank.counting import costs

BITS = 32  # of a number as it is stored, unless a method says otherwise


class Change(Flag):
    """What a hook changed, as far as the loop must follow."""

    NOTHING = 0
    RECAPTURE = auto()  # parameters changed shape or place: recorded steps are stale
    NEW_OPTIMIZER = auto()  # parameters are other objects, and their state is void


class Phase(NamedTuple):
    """A part of a training with a schedule of its own.

    recipe: what the phase trains with. first, last: the phase trains the epochs from
    ``first`` up to, but without, ``last`` of the recipe's schedule; all of them by
    default. fresh_optimizer: whether the phase starts without momentum, and counts the
    steps of its schedule from its own start.
    """

    name: str
    recipe: Recipe
    first: int = 0
    last: int | None = None
    fresh_optimizer: bool = True

    @property
    def epochs(self):
        """How many epochs the phase trains."""
        return (self.recipe.epochs if self.last is None else self.last) - self.first


# the names of a phase in which the network is dense, and of one in which it is not
WARM_UP, LOW_RANK = "warm-up", "low rank"


def warmed_up(recipe, epochs):
    """The phases of a low-rank training after ``epochs`` epochs of dense training.

    Raises ValueError if the recipe has no more epochs than that.
    """
    if epochs >= recipe.epochs:
        raise ValueError(
            f"warm_up={epochs}: it takes fewer than the recipe's {recipe.epochs} epochs"
        )
    if not epochs:
        return [Phase(LOW_RANK, recipe)]
    return [Phase(WARM_UP, recipe, last=epochs), Phase(LOW_RANK, recipe, epochs)]


class Size(NamedTuple):
    """What is deployed: numbers stored, MACs of one example, bits stored.

    binary_macs: those of the MACs whose two factors are signs.
    """

    params: int
    macs: int
    bits: int
    binary_macs: int = 0


def require_zero_padding(layers, method):
    """Raise ValueError if ``method`` cannot pad as one of ``layers`` does."""
    modes = {getattr(layer, "padding_mode", "zeros") for layer in layers} - {"zeros"}
    if modes:
        raise ValueError(f"{method} takes zero padding, not {', '.join(sorted(modes))}")


def fine_tuning(recipe, epochs):
    """The `Phase` of ``epochs`` more after all of ``recipe``, at its last rate.

    Raises ValueError for a schedule whose last rate depends on the number of steps.
    """
    if recipe.schedule == "inverse_sqrt":
        raise ValueError(
            "schedule='inverse_sqrt' has no last rate to fine-tune at, because it "
            "counts steps; 'steps' and 'triangle' count epochs"
        )
    passed = tuple(m for m in recipe.milestones if m < recipe.epochs)
    longer = replace(recipe, epochs=recipe.epochs + epochs, milestones=passed)
    if recipe.schedule == "triangle":
        last = recipe.lr * recipe.triangle[2]
        longer = replace(longer, schedule="steps", milestones=(), lr=last)
    return Phase("fine-tuning", longer, first=recipe.epochs)


class Method:
    """The hooks, in the order in which the loop calls them.

    replayable: whether a step may be recorded as a CUDA graph and replayed.
    """

    replayable = True

    def phases(self, recipe):
        """The phases of a training with ``recipe``: [Phase, ...], at least one."""
        return [Phase("training", recipe)]

    def prepare(self, model, example_inputs, generator):
        """Turn ``model`` into what is trained first, and return it.

        Args:
            model: the dense network, initialised.
            example_inputs: one example's inputs, to count with.
            generator: the torch.Generator of the method's own draws.
        """
        self.example_inputs = example_inputs
        self.count(model)
        return model

    def count(self, model):
        """Count ``model`` anew: after its layers have become others.

        Raises ValueError, naming them, if some weights have no count: a run's record
        would be wrong.
        """
        self.costs = costs(model, self.example_inputs)
        if self.costs.uncounted:
            raise ValueError(
                f"{type(model).__name__} cannot be trained for a record: no MACs are "
                f"known for {', '.join(self.costs.uncounted)}"
            )

    def restore_shapes(self, model, state):
        """Give a new ``model`` the layers that a checkpoint's model had; returns it.

        state: the method's own `state_dict` in that checkpoint. Ranks need nothing:
        low-rank layers take those that they load.
        """
        return model

    def groups(self, groups, model):
        """The optimiser's parameter groups, from the recipe's: [{"params": ...}, ...].

        A group may have an ``lr_scale``, by which the schedule's learning rate is
        multiplied, and a ``weight_decay`` of its own.
        """
        return groups

    def fix_shapes(self):
        """Keep all shapes the same from step to step, as long as the ranks stay.

        Such a step can be recorded and replayed. What `draw` draws is then read from
        tensors that keep their place.
        """

    def before_epoch(self, model, optimizer):
        """Before an epoch's first step; returns a `Change`."""
        return Change.NOTHING

    def draw(self):
        """Choose the sub-network for the next step."""

    def active(self, training):
        """The context in which the network is run, in training or evaluation."""
        return nullcontext()

    def descend(self, step):
        """Train on one batch; returns its loss, summed over its examples.

        step: the loop's `Step`. Nothing here may ask the device for a number.
        """
        with self.active(training=True):
            loss_sum = step.backward()
        self.after_backward(step.model)
        step.update()
        self.after_step(step.model, step.optimizer)
        return loss_sum

    def after_backward(self, model):
        """Between the backward pass and the optimiser's step: change ``.grad``."""

    def after_step(self, model, optimizer):
        """After the optimiser's step."""

    def after_epoch(self, model, optimizer):
        """Between the last step of an epoch and its evaluation; returns a `Change`."""
        return Change.NOTHING

    def after_phase(self, phase, model, optimizer):
        """After `after_epoch` of the last epoch of a `Phase`; returns a `Change`."""
        return Change.NOTHING

    def ranks(self, model):
        """{layer name: r} of the network as it is now."""
        return {}

    def size(self, model):
        """`Size` of the network as it would be deployed now."""
        params, macs = self.costs.footprint(self.ranks(model), merged=True)
        return Size(params, macs, params * BITS)

    def training_cost(self, model):
        """(parameters held, MACs of one example's forward pass) in training now.

        Called after the last step of an epoch; of steps that differ, it is the mean.
        """
        return tuple(self.costs.footprint(self.ranks(model)))

    def state_dict(self):
        """What a resumed run needs, besides the model, optimiser and generators."""
        return {}

    def load_state_dict(self, state):
        """The inverse of `state_dict`."""
