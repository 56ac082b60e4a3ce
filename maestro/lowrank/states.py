"""Optimisers' state, brought to the shapes of factors that lost columns.

Most optimisers keep numbers of a parameter's own shape, some one for each row and one
for each column (Adafactor): both are cut as the factor is. What else there is, such as
Shampoo's and SOAP's preconditioners, belongs to all columns together; then the state of
that factor starts anew.
"""

import torch

_UNKNOWN = object()


def cut_state(optimizer, had):
    """Let the state of ``optimizer`` fit the factors as they are now.

    had: {factor: the shapes that it had}, which tell what in the state is of a factor's
    own shape.
    """
    if isinstance(optimizer, torch.optim.LBFGS):  # one history of all parameters
        optimizer.state.clear()
        optimizer._numel_cache = None
        return
    own = _keys_of_own_shape(optimizer, had)
    for factor, shapes in had.items():
        state = optimizer.state.get(factor)
        if not state:
            continue
        cut = {k: _cut(v, factor.shape, shapes, k in own) for k, v in state.items()}
        if any(value is _UNKNOWN for value in cut.values()):
            del optimizer.state[factor]
        else:
            optimizer.state[factor] = cut


def refuse_stale_state(optimizer, had):
    """RuntimeError if ``optimizer`` holds state of what the factors were before.

    Few optimisers would notice: fused ones read on in the old state, for example.
    """
    own = _keys_of_own_shape(optimizer, had)
    for factor, shapes in had.items():
        before = {columns for _, columns in shapes} - {factor.shape[1]}
        for key, value in optimizer.state.get(factor, {}).items():
            if not isinstance(value, torch.Tensor) or value.ndim != 2:
                continue
            if value.shape[1] in before and (key in own or len(value) == 1):
                raise RuntimeError(
                    f"this {type(optimizer).__name__} holds state {tuple(value.shape)} "
                    f"for a factor that is {tuple(factor.shape)} now: give the "
                    "optimiser when you cut, as in maestro.shrink(net, optimizer); "
                    "when you load a network, load the optimiser's state as well"
                )


def _keys_of_own_shape(optimizer, had):
    """Names in the state that stand for a tensor of the parameter's shape, everywhere.

    A preconditioner of a square factor has its shape too, but not that of others.
    """
    own, other = set(), set()
    for parameter, state in optimizer.state.items():
        shapes = had.get(parameter, set()) | {parameter.shape}
        for key, value in state.items():
            if isinstance(value, torch.Tensor):
                (own if value.shape in shapes else other).add(key)
    return own - other


def _cut(value, shape, earlier, own):
    """``value`` for a factor of ``shape``; _UNKNOWN if it must start anew."""
    if not isinstance(value, torch.Tensor):
        plain = value is None or isinstance(value, int | float | str)
        return value if plain else _UNKNOWN
    if own:
        return _leading(value, shape[1])
    if value.numel() == 1:
        return value
    rows, before = shape[0], {s[1] for s in earlier if s[0] == shape[0]} | {shape[1]}
    if value.shape == (rows, 1) or value.shape == (rows,) and rows not in before:
        return value
    columns = value.shape[-1:] or (0,)
    if value.shape == (1, *columns) or value.shape == columns and rows not in before:
        return _leading(value, shape[1]) if columns[0] in before else _UNKNOWN
    return _UNKNOWN


def _leading(value, columns):
    """The first ``columns`` of ``value``, in memory of their own."""
    if value.shape[-1] < columns:  # the factor grew: it was loaded
        return _UNKNOWN
    return value[..., :columns].clone(memory_format=torch.contiguous_format)
