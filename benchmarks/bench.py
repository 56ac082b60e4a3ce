"""What LoD's step costs, as a ratio to the dense step in plain PyTorch.

    python benchmarks/bench.py [--models lenet ...] [--device cpu] [--out FILE]

In one process and in turn, round by round, because machines drift: the dense network,
the factorised one at falling ranks, and for each of these the same network built dense
and narrow, with as many multiply-accumulates (MACs) as are left: the floor. A ratio is
the median over rounds of what a network took to what the dense one took in that round.

A step is what training.py does: the draw, forward, loss, backward, the lasso's
gradient, the optimiser. Inference is that of merged networks. Writes one JSON file
after each network; what it held of other networks stays, if it is of the same machine.
"""

import argparse
import bisect
import copy
import json
import statistics
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import ways
from step import Step
from timing import race
from torch.nn import functional as F

import maestro
from maestro.config import ROOT, Recipe
from maestro.machine import pick_device, ran_on
from maestro.models import MODELS

SHARES = (1.0, 0.5, 0.25, 0.1)  # of each layer's full rank
INFERENCE_BATCHES = (1, 64)
SGD = Recipe(epochs=1, batch_size=1, lr=1e-4)
ADAM = Recipe(epochs=1, batch_size=1, lr=1e-6, optimizer="adam")


@dataclass(frozen=True)
class Subject:
    """A network to measure. batch: on a CPU, on a GPU. shape: of one input.

    widths: all that it can be built with, its own last; empty if it has no width.
    """

    batch: tuple
    shape: tuple
    widths: tuple = ()
    recipe: Recipe = SGD
    reduction: str = "mean"

    def data(self, batch, device):
        """(inputs, targets) of random numbers; symbols where ``shape`` is a length."""
        if len(self.shape) == 1:
            symbols = torch.randint(4, 9521, (3, batch, *self.shape), device=device)
            return tuple(symbols[:2]), symbols[2]
        x = torch.randn(batch, *self.shape, device=device)
        return (x,), torch.randint(10, (batch,), device=device)

    def loss(self, net, inputs, targets):
        logits = net(*inputs).flatten(0, -2)
        return F.cross_entropy(logits, targets.flatten(), reduction=self.reduction)


SUBJECTS = {
    "resnet18": Subject((32, 512), (3, 32, 32), range(1, 65)),
    "vgg19": Subject((32, 512), (3, 32, 32), range(1, 65)),
    "transformer": Subject((32, 128), (28,), range(8, 513, 8), ADAM, "sum"),
    "lenet": Subject((64, 512), (1, 28, 28)),
}


def build(name, width=None):
    if width is None:
        return MODELS[name]()
    inner = {"inner": 4 * width} if name == "transformer" else {}
    return MODELS[name](width=width, **inner)


def at_share(net, share):
    """A copy of a factorised network with this share of each layer's full rank."""
    net = copy.deepcopy(net)
    layers = maestro.low_rank_layers(net)
    kept = {n: max(1, round(share * layer.max_rank)) for n, layer in layers.items()}
    maestro.truncate(net, kept)
    return net


def narrow(name, macs):
    """The width at which the dense network has the MACs nearest to these."""

    def at(width):
        with torch.device("meta"):
            net = build(name, width)
        return maestro.footprint(net, example(name)).macs

    widths = SUBJECTS[name].widths
    above = bisect.bisect_left(widths, macs, 1, len(widths) - 1, key=at)
    return min(widths[above - 1 : above + 1], key=lambda width: abs(at(width) - macs))


def example(name):
    inputs, _ = SUBJECTS[name].data(1, "cpu")
    return inputs


def summary(times):
    """{name: {ms, ratio, low, high}}; the ratios' median and quartiles over rounds."""
    dense, told = times["dense"], {}
    for name, seconds in times.items():
        ratios = [one / other for one, other in zip(seconds, dense, strict=True)]
        low, ratio, high = statistics.quantiles(ratios, n=4)
        told[name] = {
            "ms": round(1000 * statistics.median(seconds), 3),
            "ratio": round(ratio, 4),
            "low": round(low, 4),
            "high": round(high, 4),
        }
    return told


def networks(name, device):
    """({row's name: network}, {row's name: what it is}, how factorising went)."""
    torch.manual_seed(0)
    dense = build(name).to(device)
    seconds = []
    for _ in range(3):
        whole = copy.deepcopy(dense)
        started = time.perf_counter()
        maestro.factorize(whole)
        seconds.append(time.perf_counter() - started)
    factorised = {"seconds": round(statistics.median(seconds), 3)}
    factorised |= differences(dense, whole, SUBJECTS[name].data(4, device)[0])
    nets, told = {"dense": dense}, {"dense": {"kind": "dense", "share": 1.0}}
    for share in SHARES:
        net = at_share(whole, share)
        nets[f"lod {share}"], told[f"lod {share}"] = net, {"kind": "lod"}
        told[f"lod {share}"]["share"] = share
        macs = maestro.footprint(net, example(name), merged=True).macs
        if share < 1 and SUBJECTS[name].widths:
            width = narrow(name, macs)
            nets[f"narrow {share}"] = build(name, width).to(device)
            told[f"narrow {share}"] = {"kind": "narrow", "share": share, "width": width}
    for row, net in nets.items():
        # what PyTorch's convolutions are fastest with; factors have no such layout
        net.to(memory_format=torch.channels_last)
        size = maestro.footprint(net, example(name), merged=True)
        told[row] |= {"params": size.params, "macs": size.macs}
    return nets, told, factorised


@torch.no_grad()
def differences(dense, whole, inputs):
    """How far factorising moves the outputs, as a share of the largest of them.

    difference: as computed. factors: what is the factors' own, computed in float64.
    rounding: of the dense network as computed, from itself in float64.
    """
    exact = [x.double() if x.is_floating_point() else x for x in inputs]
    outs = [net.eval()(*inputs).double() for net in (dense, whole)]
    outs += [copy.deepcopy(net).double()(*exact) for net in (dense, whole)]
    pairs = {"difference": (0, 1), "factors": (2, 3), "rounding": (0, 2)}
    found = {
        name: (outs[i] - outs[j]).abs().max() / outs[2].abs().max()
        for name, (i, j) in pairs.items()
    }
    return {name: float(f"{value.item():.2g}") for name, value in found.items()}


def bench(name, device, rounds):
    """What the file says of one network."""
    subject = SUBJECTS[name]
    batch = subject.batch[device.type == "cuda"]
    nets, told, factorised = networks(name, device)
    whole = copy.deepcopy(nets["lod 1.0"])
    data = subject.data(batch, device)
    steps = {row: Step(net.train(), subject, *data) for row, net in nets.items()}
    for row, took in summary(race(steps, rounds, device)).items():
        told[row]["step"] = took
        told[row]["work"] = ways.work(nets[row], data[0])
        told[row]["memory"] = steps[row].memory()
        told[row]["parts"] = steps[row].parts()
    del steps
    merged = {row: maestro.merge(net).eval() for row, net in nets.items()}
    for net in merged.values():
        net.to(memory_format=torch.channels_last)
    for size in INFERENCE_BATCHES:
        inputs, _ = subject.data(size, device)
        with torch.no_grad():
            calls = {row: partial(net, *inputs) for row, net in merged.items()}
            times = race(calls, rounds, device)
        for row, took in summary(times).items():
            told[row][f"inference {size}"] = took
    return {
        "batch": batch,
        "factorised": factorised,
        "rows": list(told.values()),
        "ways": ways.check(whole, data[0], 3, device),
    }


def write(path, name, found, device):
    """Put one network's figures into the file at ``path``."""
    ran = ran_on(device, "float32")
    found |= {key: ran.pop(key) for key in ("date", "commit")}
    del ran["peak_memory"]
    content = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    models = content.pop("models", {}) if content.get("ran_on") == ran else {}
    models[name] = found
    models = {known: models[known] for known in SUBJECTS if known in models}
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"ran_on": ran, "models": models}, indent=1)
    path.write_text(text + "\n", "utf-8")


def show(name, found):
    print(f"{name}, batch {found['batch']}, factorised: {found['factorised']}")
    print("  ratio to dense of:       MACs   work   step  inference at batch 1, 64")
    dense = found["rows"][0]
    for row in found["rows"]:
        ratios = [row["macs"] / dense["macs"], row["work"] / dense["work"]]
        ratios.append(row["step"]["ratio"])
        ratios += [row[f"inference {size}"]["ratio"] for size in INFERENCE_BATCHES]
        told = " ".join(f"{ratio:6.2f}" for ratio in ratios)
        print(f"  {row['kind']:8} {row['share']:4.0%} of ranks {told}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=SUBJECTS, default=SUBJECTS)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "_build" / "bench.json")
    args = parser.parse_args()
    device = pick_device(args.device)
    for name in args.models:
        found = bench(name, device, args.rounds)
        write(args.out, name, found, device)
        show(name, found)
    print(f"written: {args.out}")


if __name__ == "__main__":
    main()
