"""Progressive shrinking: columns are removed from the layers for good (Sec. 3.3).

The authors' code masks columns instead: masked columns stay in the weights, in the
lasso and in the next decision on the mask, and can return. Here U, V, their gradients
and the optimiser's state become smaller, and a removed column cannot return. The
parameter objects stay the same, so that an optimiser continues to train them.
"""

from collections.abc import Iterable, Mapping
from numbers import Integral

import torch
from torch import nn
from torch.optim import Optimizer

from ..config import number
from .factorize import low_rank_layers
from .penalty import importance
from .states import cut_state
from .watching import settle, unsettled


def shrink(net, optimizer=None, eps_ps=1e-7):
    """Cut each layer where its suffix importance falls to ``eps_ps`` or below.

    ||U_{b:}|| ||V_{b:}|| <= eps_ps sets r = b - 1 (Algorithm 1, lines 9-17). The cut is
    that of `truncate`, which also lists the objects that must be updated after a cut.

    Args:
        net: a factorised network, the one inside DistributedDataParallel.
        optimizer: the optimiser of ``net``, or several; None after training.
        eps_ps: a number >= 0.

    Returns:
        {name: r} of all low-rank layers.

    Raises:
        ValueError: as `truncate`, or factors are not finite. Nothing is cut then.
    """
    return truncate(net, ranks_above(net, eps_ps), optimizer)


def ranks_above(net, eps_ps):
    """{name: r} at which `shrink` cuts, with its errors; nothing is cut."""
    number("eps_ps", eps_ps)
    kept = {}
    for name, layer in _layers(net).items():
        values = importance(layer)
        if not values.isfinite().all():
            raise ValueError(f"the factors of {name} are not finite: it has diverged")
        kept[name] = int((values > eps_ps).sum())
    return kept


@torch.inference_mode(False)
def truncate(net, ranks, optimizer=None):
    """Keep the first ``ranks[name]`` columns of each named layer; remove the others.

    State of the optimisers with a number for each weight, row or column (SGD, Adam,
    Muon, Adafactor and similar) is cut as well. Other state of a factor that is cut
    starts anew (Shampoo, SOAP, LBFGS). An optimiser that holds state of the factors but
    is not given here raises an error at its next step.

    Wrap the network in DistributedDataParallel again after a cut; an older wrapper
    raises an error in its forward pass. An average of the weights must be cut as well,
    by ``maestro.truncate(average.module, maestro.ranks(net))``; until then an
    AveragedModel cannot be updated (RuntimeError: sizes must match). A loop of your own
    over parameters gets that error too, except at rank 1, where PyTorch broadcasts.

    Args:
        net: a factorised network, the one inside DistributedDataParallel.
        ranks: {name: r}, 0 <= r <= the layer's rank; other layers keep their rank.
        optimizer: the optimiser of ``net``, or several; None after training.

    Returns:
        {name: r} of all low-rank layers.

    Raises:
        ValueError: the network has no low-rank layers, or is wrapped or sharded; a name
            is unknown or a rank out of range; an optimiser is none, or the optimisers
            do not hold all factors. Nothing is cut then.
    """
    layers = _layers(net)
    cut = _smaller(ranks, layers)
    optimizers = _optimizers(optimizer)
    if optimizers:
        _refuse_strangers(optimizers, layers)
    for layer, rank in cut.items():
        _cut(layer, rank)
    for one in optimizers:
        if had := unsettled(one, layers.values()):
            cut_state(one, had)
            settle(one, layers.values())
    return {name: layer.rank for name, layer in layers.items()}


def energy_ranks(net, share):
    """The ranks at which each layer keeps ``share`` of its energy, for `truncate`.

    The energy is ||W||^2, the sum of squared singular values, and the least r is taken
    with ||W - U_{:r} V_{:r}^T||^2 <= (1 - share) ||W||^2. It holds for columns in any
    state: right after `factorize`, where they are in the order of singular values, r is
    the smallest possible; after LoD they are almost so.

    Args:
        net: a factorised network.
        share: from 0 to 1.
    Returns:
        {name: r} of all low-rank layers.
    Raises:
        ValueError: share is no number from 0 to 1; nothing is low-rank.
    """
    if number("share", share) > 1:
        raise ValueError(f"share={share!r}: it takes a number from 0 to 1")
    return {name: _energy_rank(layer, share) for name, layer in _layers(net).items()}


def _energy_rank(layer, share):
    """The least r whose columns leave at most 1 - ``share`` of the energy behind."""
    tails = energy_tails(layer)
    # what is no more than the rounding of the sums counts as nothing
    rounding = torch.finfo(torch.double).eps * len(tails)
    return int((tails <= (1 - share + rounding) * tails[0]).nonzero()[0])


@torch.no_grad()
def energy_tails(layer):
    """||U_b: V_b:^T||^2 of what is behind the first b = 0, 1, ..., r columns: (r + 1,).

    The energy that a cut to b columns removes; in double precision, the last one is 0.
    """
    stacked = [M.double().unflatten(0, (layer.blocks, -1)) for M in (layer.U, layer.V)]
    gram_u, gram_v = (M.mT @ M for M in stacked)
    products = (gram_u * gram_v).sum(0)  # of columns i and j of W
    # the energy of columns b.. is the sum of the square that they make
    tails = products.flip(0, 1).cumsum(0).cumsum(1).diagonal().flip(0)
    return torch.cat([tails, tails.new_zeros(1)])


def _layers(net):
    """The low-rank layers of ``net``; ValueError if the network cannot be cut."""
    if isinstance(net, nn.parallel.DistributedDataParallel):
        raise ValueError(
            "net is wrapped in DistributedDataParallel, which would go on with the old "
            "factors: cut net.module, then wrap it again"
        )
    layers = low_rank_layers(net)
    if not layers:
        raise ValueError(
            f"{type(net).__name__} has no low-rank layers to cut: factorize it, and "
            "merge it last"
        )
    for name, layer in layers.items():
        if hasattr(layer.U, "device_mesh"):
            raise ValueError(f"the factors of {name} are sharded: cut, then shard")
    return layers


def _smaller(ranks, layers):
    """{layer: rank} of the layers that lose columns; ValueError as `truncate`."""
    if not isinstance(ranks, Mapping):
        raise ValueError(f"ranks={ranks!r}: it takes {{layer name: rank}}")
    for name, rank in ranks.items():
        if name not in layers:
            raise ValueError(
                f"no low-rank layer {name!r}; there are: {', '.join(layers)}"
            )
        whole = isinstance(rank, Integral) and not isinstance(rank, bool)
        if not whole or not 0 <= rank <= layers[name].rank:
            raise ValueError(
                f"rank {rank!r} for {name}: it takes 0 to {layers[name].rank}"
            )
    named = {layers[name]: int(rank) for name, rank in ranks.items()}
    return {layer: rank for layer, rank in named.items() if rank < layer.rank}


def _optimizers(given):
    """The given optimisers as a list; ValueError if one is no optimiser."""
    if given is None or isinstance(given, Optimizer):
        return [given] if given else []
    several = list(given) if isinstance(given, Iterable) else [given]
    for one in several:
        if not isinstance(one, Optimizer):
            raise ValueError(
                f"optimizer is {type(one).__name__}: it takes a torch.optim.Optimizer, "
                "or several in a list"
            )
    return several


def _refuse_strangers(optimizers, layers):
    """ValueError if these optimisers do not hold all factors that are trained."""
    groups = [group for one in optimizers for group in one.param_groups]
    held = {id(p) for group in groups for p in group["params"]}
    missing = [
        name
        for name, layer in layers.items()
        for factor in (layer.U, layer.V)
        if factor.requires_grad and factor.numel() and id(factor) not in held
    ]
    if missing:
        raise ValueError(
            "the optimiser does not hold the network's factors (for example of "
            f"{missing[0]!r}): make it after factorize, from net.parameters(); if "
            "several train the network, give all of them in a list"
        )


def _cut(layer, rank):
    factors = layer.U, layer.V
    grads = [None if p.grad is None else p.grad[:, :rank].clone() for p in factors]
    layer.set_factors(*(p.detach()[:, :rank] for p in factors))
    layer.U.grad, layer.V.grad = grads
