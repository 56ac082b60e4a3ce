"""Exact numbers of parameters and multiply-accumulates (MACs), from a pass on shapes.

The conventions reproduce the paper's tables. Parameters are all trained numbers; shared
ones count once. MACs are those of linear maps with weights, one for each use of each
weight: every matrix product and convolution with a factor that is a parameter or is
computed from parameters alone. The count leaves out products of two activations (in
attention, q k^T and the product with v), elementwise work (batch norm, activations,
layer scales), pooling and look-ups. A low-rank layer of rank r counts r (m + n) instead
of m n for both, even where U V^T is computed first or other code reads the weight.
"""

import copy
import re
import traceback
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from .arguments import called_with, network
from .factorize import low_rank_layers
from .forms import smallest
from .layers import LowRankWeight
from .merging import merge
from .products import COMPUTED, ProductCounter, tensors
from .reads import weights_read
from .slots import SUFFIX


class Footprint(NamedTuple):
    """params: trained numbers. macs: multiply-accumulates of one forward pass."""

    params: int
    macs: int


class LayerSize(NamedTuple):
    """One low-rank layer: W is (m, n), applied to ``positions`` vectors in a pass.

    For a layer of several blocks, m and n are those of one block, and the positions are
    those of all blocks.
    """

    m: int
    n: int
    positions: int


@dataclass(frozen=True)
class Costs:
    """The cost of a network at any ranks, by arithmetic.

    Attributes:
        fixed: the Footprint of everything that is not low-rank, with all biases.
        maps: {name: LayerSize} of the low-rank layers.
        uncounted: the names of weights that are used in a way that has no count.
        read: the names of layers whose weight other code reads; merged, they are dense.
        blocks: {name: number of blocks} of the layers that have several.
    """

    fixed: Footprint
    maps: dict = field(default_factory=dict)
    uncounted: tuple = ()
    read: frozenset = frozenset()
    blocks: dict = field(default_factory=dict)

    def footprint(self, ranks, merged=False):
        """The Footprint at other ranks.

        Args:
            ranks: {name: r}.
            merged: if true, count each layer as `maestro.merge` stores it: in the
                smallest plain form (`forms`; dense if other code reads the weight), and
                rank 0 as rank 1. "aligned" counts as ``merge(net, aligned=True)``
                stores. Otherwise each layer counts as two factors.
        """
        if merged not in (False, True, "aligned"):
            raise ValueError(f'merged={merged!r}: it takes False, True or "aligned"')
        layers = [self.layer(name, ranks[name], merged) for name in self.maps]
        return Footprint(*map(sum, zip(self.fixed, *layers, strict=True)))

    def layer(self, name, rank, merged=False):
        """The Footprint of one low-rank layer, without its bias."""
        m, n, positions = self.maps[name]
        weights = rank * (m + n)
        if merged and name in self.read:
            weights = m * n
        elif merged:
            weights = smallest(m, n, rank, merged == "aligned").params
        return Footprint(weights * self.blocks.get(name, 1), weights * positions)


def footprint(net, example_inputs=(), merged=False, **keywords):
    """The parameters of ``net`` and the MACs of one forward pass.

    Args:
        net: any nn.Module, factorised or not.
        example_inputs, keywords: the inputs, as for `costs`; with one example (batch 1)
            the MACs are those of one example.
        merged: as for `Costs.footprint`; columns that a cut leaves unused then do not
            count, as `maestro.merge` does not store them.

    Returns:
        Footprint(params, macs).

    Raises:
        ValueError: some weights are used in a way that has no count (the message names
            them), or the network cannot run on shapes alone.
    """
    counted = costs(net, example_inputs, **keywords)
    if counted.uncounted:
        raise ValueError(
            f"no MACs are known for {', '.join(counted.uncounted)}; maestro.costs "
            "counts the rest"
        )
    now = {
        name: layer.in_use if merged else layer.rank
        for name, layer in low_rank_layers(net).items()
    }
    return counted.footprint(now, merged)


def costs(net, example_inputs=(), **keywords):
    """The `Costs` of ``net``, at its own ranks and at any others.

    A copy of the network without numbers runs on the shapes of the inputs. Nothing is
    computed, and ``net`` stays as it is. Integers, booleans and buffers keep their
    values, because the code of networks reads them (lengths, masks, flags).

    Args:
        net: any nn.Module, factorised or not.
        example_inputs: a tensor, a tuple of positional inputs, or a dict of inputs by
            name.
        keywords: inputs by name, as in ``costs(net, input_ids=ids)``.
    Returns:
        Costs
    Raises:
        ValueError: ``net`` is no module; it has lazy weights, whose shapes are not
            known yet; or its Python code asks for values that depend on the weights or
            on floating-point inputs.
    """
    network("net", net)
    lazy = [name for name, p in net.named_parameters() if nn.parameter.is_lazy(p)]
    if lazy:
        raise ValueError(f"no shape before a first forward pass: {', '.join(lazy)}")
    args, keywords = tree_map_only(
        torch.Tensor, _shape_of_float, called_with(example_inputs, keywords)
    )
    ghost = _ghost(net)
    counter = ProductCounter(dict(ghost.named_parameters()), tensors((args, keywords)))
    with torch.no_grad(), counter:
        _run(ghost, args, keywords)
    sizes = {name: p.numel() for name, p in ghost.named_parameters()}
    layers = low_rank_layers(net)
    weights = {_weight_name(name, layer): name for name, layer in layers.items()}
    fixed, of_layers, mixed = _share_out(counter.products, sizes, weights)
    maps, uncounted = {}, []
    for name, layer in layers.items():
        m, n = layer.shape
        positions, rest = divmod(of_layers[name], m * n)
        maps[name] = LayerSize(m, n, positions)
        if name in mixed:
            uncounted.append(f"{name} (its weight is mixed with others)")
        elif rest:
            uncounted.append(f"{name} (parts of its weight are used)")
    for name, operator in counter.unknown.items():
        uncounted.append(f"{name} (used by {operator})")
    factors = sum(r.U.numel() + r.V.numel() for r in layers.values())
    params = sum(p.numel() for p in net.parameters()) - factors
    readers = weights_read(net)
    read = frozenset(name for name, layer in layers.items() if layer in readers)
    blocks = {name: r.blocks for name, r in layers.items() if r.blocks > 1}
    return Costs(Footprint(params, fixed), maps, tuple(uncounted), read, blocks)


def _weight_name(name, layer):
    """What the layer's weight is called in a network where it is dense."""
    if isinstance(layer, LowRankWeight):
        return name.removesuffix(SUFFIX)
    return f"{name}.weight".lstrip(".")


def _shape_of_float(x):
    return x.to("meta") if x.is_floating_point() or x.is_complex() else x


def _ghost(net):
    """A copy of ``net`` whose parameters have shapes only and whose layers are dense.

    The inputs of a low-rank layer do not depend on its rank, so the copy represents the
    network at any ranks.
    """
    memo = {}
    for module in net.modules():
        for value in [*module._parameters.values(), *vars(module).values()]:
            if isinstance(value, nn.Parameter):
                shape = nn.Parameter(value.detach().to("meta"), value.requires_grad)
                memo[id(value)] = shape
            elif isinstance(value, torch.Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().to("meta")
    ghost = copy.deepcopy(net, memo).eval()
    for layer in low_rank_layers(ghost).values():
        r = layer.max_rank
        layer.columns = None
        layer.U = nn.Parameter(layer.U.new_empty(len(layer.U), r))
        layer.V = nn.Parameter(layer.V.new_empty(len(layer.V), r))
    return merge(ghost)


def _run(ghost, args, keywords):
    try:
        ghost(*args, **keywords)
    except (RuntimeError, TypeError) as error:
        said = str(error).partition("\n")[0]
        if not re.search("meta|unallocated", said, re.IGNORECASE):
            raise  # the network's own error
        raise ValueError(
            f"{type(ghost).__name__} cannot run on shapes alone: its code needs the "
            f"values of a tensor, {_where(error, ghost)} ({said})"
        ) from error


def _where(error, ghost):
    """The innermost module of ``ghost`` in the traceback of ``error``, in words."""
    names = {id(module): name for name, module in ghost.named_modules()}
    inside = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        inside = names.get(id(frame.f_locals.get("self")), inside)
    return f"in {inside}" if inside else "in its forward"


def _share_out(products, sizes, weights):
    """Assign the MACs of the products to dense weights and to low-rank layers.

    Args:
        products: [Product, ...].
        sizes: {name of a parameter: its elements}.
        weights: {name of a weight: its low-rank layer}.

    Returns:
        (MACs of dense weights, {layer: MACs}, layers with a weight mixed with others).
    """
    fixed, of_layers, mixed = 0, Counter(), set()
    for factors, macs in products:
        low = [factor for factor in factors if factor.sources & weights.keys()]
        if not low:
            fixed += macs
            continue
        sources, elements = low[0]
        whole = sum(sizes.get(name, 0) for name in sources)
        side_by_side = whole == elements and COMPUTED not in sources
        if len(low) > 1 or not (side_by_side or len(sources) == 1):
            mixed |= {weights[n] for f in low for n in f.sources if n in weights}
            continue
        for name in sources:
            share = macs * sizes[name] // whole
            if name in weights:
                of_layers[weights[name]] += share
            else:
                fixed += share
    return fixed, of_layers, mixed
