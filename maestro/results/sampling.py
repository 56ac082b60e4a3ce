"""What sampling costs: every way to train factors, by every sampler, against dense.

Runs of one seed start from the same weights and see the same batches, so differences
are taken seed by seed.
"""

from math import nan

import pandas as pd

from .cells import plus_minus, ratio
from .confidence import gap, paired
from .variants import per_run, variant_columns
from .verdicts import POINTS, Verdict, bounds, in_margin

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
        and from_unsampled (a `Gap` over such seeds, None without one), pairs (the seeds
        of from_unsampled) and cost (MACs of training, relative to dense).
    """
    columns = ["way", "sampler", "accuracy", "accuracy_std", "n"]
    columns += ["differences", "from_dense", "from_unsampled", "pairs", "cost"]
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
                paired(accuracy, dense),
                _gap(paired(accuracy, dense)),
                _gap(paired(accuracy, whole)) if sampler != UNSAMPLED else None,
                len(paired(accuracy, whole)),
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

    The verdict's claim is the way. It holds if the accuracy with ``sampler`` is less
    than POINTS below that without sampling.
    """
    table = sampled(records)
    return [
        _verdict(row)
        for row in table[table.sampler == sampler].itertuples()
        if row.from_unsampled
    ]


CUT = ["way", "sampler", "order", "share", "seed", "accuracy", "points"]
OWN, BY_SVD = "own order", "SVD"  # of the columns: that of training, that of an SVD
HALF = 0.5  # of the ranks, at which orders are judged


def cut_points(records):
    """The points of the study "uniform": one row for each run, order and share.

    Args:
        records: {id: record} of one task, model and scale.
    Returns:
        DataFrame with the columns CUT; order: of the columns; share: of the ranks of
        all layers; points: above the same network with all its columns; way and sampler
        are "dense" and "" for dense networks. A run whose study is incomplete is left
        out.
    """
    configs = [columns["config"] for columns in variant_columns(records)]
    rate = max((config.recipe.lr for config in configs), default=0)
    names, rows = {}, []
    for config, record in zip(configs, records.values(), strict=True):
        low_rank = config.method != "dense"
        name = way(config, rate) if low_rank else "dense"
        sampler = config.options["sampler"] if low_rank else ""
        place = names.setdefault((name, sampler), len(names))
        found = record["studies"].get("uniform", {})
        for order, some in _by_order(found).items():
            for share, accuracy in some.items():
                row = name, sampler, order, share, config.seed, accuracy
                rows.append((place, *row, accuracy - some[1.0]))
    table = pd.DataFrame(rows, columns=["place", *CUT])
    made = table.groupby(["place", "seed"]).share.transform("size")
    orders = (table.way != "dense") + 1
    complete = table[made == table.share.nunique() * orders]
    return complete.sort_values("place", kind="stable")[CUT]


def _by_order(points):
    """{order: {share: accuracy}} of one run's study."""
    found = {}
    for point in points.values():
        what = point["parameters"]
        found.setdefault(what["order"], {})[what["share"]] = point["test_accuracy"]
    return found


def cut_table(records):
    """Points above the uncut network by share of the ranks, as text; empty without any.

    Each network is compared with itself. The last column but one is the mean over the
    shares: the area between the curve and that of the uncut network.
    """
    rows = {}
    for key, some in cut_points(records).groupby(CUT[:3], sort=False):
        whole = some[some.share == 1].accuracy
        cut = some[some.share < 1].pivot(index="seed", columns="share", values="points")
        shares = {f"{share:g}": cut[share] for share in sorted(cut)[::-1]}
        rows[key] = (
            {"uncut (%)": plus_minus(whole.mean(), whole.std(), ".1f")}
            | {
                name: plus_minus(values.mean(), values.std(), "+.1f")
                for name, values in (shares | {"mean": cut.mean(axis=1)}).items()
            }
            | {"runs": len(cut)}
        )
    table = pd.DataFrame.from_dict(rows, orient="index")
    names = ["steps", "sampler", "columns"]
    return table.rename_axis(index=names) if rows else table


def order_verdicts(records, share=HALF):
    """[Verdict] on the columns' own order beside that of the SVD, for each way.

    Both orders are of one trained network, cut to ``share`` of its ranks. The claim
    holds if its own order is more accurate.
    """
    points = cut_points(records).query("share == @share and way != 'dense'")
    found = []
    for (name, sampler), some in points.groupby(["way", "sampler"], sort=False):
        orders = some.pivot(index="seed", columns="order", values="accuracy")
        difference = gap(list(orders[OWN] - orders[BY_SVD]))
        say = "{:+.2f} points".format
        claim = f"The own order beats the SVD of the products ({name}, {sampler})"
        words = f"{say(difference.mean)}{bounds(difference, say)} at {share:g} of ranks"
        word, n = difference.above(0), len(orders)
        given = claim, word, difference.mean, nan, n, 0.0
        found.append(Verdict(*given, sentence=words, say=say))
    return found


def _verdict(row):
    difference = row.from_unsampled
    say = "{:+.2f} points".format
    words = f"{say(difference.mean)} against no sampling{bounds(difference, say)}"
    return Verdict(
        row.way,
        difference.above(-POINTS),
        difference.mean,
        nan,
        row.pairs,
        POINTS,
        sentence=words + in_margin(difference, POINTS, say),
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


def _gap(differences):
    return gap(differences) if differences else None


def _points(difference):
    if difference is None:
        return "–"
    say = "{:+.2f} points".format
    return f"{difference.mean:+.2f}{bounds(difference, say)}"
