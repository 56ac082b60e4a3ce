"""Batch norm's statistics, estimated anew for the network as it is now (Sec. 1.1).

Statistics that were gathered while layers ran with fewer columns, or before columns
were cut, belong to another network: accuracy falls without any weight being wrong.
"""

import itertools

import torch
from torch.optim.swa_utils import update_bn

from .arguments import network


@torch.no_grad()
def recalibrate(net, batches):
    """Estimate the statistics of ``net``'s batch norms again, in place.

    They become the plain averages over ``batches``; about a hundred batches are enough.
    A network without batch norm stays as it is. Its mode, and momenta, do too.

    Args:
        net: any nn.Module that is called with one batch.
        batches: an iterable of inputs, or of (inputs, ...) as a DataLoader yields.
    Returns:
        ``net``
    Raises:
        ValueError: ``net`` is no module, or ``batches`` is empty: the statistics would
            be lost. Nothing is changed then.
    """
    network("net", net)
    batches = iter(batches)
    first = next(batches, None)
    if first is None:
        raise ValueError("batches is empty: statistics are averages over some")
    update_bn(itertools.chain([first], batches), net)
    return net
