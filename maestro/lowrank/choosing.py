"""Which layers of a network `factorize` takes, and why it leaves the others alone."""

import difflib
import inspect
from collections import Counter
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized

from .base import LowRank
from .layers import LowRankConv2d, LowRankLinear
from .replacing import LOW_RANK, of_user


def choose(model, skip):
    """What to factorise, {name: module}, and what not, {name: reason}."""
    skipped = _skipper(model, skip)
    owners = Counter(
        id(p) for module in model.modules() for p in module._parameters.values()
    )
    adapted = {
        m for parent in model.modules() if _is_peft(parent) for m in parent.modules()
    }
    chosen, left = {}, {}
    for name, module in model.named_modules():
        # a parametrisation is spoken of by the name of the module that it is for
        if isinstance(module, LowRank | ParametrizationList) or not _has_matrix(module):
            continue
        reason = _reason(module, owners)
        if module in adapted:
            reason = "peft writes to the weights of the layers that it adapts"
        if skipped(name, module):
            reason = "skipped"
        if reason:
            left[name] = reason
        else:
            chosen[name] = module
    return chosen, left


def is_conv1d(module):
    """Whether it is transformers' Conv1D: y = x W + b, with W (n, m), as in GPT-2.

    Known by its name, so that transformers need not be there.
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


def _reason(module, owners):
    """Why ``module`` cannot be factorised; None if it can."""
    kind = type(module).__name__
    # a subclass that computes something else is not the linear map we know
    plain = type(module).forward in (nn.Linear.forward, nn.Conv2d.forward)
    if not plain and not is_conv1d(module):
        return f"{kind} is not nn.Linear or nn.Conv2d"
    if isinstance(module, nn.modules.linear.NonDynamicallyQuantizableLinear):
        return "nn.MultiheadAttention reads its weights instead of calling its layers"
    weight = module._parameters.get("weight")
    if weight is None or is_parametrized(module):
        return f"{kind} computes its weight (parametrised, or weight norm)"
    if nn.parameter.is_lazy(weight):
        return f"{kind} has no weight before its first forward pass"
    if not weight.is_floating_point():
        return f"{kind} has weights of {weight.dtype}"
    if any(owners[id(p)] > 1 for p in (weight, module.bias) if p is not None):
        return f"{kind} shares its weight or bias with another module (tied)"
    if getattr(module, "groups", 1) > 1:
        return f"grouped convolution (groups={module.groups})"
    return _lost(module, kind)


def _lost(module, kind):
    """What would be lost of ``module``, in words; None if nothing."""
    if "forward" in vars(module):
        return f"{kind} has a forward of its own, set on the instance"
    given = {*of_user(module), *module._buffers}
    own = sorted(given & LOW_RANK.union(dir(LowRankConv2d), dir(LowRankLinear)))
    if own:
        return f"{kind} has attributes whose names low-rank layers use: {_list(own)}"
    base = nn.Conv2d if isinstance(module, nn.Conv2d) else nn.Linear
    more = _defined(type(module)) if isinstance(module, base) else []
    if more:
        return f"{kind} defines more than nn.{base.__name__}: {_list(more)}"
    if module._modules or set(module._parameters) - {"weight", "bias"}:
        return f"{kind} holds other modules or parameters"
    if module._state_dict_hooks or module._load_state_dict_pre_hooks:
        return f"{kind} has hooks on its state_dict"
    for parameter in module._parameters.values():
        if type(parameter) not in (nn.Parameter, type(None)):
            return f"{kind} has a parameter of the kind {type(parameter).__name__}"
        if getattr(parameter, "_backward_hooks", None) or getattr(
            parameter, "_post_accumulate_grad_hooks", None
        ):
            return f"{kind} has hooks on the gradient of its parameters"
    return None


def _defined(kind):
    """Names that subclasses of nn.Linear and nn.Conv2d define, besides usual ones."""
    own = [c for c in kind.__mro__ if not c.__module__.startswith("torch.")]
    names = {n for c in own if c is not object for n in vars(c)}
    usual = {"reset_parameters", "extra_repr"}
    return sorted(n for n in names - usual if not n.startswith("__"))


def _list(names):
    return ", ".join(names)


def _skipper(model, skip):
    """``skip`` as a predicate on (name, module)."""
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
