"""The cost model against the clock: one product U V^T, or two maps in turn.

`LowRank.product_is_cheaper` counts multiply-accumulates for the batch and resolution.
This module times both ways, forward and backward, for every layer of a new shape.
"""

import copy

import torch
from step import reduced
from timing import race
from torch import nn

import maestro
from maestro.lowrank.base import whole_registers
from maestro.training.replay import Replay

SHARES = (1.0, 0.75, 0.5, 0.25)  # of the layer's full rank


def check(net, inputs, rounds, device, recorder=None):
    """[{layer, m, n, positions, rank, product_ms, two_ms, product}, ...].

    net: a factorised network. product: whether the cost model would make U V^T.
    recorder: what records the passes, so that a GPU's kernels alone are timed.
    """
    cases = []
    for name, layer, x in shapes(net, inputs):
        for share in SHARES:
            cut = copy.deepcopy(layer)
            maestro.truncate(cut, {"": max(1, round(share * layer.max_rank))})
            m, n = layer.shape
            positions = cut(x).numel() // m
            chosen = cut.product_is_cheaper(positions)
            calls = {
                way: forced(cut, x, way == "product", recorder)
                for way in ("product", "two")
            }
            times = race(calls, rounds, device)
            took = {  # the least: both ways at their best
                f"{way}_ms": round(1000 * min(seconds), 4)
                for way, seconds in times.items()
            }
            sizes = {"m": m, "n": n, "positions": positions, "rank": cut.rank}
            cases.append({"layer": name, **sizes, **took, "product": chosen})
    return cases


def work(net, inputs):
    """MACs of one forward pass on ``inputs``, in the ways that the layers choose.

    A backward pass takes twice as many. The product's own are among them.
    """
    more = []

    def count(layer, args, out):
        m, n = layer.shape
        positions = out.numel() // m
        if layer.product_is_cheaper(positions):
            dense = m * n * (layer.rank + positions)
            more.append(dense - positions * layer.rank * (m + n))

    watch(net, inputs, maestro.low_rank_layers(net).values(), count)
    return maestro.footprint(net, inputs).macs + sum(more)


def made(net, inputs):
    """MACs of one forward pass of a plain network, its outputs in whole registers.

    A processor makes them sixteen at a time: a map to 6 takes as long as one to 16.
    """
    found = []

    def count(layer, args, out):
        each, outputs = layer.weight[0].numel(), len(layer.weight)
        found.append(out.numel() // outputs * each * whole_registers(outputs))

    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    watch(net, inputs, layers, count)
    return sum(found)


def shapes(net, inputs):
    """(name, layer, its input) of the first low-rank layer of every shape."""
    seen = {}

    def note(module, args, out):
        key = module.extra_repr(), tuple(args[0].shape)
        seen.setdefault(key, (names[module], module, args[0].detach()))

    names = {layer: name for name, layer in maestro.low_rank_layers(net).items()}
    watch(net, inputs, names, note)
    return list(seen.values())


@torch.no_grad()
def watch(net, inputs, layers, note):
    """Call ``note(layer, its arguments, its output)`` in a forward pass of ``net``."""
    hooks = [layer.register_forward_hook(note) for layer in layers]
    with reduced(inputs[0].device):
        net(*inputs)
    for hook in hooks:
        hook.remove()


def forced(layer, x, product, recorder=None):
    """A forward and backward pass of ``layer`` in this way, to call again and again."""
    layer = copy.deepcopy(layer)
    layer.product_is_cheaper = lambda positions: product
    x = x.clone().requires_grad_()

    def both(_):
        with reduced(x.device):
            out = layer(x)
        out.backward(gradient)
        gradients, x.grad = x.grad, None
        layer.zero_grad()
        return gradients.flatten()[0]

    with torch.no_grad(), reduced(x.device):
        gradient = torch.randn_like(layer(x))
    call = Replay(both, recorder) if recorder else both
    return lambda: call(())
