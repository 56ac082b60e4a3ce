"""BLEU of the recorded translations as a table, from the study in deploy/.

A run's scores are its record's study "bleu": {search: {score, signature}}.
"""

import math

import pandas as pd

from .cells import NOT_RUN, plus_minus, variant_name
from .records import SEARCHES
from .variants import of_variant, variant_columns


def bleu_table(records, lambdas):
    """BLEU by each of SEARCHES, one row per variant, mean ± deviation over seeds.

    records: {id: record} of one scale; lambdas: the rows wanted besides the dense one.
    """
    pairs = zip(variant_columns(records), map(_bleu, records.values()), strict=True)
    scores = [
        columns | {search: point["score"] for search, point in points.items()}
        for columns, points in pairs
        if points
    ]
    runs = pd.DataFrame(scores, columns=["config", "method", "lambda_gl", *SEARCHES])
    rows = {}
    for lambda_gl in [math.nan, *lambdas]:
        mine = of_variant(runs, lambda_gl)
        rows[variant_name(lambda_gl)] = {"runs translated": len(mine)} | {
            f"BLEU, {search}": _cell(mine[search]) for search in SEARCHES
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def signatures(records):
    """sacreBLEU's signatures of all scores of ``records``, each once, or NOT_RUN."""
    found = {
        point["signature"]
        for record in records.values()
        for point in _bleu(record).values()
    }
    return ", ".join(sorted(found)) or NOT_RUN


def _bleu(record):
    return record["studies"].get("bleu", {})


def _cell(scores):
    return plus_minus(scores.mean(), scores.std(), ".2f") if len(scores) else NOT_RUN
