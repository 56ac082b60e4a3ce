"""Batch norm's statistics, estimated again before an evaluation (Sec. 1.1)."""

import itertools

from .. import lowrank

# batches, of at most 128 examples, that the statistics are estimated from
RECALIBRATION = 200


def recalibrate(model, task, batch_size, batches=RECALIBRATION):
    """Estimate batch norm's statistics again, for the current network (Sec. 1.1).

    Training steps run sub-networks in which a layer is truncated; evaluation runs the
    whole network. A network without batch norm stays as it is.

    Args:
        model: the network, changed in place.
        task: the task whose training data are used.
        batch_size: the number of examples of a batch.
        batches: the statistics are averages over at most this many batches.
    """
    given = itertools.islice(task.epoch(batch_size, seed=0), batches)
    lowrank.recalibrate(model, given)
