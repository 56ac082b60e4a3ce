"""From run records and the paper's published numbers to the book's tables.

Reads only; never trains. Means are over seeds, deviations are sample deviations
(n - 1); a single run has none. What has no record says "not run yet".
"""

import math
from dataclasses import replace

import pandas as pd

from .config import PAPER, RunConfig

NOT_RUN = "not run yet"
FIGURES = ("accuracy (%)", "MACs", "parameters", "training cost, MACs / params")
VARIANT = ["method", "lambda_gl"]
MEASURED = ["test_accuracy", "best_accuracy", "macs", "params"]
MEASURED += ["train_macs_ratio", "train_params_ratio", "seconds"]
DENSE = ["dense_params", "dense_macs"]


def paper_table(number):
    """The paper's table as printed (data/paper), empty cells as nan."""
    return pd.read_csv(PAPER / f"table{number}.csv")


def per_run(records):
    """One row per record: method, lambda_gl, seed, the final figures and costs.

    records: {id: record}. Relative training costs are those of Tables 11-15: the mean
    over epochs of parameters held, and of expected MACs, over the dense network's.
    """
    rows = []
    for record in records.values():
        config = RunConfig.from_dict(record["config"])
        dense, history = record["dense"], record["history"]
        rows.append(
            {
                "method": config.method,
                "lambda_gl": config.options.get("lambda_gl", math.nan),
                "seed": config.seed,
                "scale": config.scale,
                "batch_size": config.recipe.batch_size,
                **record["final"],
                "best_accuracy": record["best"]["test_accuracy"],
                "train_macs_ratio": _mean(history["train_macs"]) / dense["macs"],
                "train_params_ratio": _mean(history["train_params"]) / dense["params"],
                "seconds": sum(history["seconds"]),
                "dense_params": dense["params"],
                "dense_macs": dense["macs"],
            }
        )
    return pd.DataFrame(rows)


def summary(records):
    """Mean and deviation over seeds, one row per (method, lambda_gl), dense first.

    Columns: n, and for each figure its mean, and with ``_std`` its deviation.
    """
    runs = per_run(records)
    if runs.empty:
        spread = [f"{name}_std" for name in MEASURED]
        return pd.DataFrame(columns=[*VARIANT, *MEASURED, *spread, "n", *DENSE])
    if runs["scale"].nunique() > 1:
        raise ValueError(f"scales are never mixed: {sorted(runs['scale'].unique())}")
    groups = runs.groupby(VARIANT, dropna=False)
    mean, std = groups[MEASURED].mean(), groups[MEASURED].std().add_suffix("_std")
    one = mean.join(std).join(groups["seed"].count().rename("n"))
    return one.join(groups[DENSE].first()).reset_index()


def studies(records, name):
    """A study of the runs' weights: mean over seeds, one row per lambda_gl.

    Of the runs whose ranks were taken, those in ``records`` count. Columns: lambda_gl
    (theirs), accuracy, std, params, macs, dense_params, n. Empty if there is none.
    """
    rows = [
        point | {"dense_params": record["dense"]["params"]}
        for record in records.values()
        for donor, point in record["studies"].get(name, {}).items()
        if donor in records
    ]
    if not rows:
        return pd.DataFrame()
    groups = pd.DataFrame(rows).groupby("lambda_gl")
    mean = groups[["test_accuracy", "params", "macs", "dense_params"]].mean()
    mean["std"], mean["n"] = groups["test_accuracy"].std(), groups.size()
    return mean.rename(columns={"test_accuracy": "accuracy"}).reset_index()


def footprint_table(records, paper, lambdas):
    """Ours beside the paper's, one row per variant: Tables 11-13.

    records: {id: record} of one model, task and scale; paper: `paper_table`; lambdas:
    the rows wanted besides the dense one. Columns (figure, "here" or "paper"), cells
    of text: mean ± deviation over seeds, in brackets the ratio to the dense network.
    """
    ours = summary(records)
    rows = {}
    for lambda_gl in [math.nan, *lambdas]:
        here = _our_cells(_pick(ours, lambda_gl))
        theirs = _paper_cells(_pick(paper, lambda_gl))
        row = {("runs", "here"): here["runs"]}
        for name in FIGURES:
            row[name, "here"], row[name, "paper"] = here[name], theirs[name]
        rows[variant_name(lambda_gl)] = row
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.columns = pd.MultiIndex.from_tuples(table.columns)
    return table


def lambdas_of(configs):
    """The values of lambda_gl that ``configs`` have, growing."""
    return sorted({c.options["lambda_gl"] for c in configs if "lambda_gl" in c.options})


def time_table(records):
    """Measured seconds of training beside the MACs they should have saved, by variant.

    Ratios are to the dense runs of the same records; without those there are none.
    """
    table = summary(records)
    dense = table[table.method == "dense"].seconds
    base = dense.iloc[0] if len(dense) else math.nan
    ratios = {
        "seconds": table.seconds.map("{:,.0f}".format),
        "seconds, ratio to dense": (table.seconds / base).map(_ratio),
        "MACs of a step, ratio to dense": table.train_macs_ratio.map(_ratio),
        "on": _devices(records, table),
    }
    names = pd.Index(table.lambda_gl.map(variant_name), name="variant")
    return pd.DataFrame(ratios).set_index(names)


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


def variant_name(lambda_gl):
    """'dense', or lambda_gl as the paper writes it: 'λ = 16e-5', not 0.00016."""
    if math.isnan(lambda_gl):
        return "dense"
    if not 0 < lambda_gl < 0.01:
        return f"λ = {lambda_gl:g}"
    digits, exponent = f"{lambda_gl:.5e}".split("e")
    digits = digits.rstrip("0").replace(".", "")
    return f"λ = {digits}e{int(exponent) - len(digits) + 1}"


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


def nested(ranks_by_lambda):
    """How often a larger lambda_gl leaves a layer more rank: (violations, pairs).

    ranks_by_lambda: [{layer: r}, ...] by growing lambda_gl. Zero violations is the
    paper's "the ranks are nested for increasing lambda".
    """
    steps = list(zip(ranks_by_lambda, ranks_by_lambda[1:], strict=False))
    more = sum(after[name] > before[name] for before, after in steps for name in before)
    return more, sum(len(before) for before, _ in steps)


def final_ranks(record):
    """{layer: r} at the end of a run."""
    return record["ranks"][-1][1]


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
    """{lambda_gl: record} of the low-rank runs with this seed, by growing lambda_gl."""
    found = {
        record["config"]["options"]["lambda_gl"]: record
        for record in records.values()
        if record["config"]["seed"] == seed and record["maps"]
    }
    return dict(sorted(found.items()))


def losses(records, method, lambda_gl=None):
    """Training losses by epoch, one list for each run of this variant."""
    return [
        record["history"]["train_loss"]
        for record in records.values()
        if record["config"]["method"] == method
        and record["config"]["options"].get("lambda_gl") == lambda_gl
    ]


def twins(records, others):
    """[(record, other)]: pairs of runs that differ in the method only."""

    def rest(record):
        return replace(RunConfig.from_dict(record["config"]), method="any")

    return [
        (record, other)
        for record in records.values()
        for other in others.values()
        if rest(record) == rest(other)
    ]


def params_at(summary, lambda_gl):
    """The mean parameters of a `summary`'s variant as text."""
    row = _pick(summary, lambda_gl)
    return NOT_RUN if row is None else f"{row.params:,.0f}"


def _our_cells(row):
    if row is None:
        return dict.fromkeys(FIGURES, NOT_RUN) | {"runs": 0}
    cells = (
        _plus_minus(row.test_accuracy, row.test_accuracy_std, ".2f"),
        _count(row.macs, row.macs_std, row.macs / row.dense_macs),
        _count(row.params, row.params_std, row.params / row.dense_params),
        f"{row.train_macs_ratio:.2f}× / {row.train_params_ratio:.2f}×",
    )
    return dict(zip(FIGURES, cells, strict=True)) | {"runs": int(row.n)}


def _paper_cells(row):
    if row is None:
        return dict.fromkeys(FIGURES, "not in the paper")
    cells = (
        _plus_minus(row.accuracy, row.accuracy_std, ".2f"),
        _count(row.macs, row.macs_std, row.macs_ratio),
        _count(row.params, row.params_std, row.params_ratio),
        f"{row.train_macs_ratio:.2f}× / {row.train_params_ratio:.2f}×",
    )
    return dict(zip(FIGURES, cells, strict=True))


def _ratio(value):
    return "–" if math.isnan(value) else f"{value:.2f}×"


def _devices(records, table):
    """The devices that each variant of a `summary` ran on, in words."""
    ran = {}
    for record in records.values():
        options = record["config"]["options"]
        key = record["config"]["method"], options.get("lambda_gl", math.nan)
        on = f"{record['ran_on']['device']}, {record['ran_on']['threads']} thread(s)"
        ran.setdefault(str(key), set()).add(on)
    keys = zip(table.method, table.lambda_gl, strict=True)
    return [", ".join(sorted(ran[str(key)])) for key in keys]


def _count(mean, std, ratio):
    """Whole numbers as such; the paper's billions and millions as it prints them."""
    form = ",.0f" if mean >= 1000 else "g"
    return f"{_plus_minus(mean, std, form)} ({ratio:.2f}×)"


def _plus_minus(mean, std, form):
    return f"{mean:{form}}" + ("" if math.isnan(std) else f" ± {std:{form}}")


def _pick(frame, lambda_gl):
    """The row of this variant (nan: dense), or None."""
    if frame.empty:
        return None
    if math.isnan(lambda_gl):
        found = frame[frame.lambda_gl.isna()]
    else:
        found = frame[(frame.lambda_gl - lambda_gl).abs() <= 1e-9 * max(1, lambda_gl)]
    return None if found.empty else found.iloc[0]


def _mean(values):
    return sum(values) / len(values)
