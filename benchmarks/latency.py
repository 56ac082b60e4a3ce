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
    for where, taken in settings(nets, exported(nets, example), example, rounds):
        print(name, where, flush=True)
        for key in nets:
            if key != "dense":
                what = {"ranks": key[0], "share": key[1], "macs": macs[key]}
                what |= {"dense_macs": macs["dense"]} | where
                rows.append(what | against(taken[key], taken["dense"]))
    return rows


def exported(nets, example):
    """{key: the network as the bytes of an ONNX file}."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for key, net in nets.items():
            path = Path(folder) / "net.onnx"
            maestro.export(net, path, example)
            found[key] = path.read_bytes()
    return found


def settings(nets, files, example, rounds):
    """Yield ({runtime, threads, batch}, {key: [seconds, a round each]})."""
    for threads in sorted({1, min(2, cores())}):
        sessions = {key: session(file, threads) for key, file in files.items()}
        for batch in (1, 64):
            x = repeated(example, batch)
            where = {"threads": threads, "batch": batch}
            with threads_of_cpu(threads), torch.inference_mode():
                calls = {key: partial(net, x) for key, net in nets.items()}
                yield {"runtime": "PyTorch"} | where, race(calls, rounds, CPU)
            calls = {
                key: partial(one.run, None, {one.get_inputs()[0].name: x.numpy()})
                for key, one in sessions.items()
            }
            yield {"runtime": "onnxruntime"} | where, race(calls, rounds, CPU)


def session(file, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # the threads of one network must not wait in a loop while the next one is timed
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        file, options, providers=["CPUExecutionProvider"]
    )


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
    parser.add_argument("--rounds", type=int, default=9)
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
