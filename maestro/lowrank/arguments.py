"""What the public functions take, and what they say to anything else."""

from torch import nn


def network(name, value):
    """``value``, if it is a module; ValueError, naming it, if not."""
    if not isinstance(value, nn.Module):
        kind = "a class" if isinstance(value, type) else type(value).__name__
        raise ValueError(f"{name} is {kind}: it takes a network, an nn.Module")
    return value
