"""Batch norm's statistics, estimated anew for the network as it is now.

Statistics that were gathered while layers ran with fewer columns, or before columns
were cut, belong to another network: accuracy falls without any weight being wrong.
"""

import itertools

import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from .arguments import network


@torch.no_grad()
def recalibrate(net, batches):
    """Estimate the statistics of ``net``'s batch norms again, in place.

    They become the plain averages over ``batches``; about a hundred batches are enough.
    The network runs in training mode meanwhile, with its dropout. Frozen norms, those
    that are in evaluation mode while ``net`` is in training mode, keep their
    statistics. All modes and momenta stay as they are.

    Args:
        net: any nn.Module that is called with one batch.
        batches: an iterable of inputs, or of (inputs, ...) as a DataLoader yields.
    Returns:
        ``net``
    Raises:
        ValueError: ``net`` is no module, or ``batches`` is empty: the statistics would
            be lost. Nothing is changed then, nor if a batch does not fit the network.
    """
    network("net", net)
    batches = iter(batches)
    first = next(batches, None)
    if first is None:
        raise ValueError("batches is empty: statistics are averages over some")
    modes = {module: module.training for module in net.modules()}
    norms = [m for m in modes if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = {norm: norm.momentum for norm in norms}
    before = {norm: _copied(norm) for norm in norms}
    frozen = [norm for norm in norms if net.training and not norm.training]
    try:
        update_bn(itertools.chain([first], batches), net)
    except BaseException:
        frozen = norms
        raise
    finally:
        for norm in frozen:
            norm._buffers.update(before[norm])
        for norm, momentum in momenta.items():
            norm.momentum = momentum
        for module, training in modes.items():
            module.training = training
    return net


def _copied(norm):
    """The norm's statistics, {name: tensor or None}, in memory of their own."""
    return {name: None if b is None else b.clone() for name, b in norm._buffers.items()}
