"""One optimiser step, dense or LoD: to time it, weigh it and take it apart."""

import torch
from torch.autograd import DeviceType
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import ProfilerActivity, profile, record_function

import maestro
from maestro import methods
from maestro.training.optimizers import make_optimizer, parameter_groups
from maestro.training.replay import Replay

PARTS = ("linear maps", "normalisation", "optimiser", "lasso", "rest")


def reduced(device, enabled=None):
    """The context in which a network computes on ``device``.

    In bfloat16 if ``enabled``; None: on GPUs.
    """
    enabled = device.type == "cuda" if enabled is None else enabled
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


class Step:
    """What training does with one batch, over and over; LoD if ``net`` is factorised.

    batch: (inputs, targets). recorder: what records the step to replay it, as
    `maestro.training.loop.Training` takes it. bfloat16: as `reduced` takes it.
    """

    def __init__(self, net, subject, batch, recorder=None, bfloat16=None):
        self.net, self.subject, self.batch = net, subject, batch
        self.bfloat16 = bfloat16
        self.device = batch[1].device
        self.method = methods.Dense()
        if maestro.low_rank_layers(net):
            self.method = methods.Maestro(lambda_gl=1e-5)
            self.method.sampler = maestro.RankSampler(net)
        groups = parameter_groups(net, subject.recipe)
        self.optimizer = make_optimizer(groups, subject.recipe, recorder is not None)
        self.replay = Replay(self.descend, recorder) if recorder else None
        if recorder:
            self.method.fix_shapes()

    def __call__(self):
        self.method.draw()
        (self.replay or self.descend)(self.batch)

    def descend(self, batch):
        with self.method.active(training=True):
            loss = self.loss(batch)
            loss.backward()
        with record_function("lasso"):
            self.method.after_backward(self.net)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()

    def loss(self, batch):
        with reduced(self.device, self.bfloat16):
            return self.subject.loss(self.net, *batch)

    def memory(self):
        """Bytes that a step holds at its peak, or on a CPU when its backward begins.

        Weights, as many gradients, the optimiser's state, and the activations.
        """
        weights = list(self.net.parameters())
        states = [v for state in self.optimizer.state.values() for v in state.values()]
        states = [v for v in states if isinstance(v, torch.Tensor)]
        if self.device.type == "cuda":
            return sum(v.nbytes for v in weights + states) + self._peak()
        return sum(v.nbytes for v in 2 * weights + states) + self._kept(weights)

    def _peak(self):
        """Bytes that one step takes from the device and gives back, at most."""
        self.method.draw()
        before = torch.cuda.memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        self.descend(self.batch)
        return torch.cuda.max_memory_allocated(self.device) - before

    def _kept(self, weights):
        """Bytes that a forward pass keeps for the backward pass, besides weights."""
        kept = {}

        def pack(tensor):
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = self.loss(self.batch)
        for weight in weights:
            kept.pop(weight.untyped_storage().data_ptr(), None)
        del loss
        return sum(kept.values())

    def parts(self, calls=3):
        """{part: ms} of a step by what it works on, as PyTorch's profiler sees it.

        The least of some steps, because machines do other things. On a GPU it is the
        time of the kernels, of a step that is not replayed.
        """
        times = [self._parts() for _ in range(calls)]
        return min(times, key=lambda took: sum(took.values()))

    def _parts(self):
        kinds, clock = [ProfilerActivity.CPU], "self_cpu_time_total"
        if self.device.type == "cuda":
            kinds.append(ProfilerActivity.CUDA)
            clock = "self_device_time_total"
        self.method.draw()
        with profile(activities=kinds) as seen:
            self.descend(self.batch)
        took = dict.fromkeys(PARTS, 0.0)
        for event in seen.events():
            if event.device_type == DeviceType.CPU:  # kernels count with their caller
                took[part(event)] += getattr(event, clock) / 1000
        return {name: round(ms, 3) for name, ms in took.items()}


def part(event):
    """Which part of a step a profiler's event belongs to."""
    outer = event
    while outer is not None:
        if outer.name.startswith("Optimizer."):
            return "optimiser"
        if outer.name == "lasso":
            return "lasso"
        outer = outer.cpu_parent
    if any(word in event.name for word in ("conv", "mm", "linear")):
        return "linear maps"
    return "normalisation" if "norm" in event.name else "rest"
