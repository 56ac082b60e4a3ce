"""From run records and the paper's published numbers to the book's tables.

Reads only; never trains. Means are over the seeds of one variant (variants.py). What
has no record says "not run yet".
"""

import math
import re

import pandas as pd

from ..config import RunConfig, variant
from ..paths import PAPER
from .cells import NOT_RUN, count, plus_minus, ratio, variant_name
from .variants import pick, refuse_mixed, summary

DENSE_SECTION = "No decomposition"  # of Tables 4 and 15
# what a network is judged by: its column in the records, and in the paper's tables
METRICS = {
    "accuracy (%)": ("test_accuracy", "accuracy"),
    "perplexity": ("perplexity", "perplexity"),
}
LEFT = ("total rank at the start", "at the end", "parameters", "perplexity")
COSTS = ("MACs", "parameters", "training cost, MACs / params")


def paper_table(number, section=None):
    """The paper's table as printed (data/paper), empty cells as nan.

    section: of Tables 4 and 15, the rows under this heading, and the dense one's.
    Raises ValueError on a table that is not there, naming those that are, or damaged.
    """
    path = PAPER / f"table{number}.csv"
    if not path.is_file():
        there = sorted(int(p.stem[5:]) for p in PAPER.glob("table*.csv"))
        raise ValueError(f"number={number!r}: it is one of {there}")
    try:
        table = pd.read_csv(path)
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}): take it from the repository anew"
        ) from None
    if section is None:
        return table
    if section not in set(table.section):
        raise ValueError(f"section={section!r}; it is one of {set(table.section)}")
    return table[table.section.isin([DENSE_SECTION, section])]


def study_points(records, name):
    """A study of the runs' weights: one row per run and point.

    Of the runs whose ranks were taken, those in ``records`` count. Columns: lambda_gl
    (theirs), test_accuracy, params, macs, dense_params; uncut, the run's own accuracy.
    Empty if there is none. Raises ValueError if the runs, or those of one lambda_gl,
    are of several variants.
    """
    points = pd.DataFrame(
        [
            point["parameters"]
            | point
            | {
                "run": _config(record),
                "donor": _config(records[donor]),
                "uncut": record["final"]["test_accuracy"],
                "dense_params": record["dense"]["params"],
            }
            for record in records.values()
            for donor, point in record["studies"].get(name, {}).items()
            if donor in records
        ]
    )
    if len(points):
        refuse_mixed(points.run, name)
        for lambda_gl, some in points.groupby("lambda_gl"):
            refuse_mixed(some.donor, variant_name(lambda_gl))
    return points


def studies(records, name):
    """A study of the runs' weights: mean over seeds, one row per lambda_gl.

    Columns: lambda_gl, accuracy, std, params, macs, dense_params, n. Empty if there is
    none. Raises as `study_points` does.
    """
    points = study_points(records, name)
    if points.empty:
        return points
    groups = points.groupby("lambda_gl")
    mean = groups[["test_accuracy", "params", "macs", "dense_params"]].mean()
    mean["std"], mean["n"] = groups["test_accuracy"].std(), groups.size()
    return mean.rename(columns={"test_accuracy": "accuracy"}).reset_index()


def footprint_table(records, paper, lambdas, metrics=("accuracy (%)",)):
    """Ours beside the paper's, one row per variant: Tables 11-15.

    records: {id: record} of one model, task and scale; paper: `paper_table`, or None
    where the network is another than the paper's; lambdas: the rows wanted besides the
    dense one; metrics: names of METRICS. Columns (figure, "here" or "paper"), cells of
    text: mean ± deviation over seeds, in brackets the ratio to the dense network.
    """
    ours, rows = summary(records), {}
    for lambda_gl in [math.nan, *lambdas]:
        here = _our_cells(pick(ours, lambda_gl), metrics)
        theirs = None
        if paper is not None:
            theirs = _paper_cells(_printed(paper, lambda_gl), metrics)
        rows[variant_name(lambda_gl)] = _beside(here, theirs, [*metrics, *COSTS])
    return _framed(rows)


def baselines_table(records, paper, metric):
    """Ours beside the rows of Table 3, or of one section of Table 4.

    records: {id: record} at the paper's scale; paper: `paper_table`; metric: a name of
    METRICS. A system is found by its method, Maestro by its lambda_gl too.
    """
    ours, rows = summary(records), {}
    for row in paper.itertuples():
        here = _our_cells(_of_method(ours, row.variant, row.lambda_gl), [metric])
        theirs = {
            metric: _metric_cell(row, METRICS[metric][1]),
            "MACs": f"{row.macs:g}",
            "parameters": f"{row.params:g}",
        }
        name = row.variant if row.variant == "dense" else row.variant.capitalize()
        if not math.isnan(row.lambda_gl):
            name = f"{name}, {variant_name(row.lambda_gl)}"
        rows[name] = _beside(here, theirs, [metric, "MACs", "parameters"])
    return _framed(rows)


def compression_table(sets):
    """What trainings leave: total rank before and after, parameters, perplexity.

    sets: {label: {id: record} of one variant}. One row a label, means over seeds.
    """
    rows = {}
    for label, records in sets.items():
        rows[label] = {"runs": len(records)} | dict.fromkeys(LEFT, NOT_RUN)
        if records:
            refuse_mixed(map(_config, records.values()), label)
            [row] = summary(records).itertuples()
            ranks = [rank_history(record) for record in records.values()]
            cells = (
                f"{_mean([r[0] for r in ranks]):,.0f}",
                f"{_mean([r[-1] for r in ranks]):,.0f}",
                f"{row.params:,.0f} ({ratio(row.params / row.dense_params)})",
                _metric_cell(row, "perplexity"),
            )
            rows[label] |= dict(zip(LEFT, cells, strict=True))
    return pd.DataFrame.from_dict(rows, orient="index")


def lambdas_of(configs):
    """The values of lambda_gl that ``configs`` have, growing."""
    return sorted({c.options["lambda_gl"] for c in configs if "lambda_gl" in c.options})


def cost_table(records):
    """MACs of a training step, and the energy where the device reports it, by variant.

    Ratios are to the dense runs of the same records; without those the energy has none.
    Recorded seconds are not in it: runs share their cores with other work. What a step
    takes is measured by `make bench`.
    """
    table = summary(records)
    columns = {"MACs of a step, ratio to dense": table.train_macs_ratio.map(ratio)}
    if table.joules.notna().any():
        base = table.joules[table.method == "dense"]
        of_dense = table.joules / (base.iloc[0] if len(base) else math.nan)
        columns["energy (J)"] = table.joules.map("{:,.0f}".format)
        columns["energy, ratio to dense"] = of_dense.map(ratio)
    columns["on"] = _devices(records, table)
    return pd.DataFrame(columns).set_index(pd.Index(table.label, name="variant"))


def headline(records, paper, lambdas):
    """The README's table: accuracy and parameters, the paper's beside ours, Markdown.

    records: of one threshold; lambdas: the rows wanted besides the dense one.
    """
    table = footprint_table(records, paper, lambdas)
    columns = [
        (name, where)
        for name in ("accuracy (%)", "parameters")
        for where in ("paper", "here")
    ]
    lines = [["LeNet on MNIST", *(f"{name}, {where}" for name, where in columns)]]
    lines.append(["---"] * len(lines[0]))
    lines += [[name, *(row[c] for c in columns)] for name, row in table.iterrows()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def side_by_side(sets, lambdas):
    """Parameters and accuracy of several sets of runs, a column each, by lambda_gl.

    sets: {title: {id: record}}. Means over seeds.
    """
    columns = {}
    for title, records in sets.items():
        found = summary(records)
        rows = {
            variant_name(value): f"{row.params:,.0f} at {row.test_accuracy:.2f} %"
            for value in lambdas
            if (row := pick(found, value)) is not None
        }
        columns[title] = pd.Series(rows, dtype=object)
    names = [variant_name(value) for value in lambdas]
    return pd.DataFrame(columns, names).fillna(NOT_RUN)


def params_from_macs(paper):
    """Parameters of Table 11's rows as its MACs column implies them, nan if it cannot.

    As long as only fully connected layers lose ranks, each of their parameters is one
    MAC, so both columns fall by the same number.
    """
    dense = paper.iloc[0]
    implied = dense.params - (dense.macs - paper.macs)
    return implied.where(implied > 0)


def params_meant(paper):
    """Table 11's parameters with its slipped rows mended: a Series like paper.params.

    Where the count and the ratio printed beside it disagree, the count that the MACs
    imply if that agrees with the ratio, else the ratio times the dense count.
    """
    by_ratio = paper.params_ratio * paper.params[0]
    rounding = 0.0051 * paper.params[0]
    implied = params_from_macs(paper)
    second = implied.where((implied - by_ratio).abs() <= rounding, by_ratio)
    return paper.params.where((paper.params - by_ratio).abs() <= rounding, second)


def by_kind(ranks):
    """Ranks averaged over the layers whose names differ in numbers only.

    encoder.0.fc1, encoder.1.fc1, ... are one encoder.fc1. ranks: {layer: r}.
    """
    kinds = {}
    for name, rank in ranks.items():
        kinds.setdefault(re.sub(r"\.\d+", "", name), []).append(rank)
    return {kind: _mean(some) for kind, some in kinds.items()}


def nested(ranks_by_lambda):
    """How often a larger lambda_gl leaves a layer more rank: (violations, pairs).

    ranks_by_lambda: [{layer: r}, ...] by growing lambda_gl. Zero violations is the
    paper's "the ranks are nested for increasing lambda".
    """
    steps = list(zip(ranks_by_lambda, ranks_by_lambda[1:], strict=False))
    more = sum(after[name] > before[name] for before, after in steps for name in before)
    return more, sum(len(before) for before, _ in steps)


def rank_history(record, layer=None):
    """Rank after each epoch, from 0 (before training) on, of ``layer`` or of all."""
    changes = {
        epoch: sum(ranks.values()) if layer is None else ranks[layer]
        for epoch, ranks in record["ranks"]
    }
    now, history = 0, []
    for epoch in range(len(record["history"]["train_loss"]) + 1):
        now = changes.get(epoch, now)
        history.append(now)
    return history


def rises(history):
    """After how many epochs a rank is higher than before."""
    return sum(b > a for a, b in zip(history, history[1:], strict=False))


def by_threshold(records):
    """{eps_ps: {id: record}}, each with the runs that no threshold can touch.

    Those are the dense ones and those without a lasso; by growing eps_ps.
    """
    cut, others = {}, {}
    for key, record in records.items():
        options = record["config"]["options"]
        if options.get("lambda_gl"):
            cut.setdefault(options["eps_ps"], {})[key] = record
        else:
            others[key] = record
    return {eps: others | cut[eps] for eps in sorted(cut)}


def by_lambda(records, seed):
    """{lambda_gl: record} of the runs with a lasso and this seed, by growing lambda_gl.

    Raises ValueError if several variants have one lambda_gl.
    """
    found = {}
    for record in records.values():
        config = _config(record)
        if config.seed == seed and "lambda_gl" in config.options:
            lambda_gl = config.options["lambda_gl"]
            known = found.setdefault(lambda_gl, record)
            refuse_mixed([_config(known), config], variant_name(lambda_gl))
    return dict(sorted(found.items()))


def losses(records, method, lambda_gl=None):
    """Training losses by epoch, one list for each run of this variant.

    Raises ValueError if there are several.
    """
    found = [
        record
        for record in records.values()
        if record["config"]["method"] == method
        and record["config"]["options"].get("lambda_gl") == lambda_gl
    ]
    refuse_mixed(map(_config, found), f"{method}, lambda_gl {lambda_gl}")
    return [record["history"]["train_loss"] for record in found]


def params_at(summary, lambda_gl):
    """The mean parameters of a `summary`'s variant as text."""
    row = pick(summary, lambda_gl)
    return NOT_RUN if row is None else f"{row.params:,.0f}"


def _our_cells(row, metrics):
    if row is None:
        return dict.fromkeys([*metrics, *COSTS], NOT_RUN) | {"runs": 0}
    shares = row.macs / row.dense_macs, row.params / row.dense_params
    cells = _cells(row, [METRICS[name][0] for name in metrics], *shares)
    return dict(zip([*metrics, *COSTS], cells, strict=True)) | {"runs": int(row.n)}


def _paper_cells(row, metrics):
    if row is None:
        return dict.fromkeys([*metrics, *COSTS], "not in the paper")
    columns = [METRICS[name][1] for name in metrics]
    cells = _cells(row, columns, row.macs_ratio, row.params_ratio)
    return dict(zip([*metrics, *COSTS], cells, strict=True))


def _cells(row, columns, macs_share, params_share):
    return [
        *(_metric_cell(row, column) for column in columns),
        f"{count(row.macs, row.macs_std)} ({ratio(macs_share)})",
        f"{count(row.params, row.params_std)} ({ratio(params_share)})",
        f"{ratio(row.train_macs_ratio)} / {ratio(row.train_params_ratio)}",
    ]


def _metric_cell(row, column):
    mean, std = getattr(row, column), getattr(row, f"{column}_std")
    return plus_minus(mean, std, ".2e" if mean > 1e6 else ".2f")


def _beside(here, theirs, figures):
    """One row of a table: how many runs, then each figure of ours and the paper's."""
    row = {("runs", "here"): here["runs"]}
    for name in figures:
        row[name, "here"] = here[name]
        if theirs:
            row[name, "paper"] = theirs[name]
    return row


def _framed(rows):
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.columns = pd.MultiIndex.from_tuples(table.columns)
    return table


def _devices(records, table):
    """The devices that each variant of a `summary` ran on, in words."""
    ran = {}
    for record in records.values():
        on = f"{record['ran_on']['device']}, {record['ran_on']['threads']} thread(s)"
        ran.setdefault(variant(_config(record)), set()).add(on)
    return [", ".join(sorted(ran[variant(config)])) for config in table.config]


def _of_method(table, method, lambda_gl):
    """The one row of a `summary` with this method and, unless nan, lambda_gl; or None.

    Raises ValueError if there are several.
    """
    found = table[table.method == method]
    if math.isnan(lambda_gl):
        refuse_mixed(found.config, method)
        return None if found.empty else found.iloc[0]
    return pick(found, lambda_gl)


def _printed(paper, lambda_gl):
    """The row of a `paper_table` with this lambda_gl (nan: the dense one), or None."""
    found = paper[paper.variant == "dense"]
    if not math.isnan(lambda_gl):
        found = paper[(paper.lambda_gl - lambda_gl).abs() <= 1e-9 * max(1, lambda_gl)]
    return None if found.empty else found.iloc[0]


def _config(record):
    return RunConfig.from_dict(record["config"])


def _mean(values):
    return sum(values) / len(values)
