"""The rows of the paper's tables that our runs reproduce, by scale."""

import math

import pandas as pd

from .published import paper_table
from .records import config_of

# {number of a table: its network}; Table 16 names a network in each row
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
# the ablation's rows: (method, lambda_gl) of the runs that reproduce them
ABLATION = {
    "without group lasso": ("maestro", 0.0),
    "without progressive shrinking": ("unshrunken", None),
    "with full training": ("full_pass", None),
}


def coverage(records):
    """How many rows of each table of the paper have a run, at each scale.

    A row is a network and a system and, for Maestro, a lambda_gl. At a scale that keeps
    the paper's grid of lambda_gl, the run of a row has the lambda_gl of the row. A
    scale with a grid of its own covers one row with a lasso for each of its values.

    Args:
        records: {id: record}.
    Returns:
        DataFrame of text, "3 of 8", with index "Table 3", ... and one column a scale.
    """
    runs = [config_of(record) for record in records.values()]
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
    """The number of ``rows`` that the ``runs`` of one scale cover."""
    seen = {(r.model, r.method, r.options.get("lambda_gl")) for r in runs}
    exact = {row for row in rows if _has(row, seen)}
    covered = sum(row in exact for row in rows)
    if any(lam for _, _, lam in exact):
        return covered
    # another grid of lambda_gl: each value covers one row with a lasso
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
