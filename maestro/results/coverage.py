"""Which rows of the paper's tables have a number of our own, at which scale."""

import math

import pandas as pd

from ..config import RunConfig
from .tables import paper_table

# the network of each table of the paper; Table 16 names one in every row
MODELS = {
    3: "transformer",
    4: "resnet50",
    5: "resnet18",
    11: "lenet",
    12: "resnet18",
    13: "vgg19",
    14: "transformer",
    15: "resnet50",
}
TABLES = (3, 4, 5, 11, 12, 13, 14, 15, 16)
# the ablation's rows: how a run with a lasso differs from Maestro's
ABLATION = {
    "without group lasso": ("maestro", 0.0),
    "without progressive shrinking": ("unshrunken", None),
    "with full training": ("full pass", None),
}


def coverage(records):
    """Rows that have a run, of all rows: one line a table, one column a scale.

    A row is a network and a system, with Maestro a lambda_gl too. At scales that keep
    the paper's lambda_gl a run must have the row's. A scale with a grid of its own has
    as many of the table's rows with a lasso as it has values of lambda_gl.

    Args:
        records: {id: record}.
    Returns:
        DataFrame of text, "3 of 8"; index "Table 3", ...; scales by name.
    """
    runs = [RunConfig.from_dict(record["config"]) for record in records.values()]
    scales = sorted({run.scale for run in runs})
    cells = {}
    for number in TABLES:
        rows = _rows(number)
        cells[f"Table {number}"] = {
            scale: f"{_covered(rows, [r for r in runs if r.scale == scale])} of "
            f"{len(rows)}"
            for scale in scales
        }
    return pd.DataFrame.from_dict(cells, orient="index")


def _rows(number):
    """(model, method, lambda_gl or None) of a table's rows."""
    rows = []
    for row in paper_table(number).to_dict("records"):
        method, lambda_gl = ABLATION.get(row["variant"], (row["variant"], None))
        if not math.isnan(row.get("lambda_gl", math.nan)):
            lambda_gl = row["lambda_gl"]
        rows.append((row.get("model") or MODELS[number], method, lambda_gl))
    return rows


def _covered(rows, runs):
    """How many ``rows`` the ``runs`` of one scale cover."""
    seen = {(r.model, r.method, r.options.get("lambda_gl")) for r in runs}
    exact = {row for row in rows if _has(row, seen)}
    covered = sum(row in exact for row in rows)
    if any(lam for _, _, lam in exact):
        return covered
    # another grid of lambda_gl: its values stand for as many of the table's
    for model in {model for model, _, _ in rows}:
        theirs = [r for r in rows if r[:2] == (model, "maestro") and r[2]]
        ours = {lam for m, method, lam in seen if (m, method) == (model, "maestro")}
        covered += min(len(theirs), len(ours - {0.0, None}))
    return covered


def _has(row, seen):
    model, method, lambda_gl = row
    if lambda_gl is None:
        return any(run[:2] == (model, method) for run in seen)
    return any(
        run[:2] == (model, method)
        and run[2] is not None
        and math.isclose(run[2], lambda_gl, rel_tol=1e-9)
        for run in seen
    )
