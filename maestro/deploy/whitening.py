"""SVD that knows the data: columns ordered by what they do to a layer's output.

Plain SVD cuts W = U V^T where || W - W_r || is least, as if inputs were white.
Data-aware SVD cuts where E || W x - W_r x ||^2 is least over a few inputs x. The best
W_r projects on the leading principal directions P of the outputs y = W x,

    E[y y^T] = P D P^T,    W_r = P_r P_r^T W,

the same W_r as that of the SVD of W C^(1/2), C = E[x x^T] ("whitened"; Theorem 4.1: the
minimiser of LoD's loss for one linear map has this order). So only outputs need to be
seen.
"""

import torch

from ..lowrank import LowRankConv, LowRankLinear, low_rank_layers
from ..lowrank.modes import evaluating

MOST = 256  # examples
RIDGE = 1e-6  # the weight of white inputs, which order what the examples do not reach


@torch.inference_mode(False)
@torch.no_grad()
def order_by_data(net, inputs, chunk=32):
    """Order every layer's columns by their effect on the layer's output, in place.

    The network computes the same function as before, to rounding; only cuts of it
    differ. The optimiser's state belongs to the columns before: make a new optimiser.
    Transposed and grouped convolutions and weights that modules read stay.

    Args:
        net: a factorised network; trained, usually.
        inputs: up to 256 examples, a tensor (B, ...); of more, the first 256 are used.
        chunk: how many examples are run at a time.

    Returns:
        ``net``.

    Raises:
        ValueError: the network has no low-rank layers, the examples are no tensor or
            none, or the network is cut and the cut is neither committed nor undone.
    """
    if not isinstance(inputs, torch.Tensor):
        raise ValueError(
            f"inputs is {type(inputs).__name__}: it takes one tensor of examples"
        )
    layers = {
        layer: dim
        for layer in low_rank_layers(net).values()
        if (dim := _channels(layer)) is not None
    }
    if not layers or not len(inputs):
        raise ValueError(
            f"{len(layers)} low-rank layers and {len(inputs)} examples: it takes at "
            "least one of each"
        )
    named = low_rank_layers(net).items()
    cut = [name for name, layer in named if layer.in_use < layer.rank]
    if cut:
        raise ValueError(
            f"{', '.join(cut)}: columns are cut; commit or undo the cut first"
        )
    moments = _output_moments(net, layers, inputs[:MOST], chunk)
    for layer, moment in moments.items():
        _reorder(layer, moment)
    return net


def _channels(layer):
    """The dimension of an output's channels; None if U V^T does not make an output."""
    if layer.blocks > 1:
        return None
    if isinstance(layer, LowRankConv):
        return -layer.dims - 1
    return -1 if isinstance(layer, LowRankLinear) else None


def _output_moments(net, layers, inputs, chunk):
    """{layer: E[y y^T] (m, m)} over the examples, y the output without the bias."""
    moments, counts = {}, {}

    def add(layer, _, out):
        y = out.movedim(layers[layer], -1).flatten(0, -2).double()  # (positions, m)
        if layer.bias is not None:
            y = y - layer.bias.double()
        moments[layer] = moments.get(layer, 0) + y.t() @ y
        counts[layer] = counts.get(layer, 0) + len(y)

    hooks = [layer.register_forward_hook(add) for layer in layers]
    try:
        with evaluating(net):
            for some in inputs.split(chunk):
                net(some)
    finally:
        for hook in hooks:
            hook.remove()
    return {layer: moments[layer] / counts[layer] for layer in moments}


def _reorder(layer, moment):
    """Put P, and what stands for P^T W, in the place of U and V, columns balanced."""
    U, V = layer.U.double(), layer.V.double()
    if U.shape[1] == 0:
        return
    white = U @ (V.t() @ V) @ U.t()  # W W^T
    scale = moment.trace() / white.trace().clamp(min=torch.finfo(white.dtype).tiny)
    P = torch.linalg.eigh(moment + RIDGE * scale * white).eigenvectors.flip(1)
    P = P[:, : U.shape[1]]  # (m, r)
    Q = V @ (U.t() @ P)  # (n, r) = W^T P
    norms = Q.norm(dim=0)
    root = torch.where(norms > 0, norms, 1.0).sqrt()
    layer.set_factors((P * root).to(layer.U.dtype), (Q / root).to(layer.V.dtype))
