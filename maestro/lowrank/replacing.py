"""Replacing layers of a network, with everything that users attached to them."""

from functools import partial
from types import FunctionType, MethodType, ModuleType

import torch
from torch import nn

from .watching import note_replaced

# the attributes of nn.Module, nn.Linear, nn.Conv2d and low-rank layers; any other
# attribute is a user's
DENSE = {
    *vars(nn.Module()),
    *nn.Linear.__constants__,
    *nn.Conv2d.__constants__,
    "transposed",
    "_reversed_padding_repeated_twice",
}
LOW_RANK = {"U", "V", "columns", "blocks", "weight_was_read", "rank_guard", "_pad"}
# not looked into; an optimiser made too early is stopped at its next step (watching.py)
_OPAQUE = (type, ModuleType, torch.Tensor, torch.optim.Optimizer)


def replace(net, new):
    """Put ``new[layer]`` in the place of each layer of ``net`` that is in ``new``.

    Args:
        net: any nn.Module. A layer may be in several places.
        new: {layer: its replacement}.

    Returns:
        ``net``, or its replacement if ``net`` itself is in ``new``.

    Raises:
        ValueError: the network also keeps a layer, or its weight, in a plain attribute;
            nothing is changed.
    """
    _refuse_other_holders(net, new)
    for old, layer in new.items():
        _hand_over(old, layer)
    for parent in list(net.modules()):
        for name, child in parent._modules.items():
            if child in new:
                parent._modules[name] = new[child]
    net = new.get(net, net)
    left = {id(p) for p in net.parameters()}
    note_replaced(p for old in new for p in old.parameters() if id(p) not in left)
    return net


def of_user(layer, own=DENSE):
    """{name: value} of the attributes of ``layer`` that are not its ``own``."""
    return {name: value for name, value in vars(layer).items() if name not in own}


def tagged(parameter, like):
    """``parameter`` with the attributes that users put on the parameter ``like``."""
    vars(parameter).update(vars(like))
    return parameter


def _hand_over(old, new):
    """Give ``new`` the mode, hooks, attributes and buffers of ``old``."""
    for name, value in vars(old).items():
        if name.startswith(("_forward_", "_backward_", "_is_full_backward_")):
            setattr(new, name, value)  # not a copy: their handles still remove them
    vars(new).update(of_user(old, DENSE | LOW_RANK))
    for name in old._buffers.keys() - LOW_RANK:
        buffer = old._buffers[name]
        kept = name not in old._non_persistent_buffers_set
        new.register_buffer(name, buffer, persistent=kept)
    new.train(old.training)


def _refuse_other_holders(net, new):
    """Raise ValueError if a module keeps a layer of ``new`` in a plain attribute.

    The network would continue to call the old layer, or to use its old weight, there,
    which nobody trains.
    """
    names = {layer: name for name, layer in net.named_modules()}
    lost = {}  # {id: (what it is, the layer's name)}
    for layer in new.keys() & names.keys():
        lost[id(layer)] = f"the layer {names[layer]!r}", names[layer]
        kept = {id(p) for p in new[layer].parameters()}
        for key, parameter in layer.named_parameters():
            if id(parameter) not in kept:
                lost[id(parameter)] = f"the {key} of {names[layer]!r}", names[layer]
    for holder, name in names.items():
        for attribute, value in of_user(holder).items():
            for held in _held(value):
                if id(held) in lost:
                    what, layer = lost[id(held)]
                    where = f"{name}.{attribute}".lstrip(".")
                    raise ValueError(
                        f"{where} ({type(value).__name__}) holds {what} as well and "
                        "would keep the old one; keep layers as modules only "
                        "(nn.ModuleList, nn.ModuleDict), or factorize with "
                        f"skip={layer!r}"
                    )


def _held(value, depth=4):
    """The modules and parameters that a plain attribute holds.

    It may hold them in containers, methods, partials, closures or plain objects.
    """
    if isinstance(value, nn.Module | nn.Parameter):
        yield value
    elif depth and not isinstance(value, _OPAQUE):
        for each in _inside(value):
            yield from _held(each, depth - 1)


def _inside(value):
    """What ``value`` refers to, one level down."""
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, list | tuple | set | frozenset):
        return value
    if isinstance(value, partial):
        return value.func, *value.args, *value.keywords.values()
    if isinstance(value, MethodType):
        return value.__self__, value.__func__
    if isinstance(value, FunctionType):
        defaults = *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()
        return *map(_content, value.__closure__ or ()), *defaults
    return getattr(value, "__dict__", {}).values()


def _content(cell):
    """What a closure's ``cell`` holds; None if its name is not bound yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return None
