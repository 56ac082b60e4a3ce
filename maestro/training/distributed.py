"""One training on all processes that torchrun started, data-parallel.

Every process holds the whole network and the whole batch. A network that is `split`
computes in each process the rows of that process, and gives all of them the outputs of
all rows: loss, figures and decisions are then the same everywhere, as one process would
have them, and nobody weights anything by the size of its share, be it empty. Backwards,
each row's gradient stays where the row was computed, and DistributedDataParallel adds
the processes up. The numbers agree with one process's to rounding.

Batch norm: on CUDA it is SyncBatchNorm, over the whole batch. That does not exist on
the CPU, where each process trains with the statistics of its own rows, so that such a
network trains a little differently than in one process; the running averages that
evaluation uses and that are written are then those of the first process.

Dropout: each process draws its own. Not exact after a resumption, therefore: only the
first process's draws are in the checkpoint.
"""

import os
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel


class Alone:
    """One process: what a group offers, doing nothing."""

    rank, world = 0, 1
    told = {}  # what a record says of the group

    @property
    def main(self):
        """Whether this process is the one that writes and prints."""
        return self.rank == 0

    def prepared(self, model, device):
        """``model`` as the group can train it, before the optimiser is made."""
        return model

    def spread(self, model, example):
        """``model`` for training; anew when its parameters or ranks are others.

        example: one example's inputs.
        """
        return model

    def split(self, model):
        """``model`` for figures without gradients."""
        return model

    def rows(self, count):
        """The slice of ``count`` rows that this process computes."""
        return slice(count)

    def same_buffers(self, model):
        """Give every process the first one's buffers."""

    def any(self, flag):
        """Whether any process says so; all must ask."""
        return bool(flag)

    def broadcast(self, value):
        """The first process's ``value``."""
        return value


ALONE = Alone()


class Group(Alone):
    """All processes of the job; each calls the same methods in the same order."""

    def __init__(self):
        self.rank = distributed.get_rank()
        self.world = distributed.get_world_size()
        self.told = {"processes": self.world}

    def prepared(self, model, device):
        if device.type not in ("cpu", "cuda"):
            raise ValueError(
                f"device={device.type}: several processes train on cpu or cuda"
            )
        if device.type == "cpu":
            return model
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)

    def spread(self, model, example):
        # what the outputs do not depend on, DDP must not wait for; if the lasso gives
        # it gradients, they are the same everywhere
        left_out = _out_of_reach(model, example)
        for parameter in left_out:
            parameter.requires_grad_(False)
        net = DistributedDataParallel(model)
        for parameter in left_out:
            parameter.requires_grad_(True)
        return _Split(net, self)

    def split(self, model):
        return _Split(model, self)

    def sizes(self, count):
        """How many of ``count`` rows each process computes."""
        ends = [count * rank // self.world for rank in range(self.world + 1)]
        return [end - start for start, end in pairwise(ends)]

    def rows(self, count):
        """The slice of this process's rows; of one row where it has none.

        Computed for nothing, that row gives every parameter its gradient, zero, and
        not every network takes an empty batch.
        """
        sizes = self.sizes(count)
        start = sum(sizes[: self.rank])
        return slice(start, start + sizes[self.rank]) if sizes[self.rank] else slice(1)

    def same_buffers(self, model):
        for buffer in model.buffers():
            distributed.broadcast(buffer, src=0)

    def any(self, flag):
        flags = torch.tensor(int(bool(flag)))
        distributed.all_reduce(flags, distributed.ReduceOp.MAX)
        return bool(flags)

    def broadcast(self, value):
        values = [value]
        distributed.broadcast_object_list(values, src=0, device=torch.device("cpu"))
        return values[0]


def launched():
    """Whether torchrun started this process beside others."""
    return "TORCHELASTIC_RUN_ID" in os.environ and os.environ["WORLD_SIZE"] != "1"


def is_main():
    """Whether this process writes and prints: the first of torchrun's, or the only."""
    return not launched() or os.environ["RANK"] == "0"


@contextmanager
def joined(device="auto"):
    """The `Group` of torchrun's processes, or ALONE without torchrun.

    On CUDA, "cuda" is the process's own device from then on; ValueError if the machine
    has fewer devices than processes. Decisions travel by gloo, so that they do not wait
    for the device.
    """
    if not launched():
        yield ALONE
        return
    backend = "gloo"
    if device not in ("cpu", "mps") and torch.cuda.is_available():
        torch.cuda.set_device(_own_device(device))
        backend = "cpu:gloo,cuda:nccl"
    distributed.init_process_group(backend)
    try:
        yield Group()
    finally:
        distributed.destroy_process_group()


def _own_device(device):
    if device not in ("auto", "cuda"):
        raise ValueError(
            f"device={device}: torchrun's processes have a device each; use cuda"
        )
    asked, there = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
    if asked > there:
        raise ValueError(
            f"{asked} processes for {there} CUDA devices: --nproc-per-node {there}, or "
            "--device cpu"
        )
    return int(os.environ["LOCAL_RANK"])


def _out_of_reach(model, example):
    """Parameters without influence on the outputs: at a layer of rank 0, or behind it.

    Which they are shows in evaluation mode as well, where a pass leaves no trace.
    """
    inputs = example if isinstance(example, tuple) else (example,)
    parameters = [p for p in model.parameters() if p.requires_grad]
    device, training = parameters[0].device, model.training
    out = model.eval()(*(part.to(device) for part in inputs))
    model.train(training)
    grads = torch.autograd.grad(out.sum(), parameters, allow_unused=True)
    return [p for p, g in zip(parameters, grads, strict=True) if g is None]


class _Split:
    """A network whose rows are shared among the processes; else as the network."""

    def __init__(self, net, group):
        self.net, self.group = net, group

    def __getattr__(self, name):
        return getattr(self.net, name)

    def __call__(self, *inputs):
        count, rank = len(inputs[0]), self.group.rank
        sizes = self.group.sizes(count)
        out = self.net(*(part[self.group.rows(count)] for part in inputs))
        return _Gather.apply(out[: sizes[rank]], sizes, rank)


class _Gather(torch.autograd.Function):
    """Each process's rows (sizes[rank], ...) -> those of all (B, ...), everywhere."""

    @staticmethod
    def forward(ctx, rows, sizes, rank):
        ctx.sizes, ctx.rank = sizes, rank
        mine = rows.new_zeros(max(sizes), *rows.shape[1:])  # of one size everywhere
        mine[: len(rows)] = rows
        parts = [torch.empty_like(mine) for _ in sizes]
        distributed.all_gather(parts, mine)
        return torch.cat([p[:n] for p, n in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx, grad):
        # each process has the whole loss, and the wrapper takes the mean over them
        return len(ctx.sizes) * grad.split(ctx.sizes)[ctx.rank], None, None
