"""Data-parallel training on all processes that torchrun started.

Each process holds the whole network and the whole batch. A `split` network computes the
rows of its own process, then gathers the outputs of all rows. Loss, figures and
decisions are therefore the same in every process, as in training on one process, and no
share has to be weighted by its size, which may be zero. In the backward pass the
gradient of a row stays in the process that computed the row, and
DistributedDataParallel sums over the processes. The numbers agree with those of one
process to rounding.

Batch norm: on CUDA, SyncBatchNorm takes the statistics over the whole batch. The CPU
has no SyncBatchNorm: each process trains with the statistics of its own rows, so the
training differs slightly from training on one process. Evaluation and the checkpoint
then use the running averages of the first process.

Dropout: each process draws its own masks. The checkpoint holds the generator of the
first process only, so a resumed run with dropout is not exact.
"""

import os
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel


class Alone:
    """A group of one process: every method is trivial."""

    process, processes = 0, 1  # the number of this process; how many there are
    fields = {}  # what a record states about the group

    @property
    def main(self):
        """Whether this process writes and prints."""
        return self.process == 0

    def prepared(self, model, device):
        """``model`` made ready for the group, before the optimiser is made."""
        return model

    def spread(self, model, example, before=None):
        """``model`` wrapped for training.

        The wrapper is valid until the parameters or the ranks change.

        Args:
            model: the network.
            example: the inputs of one example.
            before: an earlier wrapper of these parameters, returned if the ranks are
                those at which it was made.
        """
        return model

    def split(self, model):
        """``model`` wrapped for evaluation, without gradients."""
        return model

    def rows(self, count):
        """The slice of ``count`` rows that this process computes."""
        return slice(count)

    def same_buffers(self, model):
        """Copy the buffers of the first process to all others."""

    def any(self, flag):
        """Whether ``flag`` is true in any process; every process must call this."""
        return bool(flag)

    def broadcast(self, value):
        """The first process's ``value``."""
        return value


ALONE = Alone()


class Group(Alone):
    """All processes of the job. Each calls the same methods in the same order."""

    def __init__(self):
        self.process = distributed.get_rank()
        self.processes = distributed.get_world_size()
        self.fields = {"processes": self.processes}

    def prepared(self, model, device):
        if device.type not in ("cpu", "cuda"):
            raise ValueError(
                f"device={device.type}: several processes train on cpu or cuda"
            )
        if device.type == "cpu":
            return model
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)

    def spread(self, model, example, before=None):
        shapes = [parameter.shape for parameter in model.parameters()]
        if before is not None and before.shapes == shapes:
            return before
        # DDP must not wait for gradients that the outputs do not give; gradients of
        # the lasso are the same in every process
        unused = _unused_parameters(model, example)
        for parameter in unused:
            parameter.requires_grad_(False)
        net = DistributedDataParallel(model)
        for parameter in unused:
            parameter.requires_grad_(True)
        return _Split(net, self, shapes)

    def split(self, model):
        return _Split(model, self)

    def sizes(self, count):
        """How many of ``count`` rows each process computes."""
        total = self.processes
        ends = [count * process // total for process in range(total + 1)]
        return [end - start for start, end in pairwise(ends)]

    def rows(self, count):
        """The slice of this process's rows, or the first row if the process has none.

        The output of that row is discarded. It gives every parameter a zero gradient,
        and not every network takes an empty batch.
        """
        sizes = self.sizes(count)
        start, size = sum(sizes[: self.process]), sizes[self.process]
        return slice(start, start + size) if size else slice(1)

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
    """Whether torchrun started this process together with others."""
    return "TORCHELASTIC_RUN_ID" in os.environ and os.environ["WORLD_SIZE"] != "1"


def is_main():
    """Whether this process writes and prints: the first, or the only one."""
    return not launched() or os.environ["RANK"] == "0"


@contextmanager
def joined(device="auto"):
    """The `Group` of torchrun's processes, or ALONE without torchrun.

    On CUDA each process has a device of its own, which "cuda" names inside the context.
    Decisions are exchanged by gloo, so that they do not wait for the device.

    Raises:
        ValueError: a device other than "auto", "cpu" or "cuda", or more processes than
            CUDA devices.
    """
    if not launched():
        yield ALONE
        return
    backend = "gloo"
    if device != "cpu" and torch.cuda.is_available():
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
            f"device={device}: torchrun gives each process a device; use cuda"
        )
    processes, devices = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
    if processes > devices:
        raise ValueError(
            f"{processes} processes for {devices} CUDA devices: use --nproc-per-node "
            f"{devices}, or --device cpu"
        )
    return int(os.environ["LOCAL_RANK"])


def _unused_parameters(model, example):
    """Parameters that the outputs do not depend on: at a layer of rank 0, or before it.

    They are the same in evaluation mode, where a forward pass changes no state.
    """
    inputs = example if isinstance(example, tuple) else (example,)
    parameters = [p for p in model.parameters() if p.requires_grad]
    device, training = parameters[0].device, model.training
    out = model.eval()(*(part.to(device) for part in inputs))
    model.train(training)
    grads = torch.autograd.grad(out.sum(), parameters, allow_unused=True)
    return [p for p, g in zip(parameters, grads, strict=True) if g is None]


class _Split(nn.Module):
    """A network whose call shares the rows among the processes.

    All other attributes are the network's. shapes: of the parameters, where the network
    is wrapped for training.
    """

    def __init__(self, net, group, shapes=None):
        super().__init__()
        self.net, self.group, self.training = net, group, net.training
        self.shapes = shapes

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("net"), name)

    def forward(self, *inputs):
        count, process = len(inputs[0]), self.group.process
        sizes = self.group.sizes(count)
        out = self.net(*(part[self.group.rows(count)] for part in inputs))
        return _Gather.apply(out[: sizes[process]], sizes, process)


class _Gather(torch.autograd.Function):
    """The rows of each process (sizes[process], ...) -> all rows (B, ...), in each."""

    @staticmethod
    def forward(ctx, rows, sizes, process):
        ctx.sizes, ctx.process = sizes, process
        # padded: all_gather takes tensors of one size
        mine = rows.new_zeros(max(sizes), *rows.shape[1:])
        mine[: len(rows)] = rows
        parts = [torch.empty_like(mine) for _ in sizes]
        distributed.all_gather(parts, mine)
        return torch.cat([p[:n] for p, n in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx, grad):
        # every process has the whole loss, and DDP averages over the processes
        return len(ctx.sizes) * grad.split(ctx.sizes)[ctx.process], None, None
