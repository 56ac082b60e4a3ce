"""From a network of nn.Linear and nn.Conv2d to one of U V^T, the function unchanged.

The start is the singular value decomposition of the usual initialisation (Sec. 3.3,
"Initialization"): W = P S Q^T gives U = P sqrt(S), V = Q sqrt(S).
"""

import difflib
from collections import Counter
from fnmatch import fnmatchcase

import torch
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized

from .layers import LowRank, LowRankConv2d, LowRankLinear, take_hooks


def factorize(model, skip=()):
    """Replace every nn.Linear and nn.Conv2d of ``model`` by its two factors, in place.

    model: any nn.Module, at any depth, modules used in several places included.
    skip: what to leave dense: a name, several, patterns as in ``"layer4.*"`` (the name
        of a parent stands for all that it holds), or a predicate ``(name, module)``.

    Returns the model (the new layer, if the model itself is one), which computes the
    same function as before, to rounding. What cannot be factorised stays as it is;
    `left_alone` lists it and says why. Make the optimiser afterwards: the parameters
    are new ones. Raises ValueError if ``skip`` names nothing in the model.
    """
    chosen, _ = _choose(model, skip)
    new = {id(layer): _low_rank(layer) for layer in chosen.values()}
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if id(child) in new:
                parent._modules[name] = new[id(child)]
    return new.get(id(model), model)


def left_alone(model, skip=()):
    """{name: reason} of the modules with weights that `factorize` leaves as they are.

    Takes the same arguments; works before and after factorising.
    """
    return _choose(model, skip)[1]


def low_rank_layers(net):
    """{name: layer} of all low-rank layers, each once, in the order of definition."""
    return {n: layer for n, layer in net.named_modules() if isinstance(layer, LowRank)}


def ranks(net):
    """{name: r} of all low-rank layers."""
    return {name: layer.rank for name, layer in low_rank_layers(net).items()}


def svd_factors(W):
    """U (m, r) and V (n, r), r = min(m, n), with W = U V^T and columns by importance.

    Column b of both has norm sqrt(sigma_b). A singular value of zero (a weight that
    starts at zero, say) gets a unit column on the shorter side and a zero one on the
    other: the product is the same and, unlike two zero columns, it can be trained.

    Found from the eigenvectors P of the smaller Gram matrix in float64, which is much
    cheaper than an SVD; P P^T W = W whatever their error, so the product is exact to
    rounding.
    """
    A = W.detach().to(torch.float64)
    wide = A.shape[0] <= A.shape[1]
    A = A if wide else A.t()  # (short, long)
    P = torch.linalg.eigh(A @ A.t()).eigenvectors.flip(1)
    B = A.t() @ P  # (long, short): column b is sigma_b q_b
    sigma, order = B.norm(dim=0).sort(descending=True, stable=True)
    P, B = P[:, order], B[:, order]
    alive = sigma > torch.finfo(torch.float64).eps * sigma[:1] * max(A.shape)
    root = torch.where(alive, sigma, 1.0).sqrt()
    short, long = P * root, torch.where(alive, B / root, 0.0)
    U, V = (short, long) if wide else (long, short)
    return U.to(W.dtype), V.to(W.dtype)


def _low_rank(layer):
    """``layer`` (nn.Linear or nn.Conv2d) as a LowRank of the same function."""
    U, V = svd_factors(layer.weight.flatten(1))
    if isinstance(layer, nn.Conv2d):
        new = LowRankConv2d(U, V, layer.bias, like=layer)
    else:
        new = LowRankLinear(U, V, layer.bias)
    for factor in (new.U, new.V):
        factor.requires_grad_(layer.weight.requires_grad)
    if layer.bias is not None:
        new.bias.requires_grad_(layer.bias.requires_grad)
    take_hooks(new, layer)
    return new.train(layer.training)


def _choose(model, skip):
    """What to factorise, {name: module}, and what not, {name: reason}."""
    skipped = _skipper(model, skip)
    owners = Counter(
        id(p) for module in model.modules() for p in module._parameters.values()
    )
    chosen, left = {}, {}
    for name, module in model.named_modules():
        # a parametrisation is spoken of by the name of the module that it is for
        if isinstance(module, LowRank | ParametrizationList) or not _has_matrix(module):
            continue
        reason = _reason(module, owners)
        if skipped(name, module):
            reason = "skipped"
        if reason:
            left[name] = reason
        else:
            chosen[name] = module
    return chosen, left


def _has_matrix(module):
    weights = [p for p in module._parameters.values() if p is not None]
    matrices = [p for p in weights if nn.parameter.is_lazy(p) or p.ndim >= 2]
    return bool(matrices) or is_parametrized(module)


def _reason(module, owners):
    """Why ``module`` cannot be factorised; None if it can."""
    kind = type(module).__name__
    # a subclass that computes something else is not the linear map we know
    if type(module).forward not in (nn.Linear.forward, nn.Conv2d.forward):
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
    return None


def _skipper(model, skip):
    """``skip`` as a predicate on (name, module)."""
    if callable(skip):
        return skip
    patterns = [skip] if isinstance(skip, str) else list(skip)
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


def _matches(name, pattern):
    return fnmatchcase(name, pattern) or fnmatchcase(name, pattern + ".*")
