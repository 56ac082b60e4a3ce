"""Batch norm's statistics, estimated anew for the network as it is now.

Statistics that were gathered while layers ran with fewer columns, or before columns
were cut, belong to another network: accuracy falls without any weight being wrong.
"""

import itertools

import torch
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from .arguments import network


@torch.inference_mode(False)
@torch.no_grad()
def recalibrate(net, batches):
    """Estimate the statistics of ``net``'s batch norms again, in place.

    They become the plain averages over ``batches``; about a hundred batches are enough.
    The network runs in training mode meanwhile, with its dropout. Some norms run in
    evaluation mode and keep their statistics: frozen ones, which are in evaluation mode
    while ``net`` is in training mode or which its ``train()`` leaves there, and
    instance norms. A norm that no batch reaches keeps its statistics too. All modes and
    momenta stay as they are.

    Args:
        net: any nn.Module that is called with one batch.
        batches: an iterable of inputs, or of (inputs, ...) as a DataLoader yields.
    Returns:
        ``net``
    Raises:
        ValueError: ``net`` is no module, or ``batches`` is no iterable or empty: the
            statistics would be lost. Nothing is changed then, nor if a batch does not
            fit the network.
    """
    batches = _at_least_one(network("net", net), batches)
    modes = {module: module.training for module in net.modules()}
    norms = [module for module in modes if isinstance(module, _NormBase)]
    momenta = {norm: norm.momentum for norm in norms}
    before = {norm: _copied(norm) for norm in norms}
    lost = norms  # whose statistics are put back
    try:
        moving = _in_training_mode(net, norms)
        for norm in moving:
            norm.reset_running_stats()
            norm.momentum = None  # a plain average
        for batch in batches if moving else ():
            net(batch[0] if isinstance(batch, list | tuple) else batch)
        lost = [norm for norm in moving if norm.num_batches_tracked == 0]
    finally:
        for norm in lost:
            norm._buffers.update(before[norm])
        for norm, momentum in momenta.items():
            norm.momentum = momentum
        for module, training in modes.items():
            module.training = training
    return net


def _at_least_one(net, batches):
    """An iterator over ``batches``, which has a first one."""
    try:
        batches = iter(batches)
    except TypeError:
        kind = type(batches).__name__
        raise ValueError(f"batches is {kind}: it takes an iterable of inputs") from None
    for first in batches:
        return itertools.chain([first], batches)
    raise ValueError("batches is empty: statistics are averages over some")


def _in_training_mode(net, norms):
    """Put ``net`` in training mode but for the norms that keep their statistics.

    Returns the others, the batch norms that keep running statistics and are not frozen.
    """
    frozen = {norm for norm in norms if net.training and not norm.training}
    net.train()
    moving = []
    for norm in norms:
        batch_norm = isinstance(norm, _BatchNorm) and norm.training
        if norm not in frozen and batch_norm:
            moving += [norm] if norm.track_running_stats else []
        else:
            norm.training = False
    return moving


def _copied(norm):
    """The norm's statistics, {name: tensor or None}, in memory of their own."""
    return {name: None if b is None else b.clone() for name, b in norm._buffers.items()}
