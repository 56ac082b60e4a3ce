"""Time as it was measured: what benchmarks/bench.py wrote, and the targets for it.

One file in data/bench/ for each kind of device, cpu.json and cuda.json. Rows of a
network are its dense form, LoD at shares of the full ranks, and beside each of these
the dense network that is narrow enough to have as many multiply-accumulates (MACs); all
of them for each batch that was trained with.
"""

import itertools
import json
from math import isnan, nan, sqrt

import pandas as pd

from ..paths import ROOT

FOLDER = ROOT / "data" / "bench"
NAMES = {
    "resnet18": "ResNet-18",
    "vgg19": "VGG-19",
    "transformer": "Transformer",
    "lenet": "LeNet",
    "compact": "compact",
}
KINDS = {"dense": "dense", "lod": "LoD", "narrow": "narrow, dense"}
SHARES = {1.0: "all ranks", 0.5: "half", 0.25: "a quarter", 0.1: "a tenth"}
# of ResNet-18: a step at these shares of the ranks, and its memory, ratios to dense
STEP_BOUNDS = {
    "cpu": {1.0: 1.12, 0.25: 0.45, 0.1: 0.33},
    "cuda": {1.0: 1.10, 0.25: 0.60, 0.1: 0.40},
}
MEMORY_BOUND = 1.15  # at all ranks, on a GPU
IMAGES_BOUND = 40_000  # a second, dense, on a GPU, at the larger batch
TRAINING_BOUNDS = {16e-6: 0.85, 64e-6: 0.50}  # seconds, ratio to dense, on a GPU
INFERENCE_BOUND = 1.15  # times the ratio of MACs
SECONDS_BOUND, DIFFERENCE_BOUND = 1.0, 1e-6  # of factorising ResNet-18
WASTE_BOUND = 0.05  # of a layer's time, by the way that was not the faster one
BOOK = "by the book"
# by which records are held against each other, and what they are called
SAME = {"test_accuracy": "accuracy (%)", "total_rank": "total rank"}
FORMS = ("inference", "folded")  # merged, and with batch norm folded into convolutions


def load(device, folder=FOLDER):
    """What was measured on "cpu" or "cuda"; None if nothing was.

    Raises ValueError, naming the file, if it is damaged.
    """
    path = folder / f"{device}.json"
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}): take it from the repository anew"
        ) from None


def ran_on(measurement):
    """'CPU, 2 threads, float32, PyTorch 2.13.0', or that there is no measurement."""
    if measurement is None:
        return "not measured yet"
    ran = measurement["ran_on"]
    threads = f"{ran['threads']} threads, " if ran["device"] == "CPU" else ""
    return f"{ran['device']}, {threads}{ran['precision']}, PyTorch {ran['torch']}"


def rows(measurement):
    """DataFrame of all networks' rows; what is not in ms or bytes is a ratio to dense.

    model, batch, kind, share, width; macs (as shipped), made (the same with the outputs
    of each map in whole registers), work (MACs of a training step's forward pass),
    params, memory; step with its quartiles, and launched, the
    same not replayed, on GPUs; inference_1 and _64, folded_1 and _64 where there is
    batch norm, beside the first batch only.
    """
    found = []
    for model, told in measurement["models"].items():
        dense = {row["batch"]: row for row in told["rows"] if row["kind"] == "dense"}
        for row in told["rows"]:
            base = dense[row["batch"]]
            line = {"model": model, "width": None} | {
                key: row[key]
                for key in ("batch", "kind", "share", "width")
                if key in row
            }
            for key in ("macs", "work", "params", "memory"):
                line[key] = row[key] / base[key]
            line["step"], line["step_ms"] = row["step"]["ratio"], row["step"]["ms"]
            line |= {f"step_{key}": row["step"][key] for key in ("low", "high")}
            line["launched"] = (
                row.get("launched", {}).get("ms", nan) / base["step"]["ms"]
            )
            line["made"] = row.get("made", nan) / base.get("made", nan)
            for form, size in itertools.product(FORMS, (1, 64)):
                took = row.get(f"{form} {size}", {})
                line[f"{form}_{size}"] = took.get("ratio", nan)
            found.append(line)
    return pd.DataFrame(found)


def same(measurement):
    """LeNet's records by each way of training, beside those by the book.

    measurement: what benchmarks/same.py wrote. One row a way and lambda_gl; means over
    seeds. "off" is the difference from the book's mean in standard errors of it, from
    the deviation between seeds, one for all lambda_gl and ways together.
    """
    runs = pd.DataFrame(measurement["runs"])
    ways = [BOOK, *sorted(set(runs.way) - {BOOK})]
    runs["way"] = pd.Categorical(runs.way, ways, ordered=True)
    cells = runs.groupby(["lambda_gl", "way"], observed=True)
    columns = {"seeds": cells.size()}
    for key, name in SAME.items():
        mean, noise = cells[key].mean(), sqrt(cells[key].var().mean())
        error = noise * sqrt(2 / columns["seeds"].min())
        book = mean.xs(BOOK, level="way")
        columns[name] = mean
        columns[f"{name}, off"] = mean.sub(book, level="lambda_gl") / error
    return pd.DataFrame(columns)


def batches(measurement, model):
    """The sizes of batch that a network was trained with, the first one first."""
    sizes = [row["batch"] for row in measurement["models"][model]["rows"]]
    return list(dict.fromkeys(sizes))


def training_table(measurement, model, batch):
    """A step of one network's rows at one size of batch, for the reader."""
    some = rows(measurement).query("model == @model and batch == @batch")
    if some.launched.isna().all():  # else the dense one's says what a recording saves
        some = some[some.kind != "dense"]
    shown = {
        "time": "step",
        "launched": "launched",
        "work": "work",
        "MACs": "macs",
        "memory": "memory",
    }
    return _named(some, shown)


def inference_table(measurement, model):
    """Inference of one network's rows, merged, for the reader."""
    some = rows(measurement).query("model == @model and kind != 'dense'")
    shown = {
        "batch 1": "inference_1",
        "batch 64": "inference_64",
        "folded, 1": "folded_1",
        "folded, 64": "folded_64",
        "MACs": "macs",
        "in sixteens": "made",
    }
    return _named(some[some.inference_1.notna()], shown)


def _named(some, shown):
    """``some`` rows as text: those columns of ``shown`` that say something."""
    names = [_name(row.kind, row.share, row.width) for row in some.itertuples()]
    told = {
        title: [f"{ratio:.2f}" for ratio in some[key]]
        for title, key in shown.items()
        if some[key].notna().any()
    }
    return pd.DataFrame(told, pd.Index(names))


def _name(kind, share, width):
    if kind == "dense":
        return "dense"
    if kind == "lod":
        return f"LoD, {SHARES[share]}"
    return f"width {width:.0f}, as {SHARES[share]}"


def step_targets(measurement):
    """What ResNet-18's training and factorising should take, and whether they do."""
    some = rows(measurement).query("model == 'resnet18'")
    on_gpu = measurement["ran_on"]["device"] != "CPU"
    found = []
    for batch, these in some.groupby("batch"):
        lod = these[these.kind == "lod"].set_index("share")
        for share, bound in STEP_BOUNDS["cuda" if on_gpu else "cpu"].items():
            name = f"step at {SHARES[share]}, batch {batch}"
            found.append((name, bound, lod.step[share]))
        if on_gpu:
            name = f"memory at all ranks, batch {batch}"
            found.append((name, MEMORY_BOUND, lod.memory[1.0]))
    went = measurement["models"]["resnet18"]["factorised"]
    found.append(("factorising, seconds", SECONDS_BOUND, went["seconds"]))
    found.append(("function moved by it", DIFFERENCE_BOUND, went["factors"]))
    return _judged(found)


def as_text(targets):
    """`step_targets` for the reader: three digits, so that no bound is rounded."""
    return targets.map(
        lambda value: f"{value:.3g}" if isinstance(value, float) else value
    )


def images_a_second(measurement, model="resnet18"):
    """{batch: examples a second} of dense training steps."""
    dense = rows(measurement).query("model == @model and kind == 'dense'")
    return {row.batch: 1000 * row.batch / row.step_ms for row in dense.itertuples()}


def inference_targets(measurement, form="inference"):
    """Merged networks: ratio of latency over ratio of MACs, and whether it is small.

    form: one of FORMS.
    """
    found = []
    for row in rows(measurement).query("kind == 'lod'").to_dict("records"):
        for batch in (1, 64):
            ratio = row[f"{form}_{batch}"]
            if not isnan(ratio):
                name = f"{NAMES[row['model']]}, {SHARES[row['share']]}, batch {batch}"
                found.append((name, INFERENCE_BOUND, ratio / row["macs"]))
    return _judged(found)


def over(measurement, form, by):
    """Ratio of latency over that of ``by``, of low-rank networks and narrow ones.

    form: one of FORMS; by: "macs" or "made". One row a network and share, one column a
    batch and kind, as text; 1.00 is time that falls as ``by`` does.
    """
    some = rows(measurement).query("kind != 'dense' and share < 1").copy()
    some = some[some[f"{form}_1"].notna()]
    for size in (1, 64):
        some[f"batch {size}"] = some[f"{form}_{size}"] / some[by]
    return _by_kind(some, ["batch 1", "batch 64"])


def steps_over_macs(measurement):
    """A training step's time over its MACs, both of dense, as `over`: text; and counts.

    The counts are {kind: (cases above the MACs, cases below, all cases)}. A case is
    above if its lower quartile is, and below if its upper quartile is. At the largest
    batch, of the networks that have narrow ones beside them.
    """
    some = rows(measurement)
    largest = some.groupby("model").batch.transform("max")
    some = some[(some.batch == largest) & (some.share < 1)].copy()
    some = some[some.model.isin(some[some.kind == "narrow"].model)]
    some["time / MACs"] = some.step / some.macs
    counts = {
        KINDS[kind]: (
            int((these.step_low > these.macs).sum()),
            int((these.step_high < these.macs).sum()),
            len(these),
        )
        for kind, these in some.groupby("kind")
    }
    return _by_kind(some, ["time / MACs"]), counts


def _by_kind(some, columns):
    """``columns`` as text: one row a network and share, the kinds side by side."""
    some["kind"], some["ranks"] = some.kind.map(KINDS), some.share.map(SHARES)
    some["network"] = some.model.map(NAMES)
    table = some.pivot_table(columns, ["network", "ranks"], "kind", sort=False)
    return table.map(lambda value: "" if isnan(value) else f"{value:.2f}")


def _judged(found):
    told = pd.DataFrame(found, columns=["what", "at most", "measured"])
    told["met"] = told["measured"] <= told["at most"]
    return told.set_index("what")


def parts(measurement, model):
    """ms of a training step by what it works on, one column a network; first batch."""
    columns, first = {}, batches(measurement, model)[0]
    for row in measurement["models"][model]["rows"]:
        if row["kind"] == "narrow" or row["batch"] != first:
            continue
        ranks = f", {SHARES[row['share']]}" if row["kind"] == "lod" else ""
        columns[KINDS[row["kind"]] + ranks] = row["parts"]
    return pd.DataFrame(columns)


def lassos(measurement):
    """The lasso's part of a step at all ranks, of the dense step: a row a network."""
    found = {}
    for model, told in measurement["models"].items():
        dense = told["rows"][0]["step"]["ms"]
        found[NAMES[model]] = {way: ms / dense for way, ms in told["lasso"].items()}
    return pd.DataFrame(found).T


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
