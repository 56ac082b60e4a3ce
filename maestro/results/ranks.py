"""Ranks in the course of training: masked columns compared with removed columns."""

import pandas as pd

from .cells import NOT_RUN, plus_minus
from .tables import rank_history, rises
from .variants import per_run, refuse_mixed


def came_back(record):
    """The number of layers and epochs in which a rank is higher than before."""
    return sum(rises(rank_history(record, layer)) for layer in record["maps"])


def masked_table(settings):
    """Runs with masked columns and runs with removed columns, two rows a setting.

    Columns: runs; ranks back (how often a rank came back) and total rank (at the end),
    one number for each seed; parameters and accuracy, mean ± deviation over seeds.

    settings: {name: (masked, cut)}, each a list of records.
    """
    rows = {}
    for name, ways in settings.items():
        for way, records in zip(("masked", "cut"), ways, strict=True):
            rows[name, way] = _row(records)
    return pd.DataFrame.from_dict(rows, orient="index")


def _row(records):
    row = {"runs": len(records)}
    names = ("ranks back", "total rank", "parameters")
    if not records:
        return row | dict.fromkeys([*names, "accuracy (%)"], NOT_RUN)
    runs = per_run({record["id"]: record for record in records})
    refuse_mixed(runs.config, "a row")
    back = ", ".join(str(came_back(record)) for record in records)
    totals = ", ".join(str(rank_history(record)[-1]) for record in records)
    params = plus_minus(runs.params.mean(), runs.params.std(), ",.0f")
    accuracy = plus_minus(runs.test_accuracy.mean(), runs.test_accuracy.std(), ".2f")
    return (
        row
        | dict(zip(names, (back, totals, params), strict=True))
        | {"accuracy (%)": accuracy}
    )
