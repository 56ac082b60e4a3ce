"""Ranks in the course of a training: masked columns beside columns that are cut."""

import pandas as pd

from .cells import NOT_RUN, plus_minus
from .tables import rank_history, rises
from .variants import per_run, refuse_mixed


def came_back(record):
    """How many times, over all layers and epochs, a rank is higher than before."""
    return sum(rises(rank_history(record, layer)) for layer in record["maps"])


def masked_table(settings):
    """Runs with masked columns beside runs with cut columns: two rows a setting.

    settings: {name: (masked, cut)}, each a list of records. Columns: runs; "ranks
    back", how often a rank came back, and the total rank at the end, one number for
    each seed; parameters and accuracy, mean ± deviation over seeds.
    """
    rows = {}
    for name, ways in settings.items():
        for way, some in zip(("masked", "cut"), ways, strict=True):
            rows[name, way] = _row(some)
    return pd.DataFrame.from_dict(rows, orient="index")


def _row(some):
    row = {"runs": len(some)}
    names = ("ranks back", "total rank", "parameters")
    if not some:
        return row | dict.fromkeys([*names, "accuracy (%)"], NOT_RUN)
    runs = per_run({record["id"]: record for record in some})
    refuse_mixed(runs.config, "a row")
    back = ", ".join(str(came_back(record)) for record in some)
    totals = ", ".join(str(rank_history(record)[-1]) for record in some)
    params = plus_minus(runs.params.mean(), runs.params.std(), ",.0f")
    accuracy = plus_minus(runs.test_accuracy.mean(), runs.test_accuracy.std(), ".2f")
    return (
        row
        | dict(zip(names, (back, totals, params), strict=True))
        | {"accuracy (%)": accuracy}
    )
