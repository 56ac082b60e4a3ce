"""Parameters and multiply-accumulates (MACs), exact, from one pass without data.

Conventions (they meet the paper's tables): parameters are all trained numbers, shared
ones once. MACs are those of linear maps, one for each use of each weight; no attention
products, batch norm, activations, pooling or look-ups. A low-rank layer of rank r
takes r (m + n) instead of m n, of both.
"""

import copy
import inspect
import math
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import nn

from .factorize import low_rank_layers
from .layers import LowRank


class Footprint(NamedTuple):
    """params: trained numbers. macs: multiply-accumulates of one forward pass."""

    params: int
    macs: int


class Map(NamedTuple):
    """One low-rank layer: W is (m, n), applied to ``positions`` vectors a pass."""

    m: int
    n: int
    positions: int


@dataclass(frozen=True)
class Costs:
    """What a network costs at any ranks: all of it is arithmetic on this.

    fixed: the part that is not low-rank, biases included. maps: {name: Map}.
    uncounted: modules with weights whose MACs are not known, by name.
    """

    fixed: Footprint
    maps: dict = field(default_factory=dict)
    uncounted: tuple = ()

    def footprint(self, ranks, merged=False):
        """Footprint at ``ranks`` {name: r}.

        merged: store a layer as one dense matrix where that is no larger (App. D.4),
        as `maestro.merge` does, instead of always as two factors.
        """
        params, macs = self.fixed
        for name, (m, n, positions) in self.maps.items():
            weights = ranks[name] * (m + n)
            if merged:
                weights = min(weights, m * n)
            params += weights
            macs += weights * positions
        return Footprint(params, macs)

    def training_macs(self, ranks):
        """Expected MACs of one forward pass under LoD's sampling of one pair (i, b).

        All layers at rank r_i, less what the sampled one saves: with R = sum r_i,
        layer i is drawn with probability r_i / R and then runs (r_i + 1) / 2 columns
        on average. The convention of Tables 11-15's "Rel. MACs (Train.)".
        """
        macs = self.footprint(ranks).macs
        total = sum(ranks.values())
        for name, (m, n, positions) in self.maps.items():
            r = ranks[name]
            if r:
                macs -= r / total * (r - (r + 1) / 2) * (m + n) * positions
        return macs


def footprint(net, example_inputs, merged=False):
    """Footprint of ``net`` for ``example_inputs`` (a tensor, or a tuple of them).

    Give one example (batch 1) to count the MACs of one. Nothing is computed and no
    data is needed: the pass runs on shapes alone. ``merged`` as in `Costs.footprint`.
    Raises ValueError, naming them, if modules with weights cannot be counted.
    """
    counted = costs(net, example_inputs)
    if counted.uncounted:
        raise ValueError(
            "MACs are not known of: " + ", ".join(counted.uncounted) + "; `costs` "
            "counts the rest"
        )
    now = {name: layer.rank for name, layer in low_rank_layers(net).items()}
    return counted.footprint(now, merged)


def costs(net, example_inputs):
    """`Costs` of ``net``, by running a copy without storage on the shapes of inputs.

    Raises ValueError if ``net`` has lazy weights, whose shapes are not known yet.
    """
    lazy = [name for name, p in net.named_parameters() if nn.parameter.is_lazy(p)]
    if lazy:
        raise ValueError(f"no shape before a first forward pass: {', '.join(lazy)}")
    inputs = example_inputs
    inputs = inputs if isinstance(inputs, tuple | list) else (inputs,)
    inputs = [x.to("meta") if isinstance(x, torch.Tensor) else x for x in inputs]
    ghost = copy.deepcopy(net).to("meta").eval()
    calls, fixed_macs, uncounted = {}, [0], []

    def count(module, args, kwargs, output):
        if isinstance(module, LowRank):
            name = names[module]
            out = output.numel() // len(module.U)
            calls[name] = calls.get(name, 0) + out
        else:
            given = inspect.signature(module.forward).bind(*args, **kwargs).args
            fixed_macs[0] += _MACS[_kind(module)](module, given, output)

    names = {module: name for name, module in ghost.named_modules()}
    for module, name in names.items():
        if isinstance(module, LowRank) or _kind(module):
            module.register_forward_hook(count, with_kwargs=True)
        elif _has_weights(module) and not _counted_by_parent(name, ghost):
            uncounted.append(name or type(module).__name__)
    with torch.no_grad():
        ghost(*inputs)
    layers = low_rank_layers(net)
    maps = {
        name: Map(*layer.shape, calls.get(name, 0)) for name, layer in layers.items()
    }
    factors = sum(r.U.numel() + r.V.numel() for r in layers.values())
    params = sum(p.numel() for p in net.parameters()) - factors
    return Costs(Footprint(params, fixed_macs[0]), maps, tuple(uncounted))


def _linear_macs(module, args, output):
    return output.numel() * module.in_features


def _conv_macs(module, args, output):
    return output.numel() * math.prod(module.weight.shape[1:])


def _transposed_conv_macs(module, args, output):
    return args[0].numel() * math.prod(module.weight.shape[1:])


def _attention_macs(module, args, output):
    """The projections of q, k, v and the output, whose layer is read, never called."""
    query, key, value = args[:3]
    tokens = [x.numel() // x.shape[-1] for x in (query, key, value)]
    if module.in_proj_weight is not None:
        each = [module.embed_dim**2] * 3
    else:
        each = [
            w.numel()
            for w in (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
        ]
    inner = sum(t * w for t, w in zip(tokens, each, strict=True))
    return inner + tokens[0] * module.embed_dim**2


def _recurrent_macs(module, args, output):
    steps = args[0].data.numel() // module.input_size  # .data: it may be packed
    return steps * sum(p.numel() for n, p in module.named_parameters() if "weight" in n)


_MACS = {
    nn.Linear: _linear_macs,
    nn.modules.conv._ConvTransposeNd: _transposed_conv_macs,
    nn.modules.conv._ConvNd: _conv_macs,
    nn.MultiheadAttention: _attention_macs,
    nn.RNNBase: _recurrent_macs,
    nn.Embedding: lambda *_: 0,
    nn.EmbeddingBag: lambda *_: 0,
}


def _kind(module):
    return next((kind for kind in _MACS if isinstance(module, kind)), None)


def _has_weights(module):
    return any(p is not None and p.ndim >= 2 for p in module._parameters.values())


def _counted_by_parent(name, net):
    parent = net.get_submodule(name.rpartition(".")[0])
    return isinstance(parent, nn.MultiheadAttention)
