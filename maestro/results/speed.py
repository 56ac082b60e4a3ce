"""Measured time: the tables of benchmarks/bench.py's files, and their targets.

data/bench/ has one file for each kind of device, cpu.json and cuda.json. A network's
rows are its dense form, LoD at several shares of the full ranks and, for each share, a
narrow dense network with as many multiply-accumulates (MACs). Each row is measured at
each batch size.
"""

import itertools
from math import isnan, nan, sqrt

import pandas as pd

from .cells import NETWORKS, NOT_MEASURED
from .measured import load as load  # of "cpu" and "cuda", and of "same"

KINDS = {"dense": "dense", "lod": "LoD", "narrow": "narrow, dense"}
SHARES = {1.0: "all ranks", 0.5: "half", 0.25: "a quarter", 0.1: "a tenth"}
# ResNet-18's step time at these shares of the ranks, as a ratio to dense
STEP_BOUNDS = {
    "cpu": {1.0: 1.12, 0.25: 0.45, 0.1: 0.33},
    "cuda": {1.0: 1.10, 0.25: 0.60, 0.1: 0.40},
}
MEMORY_BOUND = 1.15  # ResNet-18's, at all ranks, on a GPU; ratio to dense
IMAGES_BOUND = 40_000  # a second, dense, on a GPU, at the larger batch
TRAINING_BOUNDS = {16e-6: 0.85, 64e-6: 0.50}  # seconds, ratio to dense, on a GPU
INFERENCE_BOUND = 1.15  # times the ratio of MACs
SECONDS_BOUND, DIFFERENCE_BOUND = 1.0, 1e-6  # to factorise ResNet-18; relative
WASTE_BOUND = 0.05  # a slower way costs a layer at most this share of its time
BOOK = "by the book"
# the figures of a record that are compared, and their column titles
SAME = {"test_accuracy": "accuracy (%)", "total_rank": "total rank"}
SETTING_ROWS = ("dense", "lod 0.25")  # the steps that are timed at several settings
FORMS = ("inference", "folded")  # merged, and with batch norm folded into convolutions


def ran_on(measurement):
    """The device in words, 'CPU, 2 threads, float32, PyTorch 2.13.0'."""
    if measurement is None:
        return NOT_MEASURED
    ran = measurement["ran_on"]
    threads = f"{ran['threads']} threads, " if ran["device"] == "CPU" else ""
    return f"{ran['device']}, {threads}{ran['precision']}, PyTorch {ran['torch']}"


def rows(measurement):
    """All networks' rows as a DataFrame, as ratios to the dense network.

    Columns: model, batch, kind, share, width; macs (of the merged network), made (MACs
    with each layer's outputs rounded up to whole registers), work (MACs of a training
    step's forward pass), params, memory; step and its quartiles step_low and step_high,
    step_ms (in ms), and launched (a step that is not replayed, on a GPU). The rows of
    the first batch size also have inference_1 and inference_64 and, with batch norm,
    folded_1 and folded_64.
    """
    lines = []
    for model, network in measurement["models"].items():
        dense = {row["batch"]: row for row in network["rows"] if row["kind"] == "dense"}
        for row in network["rows"]:
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
                timing = row.get(f"{form} {size}", {})
                line[f"{form}_{size}"] = timing.get("ratio", nan)
            lines.append(line)
    return pd.DataFrame(lines)


def same(measurement):
    """LeNet's figures by each way of training, compared with those by the book.

    One row for each way and lambda_gl, means over seeds. A column "off" is the
    difference from the mean by the book, in standard errors. The standard error comes
    from one deviation between seeds, pooled over all lambda_gl and ways.

    measurement: a dict as benchmarks/same.py writes it.
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
    """The batch sizes that a network was measured at, in their order."""
    sizes = [row["batch"] for row in measurement["models"][model]["rows"]]
    return list(dict.fromkeys(sizes))


def training_table(measurement, model, batch):
    """One network's training steps at one batch size, as text."""
    steps = rows(measurement).query("model == @model and batch == @batch")
    if steps.launched.isna().all():  # with it, the dense row shows what replaying saves
        steps = steps[steps.kind != "dense"]
    shown = {
        "time": "step",
        "launched": "launched",
        "work": "work",
        "MACs": "macs",
        "memory": "memory",
    }
    return _named(steps, shown)


def inference_table(measurement, model):
    """One network's inference, merged, as text."""
    merged = rows(measurement).query("model == @model and kind != 'dense'")
    shown = {
        "batch 1": "inference_1",
        "batch 64": "inference_64",
        "folded, 1": "folded_1",
        "folded, 64": "folded_64",
        "MACs": "macs",
        "in sixteens": "made",
    }
    return _named(merged[merged.inference_1.notna()], shown)


def _named(lines, shown):
    """``lines`` of `rows` as text, without the columns of ``shown`` that are empty."""
    names = [_name(line.kind, line.share, line.width) for line in lines.itertuples()]
    columns = {
        title: [f"{ratio:.2f}" for ratio in lines[key]]
        for title, key in shown.items()
        if lines[key].notna().any()
    }
    return pd.DataFrame(columns, pd.Index(names))


def _name(kind, share, width):
    if kind == "dense":
        return "dense"
    if kind == "lod":
        return f"LoD, {SHARES[share]}"
    return f"width {width:.0f}, as {SHARES[share]}"


def step_targets(measurement):
    """The targets of training and factorising ResNet-18, and whether they are met."""
    steps = rows(measurement).query("model == 'resnet18'")
    on_gpu = measurement["ran_on"]["device"] != "CPU"
    targets = []
    for batch, at_batch in steps.groupby("batch"):
        lod = at_batch[at_batch.kind == "lod"].set_index("share")
        for share, bound in STEP_BOUNDS["cuda" if on_gpu else "cpu"].items():
            name = f"step at {SHARES[share]}, batch {batch}"
            targets.append((name, bound, lod.step[share]))
        if on_gpu:
            name = f"memory at all ranks, batch {batch}"
            targets.append((name, MEMORY_BOUND, lod.memory[1.0]))
    factorised = measurement["models"]["resnet18"]["factorised"]
    targets += [
        ("factorising, seconds", SECONDS_BOUND, factorised["seconds"]),
        ("function moved by it", DIFFERENCE_BOUND, factorised["factors"]),
    ]
    return _judged(targets)


def as_text(targets):
    """`step_targets` as text, with three digits, so that no bound is rounded."""
    return targets.map(
        lambda value: f"{value:.3g}" if isinstance(value, float) else value
    )


def images_a_second(measurement, model="resnet18"):
    """The speed of dense training: {batch size: examples a second}."""
    dense = rows(measurement).query("model == @model and kind == 'dense'")
    return {row.batch: 1000 * row.batch / row.step_ms for row in dense.itertuples()}


def inference_targets(measurement, form="inference"):
    """The targets of merged networks, and whether they are met.

    A target bounds the ratio of latency to dense, divided by the ratio of MACs.

    form: one of FORMS.
    """
    targets = []
    for row in rows(measurement).query("kind == 'lod'").to_dict("records"):
        for batch in (1, 64):
            ratio = row[f"{form}_{batch}"]
            if not isnan(ratio):
                name = (
                    f"{NETWORKS[row['model']]}, {SHARES[row['share']]}, batch {batch}"
                )
                targets.append((name, INFERENCE_BOUND, ratio / row["macs"]))
    return _judged(targets)


def over(measurement, form, by):
    """The ratio of latency divided by the ratio of MACs, low-rank and narrow networks.

    At 1.00 the latency falls in proportion to the MACs.

    Args:
        measurement: of `load`.
        form: one of FORMS.
        by: the count of MACs, "macs" or "made" of `rows`.

    Returns:
        Text: one row for each network and share, one column for each batch size and
        kind.
    """
    smaller = rows(measurement).query("kind != 'dense' and share < 1").copy()
    smaller = smaller[smaller[f"{form}_1"].notna()]
    for size in (1, 64):
        smaller[f"batch {size}"] = smaller[f"{form}_{size}"] / smaller[by]
    return _by_kind(smaller, ["batch 1", "batch 64"])


def steps_over_macs(measurement):
    """The ratio of a training step's time divided by its ratio of MACs, and counts.

    At the largest batch size, for the networks that have narrow dense networks.

    Returns:
        (table, counts). The table is text, as in `over`. The counts are {kind: (cases
        above the MACs, cases below, all cases)}: a case is above if its lower quartile
        is, and below if its upper quartile is.
    """
    steps = rows(measurement)
    largest = steps.groupby("model").batch.transform("max")
    steps = steps[(steps.batch == largest) & (steps.share < 1)].copy()
    steps = steps[steps.model.isin(steps[steps.kind == "narrow"].model)]
    steps["time / MACs"] = steps.step / steps.macs
    counts = {
        KINDS[kind]: (
            int((cases.step_low > cases.macs).sum()),
            int((cases.step_high < cases.macs).sum()),
            len(cases),
        )
        for kind, cases in steps.groupby("kind")
    }
    return _by_kind(steps, ["time / MACs"]), counts


def _by_kind(lines, columns):
    """``columns`` as text: one row for each network and share, the kinds in columns."""
    lines["kind"], lines["ranks"] = lines.kind.map(KINDS), lines.share.map(SHARES)
    lines["network"] = lines.model.map(NETWORKS)
    table = lines.pivot_table(columns, ["network", "ranks"], "kind", sort=False)
    return table.map(lambda value: "" if isnan(value) else f"{value:.2f}")


def _judged(targets):
    """DataFrame of ``targets``, (name, bound, measured), with a column "met"."""
    table = pd.DataFrame(targets, columns=["what", "at most", "measured"])
    table["met"] = table["measured"] <= table["at most"]
    return table.set_index("what")


def parts(measurement, model):
    """Milliseconds of a training step by kind of work, at the first batch size.

    One row for each kind of work, one column for the dense network and each share.
    """
    columns, first = {}, batches(measurement, model)[0]
    for row in measurement["models"][model]["rows"]:
        if row["kind"] == "narrow" or row["batch"] != first:
            continue
        ranks = f", {SHARES[row['share']]}" if row["kind"] == "lod" else ""
        columns[KINDS[row["kind"]] + ranks] = row["parts"]
    return pd.DataFrame(columns)


def settings(measurement):
    """The training step at other settings, as text (benchmarks/settings.py).

    One row for each network and setting. Columns: the ratios of the dense step and of
    LoD's step at a quarter of the ranks to the dense step in float32, and the page
    faults of the dense step. Empty if the measurement has no settings.
    """
    lines = {}
    for model, network in measurement["models"].items():
        for name in network.get("settings", {}).get("dense", ()):
            dense, lod = (network["settings"][row][name] for row in SETTING_ROWS)
            lines[NETWORKS[model], name] = {
                "dense": f"{dense['ratio']:.2f}",
                "LoD, a quarter": f"{lod['ratio']:.2f}",
                "page faults, dense": f"{dense['faults']:,}",
            }
    return pd.DataFrame.from_dict(lines, orient="index")


def lassos(measurement):
    """The time of the lasso at all ranks, as a share of the dense step.

    One row for each network, one column for each implementation.
    """
    shares = {}
    for model, network in measurement["models"].items():
        dense = network["rows"][0]["step"]["ms"]
        shares[NETWORKS[model]] = {
            way: ms / dense for way, ms in network["lasso"].items()
        }
    return pd.DataFrame(shares).T


def ways(measurement):
    """The choice between one product and two, judged by the clock.

    One row for each network. Columns: cases (layers of different shapes, each at
    several ranks), product taken (cases computed as one product), wrong (cases whose
    choice is slower by more than WASTE_BOUND), waste (how much longer all cases take
    than with the faster choice in each, as a share).
    """
    networks = {}
    for model, network in measurement["models"].items():
        cases = pd.DataFrame(network["ways"])
        taken = cases.product_ms.where(cases["product"], cases.two_ms)
        best = cases[["product_ms", "two_ms"]].min(axis=1)
        networks[NETWORKS[model]] = {
            "cases": len(cases),
            "product taken": int(cases["product"].sum()),
            "wrong": int((taken > (1 + WASTE_BOUND) * best).sum()),
            "waste": taken.sum() / best.sum() - 1,
        }
    return pd.DataFrame(networks).T
