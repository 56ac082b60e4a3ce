"""Progressive shrinking: columns are cut out of the layers and stay out (Sec. 3.3).

The authors' code masks them instead: masked columns stay in the weights, in the lasso
and in the mask's next decision, and can come back. Here U, V, their gradients and the
optimiser's state get smaller, and what is cut is gone.
"""

from ..config import number
from .factorize import low_rank_layers
from .penalty import importance


def shrink(net, optimizer=None, eps_ps=1e-7):
    """Cut each layer where its suffix importance falls to ``eps_ps`` or below.

    ||U_{b:}|| ||V_{b:}|| <= eps_ps sets r = b - 1 (Algorithm 1, lines 9-18).
    optimizer: the one that trains ``net``; its state is cut along (any whose state
    has the parameters' shapes: SGD with momentum, Adam and their like).

    Returns {name: r}. Raises ValueError, before anything is cut, if eps_ps is
    negative, factors are not finite, or the optimiser does not hold them.
    """
    number("eps_ps", eps_ps)
    kept = {}
    for name, layer in low_rank_layers(net).items():
        values = importance(layer)
        if not values.isfinite().all():
            raise ValueError(f"the factors of {name} are not finite: it has diverged")
        kept[name] = int((values > eps_ps).sum())
    return truncate(net, kept, optimizer)


def truncate(net, ranks, optimizer=None):
    """Keep the first ``ranks[name]`` columns of each layer named; for good.

    ranks: {name: r}, 0 <= r <= the layer's rank; layers not named keep theirs.
    Returns {name: r} of all layers. Raises ValueError, before anything is cut, on an
    unknown name, a rank out of range, or an optimiser that does not hold the factors.
    """
    layers = low_rank_layers(net)
    for name, rank in ranks.items():
        if name not in layers:
            raise ValueError(
                f"no low-rank layer {name!r}; there are: {', '.join(layers) or 'none'}"
            )
        if rank != int(rank) or not 0 <= rank <= layers[name].rank:
            raise ValueError(
                f"rank {rank!r} for {name}: it takes 0 to {layers[name].rank}"
            )
    cut = {n: int(r) for n, r in ranks.items() if r < layers[n].rank}
    if optimizer is not None:
        _refuse_stranger(optimizer, [layers[name] for name in cut])
    for name, rank in cut.items():
        _cut(layers[name], rank, optimizer)
    return {name: layer.rank for name, layer in layers.items()}


def _cut(layer, rank, optimizer):
    grads = layer.U.grad, layer.V.grad
    # new parameters, because autograd holds the old ones' shapes for as long as anyone
    # holds the last loss
    new = [factor.detach()[:, :rank].clone() for factor in (layer.U, layer.V)]
    for (old, factor), grad in zip(layer.set_factors(*new), grads, strict=True):
        if grad is not None:
            factor.grad = grad[:, :rank].clone()
        if optimizer is not None:
            _hand_over(optimizer, old, factor)


def _hand_over(optimizer, old, new):
    """Let ``optimizer`` train ``new`` instead of ``old``, with the state cut along."""
    for group in optimizer.param_groups:
        group["params"] = [new if p is old else p for p in group["params"]]
    state = optimizer.state.pop(old, {})
    for key, value in state.items():
        if getattr(value, "shape", None) == old.shape:
            state[key] = value[:, : new.shape[1]].clone()
    if state:
        optimizer.state[new] = state


def _refuse_stranger(optimizer, layers):
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for layer in layers:
        for factor in (layer.U, layer.V):
            if factor.requires_grad and id(factor) not in held:
                raise ValueError(
                    "the optimiser does not hold the network's factors; make it after "
                    "factorize, from net.parameters()"
                )
