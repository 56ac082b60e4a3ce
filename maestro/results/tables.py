"""The book's tables, from run records and the paper's published numbers.

Nothing here trains. Means are over the seeds of one variant (variants.py). A cell
without a record reads "not run yet".
"""

import math
import re

import pandas as pd

from ..config import RunConfig, variant
from ..paths import PAPER
from .cells import NOT_RUN, count, plus_minus, ratio, variant_name
from .variants import pick, refuse_mixed, summary

DENSE_SECTION = "No decomposition"  # of Tables 4 and 15
# {metric: its column in the records, its column in the paper's tables}
METRICS = {
    "accuracy (%)": ("test_accuracy", "accuracy"),
    "perplexity": ("perplexity", "perplexity"),
}
COMPRESSION = ("total rank at the start", "at the end", "parameters", "perplexity")
COSTS = ("MACs", "parameters", "training cost, MACs / params")


def paper_table(number, section=None):
    """A table of the paper as printed (data/paper).

    Args:
        number: the number of the table.
        section: a heading of Table 4 or 15. Only the rows of this section and of the
            dense network are kept; None keeps all rows.

    Returns:
        A DataFrame; empty cells are nan.

    Raises:
        ValueError: there is no such table or section, or the file is damaged.
    """
    path = PAPER / f"table{number}.csv"
    if not path.is_file():
        known = sorted(int(p.stem[5:]) for p in PAPER.glob("table*.csv"))
        raise ValueError(f"number={number!r}: it is one of {known}")
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
    """A study of the runs' weights, one row for each run and point.

    A point's donor is the run whose ranks were taken. Points whose donor is not in
    ``records`` are left out.

    Args:
        records: {id: record}.
        name: the name of the study, a key of a record's ``studies``.

    Returns:
        A DataFrame with the columns lambda_gl (the donor's), test_accuracy, params,
        macs, dense_params and uncut (the run's own accuracy); empty without points.

    Raises:
        ValueError: the runs, or the donors of one lambda_gl, are of several variants.
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
        for lambda_gl, group in points.groupby("lambda_gl"):
            refuse_mixed(group.donor, variant_name(lambda_gl))
    return points


def studies(records, name):
    """A study of the runs' weights, means over seeds, one row for each lambda_gl.

    Args:
        records: {id: record}.
        name: the name of the study.

    Returns:
        A DataFrame with the columns lambda_gl, accuracy, std, params, macs,
        dense_params and n; empty without points.

    Raises:
        ValueError: as `study_points`.
    """
    points = study_points(records, name)
    if points.empty:
        return points
    groups = points.groupby("lambda_gl")
    mean = groups[["test_accuracy", "params", "macs", "dense_params"]].mean()
    mean["std"], mean["n"] = groups["test_accuracy"].std(), groups.size()
    return mean.rename(columns={"test_accuracy": "accuracy"}).reset_index()


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
            theirs = _paper_cells(_printed(paper, lambda_gl), metrics)
        rows[variant_name(lambda_gl)] = _beside(here, theirs, [*metrics, *COSTS])
    return _framed(rows)


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
            rows[label] |= dict(zip(COMPRESSION, cells, strict=True))
    return pd.DataFrame.from_dict(rows, orient="index")


def lambdas_of(configs):
    """The values of lambda_gl of ``configs``, in ascending order."""
    return sorted({c.options["lambda_gl"] for c in configs if "lambda_gl" in c.options})


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
    columns["on"] = _devices(records, table)
    return pd.DataFrame(columns).set_index(pd.Index(table.label, name="variant"))


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
    columns = {}
    for title, records in sets.items():
        table = summary(records)
        rows = {
            variant_name(value): f"{row.params:,.0f} at {row.test_accuracy:.2f} %"
            for value in lambdas
            if (row := pick(table, value)) is not None
        }
        columns[title] = pd.Series(rows, dtype=object)
    names = [variant_name(value) for value in lambdas]
    return pd.DataFrame(columns, names).fillna(NOT_RUN)


def params_from_macs(paper):
    """The parameters that the MACs column of Table 11 implies; nan if it implies none.

    While only fully connected layers lose ranks, each parameter lost is one MAC lost,
    so both columns fall by the same number.
    """
    dense = paper.iloc[0]
    implied = dense.params - (dense.macs - paper.macs)
    return implied.where(implied > 0)


def params_meant(paper):
    """The parameters of Table 11 with its slipped rows corrected, a Series.

    Where the printed count disagrees with the printed ratio, the count implied by the
    MACs takes its place if that count agrees with the ratio; otherwise the ratio times
    the dense count does.
    """
    by_ratio = paper.params_ratio * paper.params[0]
    rounding = 0.0051 * paper.params[0]
    implied = params_from_macs(paper)
    second = implied.where((implied - by_ratio).abs() <= rounding, by_ratio)
    return paper.params.where((paper.params - by_ratio).abs() <= rounding, second)


def by_kind(ranks):
    """Ranks averaged over layers whose names differ only in numbers.

    encoder.0.fc1, encoder.1.fc1, ... become one encoder.fc1.

    ranks: {layer: r}.
    """
    kinds = {}
    for name, rank in ranks.items():
        kinds.setdefault(re.sub(r"\.\d+", "", name), []).append(rank)
    return {kind: _mean(values) for kind, values in kinds.items()}


def nested(ranks_by_lambda):
    """How often a larger lambda_gl leaves a layer more rank: (violations, pairs).

    Zero violations is the paper's "the ranks are nested for increasing lambda".

    ranks_by_lambda: [{layer: r}, ...] in ascending order of lambda_gl.
    """
    steps = list(zip(ranks_by_lambda, ranks_by_lambda[1:], strict=False))
    more = sum(after[name] > before[name] for before, after in steps for name in before)
    return more, sum(len(before) for before, _ in steps)


def rank_history(record, layer=None):
    """The rank before training and after each epoch, of ``layer`` or of all layers."""
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
    """The number of epochs after which a rank is higher than before."""
    return sum(b > a for a, b in zip(history, history[1:], strict=False))


def by_threshold(records):
    """{eps_ps: {id: record}} in ascending order.

    Each set also holds the runs that no threshold affects: the dense runs and those
    without a lasso.
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
    """{lambda_gl: record} of the runs with a lasso and this seed, in ascending order.

    Raises ValueError if several variants have the same lambda_gl.
    """
    runs = {}
    for record in records.values():
        config = _config(record)
        if config.seed == seed and "lambda_gl" in config.options:
            lambda_gl = config.options["lambda_gl"]
            first = runs.setdefault(lambda_gl, record)
            refuse_mixed([_config(first), config], variant_name(lambda_gl))
    return dict(sorted(runs.items()))


def losses(records, method, lambda_gl=None):
    """Training losses by epoch, one list for each run of a variant.

    Args:
        records: {id: record}.
        method: the variant's method.
        lambda_gl: the variant's lambda_gl; None if the method has none.

    Raises:
        ValueError: the runs are of several variants.
    """
    runs = [
        record
        for record in records.values()
        if record["config"]["method"] == method
        and record["config"]["options"].get("lambda_gl") == lambda_gl
    ]
    refuse_mixed(map(_config, runs), f"{method}, lambda_gl {lambda_gl}")
    return [record["history"]["train_loss"] for record in runs]


def params_at(summary, lambda_gl):
    """The mean parameters of a variant of `summary` as text."""
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
    """One row of a table: the number of runs, then our figures and the paper's."""
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
    """The devices of each variant of a `summary`, in words."""
    devices = {}
    for record in records.values():
        on = f"{record['ran_on']['device']}, {record['ran_on']['threads']} thread(s)"
        devices.setdefault(variant(_config(record)), set()).add(on)
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


def _printed(paper, lambda_gl):
    """The row of a `paper_table` with this lambda_gl (nan: the dense one), or None."""
    rows = paper[paper.variant == "dense"]
    if not math.isnan(lambda_gl):
        rows = paper[(paper.lambda_gl - lambda_gl).abs() <= 1e-9 * max(1, lambda_gl)]
    return None if rows.empty else rows.iloc[0]


def _config(record):
    return RunConfig.from_dict(record["config"])


def _mean(values):
    return sum(values) / len(values)
