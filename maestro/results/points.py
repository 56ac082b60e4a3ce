"""The points of the studies of trained networks, and their means over seeds."""

import pandas as pd

from .cells import variant_name
from .records import config_of
from .variants import refuse_mixed


def of_study(records, name):
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
    rows = pd.DataFrame(
        [
            point["parameters"]
            | point
            | {
                "run": config_of(record),
                "donor": config_of(records[donor]),
                "uncut": record["final"]["test_accuracy"],
                "dense_params": record["dense"]["params"],
            }
            for record in records.values()
            for donor, point in record["studies"].get(name, {}).items()
            if donor in records
        ]
    )
    if len(rows):
        refuse_mixed(rows.run, name)
        for lambda_gl, group in rows.groupby("lambda_gl"):
            refuse_mixed(group.donor, variant_name(lambda_gl))
    return rows


def means(records, name):
    """A study of the runs' weights, means over seeds, one row for each lambda_gl.

    Args:
        records: {id: record}.
        name: the name of the study.

    Returns:
        A DataFrame with the columns lambda_gl, accuracy, std, params, macs,
        dense_params and n; empty without points.

    Raises:
        ValueError: as `of_study`.
    """
    rows = of_study(records, name)
    if rows.empty:
        return rows
    groups = rows.groupby("lambda_gl")
    mean = groups[["test_accuracy", "params", "macs", "dense_params"]].mean()
    mean["std"], mean["n"] = groups["test_accuracy"].std(), groups.size()
    return mean.rename(columns={"test_accuracy": "accuracy"}).reset_index()
