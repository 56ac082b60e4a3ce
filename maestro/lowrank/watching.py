"""Errors for mistakes in a user's training loop that would otherwise stay silent.

Before an optimiser's step, the code checks that the optimiser holds no weights of
replaced layers, and no state for factors that have changed their number of columns. In
a layer's forward pass, the code checks that a data-parallel wrapper was made at the
current shapes. A loop without such a mistake pays nothing, because the checks run only
after layers were replaced or resized.
"""

from functools import cache
from weakref import WeakKeyDictionary, WeakSet

from torch.nn.parallel import DistributedDataParallel
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.weak import WeakIdKeyDictionary

from .states import refuse_stale_state

_replaced = WeakIdKeyDictionary()  # {parameter of a layer that is no longer used: True}
_resized = WeakKeyDictionary()  # {layer: [shapes of U and V before each change]}
_settled = WeakKeyDictionary()  # {optimiser: {layer: changes that its state followed}}
_checked = WeakKeyDictionary()  # {optimiser: `_changes` at its last check}
_maybe_empty = WeakSet()  # layers that were resized and may have no columns
_wrapped = WeakKeyDictionary()  # {wrapper: shapes of the parameters that it wraps}
_changes = [0]  # the number of times that factors were resized


def note_replaced(parameters):
    """From now on, an optimiser that holds one of ``parameters`` raises an error.

    Their gradients are removed, because a parameter with a gradient is in use.
    """
    _watch_optimizers()
    for parameter in parameters:
        _replaced[parameter] = True
        parameter.grad = None


def note_resized(layer):
    """Note that the factors of ``layer`` are about to change their columns."""
    _watch_optimizers()
    _changes[0] += 1
    _resized.setdefault(layer, []).append((layer.U.shape, layer.V.shape))
    _maybe_empty.add(layer)


def unsettled(optimizer, layers):
    """{factor: shapes for which ``optimizer`` may still hold state} of ``layers``."""
    followed, found = _settled.get(optimizer, {}), {}
    for layer in layers:
        before = _resized.get(layer, [])[followed.get(layer, 0) :]
        if before:
            shapes = map(set, zip(*before, strict=True))
            found |= zip((layer.U, layer.V), shapes, strict=True)
    return found


def settle(optimizer, layers):
    """Note that ``optimizer`` holds state of the current shapes of ``layers``."""
    followed = _settled.setdefault(optimizer, WeakKeyDictionary())
    followed.update({x: len(_resized[x]) for x in layers if x in _resized})


def refuse_old_wrapper():
    """Raise RuntimeError in the forward pass of a wrapper made before a cut."""
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
    """Whether the new ``wrapper`` was made at the current sizes of ``parameters``."""
    logged = wrapper._get_ddp_logging_data()
    trained = [p for p in parameters if p.requires_grad]
    if logged["num_parameter_tensors"] != len(trained):
        return True  # parameters were frozen or thawed: no comparison is possible
    size = sum(p.numel() * p.element_size() for p in trained)
    return logged["total_parameter_size_bytes"] == size


@cache
def _watch_optimizers():
    register_optimizer_step_pre_hook(_before_step)


def _before_step(optimizer, args, kwargs):
    for layer in list(_maybe_empty):
        if layer.rank:
            _maybe_empty.discard(layer)
        else:  # some optimisers cannot step over nothing
            layer.U.grad = layer.V.grad = None
    if not _replaced and _checked.get(optimizer, 0) == _changes[0]:
        return
    held = [p for group in optimizer.param_groups for p in group["params"]]
    # a parameter with a gradient is still used elsewhere
    if _replaced and any(p in _replaced and p.grad is None for p in held):
        raise RuntimeError(
            f"this {type(optimizer).__name__} holds weights of layers that `factorize` "
            "or `merge` replaced: make it afterwards, from net.parameters()"
        )
    if _resized:
        held = {id(p) for p in held}
        layers = [x for x in list(_resized) if {id(x.U), id(x.V)} & held]
        if had := unsettled(optimizer, layers):
            refuse_stale_state(optimizer, had)
            settle(optimizer, layers)
    _checked[optimizer] = _changes[0]
