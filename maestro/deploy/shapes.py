"""A plain network brought to the shapes of a saved one, without its numbers.

In a state_dict a layer ``fc`` that was factorised has ``fc.U`` and ``fc.V``; merged to
two maps ``fc.0.weight`` and ``fc.1.weight``; aligned ``fc.first.weight``,
``fc.second.weight`` and ``fc.order``. A weight ``w`` that a module reads has
``w_factors.U``. So shapes, and with them ranks, are read off the tensors.
"""

import torch

from ..lowrank.base import LowRank
from ..lowrank.choosing import is_conv1d, kind_of
from ..lowrank.factorize import Place, low_rank, put_in_place
from ..lowrank.forms import ALIGNED, DENSE, TWO_MAPS
from ..lowrank.plain import plain
from ..lowrank.slots import SUFFIX, unrolled, weights_read_by

FACTORS = "factors"


def fit(net, tensors, kinds, source):
    """``net`` with layers of the forms and ranks that ``tensors`` {name: tensor} have.

    Args:
        net: the plain network, changed in place.
        kinds: {name: class} of the layers that were saved.
        source: what to call the tensors' origin in errors.
    Returns:
        ``net``, or what replaces it. Its numbers are to be loaded yet.
    Raises:
        ValueError: the tensors are not those of this architecture; nothing is changed.
    """
    new = {}
    for name, place in _places(net, tensors, kinds).items():
        if place not in new:  # of several names the first will do
            new[place] = _empty(place, name, tensors)
    _refuse_misfits(net, new, tensors, source)
    return put_in_place(net, new)


def _places(net, tensors, kinds):
    """{name: `Place`} of what has another form in ``tensors`` than in ``net``."""
    modules = dict(net.named_modules(remove_duplicate=False))
    found = {}
    for name, module in modules.items():
        if isinstance(module, LowRank):
            continue
        if kind_of(module) and _form(name, module, tensors, kinds):
            found[name] = Place(module)
        for own, weight in module._parameters.items():
            full = f"{name}.{own}{SUFFIX}".lstrip(".")
            if weight is not None and f"{full}.U" in tensors:
                blocks = len(weight) if weight.ndim == 3 else 1
                blocks = weights_read_by(module).get(own, blocks)
                found[full] = Place(module, own, blocks)
    return found


def _form(name, module, tensors, kinds):
    """FACTORS or one of the plain forms; None if the layer is as it is in ``net``."""
    at = f"{name}." if name else ""
    if f"{at}U" in tensors:
        return FACTORS
    if f"{at}order" in tensors:
        return ALIGNED
    if f"{at}0.weight" in tensors:
        return TWO_MAPS
    # of a square weight only its kind tells that it was turned
    return DENSE if is_conv1d(module) and kinds.get(name) == "Linear" else None


def _empty(place, name, tensors):
    """The layer for ``place``, in the form and rank of ``tensors``, to be loaded."""
    module, at = place.module, f"{name}." if name else ""
    form = FACTORS if place.blocks else _form(name, module, tensors, {name: "Linear"})
    if form == FACTORS:
        rank = tensors[f"{at}U"].shape[-1]
    elif form == DENSE:
        rank = 1
    else:
        narrow = "0" if form == TWO_MAPS else "first"
        rank = len(tensors[f"{at}{narrow}.weight"]) // getattr(module, "groups", 1)
    m, n = _sizes(place)
    dtype, device = place.weight.dtype, place.weight.device
    empty = [torch.zeros(rows, rank, dtype=dtype, device=device) for rows in (m, n)]
    layer = low_rank(place, name, tuple(empty))
    return layer if form == FACTORS else plain(layer, form)


def _sizes(place):
    """How many rows U and V have."""
    weight, kind = place.weight, kind_of(place.module)
    if place.blocks:
        G, m, n = unrolled(weight, place.blocks).shape
    elif hasattr(kind, "unrolled"):
        G, m, n = kind.unrolled(place.module).shape
    else:
        (m, n), G = weight.shape[:: -1 if is_conv1d(place.module) else 1], 1
    return G * m, G * n


def _refuse_misfits(net, new, tensors, source):
    """ValueError if ``net``, changed by ``new``, has other tensors than these."""
    expected = _state(net, new)
    lacking = [name for name in expected if name not in tensors]
    more = [
        name for name in tensors if name not in expected and not _mask(name, tensors)
    ]
    kind = type(net).__name__
    if lacking or more:
        what = [f"it lacks {_some(lacking)}"] * bool(lacking)
        what += [f"the network has no {_some(more)}"] * bool(more)
        raise ValueError(f"{source} does not fit this {kind}: {'; '.join(what)}")
    for name, value in expected.items():
        there = tensors[name]
        shape = there.shape if name.endswith((".U", ".V")) else value.shape
        if name.endswith((".U", ".V")) and len(there) != len(value):
            shape = value.shape
        if there.shape != shape:
            raise ValueError(
                f"{source} does not fit this {kind}: {name} is {tuple(there.shape)} "
                f"there and {tuple(shape)} in the network"
            )
        if there.dtype != value.dtype:
            raise ValueError(
                f"{source} has {name} in {there.dtype}, the network in {value.dtype}: "
                f"net.to({there.dtype}) first, or outputs would differ"
            )
        if value.is_meta:
            raise ValueError(
                f"{name} has no storage (meta): net.to_empty(device=...) first"
            )


def _state(net, new):
    """{name: tensor} of the state_dict that ``net`` will have."""
    state = net.state_dict(keep_vars=True)
    layers = {place.module: layer for place, layer in new.items() if not place.blocks}
    read = {(place.module, place.own): new[place] for place in new if place.blocks}
    for name, module in net.named_modules(remove_duplicate=False):
        at = f"{name}." if name else ""
        for own in module._parameters:
            if (module, own) in read:
                del state[at + own]
                for key, value in read[module, own].state_dict().items():
                    state[f"{at}{own}{SUFFIX}.{key}"] = value
        if module in layers:
            for own in module._parameters:
                state.pop(at + own, None)
            for key, value in layers[module].state_dict().items():
                state[at + key] = value
    return state


def _mask(name, tensors):
    """Whether it says how many columns of a layer are in use."""
    layer = name.removesuffix("columns")
    return layer != name and f"{layer}U" in tensors


def _some(names):
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
