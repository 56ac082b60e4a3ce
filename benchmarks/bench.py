"""What LoD's step costs, as a ratio to the dense step in plain PyTorch.

    python benchmarks/bench.py [--models lenet ...] [--device cpu] [--out FILE]

One process times, round by round because machines drift: the dense network, the
factorised network at falling ranks and, for each of these, the same network built dense
and narrow with as many multiply-accumulates (MACs), which is the floor. A ratio is the
median over rounds of the time of a network divided by the time of the dense network in
that round.

A step is that of the training loop: the draw, forward, loss, backward, the gradient of
the lasso, the optimiser. On a GPU a step computes in bfloat16 and is recorded and
replayed, the dense one as well; "launched" is the step without a recording. On a CPU
the dense step and LoD's at a quarter of the ranks are also timed at other settings
(settings.py). Inference is that of merged networks, as they are and, "folded", with
each batch norm folded into the convolution before it.

Writes one JSON file after each network. Networks of an earlier run on the same machine
stay in the file.
"""

import argparse
import bisect
import copy
import itertools
import json
import statistics
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import ways
from settings import settings
from step import Step
from timing import race
from torch import nn
from torch.fx.experimental.optimization import fuse
from torch.nn import functional as F

import maestro
from maestro.config import Recipe
from maestro.lowrank import add_lasso_gradient, proximal_step
from maestro.lowrank.clock import seconds_of
from maestro.models import MODELS
from maestro.paths import ROOT
from maestro.system import write_whole
from maestro.training.machine import pick_device, ran_on
from maestro.training.replay import CudaRecorder, Replay

SHARES = (1.0, 0.5, 0.25, 0.1)  # of each layer's full rank
INFERENCE_BATCHES = (1, 64)
SGD = Recipe(epochs=1, batch_size=1, lr=1e-4)
ADAM = Recipe(epochs=1, batch_size=1, lr=1e-6, optimizer="adam")
AIRBENCH = Recipe(epochs=1, batch_size=1, lr=1e-4, nesterov=True, norm_lr=64)


@dataclass(frozen=True)
class Subject:
    """A network to measure.

    cpu, gpu: the batch sizes to train there, the first one also for inference. shape:
    of one input. widths: all that the network can be built with, its own last; empty if
    it has no width. skip: the layers that stay dense.
    """

    cpu: tuple
    gpu: tuple
    shape: tuple
    widths: tuple = ()
    recipe: Recipe = SGD
    reduction: str = "mean"
    skip: tuple = ()

    def data(self, batch, device):
        """(inputs, targets) of random numbers; symbols where ``shape`` is a length."""
        if len(self.shape) == 1:
            symbols = torch.randint(4, 9521, (3, batch, *self.shape), device=device)
            return tuple(symbols[:2]), symbols[2]
        # as training has them: contiguous on a CPU, channels last on a GPU
        x = torch.randn(batch, *self.shape, device=device)
        if x.is_cuda:
            x = x.contiguous(memory_format=torch.channels_last)
        return (x,), torch.randint(10, (batch,), device=device)

    def loss(self, net, inputs, targets):
        logits = net(*inputs).flatten(0, -2)
        return F.cross_entropy(logits, targets.flatten(), reduction=self.reduction)


SUBJECTS = {
    "resnet18": Subject((32,), (128, 512), (3, 32, 32), range(1, 65)),
    "vgg19": Subject((32,), (128, 512), (3, 32, 32), range(1, 65)),
    "transformer": Subject((32,), (128, 256), (28,), range(8, 513, 8), ADAM, "sum"),
    "lenet": Subject((64,), (64, 512), (1, 28, 28)),
    "compact": Subject(
        (256,), (1024, 4096), (3, 32, 32), range(1, 65), AIRBENCH, skip=("whiten",)
    ),
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
    dense, rows = times["dense"], {}
    for name, seconds in times.items():
        ratios = [one / other for one, other in zip(seconds, dense, strict=True)]
        several = len(ratios) > 1  # one round has no quartiles
        low, ratio, high = statistics.quantiles(ratios, n=4) if several else 3 * ratios
        rows[name] = {
            "ms": round(1000 * statistics.median(seconds), 3),
            "ratio": round(ratio, 4),
            "low": round(low, 4),
            "high": round(high, 4),
        }
    return rows


def networks(name, device):
    """({row: network}, {row: its fields}, the fields of factorising)."""
    torch.manual_seed(0)
    dense = build(name).to(device)
    seconds = []
    skip = SUBJECTS[name].skip
    for _ in range(3):
        whole = copy.deepcopy(dense)
        factorize = partial(maestro.factorize, whole, skip=skip)
        seconds.append(seconds_of(factorize, device))
    factorised = {"seconds": round(statistics.median(seconds), 3)}
    factorised |= differences(dense, whole, SUBJECTS[name].data(4, device)[0])
    nets, fields = {"dense": dense}, {"dense": {"kind": "dense", "share": 1.0}}
    for share in SHARES:
        net = at_share(whole, share)
        nets[f"lod {share}"] = net
        fields[f"lod {share}"] = {"kind": "lod", "share": share}
        macs = maestro.footprint(net, example(name), merged=True).macs
        if share < 1 and SUBJECTS[name].widths:
            width = narrow(name, macs)
            nets[f"narrow {share}"] = build(name, width).to(device)
            sizes = {"share": share, "width": width}
            fields[f"narrow {share}"] = {"kind": "narrow"} | sizes
    for row, net in nets.items():
        # PyTorch's convolutions are fastest in this layout, which factors do not have
        net.to(memory_format=torch.channels_last)
        size = maestro.footprint(net, example(name), merged=True)
        fields[row] |= {"params": size.params, "macs": size.macs}
    return nets, fields, factorised


@torch.no_grad()
def differences(dense, whole, inputs):
    """How far factorising moves the outputs, relative to the largest output.

    difference: as computed. factors: computed in float64, so due to the factors alone.
    rounding: between the dense network as computed and in float64.
    """
    exact = [x.double() if x.is_floating_point() else x for x in inputs]
    outs = [net.eval()(*inputs).double() for net in (dense, whole)]
    outs += [copy.deepcopy(net).double()(*exact) for net in (dense, whole)]
    pairs = {"difference": (0, 1), "factors": (2, 3), "rounding": (0, 2)}
    shares = {
        name: (outs[i] - outs[j]).abs().max() / outs[2].abs().max()
        for name, (i, j) in pairs.items()
    }
    return {name: float(f"{value.item():.2g}") for name, value in shares.items()}


def bench(name, device, rounds, recorder=None):
    """The measurement of one network, a dict as the file holds it.

    recorder: records steps to replay them; None to launch every kernel.
    """
    subject = SUBJECTS[name]
    nets, fields, factorised = networks(name, device)
    whole = copy.deepcopy(nets["lod 1.0"])
    batches = subject.gpu if device.type == "cuda" else subject.cpu
    data = subject.data(batches[0], device)
    rows = []
    for size in batches:
        steps = training(nets, subject, subject.data(size, device), rounds, recorder)
        rows += [{"batch": size} | fields[row] | steps[row] for row in nets]
    for row, took in inference(nets, subject, rounds, device, recorder).items():
        rows[list(nets).index(row)] |= took  # independent of the training's batch size
    lasso = lassos(whole, rounds, device)
    checked = ways.check(whole, data[0], min(rounds, 3), device, recorder)
    network = {"factorised": factorised, "rows": rows, "lasso": lasso, "ways": checked}
    if device.type == "cpu" and recorder is None:
        network["settings"] = settings(nets, subject, data, rounds)
    return network


def training(nets, subject, batch, rounds, recorder):
    """{row: {step, work, memory, parts}} of a training step of each network."""
    rows, device = {}, batch[1].device
    steps = {
        row: Step(net.train(), subject, batch, recorder) for row, net in nets.items()
    }
    for row, took in summary(race(steps, rounds, device)).items():
        rows[row] = {"step": took, "work": ways.work(nets[row], batch[0])}
        rows[row] |= {"memory": steps[row].memory(), "parts": steps[row].parts()}
    if recorder:
        steps = {
            row: Step(copy.deepcopy(net), subject, batch) for row, net in nets.items()
        }
        for row, took in summary(race(steps, rounds, device)).items():
            rows[row]["launched"] = took
    return rows


def lassos(net, rounds, device):
    """{way: ms} of the lasso's part of a step, at the ranks of ``net``."""
    net = copy.deepcopy(net)
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    calls = {
        "subgradient": partial(add_lasso_gradient, net, 1e-9),
        "proximal": partial(proximal_step, net, 1e-9),
    }
    times = race(calls, rounds, device)
    return {
        way: round(1000 * statistics.median(taken), 3) for way, taken in times.items()
    }


@torch.no_grad()
def inference(nets, subject, rounds, device, recorder=None):
    """{row: {"made": ..., "inference 1": ..., "folded 1": ...}} of merged networks.

    On a GPU the weights are bfloat16.
    """
    kind = torch.bfloat16 if device.type == "cuda" else torch.float32
    rows = {row: {} for row in nets}
    merged = {row: maestro.merge(net).eval() for row, net in nets.items()}
    for row, net in merged.items():
        rows[row]["made"] = ways.made(net, subject.data(1, device)[0])
    forms = {"inference": merged}
    if any(isinstance(m, nn.BatchNorm2d) for m in merged["dense"].modules()):
        forms["folded"] = {row: fuse(net) for row, net in merged.items()}
    for (form, each), size in itertools.product(forms.items(), INFERENCE_BATCHES):
        inputs, _ = subject.data(size, device)
        inputs = tuple(x.to(kind) if x.is_floating_point() else x for x in inputs)
        calls = {}
        for row, net in each.items():
            net.to(dtype=kind, memory_format=torch.channels_last)
            call = partial(forward, net)
            calls[row] = partial(Replay(call, recorder) if recorder else call, inputs)
        for row, took in summary(race(calls, rounds, device)).items():
            rows[row][f"{form} {size}"] = took
    return rows


def forward(net, inputs):
    return net(*inputs)


def write(path, name, network, device):
    """Add the measurement of one network to the file at ``path``."""
    ran = ran_on(device, "bfloat16" if device.type == "cuda" else "float32")
    network |= {key: ran.pop(key) for key in ("date", "commit")}
    content = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    models = content.pop("models", {}) if content.get("ran_on") == ran else {}
    models[name] = network
    models = {known: models[known] for known in SUBJECTS if known in models}
    text = json.dumps({"ran_on": ran, "models": models}, indent=1)
    write_whole(path, text + "\n")


def show(name, network):
    print(f"{name}, factorised: {network['factorised']}")
    print("  ratio to dense of:                MACs   work memory   step  inference")
    for row in network["rows"]:
        dense = next(r for r in network["rows"] if r["batch"] == row["batch"])
        ratios = [row[key] / dense[key] for key in ("macs", "work", "memory")]
        ratios.append(row["step"]["ratio"])
        forms = ("inference", "folded")
        keys = [f"{form} {size}" for form in forms for size in INFERENCE_BATCHES]
        ratios += [row[key]["ratio"] for key in keys if key in row]
        ratios = " ".join(f"{ratio:6.2f}" for ratio in ratios)
        label = f"{row['kind']:8} {row['share']:4.0%} of ranks, batch {row['batch']:3}"
        print(f"  {label} {ratios}", flush=True)
    for row, each in network.get("settings", {}).items():
        for setting, took in each.items():
            cells = f"{took['ratio']:6.2f}, {took['faults']:7,} page faults a step"
            print(f"  {row:8}, {setting:36} {cells}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=SUBJECTS, default=SUBJECTS)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "_build" / "bench.json")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error(f"--rounds {args.rounds}: it takes an integer >= 1")
    device = pick_device(args.device)
    recorder = CudaRecorder(device) if device.type == "cuda" else None
    for name in args.models:
        network = bench(name, device, args.rounds, recorder)
        write(args.out, name, network, device)
        show(name, network)
    print(f"written: {args.out}")


if __name__ == "__main__":
    main()
