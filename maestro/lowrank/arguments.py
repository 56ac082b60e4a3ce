"""Checks of the public functions' arguments."""

from collections.abc import Mapping

from torch import nn


def network(name, value):
    """``value`` if it is a module; else ValueError with the argument's name."""
    if not isinstance(value, nn.Module):
        kind = "a class" if isinstance(value, type) else type(value).__name__
        raise ValueError(f"{name} is {kind}: it takes a network, an nn.Module")
    return value


def called_with(example_inputs, keywords=()):
    """(args, keywords) to call a network with.

    example_inputs: a tensor, a tuple of positional inputs, or a dict of inputs by name.
    """
    if isinstance(example_inputs, Mapping):
        return (), dict(example_inputs) | dict(keywords)
    if not isinstance(example_inputs, tuple | list):
        example_inputs = (example_inputs,)
    return tuple(example_inputs), dict(keywords)
