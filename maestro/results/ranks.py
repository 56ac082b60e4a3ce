"""Ranks by epoch and by layer; masked columns compared with removed columns."""

import re
from statistics import fmean

import pandas as pd

from .cells import NOT_RUN, plus_minus
from .variants import per_run, refuse_mixed, summary, where_it_differs


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


def nested(ranks_by_lambda):
    """How often a larger lambda_gl leaves a layer more rank: (violations, pairs).

    Zero violations is the paper's "the ranks are nested for increasing lambda".

    ranks_by_lambda: [{layer: r}, ...] in ascending order of lambda_gl.
    """
    steps = list(zip(ranks_by_lambda, ranks_by_lambda[1:], strict=False))
    more = sum(after[name] > before[name] for before, after in steps for name in before)
    return more, sum(len(before) for before, _ in steps)


def by_kind(ranks):
    """Ranks averaged over layers whose names differ only in numbers.

    encoder.0.fc1, encoder.1.fc1, ... become one encoder.fc1.

    ranks: {layer: r}.
    """
    kinds = {}
    for name, rank in ranks.items():
        kinds.setdefault(re.sub(r"\.\d+", "", name), []).append(rank)
    return {kind: fmean(values) for kind, values in kinds.items()}


def came_back(record):
    """The number of layers and epochs in which a rank is higher than before."""
    return sum(rises(rank_history(record, layer)) for layer in record["maps"])


def masked_table(settings):
    """Runs with masked columns and runs with removed columns, two rows a setting.

    Columns: runs; ranks back (how often a rank came back) and total rank (at the end),
    one number for each seed; parameters and accuracy, mean ± deviation over seeds.

    settings: {name: (masked, removed)}, each a list of records.
    """
    rows = {}
    for name, ways in settings.items():
        for way, records in zip(("masked", "removed"), ways, strict=True):
            rows[name, way] = _row(records)
    return where_it_differs(pd.DataFrame.from_dict(rows, orient="index"))


def _row(records):
    row = {"runs": len(records)}
    names = ("ranks back", "total rank", "parameters", "accuracy (%)", "precision")
    if not records:
        return row | dict.fromkeys(names, NOT_RUN)
    by_id = {record["id"]: record for record in records}
    runs = per_run(by_id)
    refuse_mixed(runs.config, "a row")
    back = ", ".join(str(came_back(record)) for record in records)
    totals = ", ".join(str(rank_history(record)[-1]) for record in records)
    params = plus_minus(runs.params.mean(), runs.params.std(), ",.0f")
    accuracy = plus_minus(runs.test_accuracy.mean(), runs.test_accuracy.std(), ".2f")
    cells = back, totals, params, accuracy, summary(by_id).precision[0]
    return row | dict(zip(names, cells, strict=True))
