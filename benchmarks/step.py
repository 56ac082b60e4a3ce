"""One optimiser step, dense or LoD: to time it, weigh it and take it apart."""

from contextlib import nullcontext
from functools import partial

import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import ProfilerActivity, profile, record_function

import maestro
from maestro.lowrank import add_lasso_gradient
from maestro.training import make_optimizer


class Step:
    """One optimiser step, to call again and again; LoD's if ``net`` is factorised."""

    def __init__(self, net, subject, inputs, targets):
        self.net = net
        self.loss = partial(subject.loss, net, inputs, targets)
        self.optimizer = make_optimizer(net.parameters(), subject.recipe)
        low_rank = maestro.low_rank_layers(net)
        self.sampler = maestro.RankSampler(net) if low_rank else None

    def __call__(self):
        with self.sampler.step() if self.sampler else nullcontext():
            self.loss().backward()
        if self.sampler:
            with record_function("lasso"):
                add_lasso_gradient(self.net, 1e-5)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def memory(self):
        """Bytes held when the backward pass begins: what it needs, and what stays.

        Weights, as many gradients, the optimiser's state, and the activations.
        """
        kept = {}

        def pack(tensor):
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = self.loss()
        weights = list(self.net.parameters())
        for weight in weights:
            kept.pop(weight.untyped_storage().data_ptr(), None)
        del loss
        states = [v for state in self.optimizer.state.values() for v in state.values()]
        states = [v for v in states if isinstance(v, torch.Tensor)]
        return sum(kept.values()) + sum(v.nbytes for v in 2 * weights + states)

    def parts(self, calls=2):
        """{part: ms} of a step by what it works on, as PyTorch's profiler sees it."""
        self()  # other networks have had the memory meanwhile
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            for _ in range(calls):
                self()
        took = dict.fromkeys(
            ("linear maps", "normalisation", "optimiser", "lasso", "rest"), 0.0
        )
        for event in seen.events():
            took[part(event)] += event.self_cpu_time_total / 1000 / calls
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
