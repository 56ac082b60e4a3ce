"""The matrix products with weights of a forward pass, and their MACs.

The code watches PyTorch's dispatcher while a network runs on shapes alone. However a
module is called, and however its weights are read, its products arrive here as
``aten.mm``, ``aten.convolution`` and a few others. The sources of each tensor are
tracked, which distinguishes a product with a weight from a product of two activations.
"""

import math
from typing import NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

aten = torch.ops.aten

# sources of a tensor besides the names of parameters; a constant has none
INPUT = "the input"  # the tensor is an activation
COMPUTED = "a product"  # of weights: a computed weight, or a learned query

# {operator: which arguments are the factors (..., m, k) and (..., k, n)}
MATRIX_PRODUCTS = {
    aten.mm: (0, 1),
    aten.bmm: (0, 1),
    aten.mv: (0, 1),
    aten.dot: (0, 1),
    aten.addmm: (1, 2),
    aten.addmv: (1, 2),
    aten.baddbmm: (1, 2),
    aten.addbmm: (1, 2),
    aten._addmm_activation: (1, 2),
    aten._grouped_mm: (0, 1),
    aten._scaled_mm: (0, 1),
    aten._int_mm: (0, 1),
}
# what picks matrices out of a stack, an expert for each token, as the input says
PICKS = {aten.index, aten.index_select}
BATCHED = {aten.bmm, aten.baddbmm, aten.addbmm}
# {operator whose second argument is its kernel: MACs of (x, kernel, out, transposed)}
KERNELS = {
    aten.convolution: lambda x, w, out, transposed: (
        (x if transposed else out).numel() * math.prod(w.shape[1:])
    ),
    aten.conv_tbc: lambda x, w, out, _: out.numel() * math.prod(w.shape[:2]),
    aten._trilinear: lambda x, w, out, _: len(x) * w.numel(),  # nn.Bilinear
}


class Weight(NamedTuple):
    """A weight in a product: its sources, and the number of its elements."""

    sources: frozenset
    elements: int


class Product(NamedTuple):
    """One product. weights: a `Weight` for each factor that is a weight."""

    weights: list
    macs: int


class ProductCounter(TorchDispatchMode):
    """Collects every product with a weight that runs while it is active.

    parameters: {name: parameter}. inputs: the tensors that the network is given.
    ``products`` lists each `Product`; ``unknown`` is {parameter's name: operator} for
    operators of other libraries, which may multiply in ways that are not known here.
    """

    def __init__(self, parameters, inputs):
        super().__init__()
        self.products, self.unknown = [], {}
        self._known = {}  # {address of a storage: (storage, sources)}
        for name, parameter in parameters.items():
            self._mark(parameter, {name})
        for tensor in inputs:
            self._mark(tensor, {INPUT})

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is not torch.ops.prim.device.default:
            with self:  # in inference mode F.linear and others arrive in one piece
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        out = _run_on_shapes(func, args, kwargs)
        sources = self._follow(func, args, kwargs, out)
        for tensor in tensors(out):
            self._mark(tensor, sources)
        return out

    def _follow(self, func, args, kwargs, out):
        """The sources of ``out``; a product is counted on the way."""
        packet, given = func.overloadpacket, tensors((args, kwargs))
        sources = frozenset().union(*map(self._sources, given))
        if packet in MATRIX_PRODUCTS:
            self._count_matrices(packet, *(args[i] for i in MATRIX_PRODUCTS[packet]))
        elif packet in KERNELS:
            self._count_kernel(packet, args, out)
        elif packet in PICKS and args[0].ndim > 2:
            return self._sources(args[0])
        elif packet.__name__.startswith("new_") or packet.__name__.endswith("_like"):
            return frozenset()  # such an operator uses the shape of its argument only
        else:
            if func.namespace not in ("aten", "prim", "prims"):
                names = [self._sources(x) for x in given if x.ndim > 1]
                names = frozenset().union(*names) - {INPUT, COMPUTED}
                self.unknown |= dict.fromkeys(names, str(packet))
            return sources
        return sources and {COMPUTED} | (sources & {INPUT})

    def _count_matrices(self, packet, first, second):
        macs = first.numel() * (second.shape[-1] if second.ndim > 1 else 1)
        pairs = (first, second), (second, first)
        weights = [
            Weight(self._sources(factor), factor.numel())
            for factor, other in pairs
            if self._is_weight(factor, other, packet in BATCHED)
        ]
        if weights:
            self.products.append(Product(weights, macs))

    def _count_kernel(self, packet, args, out):
        """Count a convolution; unlike in attention, a kernel from the input counts."""
        kernel, sources = args[1], self._sources(args[1])
        transposed = packet is aten.convolution and args[6]
        macs = KERNELS[packet](*args[:2], out, transposed)
        if sources:
            weights = [] if INPUT in sources else [Weight(sources, kernel.numel())]
            self.products.append(Product(weights, macs))

    def _is_weight(self, factor, other, batched):
        sources = self._sources(factor)
        if not sources or INPUT in sources:
            return False
        # what was computed from weights alone is a weight in a linear map, but a
        # learned query or key in a product of batches
        return COMPUTED not in sources or (
            INPUT in self._sources(other) and not batched
        )

    def _mark(self, tensor, sources):
        """Record the sources of ``tensor`` and of all that share its storage."""
        sources = frozenset({INPUT} if INPUT in sources else sources)
        storage = tensor.untyped_storage()  # kept, so that its address stays taken
        self._known[storage._cdata] = storage, sources

    def _sources(self, tensor):
        storage = tensor.untyped_storage()
        return self._known.get(storage._cdata, (None, frozenset()))[1]


def _run_on_shapes(func, args, kwargs):
    """The result of ``func``; some of the tensors, on "meta", have shapes only."""
    try:
        out = func(*args, **kwargs)
    except RuntimeError:  # both kinds mixed, or a shape that is copied to a device
        moved, named = tree_map_only(
            torch.Tensor | torch.device, _to_meta, (args, kwargs)
        )
        out = func(*moved, **named)
        return args[0] if func.overloadpacket.__name__.endswith("_") else out
    if _is_shape(out) and not tensors((args, kwargs)) and not out.is_floating_point():
        return func(*args, **kwargs | {"device": torch.device("cpu")})  # positions, say
    return out


def _is_shape(out):
    return isinstance(out, torch.Tensor) and out.is_meta


def _to_meta(x):
    return x.to("meta") if isinstance(x, torch.Tensor) else torch.device("meta")


def tensors(tree):
    """All tensors with a storage in nested tuples, lists and dicts."""
    leaves = [x for x in tree_leaves(tree) if isinstance(x, torch.Tensor)]
    return [x for x in leaves if x.layout == torch.strided]
