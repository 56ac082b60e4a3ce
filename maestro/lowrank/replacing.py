"""Replacing layers of a network, with everything that users attached to them."""

from functools import partial

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


def replace(net, new):
    """Put ``new[layer]`` in the place of each layer of ``net`` that is in ``new``.

    Args:
        net: any nn.Module. A layer may be in several places.
        new: {layer: its replacement}.

    Returns:
        ``net``, or its replacement if ``net`` itself is in ``new``.

    Raises:
        ValueError: the network also keeps a layer in a plain attribute; nothing is
            changed.
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


def _refuse_other_holders(net, layers):
    """Raise ValueError if a module also keeps one of ``layers`` in a plain attribute.

    The network would continue to call the old layer there, which nobody trains.
    """
    names = {layer: name for name, layer in net.named_modules()}
    for holder, name in names.items():
        for attribute, value in of_user(holder).items():
            for layer in _modules_in(value):
                if layer in layers:
                    where = f"{name}.{attribute}".lstrip(".")
                    raise ValueError(
                        f"{where} ({type(value).__name__}) holds the layer "
                        f"{names[layer]!r} as well and would keep the old one; keep "
                        "layers as modules only (nn.ModuleList, nn.ModuleDict), or "
                        f"factorize with skip={names[layer]!r}"
                    )


def _modules_in(value, depth=4):
    """The modules that a plain attribute holds in containers, methods or partials."""
    if isinstance(value, nn.Module):
        yield value
    elif depth:
        if isinstance(value, dict):
            inner = value.values()
        elif isinstance(value, list | tuple | set | frozenset):
            inner = value
        elif isinstance(value, partial):
            inner = value.func, *value.args, *value.keywords.values()
        else:
            inner = [x for x in [getattr(value, "__self__", None)] if x is not None]
        for each in inner:
            yield from _modules_in(each, depth - 1)
