"""How long LoD's step takes, as a ratio to the dense step in plain PyTorch.

    python benchmarks/bench.py [--models lenet ...] [--device cpu] [--seconds 20]

Both are timed in turn in the same run, pair by pair, because machines drift; the ratio
is the median over pairs. A step is forward, loss, penalty, backward and optimiser, with
sampling, as training does it. Writes _build/bench.json and prints a table.
"""

import argparse
import copy
import json
import statistics
import time

import torch
from torch.nn import functional as F

import maestro
from maestro.config import ROOT
from maestro.models import MODELS
from maestro.machine import device_name, pick_device

SIZES = {  # model: (image, batch on a CPU, batch on a GPU)
    "lenet": ((1, 28, 28), 64, 512),
    "resnet18": ((3, 32, 32), 32, 512),
    "vgg19": ((3, 32, 32), 32, 512),
}
SHARES = (1.0, 0.25, 0.1)  # of each layer's full rank


def dense_step(net, images, labels):
    """A step of plain PyTorch; a function to call again and again."""
    optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, fused=True)

    def step():
        F.cross_entropy(net(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def lod_step(net, images, labels):
    """The same step with one layer sampled and the group lasso added."""
    optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, fused=True)
    sampler = maestro.RankSampler(net)

    def step():
        with sampler.step():
            loss = F.cross_entropy(net(images), labels)
            (loss + 1e-5 * maestro.hierarchical_group_lasso(net)).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def at_share(net, share):
    """A copy of a factorised network with this share of each layer's full rank."""
    net = copy.deepcopy(net)
    layers = maestro.low_rank_layers(net)
    kept = {n: max(1, round(share * layer.max_rank)) for n, layer in layers.items()}
    maestro.truncate(net, kept)
    return net


def pairs(first, second, seconds, device):
    """Median seconds of both, and the median of their ratios, over paired calls."""
    for warm in (first, second, first, second):
        seconds_of(warm, device)
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        times.append((seconds_of(first, device), seconds_of(second, device)))
    one, two = zip(*times, strict=True)
    ratio = statistics.median(a / b for a, b in times)
    return statistics.median(one), statistics.median(two), ratio


def seconds_of(call, device):
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def bench(name, device, seconds):
    """Rows for one network: training at each share of the ranks, merged inference."""
    image, *batches = SIZES[name]
    batch = batches[device.type == "cuda"]
    torch.manual_seed(0)
    dense = MODELS[name]().to(device)
    x = torch.randn(batch, *image, device=device)
    y = torch.randint(10, (batch,), device=device)
    start = time.perf_counter()
    whole = maestro.factorize(copy.deepcopy(dense))
    print(f"{name}: factorised in {time.perf_counter() - start:.1f} s", flush=True)
    one, rows = torch.zeros(1, *image), []
    macs = maestro.footprint(dense, one).macs
    for share in SHARES:
        net = at_share(whole, share)
        of_dense = maestro.footprint(net, one, merged=True).macs / macs
        train = pairs(lod_step(net, x, y), dense_step(dense, x, y), seconds, device)
        merged = maestro.merge(net).eval()
        infer = pairs(forward(merged, x), forward(dense.eval(), x), seconds / 4, device)
        dense.train()
        rows.append(
            {
                "model": name,
                "batch": batch,
                "share": share,
                "macs": of_dense,
                "train": train[2],
                "infer": infer[2],
                "dense_step_seconds": train[1],
            }
        )
        print(
            f"{name}, batch {batch}, {share:.0%} of the ranks: MACs {of_dense:.2f}, "
            f"training step {train[2]:.2f}, merged inference {infer[2]:.2f} of dense",
            flush=True,
        )
    return rows


def forward(net, x):
    def call():
        with torch.no_grad():
            net(x)

    return call


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seconds", type=float, default=20, help="per measurement")
    args = parser.parse_args()
    device = pick_device(args.device)
    rows = [row for n in args.models for row in bench(n, device, args.seconds)]
    out = ROOT / "_build" / "bench.json"
    out.parent.mkdir(exist_ok=True)
    threads = torch.get_num_threads()
    machine = {"device": device_name(device), "threads": threads}
    out.write_text(json.dumps(machine | {"rows": rows}, indent=1) + "\n")
    print(f"written: {out.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
