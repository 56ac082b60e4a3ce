"""The layers that a network's code reads from instead of only calling them.

Examples are attention blocks that compute with ``self.qkv.weight`` (Swin, BEiT,
EVA-02), checks of ``self.wo.weight.dtype`` (T5), the fast path of
nn.TransformerEncoderLayer, and a padding that is computed from ``self.conv.stride``.
Such a layer must stay one layer. A layer notes when its weight is read in a forward
pass. For networks that have not run yet, and for the other attributes, this module
searches the byte code that ``forward`` reaches in the class of each module for
``X.weight``, ``X.bias`` and ``X.stride`` and the like.
"""

import dis
import inspect
from types import FunctionType

from torch import nn

from .base import LowRank
from .slots import owned

NUMBERS = ("weight", "bias")
# what dense layers have besides, and a pair of layers has not
SIZES = ("in_features", "out_features", "in_channels", "out_channels", "groups")
SIZES += ("kernel_size", "stride", "padding", "dilation", "output_padding")


def weights_read(net):
    """The set of low-rank layers of ``net`` whose attributes other code reads."""
    found = {m for m in net.modules() if isinstance(m, LowRank) and m.weight_was_read}
    found |= owned(net)
    names_in = {kind: _names_read(kind) for kind in {type(m) for m in net.modules()}}
    for parent in net.modules():
        names = names_in[type(parent)]
        for name, module in parent.named_modules() if names else ():
            last = name.rpartition(".")[2]
            # a variable may hold any of the layers that the module holds itself
            unknown = None in names and name in _held(parent)
            if isinstance(module, LowRank) and (last in names or unknown):
                found.add(module)
    return found


def _held(parent):
    """The names of the modules that ``parent`` holds, directly or in containers."""
    names = set()
    for name, child in parent.named_children():
        names.add(name)
        if isinstance(child, nn.ModuleList | nn.ModuleDict | nn.Sequential):
            names |= {f"{name}.{inner}" for inner in _held(child)}
    return names


def _names_read(kind):
    """The X of all ``X.weight``, ``X.stride`` and so on that ``kind.forward`` reaches.

    ``forward`` reaches the methods of the class and the functions of its file that it
    names. None stands for an X without a name, a variable or an item of a list, whose
    weight or bias is read; its other attributes may be those of a tensor.
    """
    if issubclass(kind, LowRank):
        return set()
    names, seen, todo = set(), set(), [kind.forward]
    while todo:
        function = inspect.unwrap(todo.pop())
        if not isinstance(function, FunctionType) or function in seen:
            continue
        seen.add(function)
        for code in _codes(function.__code__):
            names |= _attributes_read(code)
            for name in code.co_names:
                todo += [getattr(kind, name, None), function.__globals__.get(name)]
    return names


def _codes(code):
    """``code`` and the code of the functions defined in it."""
    yield code
    for constant in code.co_consts:
        if inspect.iscode(constant):
            yield from _codes(constant)


def _attributes_read(code):
    found, before = set(), None
    for step in dis.get_instructions(code):
        if step.opname == "EXTENDED_ARG":
            continue
        if step.opname == "LOAD_ATTR" and step.argval in NUMBERS + SIZES:
            if before.opname == "LOAD_ATTR":
                found.add(before.argval)
            elif step.argval in NUMBERS and before.argrepr.split(", ")[-1] != "self":
                found.add(None)  # not its own
        before = step
    return found
