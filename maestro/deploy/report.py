"""What a network costs on this device, and what low rank would gain, layer by layer.

MACs are a proxy for time. Here the clock decides: `report` after training, `advise`
before.
"""

import copy
import math
from dataclasses import dataclass, field

import torch
from torch.utils._pytree import tree_leaves

from ..config import number
from ..lowrank import (
    factorize,
    low_rank_layers,
    merge,
    ranks,
    sample,
    truncate,
)
from ..lowrank.arguments import called_with, network
from ..lowrank.counting import costs
from ..lowrank.forms import DENSE, TWO_MAPS
from ..lowrank.merging import form_times
from ..lowrank.penalty import tail_floor
from ..lowrank.reads import weights_read
from .budget import dense_footprint, dense_twin, layers_of, megabytes
from .latency import milliseconds, repeated, timed

BATCHES = (1, 64)


@dataclass
class Report:
    """A network's figures: ``whole`` {name: value}, ``layers`` [{name: value}, ...]."""

    whole: dict
    layers: list = field(default_factory=list)

    def __str__(self):
        width = max(map(len, self.whole))
        lines = [f"{name:<{width}}  {_text(v)}" for name, v in self.whole.items()]
        return "\n".join([*lines, "", *_columns(self.layers)])


def report(net, example_inputs, batches=BATCHES, seconds=0.2):
    """What ``net`` takes, merged and dense: numbers, MACs, megabytes, milliseconds.

    For each layer: its rank, and whether two thin maps are quicker than one dense map
    here, at each size of batch. A layer whose weight other code reads, as attention
    does, has neither this nor a break-even rank, because `merge` keeps it dense. Times
    are medians of measurements on this device, with as many threads as PyTorch has now.

    Args:
        net: a factorised network.
        example_inputs: one example's inputs: a tensor, a tuple, or a dict by name.
        batches: sizes of batch to measure.
        seconds: how long each whole network is measured.

    Returns:
        `Report`; ``print`` shows it as a table, ``.layers`` are rows for a DataFrame.

    Raises:
        ValueError: ``net`` has no low-rank layers.
    """
    layers = layers_of(network("net", net))
    counted = costs(net, example_inputs)
    used = {name: layer.in_use for name, layer in layers.items()}
    now, dense = counted.footprint(used, merged=True), dense_footprint(counted)
    small, whole = merge(copy.deepcopy(net).eval()), merge(dense_twin(net).eval())
    figures = {"parameters": now.params, "MACs": now.macs, "MB": megabytes(small)}
    beside = {"parameters": dense.params, "MACs": dense.macs, "MB": megabytes(whole)}
    for batch in batches:
        name = f"ms, batch {batch}"
        figures[name] = milliseconds(small, example_inputs, batch, seconds).median
        beside[name] = milliseconds(whole, example_inputs, batch, seconds).median
    figures |= {f"{name}, dense": value for name, value in beside.items()}
    timings = {b: layer_times(net, example_inputs, b) for b in batches}
    rows = [_row(name, counted, rank, timings) for name, rank in used.items()]
    return Report(figures, rows)


def layer_times(net, example_inputs, batch=None):
    """{layer: {form: milliseconds}} on what each layer is given in a forward pass.

    The forms are one dense map and two thin ones. Layers that are not called are left
    out, and so are weights that modules read, as attention's: they stay dense.
    """
    read = weights_read(net)
    layers = {
        layer: name for name, layer in layers_of(net).items() if layer not in read
    }
    inputs = repeated(example_inputs, batch) if batch else example_inputs
    times = form_times(net, layers, False, *called_with(inputs))
    return {
        layers[layer]: {form: 1000 * took for form, took in each.items()}
        for layer, each in times.items()
    }


def _row(name, counted, used, timings):
    m, n, _ = counted.maps[name]
    row = {"layer": name, "map": f"{m} x {n}", "rank": used}
    if name not in counted.read:
        row["break-even"] = _break_even(m, n)
    row["MACs"] = counted.layer(name, used, merged=True).macs
    for batch, times in timings.items():
        if name in times:
            two, one = times[name][TWO_MAPS], times[name][DENSE]
            row[f"two maps / dense, batch {batch}"] = two / one
            row[f"pays, batch {batch}"] = two < one
    return row


def _break_even(m, n):
    """The largest rank at which two maps are less than one."""
    return math.ceil(m * n / (m + n)) - 1


# ---------------------------------------------------------------- before training


# lambda_gl = RULE * (mean column norm) / (sqrt(r) * sum of learning rates), at which
# LeNet here and ResNet-18 in the paper lost about half of their parameters or more
RULE = 2.5
FLOORS = 10  # how far eps_ps is above where unneeded columns settle


@torch.inference_mode(False)
@torch.enable_grad()
def advise(net, example_inputs, steps, lr=0.01, momentum=0.9, batch=64, seconds=0.5):
    """What to expect of LoD on ``net``, before training with SGD.

    The random numbers of a training that follows stay as they would have been.

    lambda_gl: the weight at which an average column's norm would fall to zero within
    the training, times RULE. eps_ps: a power of ten, at least FLOORS times the
    importance at which a subgradient leaves unneeded columns of the widest layer:
    `tail_floor` without momentum, because with momentum the tail can stay lower or
    higher. Both are where to start from, and hold for SGD alone.

    Args:
        net: a network, factorised or not; it stays as it is.
        example_inputs: one example's inputs.
        steps: how many steps the training has; with a schedule, the sum of all learning
            rates divided by ``lr``.
        lr, momentum: of SGD.
        batch: examples of a step.
        seconds: how long each kind of step is measured.

    Returns:
        `Report`: lambda_gl, eps_ps, the time of a step as a share of the dense
        network's at all, half and a quarter of the ranks; for each layer the break-even
        rank.

    Raises:
        ValueError: an argument is wrong, nothing can be factorised, or nothing is
            trained.
    """
    for name, value in (("steps", steps), ("lr", lr)):
        if number(name, value) == 0:
            raise ValueError(f"{name}=0: it takes a number > 0")
    if not number("momentum", momentum) < 1:
        raise ValueError(f"momentum={momentum!r}: it takes a number below 1")
    if not any(p.requires_grad for p in network("net", net).parameters()):
        raise ValueError("every parameter of net is frozen: there is nothing to train")
    dense = copy.deepcopy(net)
    low = factorize(copy.deepcopy(dense))
    if low_rank_layers(dense):
        dense = merge(dense_twin(net))
    lambda_gl = _lambda(low, steps * lr / (1 - momentum))
    floor = tail_floor(lr, lambda_gl, max(ranks(low).values()))  # without momentum
    figures = {
        "lambda_gl": float(f"{lambda_gl:.1e}"),
        "eps_ps": 10.0 ** math.ceil(math.log10(FLOORS * floor)),
    }
    whole = _step_time(dense, example_inputs, batch, seconds, lr, momentum)
    figures[f"ms of a dense step, batch {batch}"] = whole
    full = ranks(low)
    for share in (1, 0.5, 0.25):
        truncate(low, {name: max(1, int(share * r)) for name, r in full.items()})
        took = _step_time(low, example_inputs, batch, seconds, lr, momentum)
        figures[f"step at {share:g} of the ranks / dense"] = took / whole
    counted = costs(low, example_inputs)
    rows = []
    for name, (m, n, positions) in counted.maps.items():
        row = {"layer": name, "map": f"{m} x {n}", "full rank": full[name]}
        if name not in counted.read:
            row["break-even"] = _break_even(m, n)
        rows.append(row | {"MACs, dense": m * n * positions})
    return Report(figures, rows)


def _lambda(net, length):
    """The weight of the lasso for a way of ``length``, the sum of learning rates.

    The mean over layers is geometric, and weighted by their parameters.
    """
    logs, weights = [], []
    for layer in low_rank_layers(net).values():
        norm = layer.U.detach().norm(dim=0).mean().item()
        if norm > 0:
            logs.append(math.log(norm / math.sqrt(layer.rank)))
            weights.append(layer.U.numel() + layer.V.numel())
    mean = sum(a * b for a, b in zip(logs, weights, strict=True)) / sum(weights)
    return RULE * math.exp(mean) / length


def _step_time(net, example_inputs, batch, seconds, lr, momentum):
    """Milliseconds of a training step of a copy of ``net``, on a made-up loss."""
    net = copy.deepcopy(net).train()
    args, keywords = called_with(repeated(example_inputs, batch))
    optimizer = torch.optim.SGD(net.parameters(), lr * 1e-6, momentum)
    lod = low_rank_layers(net)

    def loss():
        leaves = tree_leaves(net(*args, **keywords))
        outputs = [x for x in leaves if isinstance(x, torch.Tensor)]
        return sum(x.square().mean() for x in outputs if x.is_floating_point())

    def step():
        optimizer.zero_grad()
        if lod:
            with sample(net):
                loss().backward()
        else:
            loss().backward()
        optimizer.step()

    with torch.random.fork_rng():  # of the draws, and of dropout
        return timed(step, seconds, next(net.parameters()).device).median


# ---------------------------------------------------------------- as text


def _columns(rows):
    """Rows of a table as aligned lines; none without rows."""
    if not rows:
        return []
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names, *([_text(row.get(name, "")) for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    return [
        "  ".join(f"{c:>{w}}" for c, w in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]


def _text(value):
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
