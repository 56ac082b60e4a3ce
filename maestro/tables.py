"""From run records and the paper's published numbers to the book's tables.

Reads only; never trains. Means are over seeds, deviations are sample deviations
(n - 1); a single run has none. What has no record says "not run yet".
"""

import math

import pandas as pd

from .config import PAPER, RunConfig

NOT_RUN = "not run yet"


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
        return runs
    if runs["scale"].nunique() > 1:
        raise ValueError(f"scales are never mixed: {sorted(runs['scale'].unique())}")
    figures = ["test_accuracy", "best_accuracy", "macs", "params"]
    figures += ["train_macs_ratio", "train_params_ratio", "seconds"]
    groups = runs.groupby(["method", "lambda_gl"], dropna=False)
    mean, std = groups[figures].mean(), groups[figures].std().add_suffix("_std")
    one = mean.join(std).join(groups["seed"].count().rename("n"))
    return one.join(groups[["dense_params", "dense_macs"]].first()).reset_index()


def footprint_table(records, paper, lambdas):
    """Ours beside the paper's, one row per variant: Tables 11-13.

    records: {id: record} of one model, task and scale; paper: `paper_table`; lambdas:
    the rows wanted besides the dense one. Text cells, mean ± deviation over seeds.
    """
    ours = summary(records)
    rows = []
    for lambda_gl in [math.nan, *lambdas]:
        row = {"variant": variant_name(lambda_gl)}
        row |= _our_cells(_pick(ours, lambda_gl))
        row |= _paper_cells(_pick(paper, lambda_gl))
        rows.append(row)
    return pd.DataFrame(rows).set_index("variant")


def variant_name(lambda_gl):
    """'dense', or 'λ = 8e-05' with the fewest digits."""
    return "dense" if math.isnan(lambda_gl) else f"λ = {lambda_gl:g}"


def params_from_macs(paper):
    """Parameters of Table 11's rows as its MACs column implies them, nan if unknown.

    As long as only fully connected layers lose ranks, each of their parameters is one
    MAC, so both columns fall by the same number.
    """
    dense = paper.iloc[0]
    implied = dense.params - (dense.macs - paper.macs)
    return implied.where(implied > 0)


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


def rank_history(record):
    """Total rank after each epoch, 0 (before training) to the last; a list."""
    changes = {epoch: sum(ranks.values()) for epoch, ranks in record["ranks"]}
    total, history = 0, []
    for epoch in range(len(record["history"]["train_loss"]) + 1):
        total = changes.get(epoch, total)
        history.append(total)
    return history


def _our_cells(row):
    names = ("accuracy (%)", "MACs", "parameters", "training MACs / params")
    if row is None:
        return dict.fromkeys(names, NOT_RUN) | {"runs": "0"}
    cells = (
        _plus_minus(row.test_accuracy, row.test_accuracy_std, ".2f"),
        _count(row.macs, row.macs_std, row.dense_macs),
        _count(row.params, row.params_std, row.dense_params),
        f"{row.train_macs_ratio:.2f}× / {row.train_params_ratio:.2f}×",
    )
    return dict(zip(names, cells, strict=True)) | {"runs": str(int(row.n))}


def _paper_cells(row):
    names = ("accuracy (paper)", "MACs (paper)", "parameters (paper)")
    names += ("training (paper)",)
    if row is None:
        return dict.fromkeys(names, "not in the paper")
    cells = (
        _plus_minus(row.accuracy, row.accuracy_std, ".2f"),
        f"{row.macs:,g} ({row.macs_ratio:.2f}×)"
        if row.macs < 1000
        else f"{row.macs:,.0f} ± {row.macs_std:,.0f} ({row.macs_ratio:.2f}×)",
        f"{row.params:,g} ({row.params_ratio:.2f}×)"
        if row.params < 1000
        else f"{row.params:,.0f} ± {row.params_std:,.0f} ({row.params_ratio:.2f}×)",
        f"{row.train_macs_ratio:.2f}× / {row.train_params_ratio:.2f}×",
    )
    return dict(zip(names, cells, strict=True))


def _count(mean, std, dense):
    return f"{_plus_minus(mean, std, ',.0f')} ({mean / dense:.2f}×)"


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
