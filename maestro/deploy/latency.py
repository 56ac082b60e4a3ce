"""Time, not a proxy of it: milliseconds of a network's forward pass on this device."""

import time
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map_only

from ..lowrank.arguments import called_with
from ..lowrank.clock import seconds_of
from ..lowrank.modes import evaluating

CPU = torch.device("cpu")


class Milliseconds(NamedTuple):
    """Median and quartiles of the time of one call."""

    median: float
    low: float
    high: float


def milliseconds(net, example_inputs, batch=None, seconds=0.3, threads=None):
    """The time of one forward pass of ``net`` in evaluation mode.

    Args:
        net: any module, or a function of the inputs.
        example_inputs: a tensor, a tuple of inputs, or a dict of inputs by name.
        batch: how many copies of each example to run together; None leaves the inputs
            as they are.
        seconds: how long to measure, at least ten calls.
        threads: of the CPU; None for as many as there are now.

    Returns:
        Milliseconds.
    """
    inputs = repeated(example_inputs, batch) if batch else example_inputs
    args, keywords = called_with(inputs)
    mode = evaluating(net) if isinstance(net, nn.Module) else nullcontext()
    with torch.inference_mode(), threads_of_cpu(threads), mode:
        return timed(lambda: net(*args, **keywords), seconds, _device(inputs))


def timed(function, seconds=0.3, device=CPU):
    """`Milliseconds` of ``function()`` on ``device``, after calls that warm it up."""
    for _ in range(3):
        function()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 10:
        times.append(1000 * seconds_of(function, device))
    low, median, high = torch.tensor(times).quantile(torch.tensor([0.25, 0.5, 0.75]))
    return Milliseconds(median.item(), low.item(), high.item())


def repeated(inputs, batch):
    """``inputs`` with the first example of each tensor ``batch`` times."""

    def copies(x):
        return x[:1].expand(batch, *x.shape[1:]).contiguous() if x.ndim else x

    return tree_map_only(torch.Tensor, copies, inputs)


@contextmanager
def threads_of_cpu(count):
    """Within it PyTorch computes on ``count`` threads of the CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _device(inputs):
    """The device of the first tensor among the inputs."""
    tensors = (x for x in tree_leaves(inputs) if isinstance(x, torch.Tensor))
    return next((x.device for x in tensors), CPU)
