"""Columns in use for the length of a step, and layers that run once more in it.

Activation checkpointing keeps no intermediate results: in the backward pass it runs the
forward pass again. If a layer then used other columns than the first time, gradients
would be wrong, in most cases without any error. So it is refused. Autograd numbers the
nodes of its graph as it makes them; here is noted which number was next when a layer's
columns changed, and a layer that runs in a backward pass looks whether the node that
asks for it is older.
"""

from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch

_changed = WeakKeyDictionary()  # {layer: number of the next node, at its last change}
_lasting = WeakKeyDictionary()  # {layer: its columns when the draw in force has ended}


@contextmanager
def columns_in_use(layers, columns):
    """Within it ``layers[name].columns`` is ``columns[name]``, for all names there.

    RuntimeError in a backward pass: what is run again there would draw anew.
    """
    if _in_backward():
        raise RuntimeError(
            "a checkpointed function opens `sample` itself and would draw other "
            "columns when it runs again: open it around the checkpoint"
        )
    chosen = [layers[name] for name in columns]
    before = [layer.columns for layer in chosen]
    outermost = [layer for layer in chosen if layer not in _lasting]
    _lasting.update((layer, layer.columns) for layer in outermost)
    try:
        _change(chosen, columns.values())
        yield
    finally:
        _change(chosen, before)
        for layer in outermost:
            del _lasting[layer]


def lasting_columns(layer):
    """``layer.columns`` without the draw in force."""
    return _lasting.get(layer, layer.columns)


def refuse_other_columns(layer):
    """RuntimeError if ``layer`` runs again with other columns than the first time."""
    if not _in_backward():
        return
    asking = torch._C._current_autograd_node()
    if asking._sequence_nr() < _changed.get(layer, 0):
        raise RuntimeError(
            "activation checkpointing runs a low-rank layer again whose draw has "
            "ended: call backward inside `with maestro.sample(net):`"
        )


def _change(layers, columns):
    next_node = torch._C._autograd._get_sequence_nr()
    for layer, these in zip(layers, columns, strict=True):
        layer.columns, _changed[layer] = these, next_node


def _in_backward():
    return torch._C._current_graph_task_id() != -1
