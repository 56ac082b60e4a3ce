"""What would go wrong silently in somebody else's loop, watched from two places.

Before an optimiser's step: it may hold weights of layers that were replaced, or state
for factors that have another number of columns since. In a layer's forward pass: the
network may be wrapped for data parallelism at other shapes. Whoever does these things
by the book pays nothing for it: there is nothing to look for then.
"""

from functools import cache
from weakref import WeakKeyDictionary, WeakSet

from torch.nn.parallel import DistributedDataParallel
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.weak import WeakIdKeyDictionary

from .states import refuse_stale_state

_replaced = WeakIdKeyDictionary()  # {parameter of a layer that is no longer used: True}
_resized = WeakKeyDictionary()  # {layer: shapes that its factors had, not yet settled}
_maybe_empty = WeakSet()  # layers that were resized and may have no columns
_wrapped = WeakKeyDictionary()  # {wrapper: shapes of the parameters that it wraps}
_changes = [0]  # how often factors were resized


def note_replaced(parameters):
    """From now on an optimiser that holds one of these is made too early."""
    _watch_optimizers()
    for parameter in parameters:
        _replaced[parameter] = True


def note_resized(layer):
    """The factors of ``layer`` are about to get another number of columns."""
    _watch_optimizers()
    _changes[0] += 1
    _resized.setdefault(layer, set()).update((layer.U.shape, layer.V.shape))
    _maybe_empty.add(layer)


def unsettled(layers):
    """{factor: shapes that optimisers may still hold state of}, of these layers."""
    return {
        factor: {shape for shape in _resized[layer] if shape[0] == len(factor)}
        for layer in layers
        if layer in _resized
        for factor in (layer.U, layer.V)
    }


def settle(layers):
    """All optimisers of these layers hold state of the shapes that they have now."""
    for layer in layers:
        _resized.pop(layer, None)


def refuse_old_wrapper():
    """RuntimeError in the forward pass of a wrapper that was made before a cut."""
    wrapper = DistributedDataParallel._get_active_ddp_module()
    if wrapper is None or not wrapper.training:
        return
    changes, shapes = _wrapped.get(wrapper, (None, None))
    if changes == _changes[0]:
        return
    parameters = list(wrapper.module.parameters())
    now = [p.shape for p in parameters]
    if shapes is None and not _wraps(wrapper, parameters) or shapes not in (None, now):
        raise RuntimeError(
            "ranks changed after the network was wrapped in DistributedDataParallel, "
            "which goes on with the old factors: wrap the network again"
        )
    _wrapped[wrapper] = _changes[0], now


def _wraps(wrapper, parameters):
    """Whether the new ``wrapper`` was made for the parameters as they are now."""
    told = wrapper._get_ddp_logging_data()
    trained = [p for p in parameters if p.requires_grad]
    if told["num_parameter_tensors"] != len(trained):
        return True  # some were frozen, or thawed, meanwhile: nothing to compare with
    size = sum(p.numel() * p.element_size() for p in trained)
    return told["total_parameter_size_bytes"] == size


@cache
def _watch_optimizers():
    register_optimizer_step_pre_hook(_before_step)


def _before_step(optimizer, args, kwargs):
    for layer in list(_maybe_empty):
        if layer.rank:
            _maybe_empty.discard(layer)
        else:  # some optimisers cannot step over nothing
            layer.U.grad = layer.V.grad = None
    if not _replaced and not _resized:
        return
    held = [p for group in optimizer.param_groups for p in group["params"]]
    # what has a gradient is used somewhere else as well
    if any(p in _replaced and p.grad is None for p in held):
        raise RuntimeError(
            f"this {type(optimizer).__name__} holds weights of layers that `factorize` "
            "or `merge` replaced: make it afterwards, from net.parameters()"
        )
    held = {id(p) for p in held}
    pairs = {layer: {id(layer.U), id(layer.V)} for layer in list(_resized)}
    concerned = [layer for layer, pair in pairs.items() if pair & held]
    if concerned:
        refuse_stale_state(optimizer, unsettled(concerned))
        settle(layer for layer in concerned if pairs[layer] <= held)
