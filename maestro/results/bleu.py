"""BLEU of the recorded translations, from the study in deploy/.

The scores of a run are the study "bleu" of its record: {search: {score, signature}}.
"""

import math

import pandas as pd

from .cells import NOT_RUN, plus_minus, variant_name
from .records import SEARCHES
from .variants import of_variant, variant_columns


def bleu_table(records, lambdas):
    """BLEU by each of SEARCHES, one row for each variant, mean ± deviation over seeds.

    Args:
        records: {id: record} of one scale.
        lambdas: the values of lambda_gl, one row each, after the dense network's row.
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
        rows_of = of_variant(runs, lambda_gl)
        rows[variant_name(lambda_gl)] = {"runs translated": len(rows_of)} | {
            f"BLEU, {search}": _cell(rows_of[search]) for search in SEARCHES
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def signatures(records):
    """The sacreBLEU signatures of all scores, each once; NOT_RUN without scores."""
    texts = {
        point["signature"]
        for record in records.values()
        for point in _bleu(record).values()
    }
    return ", ".join(sorted(texts)) or NOT_RUN


def _bleu(record):
    return record["studies"].get("bleu", {})


def _cell(scores):
    return plus_minus(scores.mean(), scores.std(), ".2f") if len(scores) else NOT_RUN
