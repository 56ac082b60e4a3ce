"""Time against MACs of merged networks on a CPU: python benchmarks/latency.py.

LeNet, the compact network and ResNet-18 with every layer at the same share of its
ranks: merged by size, with the ranks as they are and rounded down to multiples of 16,
with aligned layers, and merged by the clock for one image on one thread. On one and two
threads, for one image and for 64, in PyTorch and in onnxruntime. In every setting the
dense network and the merged ones are timed in turn, because machines drift. Weights do
not matter for time, and are random. It takes a quarter of an hour on quiet cores; no
other program may run.
"""

import argparse
import copy
import json
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch
from timing import race

import maestro
from maestro.deploy.latency import repeated, threads_of_cpu
from maestro.models import MODELS
from maestro.paths import ROOT
from maestro.results.cells import NETWORKS
from maestro.system import cores, write_whole
from maestro.training.machine import made, processor

CPU = torch.device("cpu")
# {network: (shape of an image, layers that stay dense)}
SUBJECTS = {
    "lenet": ((1, 28, 28), ()),
    "compact": ((3, 32, 32), ("whiten",)),
    "resnet18": ((3, 32, 32), ()),
}
SHARES = (0.5, 0.35, 0.25, 0.125)
MULTIPLE = 16
KINDS = {  # how each is merged
    "as they are": {},
    "multiples of 16": {},
    "aligned": {"aligned": True},
    "by the clock": {"by": "time", "aligned": True},
}


def networks(name):
    """{"dense" or (kind, share): merged network} of one network."""
    shape, skip = SUBJECTS[name]
    example = torch.zeros(1, *shape)
    dense = MODELS[name]().eval()
    low = maestro.factorize(copy.deepcopy(dense), skip=skip)
    full, found = maestro.ranks(low), {"dense": dense}
    for share in SHARES:
        for kind, how in KINDS.items():
            net = copy.deepcopy(low)
            ranks = {layer: max(1, int(share * r)) for layer, r in full.items()}
            if kind == "multiples of 16":
                ranks = {k: r // MULTIPLE * MULTIPLE or r for k, r in ranks.items()}
            maestro.truncate(net, ranks)
            if "by" in how:
                how = how | {"example_inputs": example}
            with threads_of_cpu(1):
                found[kind, share] = maestro.merge(net, **how).eval()
    return found


def measure(name, rounds):
    """The rows of one network: {ranks, share, macs, dense_macs, runtime, ...}."""
    example, nets = torch.zeros(1, *SUBJECTS[name][0]), networks(name)
    macs = {key: maestro.footprint(net, example).macs for key, net in nets.items()}
    rows = []
    for runtime, calls in {
        "PyTorch": in_pytorch,
        "onnxruntime": in_onnxruntime,
    }.items():
        for threads in sorted({1, min(2, cores())}):
            for batch in (1, 64):
                where = {"runtime": runtime, "threads": threads, "batch": batch}
                x = repeated(example, batch)
                with ExitStack() as stack:
                    taken = race(calls(nets, x, threads, stack), rounds, CPU)
                rows += [
                    {"ranks": key[0], "share": key[1], "macs": macs[key]}
                    | {"dense_macs": macs["dense"]}
                    | where
                    | against(taken[key], taken["dense"])
                    for key in nets
                    if key != "dense"
                ]
                print(name, where, flush=True)
    return rows


def in_pytorch(nets, x, threads, stack):
    """{key: a forward pass}, until ``stack`` is closed."""
    stack.enter_context(threads_of_cpu(threads))
    stack.enter_context(torch.inference_mode())
    return {key: partial(net, x) for key, net in nets.items()}


def in_onnxruntime(nets, x, threads, stack):
    """{key: a forward pass}, until ``stack`` is closed."""
    import onnxruntime

    options, calls = onnxruntime.SessionOptions(), {}
    options.intra_op_num_threads = threads
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    for key, net in nets.items():
        path = Path(folder) / "net.onnx"
        maestro.export(net, path, x[:1])
        session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        [name] = [one.name for one in session.get_inputs()]
        calls[key] = partial(session.run, None, {name: x.numpy()})
    return calls


def against(taken, dense):
    """{ms, dense_ms, ratio, low, high}: medians, and the quartiles of the ratio."""
    times = torch.tensor([taken, dense], dtype=torch.float64)
    ms, dense_ms = (1000 * times.median(1).values).tolist()
    quantiles = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
    low, ratio, high = (times[0] / times[1]).quantile(quantiles).tolist()
    found = {"ms": ms, "dense_ms": dense_ms, "ratio": ratio, "low": low, "high": high}
    return {name: float(f"{value:.4g}") for name, value in found.items()}


def written(path, ran_on):
    """The networks in the file ``path``; {} without a file.

    Raises ValueError if the file is of another processor or PyTorch.
    """
    if not Path(path).is_file():
        return {}
    measured = json.loads(Path(path).read_text("utf-8"))
    if measured["ran_on"] != ran_on:
        raise ValueError(
            f"{path} is of {measured['ran_on']}, this is {ran_on}: measure all anew"
        )
    return measured["networks"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default=ROOT / "data" / "bench" / "latency.json")
    parser.add_argument(
        "--only", choices=SUBJECTS, help="one network; the rows of the others stay"
    )
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    ran_on = {"processor": processor(), "torch": torch.__version__.split("+")[0]}
    found = written(args.out, ran_on) if args.only else {}
    for name in [args.only] if args.only else SUBJECTS:
        found[NETWORKS[name]] = made() | {"rows": measure(name, args.rounds)}
        content = {"ran_on": ran_on, "networks": found}
        write_whole(args.out, json.dumps(content, indent=1) + "\n")
    print(f"written: {args.out}")


if __name__ == "__main__":
    main()
