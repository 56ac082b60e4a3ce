"""Back to plain PyTorch: one dense layer, or two small ones (App. D.4)."""

import torch

from .arguments import called_with
from .clock import seconds
from .factorize import low_rank_layers
from .forms import DENSE, forms, smallest
from .layers import LowRankWeight
from .modes import evaluating
from .plain import plain, weight
from .reads import weights_read
from .replacing import replace
from .slots import slots, take_out

CHOICES = ("size", "time")


@torch.inference_mode(False)
def merge(net, by="size", aligned=False, example_inputs=None, **keywords):
    """Replace each low-rank layer by plain PyTorch layers, in place; returns ``net``.

    A layer becomes one dense layer or two of them in an nn.Sequential, V^T first
    ("deciding against decomposition", App. D.4). r is the number of columns in use, so
    masked columns are left out. The function is the same, to rounding. Nothing of this
    package stays.

    A layer becomes one dense layer in any case if other code reads its ``.weight``,
    ``.bias``, ``.out_features``, ``.stride`` or the like, because an nn.Sequential has
    none of these. The reading of a weight is noted when it happens in a forward pass,
    and all are searched for in the byte code of the network's classes, so that a
    network that was just loaded is merged safely too. Both can only err on the dense
    side, unless code hides the reading of a weight (``getattr`` with a computed name, a
    compiled extension) and the network has not run yet: where that may be so, run it
    once before. Weights that attention and recurrent layers and experts read become
    their parameters again. A dense layer always works.

    A layer of which no column is left becomes that of one column of zeros. PyTorch has
    no layer of a bias alone that convolutions and exporters take, and m + n zeros are
    the least that plain layers need; one dense layer would need m n.

    All layers are made before one of them is put in place.

    Args:
        net: a factorised network.
        by: "size" takes the form of the fewest numbers, m n or r (m + n); "time" the
            one that is fastest here and now, for inputs as in ``example_inputs``.
        aligned: whether linear layers and convolutions may also take the form of
            r (m + n - r) numbers (`aligning`). It is a torch.fx.GraphModule: PyTorch
            alone copies, saves, loads and exports it, but what looks for nn.Linear and
            nn.Conv2d in the network finds two inside of it.
        example_inputs, keywords: what the network is called with, as in `costs`; for
            ``by="time"``, which runs it in eval mode.
    Returns:
        ``net``, or what replaces it, if ``net`` itself is a low-rank layer.
    Raises:
        ValueError: an argument is of another kind, or the network keeps a layer
            elsewhere as well, in a plain list for example. Nothing is changed.
    """
    layers, read = low_rank_layers(net).values(), weights_read(net)
    if by not in CHOICES:
        raise ValueError(f"by={by!r}: it is one of {', '.join(CHOICES)}")
    if not isinstance(aligned, bool):
        raise ValueError(f"aligned={aligned!r}: it takes True or False")
    if by == "time" and example_inputs is None and not keywords:
        raise ValueError('by="time" needs example_inputs: what the network is run with')
    called = [layer for layer in layers if not isinstance(layer, LowRankWeight)]
    chosen = {layer: _smallest(layer, layer in read, aligned) for layer in called}
    if by == "time":
        inputs = called_with(() if example_inputs is None else example_inputs, keywords)
        free = [layer for layer in called if layer not in read]
        times = form_times(net, free, aligned, *inputs)
        chosen |= {layer: min(each, key=each.get) for layer, each in times.items()}
    new = {layer: plain(layer, form) for layer, form in chosen.items()}
    read = {
        module: {name: weight(layer) for name, layer in its.items()}
        for module, its in slots(net).items()
    }
    net = replace(net, new)
    for module, weights in read.items():
        take_out(module, weights)
    return net


def _smallest(layer, dense, aligned):
    """The name of the form of the fewest numbers."""
    return DENSE if dense else smallest(*_size(layer, aligned)).name


def _size(layer, aligned):
    """(m, n, r, aligned), as `forms` takes them."""
    return *layer.shape, layer.in_use, aligned


def form_times(net, layers, aligned, args, keywords):
    """{layer: {form: seconds}} of the layers that run in ``net(*args, **keywords)``.

    Each form is timed on what the layer is given there, in evaluation mode, and summed
    over the layer's calls.
    """
    candidates = {
        layer: {
            form.name: plain(layer, form.name).eval()
            for form in forms(*_size(layer, aligned))
        }
        for layer in layers
    }
    times = {}

    def time(layer, inputs, named):
        ways = {
            name: lambda form=form: form(*inputs, **named)
            for name, form in candidates[layer].items()
        }
        each = times.setdefault(layer, dict.fromkeys(ways, 0.0))
        for name, took in seconds(ways, layer.U.device).items():
            each[name] += took

    hooks = [
        layer.register_forward_pre_hook(time, with_kwargs=True) for layer in layers
    ]
    try:
        with torch.no_grad(), evaluating(net):
            net(*args, **keywords)
    finally:
        for hook in hooks:
            hook.remove()
    return times
