"""Time against MACs of merged networks on a CPU: python benchmarks/latency.py.

LeNet, the compact network and ResNet-18 with every layer at the same share of its
ranks: merged by size, with the ranks as they are and rounded down to multiples of 16,
with aligned layers, and merged by the clock for one image. On one and two threads, for
one image and for 64, in PyTorch and in onnxruntime. Weights do not matter for time, and
are random. It takes a quarter of an hour on quiet cores; no other program may run.
"""

import argparse
import copy
import json
import tempfile
from functools import partial
from pathlib import Path

import torch

import maestro
from maestro.deploy.latency import milliseconds, repeated, timed
from maestro.models import MODELS
from maestro.paths import ROOT
from maestro.results.cells import NETWORKS
from maestro.system import cores, write_whole
from maestro.training.machine import made, processor

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
    """(kind, merged network, MACs) of one network: dense, and at every share."""
    shape, skip = SUBJECTS[name]
    example = torch.zeros(1, *shape)
    dense = MODELS[name]().eval()
    yield "dense", dense, maestro.footprint(dense, example).macs
    low = maestro.factorize(copy.deepcopy(dense), skip=skip)
    full = maestro.ranks(low)
    for share in SHARES:
        for kind, how in KINDS.items():
            net = copy.deepcopy(low)
            ranks = {layer: max(1, int(share * r)) for layer, r in full.items()}
            if kind == "multiples of 16":
                ranks = {k: r // MULTIPLE * MULTIPLE or r for k, r in ranks.items()}
            maestro.truncate(net, ranks)
            if "by" in how:
                how = how | {"example_inputs": example}
            net = maestro.merge(net, **how).eval()
            yield kind, net, maestro.footprint(net, example).macs


def times(net, example, seconds):
    """[{runtime, threads, batch, ms, low, high}] of one network."""
    import onnxruntime

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        maestro.export(net, path, example)
        for threads in sorted({1, min(2, cores())}):
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
            [name] = [one.name for one in session.get_inputs()]
            for batch in (1, 64):
                x = repeated(example, batch)
                run = partial(session.run, None, {name: x.numpy()})
                found = {
                    "PyTorch": milliseconds(net, x, None, seconds, threads),
                    "onnxruntime": timed(run, seconds),
                }
                where = {"threads": threads, "batch": batch}
                for runtime, ms in found.items():
                    rows.append({"runtime": runtime, **where, **rounded(ms)})
    return rows


def rounded(ms):
    names = ("ms", "low", "high")
    return {name: float(f"{v:.4g}") for name, v in zip(names, ms, strict=True)}


def others(path, name, ran_on):
    """The rows of the other networks in the file ``path``, of the same machine.

    Raises ValueError if the file is of another processor or PyTorch.
    """
    if not Path(path).is_file():
        return []
    measured = json.loads(Path(path).read_text("utf-8"))
    before = {key: measured["ran_on"].get(key) for key in ran_on}
    if before != ran_on:
        raise ValueError(f"{path} is of {before}, this is {ran_on}: measure all anew")
    return [row for row in measured["rows"] if row["network"] != NETWORKS[name]]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default=ROOT / "data" / "bench" / "latency.json")
    parser.add_argument(
        "--only", choices=SUBJECTS, help="one network; the rows of the others stay"
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="for each time")
    args = parser.parse_args()
    ran_on = {"processor": processor(), "torch": torch.__version__.split("+")[0]}
    rows = others(args.out, args.only, ran_on) if args.only else []
    for name in [args.only] if args.only else SUBJECTS:
        example = torch.zeros(1, *SUBJECTS[name][0])
        for kind, net, macs in networks(name):
            what = {"network": NETWORKS[name], "ranks": kind, "macs": macs}
            rows += [what | row for row in times(net, example, args.seconds)]
            print(name, kind, macs, flush=True)
    found = {"ran_on": ran_on | made(), "rows": rows}
    write_whole(args.out, json.dumps(found, indent=1) + "\n")
    print(f"written: {args.out}")


if __name__ == "__main__":
    main()
