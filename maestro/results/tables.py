"""The book's tables: our figures from run records beside the paper's, as text.

Nothing here trains. Means are over the seeds of one variant (variants.py). A cell
without a record reads "not run yet". Where the runs of a table were not all trained in
one precision, the table has a column that shows the precision.
"""

import math
from statistics import fmean

import pandas as pd

from ..config import variant
from .cells import NOT_RUN, count, plus_minus, ratio, variant_name
from .published import printed_row
from .ranks import rank_history
from .records import config_of
from .variants import pick, refuse_mixed, summary, where_it_differs
from .verdicts import counted

# {metric: its column in the records, its column in the paper's tables}
METRICS = {
    "accuracy (%)": ("test_accuracy", "accuracy"),
    "perplexity": ("perplexity", "perplexity"),
}
COMPRESSION = ("total rank at the start", "at the end", "parameters", "perplexity")
COSTS = ("MACs", "parameters", "training cost, MACs / params")


def footprint_table(records, paper, lambdas, metrics=("accuracy (%)",)):
    """Our figures and the paper's, one row for each variant: Tables 11-15.

    Args:
        records: {id: record} of one model, task and scale.
        paper: a `paper_table`; None if the paper has no such network.
        lambdas: the values of lambda_gl, one row each, after the dense network's row.
        metrics: names of METRICS.

    Returns:
        A DataFrame of text with columns (figure, "here" or "paper"): mean ± deviation
        over seeds, and in brackets the ratio to the dense network.
    """
    ours, rows = summary(records), {}
    for lambda_gl in [math.nan, *lambdas]:
        here = _our_cells(pick(ours, lambda_gl), metrics)
        theirs = None
        if paper is not None:
            theirs = _paper_cells(printed_row(paper, lambda_gl), metrics)
        rows[variant_name(lambda_gl)] = _beside(here, theirs, [*metrics, *COSTS])
    return _framed(rows)


def narrow_tables(records, paper, lambdas, metrics=("accuracy (%)",)):
    """[quality and size, costs] of every variant; one table where nothing has run."""
    if not records:
        return [footprint_table(records, paper, lambdas, metrics)]
    return [
        quality_table(records, paper, lambdas, metrics),
        training_table(records, paper, lambdas),
    ]


def quality_table(records, paper, lambdas, metrics=("accuracy (%)",)):
    """The quality and size of every variant: `footprint_table` without its costs.

    Beside the paper's accuracies and perplexities stand the differences, and whether
    each is within twice the deviation of a difference of two runs.
    """
    table = footprint_table(records, paper, lambdas, metrics)
    columns = []
    for name in metrics:
        columns += [(name, "here")]
        if paper is not None:
            apart = _differences(records, paper, lambdas, METRICS[name])
            table[name, "difference"] = apart
            columns += [(name, "paper"), (name, "difference")]
    columns += [column for column in table if column[0] == "parameters"]
    return table[[*columns, ("runs", "here")]]


def training_table(records, paper, lambdas):
    """What every variant costs, deployed and in training: the other columns."""
    table = footprint_table(records, paper, lambdas)
    return table.drop(columns=["runs", "accuracy (%)", "parameters"], level=0)


def _differences(records, paper, lambdas, columns):
    """A column of `quality_table`: '+0.08, within'; columns: of the records, paper."""
    ours, cells = summary(records), []
    for lambda_gl in [math.nan, *lambdas]:
        here, theirs = pick(ours, lambda_gl), printed_row(paper, lambda_gl)
        if here is None or theirs is None:
            cells.append(NOT_RUN if here is None else "–")
            continue
        apart = getattr(here, columns[0]) - theirs[columns[1]]
        spread = math.hypot(
            getattr(here, f"{columns[0]}_std"), theirs[f"{columns[1]}_std"]
        )
        word = "within" if abs(apart) <= 2 * spread else "outside"
        cells.append(f"{apart:+.2f}, {'one run' if math.isnan(spread) else word}")
    return cells


def baselines_table(records, paper, metric):
    """Our figures and the paper's, one row for each row of Table 3 or 4.

    Our runs of a row have the row's method and, for Maestro, its lambda_gl.

    Args:
        records: {id: record} at the paper's scale.
        paper: the `paper_table`, of Table 4 one section.
        metric: a name of METRICS.

    Returns:
        A DataFrame of text with columns (figure, "here" or "paper").
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
    """Total rank before and after training, parameters and perplexity.

    One row for each label, means over seeds.

    sets: {label: {id: record} of one variant}.
    """
    rows = {}
    for label, records in sets.items():
        rows[label] = {"runs": len(records)} | dict.fromkeys(COMPRESSION, NOT_RUN)
        rows[label]["precision"] = NOT_RUN
        if records:
            refuse_mixed(map(config_of, records.values()), label)
            [row] = summary(records).itertuples()
            ranks = [rank_history(record) for record in records.values()]
            cells = (
                f"{fmean([r[0] for r in ranks]):,.0f}",
                f"{fmean([r[-1] for r in ranks]):,.0f}",
                f"{row.params:,.0f} ({ratio(row.params / row.dense_params)})",
                _metric_cell(row, "perplexity"),
            )
            rows[label] |= dict(zip(COMPRESSION, cells, strict=True))
            rows[label]["precision"] = row.precision
    table = pd.DataFrame.from_dict(rows, orient="index")
    return where_it_differs(table, "precision")


def cost_table(records):
    """MACs of a training step, and energy if the device reports it, by variant.

    Ratios are to the dense runs among ``records``; without dense runs the energy has no
    ratio. The table leaves out recorded seconds, because runs share their cores with
    other work; `make bench` measures the time of a step.
    """
    table = summary(records)
    columns = {"MACs of a step, ratio to dense": table.train_macs_ratio.map(ratio)}
    if table.joules.notna().any():
        base = table.joules[table.method == "dense"]
        of_dense = table.joules / (base.iloc[0] if len(base) else math.nan)
        columns["energy (J)"] = table.joules.map("{:,.0f}".format)
        columns["energy, ratio to dense"] = of_dense.map(ratio)
    columns |= {"precision": table.precision, "on": _devices(records, table)}
    costs = pd.DataFrame(columns).set_index(pd.Index(table.label, name="variant"))
    return where_it_differs(costs, "precision")


def headline(records, paper, lambdas):
    """The README's table in Markdown: accuracy and parameters, the paper's and ours.

    Args:
        records: {id: record} of one threshold.
        paper: the `paper_table`.
        lambdas: the values of lambda_gl, one row each, after the dense network's row.
    """
    table = footprint_table(records, paper, lambdas)
    columns = [
        (name, where)
        for name in ("accuracy (%)", "parameters")
        for where in ("paper", "here")
    ]
    columns += [column for column in table if column == ("precision", "here")]
    lines = [["LeNet on MNIST", *(f"{name}, {where}" for name, where in columns)]]
    lines.append(["---"] * len(lines[0]))
    lines += [[name, *(row[c] for c in columns)] for name, row in table.iterrows()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def side_by_side(sets, lambdas):
    """Parameters and accuracy of several sets of runs, means over seeds.

    Args:
        sets: {title: {id: record}}, one column each.
        lambdas: the values of lambda_gl, one row each.
    """
    rows = {
        (title, value): row
        for title, records in sets.items()
        for value in lambdas
        if (row := pick(summary(records), value)) is not None
    }
    apart = len({row.precision for row in rows.values()}) > 1
    table = pd.DataFrame(NOT_RUN, map(variant_name, lambdas), list(sets))
    for (title, value), row in rows.items():
        cell = f"{row.params:,.0f} at {row.test_accuracy:.2f} %"
        cell = f"{cell}, {row.precision}" if apart else cell
        table.loc[variant_name(value), title] = cell
    return table


def params_at(summary, lambda_gl):
    """The mean parameters of a variant of `summary` as text."""
    row = pick(summary, lambda_gl)
    return NOT_RUN if row is None else f"{row.params:,.0f}"


def lambdas_of(configs):
    """The values of lambda_gl of ``configs``, in ascending order."""
    return sorted({c.options["lambda_gl"] for c in configs if "lambda_gl" in c.options})


def _our_cells(row, metrics):
    if row is None:
        cells = dict.fromkeys([*metrics, *COSTS, "precision"], NOT_RUN)
        return cells | {"runs": 0}
    shares = row.macs / row.dense_macs, row.params / row.dense_params
    cells = _cells(row, [METRICS[name][0] for name in metrics], *shares)
    others = {"runs": int(row.n), "precision": row.precision}
    return dict(zip([*metrics, *COSTS], cells, strict=True)) | others


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
    """One row of a table: the number of runs, then our figures and the paper's."""
    row = {("runs", "here"): here["runs"]}
    for name in figures:
        row[name, "here"] = here[name]
        if theirs:
            row[name, "paper"] = theirs[name]
    return row | {("precision", "here"): here["precision"]}


def _framed(rows):
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.columns = pd.MultiIndex.from_tuples(table.columns)
    return where_it_differs(table, ("precision", "here"))


def _devices(records, table):
    """The devices of each variant of a `summary`, in words."""
    devices = {}
    for record in records.values():
        ran_on = record["ran_on"]
        on = f"{ran_on['device']}, {counted(ran_on['threads'], 'thread')}"
        devices.setdefault(variant(config_of(record)), set()).add(on)
    return [", ".join(sorted(devices[variant(config)])) for config in table.config]


def _of_method(table, method, lambda_gl):
    """The row of a `summary` with this method and, unless nan, lambda_gl; or None.

    Raises ValueError if several rows have them.
    """
    rows = table[table.method == method]
    if math.isnan(lambda_gl):
        refuse_mixed(rows.config, method)
        return None if rows.empty else rows.iloc[0]
    return pick(rows, lambda_gl)
