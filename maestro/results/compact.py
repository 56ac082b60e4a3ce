"""The compact network on CIFAR-10: what it reaches, and what is left at half the size.

Runs of one seed start from the same weights and see the same batches, so differences
to the dense network are taken seed by seed.
"""

from math import nan

import pandas as pd

from ..config import variant
from . import systems
from .cells import plus_minus, ratio
from .confidence import LEVEL, gap, paired
from .variants import of_variant, per_run
from .verdicts import SIZE, Verdict, bounds

DENSE = nan  # the lambda_gl of a dense run
NEAR = 1.0  # points of accuracy below the dense network; this book's margin
# how often `near_dense` was looked at while runs were added: with three seeds, then
# with four or five. Each look has its part of the level
LOOKS = 2


def reaches(records, wanted):
    """The `Verdict` on "the dense network reaches ``wanted`` per cent, plain".

    records: {id: record} of one scale, without narrow networks.
    """
    claim = f"The dense network reaches {wanted:g} %"
    accuracy = _dense_accuracy(records)
    if accuracy.empty:
        return Verdict(claim)
    above, say = gap(accuracy - wanted), "{:+.2f} points".format
    return Verdict(
        claim,
        above.above(0),
        accuracy.mean(),
        n=len(accuracy),
        sentence=f"{plus_minus(accuracy.mean(), accuracy.std(), '.2f')} %, "
        f"{say(above.mean)} above{bounds(above, say)}",
        say="{:.2f} %".format,
    )


def uncut(records):
    """The ``records`` of networks of full size: for `sampling.sampled`.

    Those of the widest dense network, and those whose factors no lasso and no cut made
    smaller.
    """
    widest = max((r["dense"]["params"] for r in records.values()), default=0)
    return {
        key: record
        for key, record in records.items()
        if record["dense"]["params"] == widest
        and record["config"]["options"].get("lambda_gl", 0) == 0
        and "target" not in record["config"]["options"]
    }


def beside_dense(records, level=LEVEL):
    """Each variant beside the dense network, in the order of `systems.accounts`.

    Args:
        records: {id: record} of one scale.
        level: of the bounds.
    Returns:
        DataFrame with the columns label, system, params and macs (relative to the dense
        network), above (a `Gap` over the seeds that both have, in points) and n;
        variants without such a seed are left out.
    """
    columns = ["label", "system", "params", "macs", "above", "n"]
    rows, dense, accuracy = [], {}, systems.merits(records)
    for row in systems.accounts(records).itertuples():
        ours = accuracy.get(variant(row.config), {})
        if row.system == "dense":
            dense = ours
            continue
        pairs = paired(ours, dense)
        if pairs:
            size = row.params / row.dense_params, row.macs / row.dense_macs
            above = gap(pairs, level=level)
            rows.append((row.label, row.system, *size, above, len(pairs)))
    return pd.DataFrame(rows, columns=columns)


def beside_table(records):
    """`beside_dense` as text; empty without records."""
    say = "{:+.2f} points".format
    rows = {
        row.label: {
            "points above dense": f"{row.above.mean:+.2f}{bounds(row.above, say)}",
            "parameters": ratio(row.params),
            "MACs": ratio(row.macs),
            "runs": row.n,
        }
        for row in beside_dense(records).itertuples()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def near_dense(records, share=0.5):
    """[Verdict] on "within NEAR points of the dense network at ``share`` of its size".

    One for each system that has such a variant: its largest one of no more than
    ``share`` of the parameters, and SIZE more. Each of LOOKS is judged at its part of
    the level (Bonferroni).
    """
    table, found = beside_dense(records, 1 - (1 - LEVEL) / LOOKS), []
    small = table[table.params <= share * (1 + SIZE)]
    say = "{:+.2f} points".format
    for system, some in small.groupby("system", sort=False):
        row = some.loc[some.params.idxmax()]
        words = f"{row.label}, {row.params:.2f} of the parameters: "
        words += f"{say(row.above.mean)}{bounds(row.above, say)}"
        claim = f"{system}: within {NEAR:g} point of dense at {share:g} of the size"
        word, ours = row.above.above(-NEAR), row.above.mean
        found.append(
            Verdict(claim, word, ours, nan, row.n, NEAR, sentence=words, say=say)
        )
    return found


def views_table(records):
    """Accuracy of one view and of six, of the runs whose weights were kept."""
    rows = {}
    for record in records.values():
        point = record["studies"].get("views", {}).get("six")
        if point:
            name = f"{record['config']['method']}, seed {record['config']['seed']}"
            rows[name] = {
                "one view (%)": f"{record['final']['test_accuracy']:.2f}",
                "six views (%)": f"{point['test_accuracy']:.2f}",
            }
    return pd.DataFrame.from_dict(rows, orient="index")


def _dense_accuracy(records):
    runs = per_run(records)
    return runs if runs.empty else of_variant(runs, DENSE).test_accuracy
