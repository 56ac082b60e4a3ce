"""Time as it was measured: what benchmarks/bench.py wrote, and the targets for it.

One file in data/bench/ for each kind of device, cpu.json and cuda.json. Rows of a
network are its dense form, LoD at shares of the full ranks, and beside each of these
the dense network that is narrow enough to have as many multiply-accumulates (MACs).
"""

import json

import pandas as pd

from .config import ROOT

FOLDER = ROOT / "data" / "bench"
NAMES = {
    "resnet18": "ResNet-18",
    "vgg19": "VGG-19",
    "transformer": "Transformer",
    "lenet": "LeNet",
}
KINDS = {"dense": "dense", "lod": "LoD", "narrow": "narrow, dense"}
SHARES = {1.0: "all ranks", 0.5: "half", 0.25: "a quarter", 0.1: "a tenth"}
STEP_BOUNDS = {1.0: 1.12, 0.25: 0.45, 0.1: 0.33}  # of ResNet-18, ratios to dense
INFERENCE_BOUND = 1.15  # times the ratio of MACs
SECONDS_BOUND, DIFFERENCE_BOUND = 1.0, 1e-6  # of factorising ResNet-18
WASTE_BOUND = 0.05  # of a layer's time, by the way that was not the faster one


def load(device, folder=FOLDER):
    """What was measured on "cpu" or "cuda"; None if nothing was."""
    path = folder / f"{device}.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def ran_on(measurement):
    """'CPU, 2 threads, float32, PyTorch 2.13.0', or that there is no measurement."""
    if measurement is None:
        return "not measured yet"
    ran = measurement["ran_on"]
    threads = f"{ran['threads']} threads, " if ran["device"] == "CPU" else ""
    return f"{ran['device']}, {threads}{ran['precision']}, PyTorch {ran['torch']}"


def rows(measurement):
    """DataFrame of all networks' rows; what is not in ms or bytes is a ratio to dense.

    model, batch, kind, share, width; macs (as shipped), work (MACs of a training
    step's forward pass), params, memory, step with its quartiles, inference_1 and _64.
    """
    found = []
    for model, told in measurement["models"].items():
        dense = told["rows"][0]
        for row in told["rows"]:
            found.append(
                {
                    "model": model,
                    "batch": told["batch"],
                    "kind": row["kind"],
                    "share": row["share"],
                    "width": row.get("width"),
                    **{
                        key: row[key] / dense[key]
                        for key in ("macs", "work", "params", "memory")
                    },
                    "step": row["step"]["ratio"],
                    "step_low": row["step"]["low"],
                    "step_high": row["step"]["high"],
                    "step_ms": row["step"]["ms"],
                    "inference_1": row["inference 1"]["ratio"],
                    "inference_64": row["inference 64"]["ratio"],
                }
            )
    return pd.DataFrame(found)


def table(measurement, model):
    """One network's rows for the reader."""
    some = rows(measurement).query("model == @model and kind != 'dense'")
    told = {
        "network": [
            KINDS[row.kind] + ("" if pd.isna(row.width) else f", width {row.width:.0f}")
            for row in some.itertuples()
        ],
        "ranks": [SHARES[share] for share in some.share],
    }
    shown = {
        "MACs": "macs",
        "a step's work": "work",
        "a step's time": "step",
        "its memory": "memory",
        "inference, batch 1": "inference_1",
        "batch 64": "inference_64",
    }
    for title, key in shown.items():
        told[title] = [f"{ratio:.2f}" for ratio in some[key]]
    return pd.DataFrame(told).set_index(["network", "ranks"])


def step_targets(measurement):
    """What ResNet-18's training and factorising should take, and whether they do."""
    some = rows(measurement).query("model == 'resnet18' and kind == 'lod'")
    found = [
        (f"step at {SHARES[share]}", bound, some.set_index("share").step[share])
        for share, bound in STEP_BOUNDS.items()
    ]
    went = measurement["models"]["resnet18"]["factorised"]
    found.append(("factorising, seconds", SECONDS_BOUND, went["seconds"]))
    found.append(("function moved by it", DIFFERENCE_BOUND, went["factors"]))
    return _judged(found)


def inference_targets(measurement):
    """Merged networks: ratio of latency over ratio of MACs, and whether it is small."""
    found = []
    for row in rows(measurement).query("kind == 'lod'").itertuples():
        for batch, ratio in ((1, row.inference_1), (64, row.inference_64)):
            name = f"{NAMES[row.model]}, {SHARES[row.share]}, batch {batch}"
            found.append((name, INFERENCE_BOUND, ratio / row.macs))
    return _judged(found)


def _judged(found):
    told = pd.DataFrame(found, columns=["what", "at most", "measured"])
    told["met"] = told["measured"] <= told["at most"]
    return told.set_index("what")


def parts(measurement, model):
    """ms of a training step by what it works on, one column a network."""
    columns = {}
    for row in measurement["models"][model]["rows"]:
        if row["kind"] == "narrow":
            continue
        ranks = f", {SHARES[row['share']]}" if row["kind"] == "lod" else ""
        columns[KINDS[row["kind"]] + ranks] = row["parts"]
    return pd.DataFrame(columns)


def ways(measurement):
    """How the cost model did against the clock: one row a network.

    cases: layers of different shapes, at several ranks each. A case is wrong where the
    way that it takes is slower by more than WASTE_BOUND. waste: the time of all cases
    over that of the faster way in each, less one.
    """
    found = {}
    for model, told in measurement["models"].items():
        cases = pd.DataFrame(told["ways"])
        taken = cases.product_ms.where(cases["product"], cases.two_ms)
        best = cases[["product_ms", "two_ms"]].min(axis=1)
        found[NAMES[model]] = {
            "cases": len(cases),
            "product taken": int(cases["product"].sum()),
            "wrong": int((taken > (1 + WASTE_BOUND) * best).sum()),
            "waste": taken.sum() / best.sum() - 1,
        }
    return pd.DataFrame(found).T
