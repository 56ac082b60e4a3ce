"""What sampling costs: every way to train factors, by every sampler, against dense.

Runs of one seed start from the same weights and see the same batches, so differences
are taken seed by seed.
"""

from math import nan

import pandas as pd

from .cells import plus_minus, ratio
from .confidence import gap
from .variants import per_run
from .verdicts import POINTS, Verdict, bounds

UNSAMPLED = "none"


def way(config, rate):
    """How ``config`` trains its factors, in words; rate: the dense network's."""
    if config.method == "maestro":
        share = config.recipe.lr / rate
        slower = "" if share == 1 else f", {share:.2g} of the rate"
        return f"own steps{slower}"
    return "tangent steps" + (", dense start" if config.options["warm_up"] else "")


def sampled(records):
    """One row for each way and sampler, in the order of the campaign.

    Args:
        records: {id: record} of one task, model and scale.
    Returns:
        DataFrame with the columns way, sampler, accuracy (%), accuracy_std, n,
        differences (points above dense, one for each seed that both have), from_dense
        and from_unsampled (a `Gap` over such seeds, None without one) and cost (MACs of
        training, relative to dense).
    """
    columns = ["way", "sampler", "accuracy", "accuracy_std", "n"]
    columns += ["differences", "from_dense", "from_unsampled", "cost"]
    dense, runs = _runs(records)
    rows = []
    for (name, sampler), some in runs.items():
        accuracy = pd.Series({run.seed: run.test_accuracy for run in some})
        whole = {run.seed: run.test_accuracy for run in runs.get((name, UNSAMPLED), ())}
        rows.append(
            (
                name,
                sampler,
                accuracy.mean(),
                accuracy.std(),
                len(accuracy),
                _differences(accuracy, dense),
                _gap(_differences(accuracy, dense)),
                _gap(_differences(accuracy, whole)) if sampler != UNSAMPLED else None,
                sum(run.train_macs_ratio for run in some) / len(some),
            )
        )
    return pd.DataFrame(rows, columns=columns)


def sampling_table(records):
    """`sampled` as text; empty without records."""
    rows = {}
    for row in sampled(records).itertuples():
        rows[row.way, row.sampler] = {
            "accuracy (%)": plus_minus(row.accuracy, row.accuracy_std, ".2f"),
            "points above dense": _points(row.from_dense),
            "points above no sampling": _points(row.from_unsampled),
            "MACs of training": ratio(row.cost),
            "runs": row.n,
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.rename_axis(index=["steps", "sampler"]) if rows else table


def sampling_verdicts(records, sampler="pair"):
    """[Verdict] on "sampling does not adversely impact training", one for each way.

    The claim holds if the accuracy with ``sampler`` is less than POINTS below that
    without sampling.
    """
    table = sampled(records)
    return [
        _verdict(row)
        for row in table[table.sampler == sampler].itertuples()
        if row.from_unsampled
    ]


def _verdict(row):
    difference = row.from_unsampled
    say = "{:+.2f} points".format
    return Verdict(
        f"Sampling costs nothing ({row.way}, {row.sampler})",
        difference.above(-POINTS),
        difference.mean,
        nan,
        row.n,
        POINTS,
        sentence=f"{say(difference.mean)} against no sampling{bounds(difference, say)}",
        say=say,
    )


def _runs(records):
    """({seed: accuracy of the dense run}, {(way, sampler): [run, ...]})."""
    frame = per_run(records)
    if frame.empty:
        return {}, {}
    is_dense = frame.method == "dense"
    dense = frame[is_dense].set_index("seed").test_accuracy.to_dict()
    rate = max(config.recipe.lr for config in frame.config)
    runs = {}
    for run in frame[~is_dense].itertuples():
        key = way(run.config, rate), run.config.options["sampler"]
        runs.setdefault(key, []).append(run)
    order = list(dict.fromkeys(name for name, _ in runs))
    return dense, dict(sorted(runs.items(), key=lambda item: order.index(item[0][0])))


def _differences(accuracy, other):
    """Accuracies less those of ``other``, {seed: accuracy}, for the common seeds."""
    return [accuracy[seed] - other[seed] for seed in accuracy.index if seed in other]


def _gap(differences):
    return gap(differences) if differences else None


def _points(difference):
    if difference is None:
        return "–"
    say = "{:+.2f} points".format
    return f"{difference.mean:+.2f}{bounds(difference, say)}"
