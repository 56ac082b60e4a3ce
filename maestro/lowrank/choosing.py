"""The layers that `factorize` replaces, and the reasons to leave others alone."""

import difflib
import inspect
from collections import Counter
from fnmatch import fnmatchcase
from typing import NamedTuple

from torch import nn
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized

from .base import LowRank
from .convolutions import (
    CONVOLUTIONS,
    TRANSPOSED,
    LowRankConv,
    LowRankConvTranspose,
)
from .layers import LowRankLinear
from .replacing import LOW_RANK, of_user
from .slots import SUFFIX, Slots, weights_read_by

LAYERS = (nn.Linear, *CONVOLUTIONS, *TRANSPOSED)
NOT_LINEAR = {
    "Embedding": "{} looks rows up: no product to save",
    "EmbeddingBag": "{} looks rows up: no product to save",
    "Bilinear": "{} is linear in each of two inputs, not in one",
}


class Chosen(NamedTuple):
    """What to factorise: layers {name: module} that are replaced, weights {name:
    (module, parameter's name, blocks)} that modules read; and what not, left {name:
    reason}."""

    layers: dict
    weights: dict
    left: dict


def choose(model, skip=(), weights=()):
    """`Chosen` of ``model``."""
    skipped, named = skipper(model, skip), _named_weights(model, weights)
    owners = Counter(
        id(p) for module in model.modules() for p in module._parameters.values()
    )
    adapted = {
        m for parent in model.modules() if _is_peft(parent) for m in parent.modules()
    }
    chosen = Chosen({}, {}, {})
    for name, module in model.named_modules():
        # a parametrisation is reported under the name of its module
        if isinstance(module, LowRank | ParametrizationList) or not _has_matrix(module):
            continue
        read = weights_read_by(module) | named.get(module, {})
        here = module._parameters
        read = {own: n for own, n in read.items() if here.get(own) is not None}
        if isinstance(module, Slots) and not read:
            continue
        reason = _reason(module, owners, read)
        if module in adapted:
            reason = "peft writes to the weights of the layers that it adapts"
        if skipped(name, module):
            reason = "skipped"
        if reason:
            chosen.left[name] = reason
        elif read:
            for own, blocks in read.items():
                full = f"{name}.{own}{SUFFIX}".lstrip(".")
                chosen.weights[full] = module, own, blocks
        else:
            chosen.layers[name] = module
    return chosen


def kind_of(module):
    """The low-rank layer that stands for ``module``; None if there is none."""
    if isinstance(module, CONVOLUTIONS):
        return LowRankConv
    if isinstance(module, TRANSPOSED):
        return LowRankConvTranspose
    linear = isinstance(module, nn.Linear) or is_conv1d(module)
    return LowRankLinear if linear else None


def _is_layer(module):
    """Whether it is one linear map; a subclass may compute something else."""
    plain = {known.forward for known in LAYERS}
    return type(module).forward in plain or is_conv1d(module)


def is_conv1d(module):
    """Whether ``module`` is transformers' Conv1D: y = x W + b, W (n, m), as in GPT-2.

    The test uses the name of the class, so that transformers need not be installed.
    """
    kind = type(module)
    return kind.__name__ == "Conv1D" and kind.__module__.startswith("transformers.")


def _is_peft(module):
    return any(
        kind.__name__ == "BaseTunerLayer" and kind.__module__.startswith("peft.")
        for kind in type(module).__mro__
    )


def _has_matrix(module):
    weights = [p for p in module._parameters.values() if p is not None]
    matrices = [p for p in weights if nn.parameter.is_lazy(p) or p.ndim >= 2]
    return bool(matrices) or is_parametrized(module)


def _reason(module, owners, read):
    """Why ``module`` cannot be factorised; None if it can.

    read: {name: blocks} of the weights that it reads itself.
    """
    kind = type(module).__name__
    if not read and not _is_layer(module):
        return NOT_LINEAR.get(kind, f"{kind} is not a layer of one linear map").format(
            kind
        )
    own = [module._parameters.get(name) for name in read or ["weight"]]
    if any(weight is None for weight in own) or is_parametrized(module):
        return f"{kind} computes its weight (parametrised, or weight norm)"
    for weight in own:
        if nn.parameter.is_lazy(weight):
            return f"{kind} has no weight before its first forward pass"
        if not weight.is_floating_point():
            return f"{kind} has weights of {weight.dtype}"
    if any(owners[id(p)] > 1 for p in module._parameters.values() if p is not None):
        return f"{kind} shares its weight or bias with another module (tied)"
    if read:
        return next(filter(None, (_lost_of(weight, kind) for weight in own)), None)
    if getattr(module, "groups", 1) > 1 and 1 in kind_of(module).unrolled(module).shape:
        return (
            f"grouped convolution (groups={module.groups}) of rank 1 in each group, "
            "as depthwise ones are"
        )
    return _lost(module, kind)


def _lost(module, kind):
    """What replacing ``module`` would lose, in words; None if nothing."""
    if "forward" in vars(module):
        return f"{kind} has a forward of its own, set on the instance"
    given = {*of_user(module), *module._buffers}
    own = sorted(given & LOW_RANK.union(dir(kind_of(module))))
    if own:
        return f"{kind} has attributes whose names low-rank layers use: {_list(own)}"
    base = next((known for known in LAYERS if isinstance(module, known)), None)
    more = _defined(type(module)) if base else []
    if more:
        return f"{kind} defines more than nn.{base.__name__}: {_list(more)}"
    if module._modules or set(module._parameters) - {"weight", "bias"}:
        return f"{kind} holds other modules or parameters"
    if module._state_dict_hooks or module._load_state_dict_pre_hooks:
        return f"{kind} has hooks on its state_dict"
    lost = (_lost_of(parameter, kind) for parameter in module._parameters.values())
    return next(filter(None, lost), None)


def _lost_of(parameter, kind):
    if type(parameter) not in (nn.Parameter, type(None)):
        return f"{kind} has a parameter of the kind {type(parameter).__name__}"
    if getattr(parameter, "_backward_hooks", None) or getattr(
        parameter, "_post_accumulate_grad_hooks", None
    ):
        return f"{kind} has hooks on the gradient of its parameters"
    return None


def _defined(kind):
    """Names that subclasses of PyTorch's layers define, besides usual ones."""
    own = [c for c in kind.__mro__ if not c.__module__.startswith("torch.")]
    names = {n for c in own if c is not object for n in vars(c)}
    usual = {"reset_parameters", "extra_repr"}
    return sorted(n for n in names - usual if not n.startswith("__"))


def _list(names):
    return ", ".join(names)


def _named_weights(model, patterns):
    """{module: {parameter's name: blocks}} of the parameters that ``patterns`` name."""
    patterns = [patterns] if isinstance(patterns, str) else patterns
    if not isinstance(patterns, list | tuple | set | frozenset) or not all(
        isinstance(pattern, str) for pattern in patterns
    ):
        raise ValueError(
            f"weights={patterns!r}: it takes the name of a parameter, or several"
        )
    found, hit = {}, set()
    for name, module in model.named_modules():
        for own, parameter in module._parameters.items():
            full = f"{name}.{own}".lstrip(".")
            matching = {p for p in patterns if fnmatchcase(full, p)}
            if not matching or parameter is None or isinstance(module, LowRank):
                continue
            if parameter.ndim not in (2, 3):
                raise ValueError(
                    f"weights: {full} is {tuple(parameter.shape)}; it takes a matrix "
                    "(m, n), or several of one size, (blocks, m, n)"
                )
            hit |= matching
            if not _is_layer(module):
                blocks = len(parameter) if parameter.ndim == 3 else 1
                found.setdefault(module, {})[own] = blocks
    for pattern in patterns:
        if pattern not in hit:
            raise ValueError(
                f"weights={pattern!r} names no parameter of {type(model).__name__}"
            )
    return found


def skipper(model, skip):
    """``skip`` of `factorize` as a predicate on (name, module).

    Raises ValueError if a name or pattern names no module.
    """
    if callable(skip) and not isinstance(skip, type):
        return _checked(skip)
    patterns = [skip] if isinstance(skip, str) else skip
    if not isinstance(patterns, list | tuple | set | frozenset) or not all(
        isinstance(pattern, str) for pattern in patterns
    ):
        raise ValueError(
            f"skip={skip!r}: it takes a name, several, or a function of (name, module)"
        )
    # a module in several places has several names
    named = list(model.named_modules(remove_duplicate=False))
    skipped = set()
    for pattern in patterns:
        hit = {id(module) for name, module in named if _matches(name, pattern)}
        skipped |= hit
        if not hit:
            names = [name for name, _ in named]
            near = difflib.get_close_matches(pattern, names, 3, 0.4)
            raise ValueError(
                f"skip={pattern!r} names no module of {type(model).__name__}"
                + (f"; near it: {', '.join(near)}" if near else "")
            )
    return lambda name, module: id(module) in skipped


def _checked(skip):
    """The predicate ``skip``, answers other than True and False refused."""
    try:
        inspect.signature(skip).bind("name", None)
    except TypeError as error:
        raise ValueError(
            f"skip={skip!r}: a function must take (name, module)"
        ) from error

    def skipped(name, module):
        answer = skip(name, module)
        if not isinstance(answer, bool):
            raise ValueError(
                f"skip returned {answer!r} for {name!r}: it must return True or False"
            )
        return answer

    return skipped


def _matches(name, pattern):
    above = pattern + "." if pattern else ""  # of the network itself, which has no name
    return fnmatchcase(name, pattern) or fnmatchcase(name, above + "*")
