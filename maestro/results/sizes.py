"""Networks cut by every search: the points of the study "cuts", and a verdict."""

import itertools
from math import nan

import numpy as np
import pandas as pd

from .cells import NOT_RUN, plus_minus
from .confidence import HOLDS, LEVEL, any_holds, gap
from .records import config_of
from .variants import refuse_mixed
from .verdicts import ACCURACY, POINTS, SIGNS, Verdict, bounds

SOURCES = ("LoD", "LoD, data-aware", "SVD", "SVD, data-aware")
UNITS = {"params": "parameters", "macs": "MACs"}
COLUMNS = ["source", "search", "unit", "share", "test_accuracy", "params", "macs"]
COLUMNS += ["run", "seed", "scale", "uncut"]


def frame(records):
    """The points of the study "cuts": one row for each run and cut.

    Args:
        records: {id: record}.

    Returns:
        A DataFrame with the columns source, search, unit, share, test_accuracy, params,
        macs, run, seed, scale, uncut (the run's own accuracy), points (above it).

    Raises:
        ValueError: the runs of one source are of several variants.
    """
    rows = pd.DataFrame(
        [
            point["parameters"]
            | point
            | {
                "run": config_of(record),
                "seed": record["config"]["seed"],
                "scale": record["config"]["scale"],
                "uncut": record["final"]["test_accuracy"],
            }
            for record in records.values()
            for point in record["studies"].get("cuts", {}).values()
        ],
        columns=COLUMNS,
    )
    for source, some in rows.groupby("source"):
        refuse_mixed(some.run, source)
    return rows.assign(points=rows.test_accuracy - rows.uncut)


def curve(rows, source, search, unit="macs"):
    """Means over seeds of one source and search, by size: accuracy, std, macs, params.

    rows: of `frame`. Returns an empty DataFrame without points.
    """
    some = rows[(rows.source == source) & (rows.search == search) & (rows.unit == unit)]
    groups = some.groupby("share")
    mean = groups[["test_accuracy", "macs", "params"]].mean()
    mean["std"], mean["n"] = groups.test_accuracy.std(), groups.size()
    return mean.rename(columns={"test_accuracy": "accuracy"})


def series(rows, search, unit="macs"):
    """The lines of `figures.cut_curves`: all sources by one search, by size.

    rows: of `frame`. A broken line has data-aware columns.
    """
    lines = []
    for source in ("LoD", "SVD"):
        for name in (source, f"{source}, data-aware"):
            line = curve(rows, name, search, unit)
            points = line[unit], line.accuracy, line["std"]
            lines.append((name, *points, name != source))
    return lines


def table(rows, unit, shares):
    """Accuracy by source and search, one column for each share of the dense network.

    rows: of `frame`; unit: "params" or "macs". Returns a DataFrame of text; "not run
    yet" if there are no points.
    """
    if not len(rows):
        return NOT_RUN
    rows, cells = rows[rows.unit == unit], {}
    groups = dict(list(rows.groupby(["source", "search"])))
    for key in itertools.product(rows.source.unique(), rows.search.unique()):
        if key in groups:
            some = groups[key]
            cells[key] = {
                f"{share:.2f}×": _cell(_at(some, share, unit)) for share in shares
            } | {"runs": some.seed.nunique()}
    return pd.DataFrame.from_dict(cells, orient="index")


def asked_for(records):
    """The runs of "budgeted": one row a run with target, params, accuracy, dense."""
    return pd.DataFrame(
        [
            {
                "target": record["config"]["options"]["target"],
                "params": record["final"]["params"],
                "accuracy": record["final"]["test_accuracy"],
                "dense": record["dense"]["params"],
            }
            for record in records.values()
        ],
        columns=["target", "params", "accuracy", "dense"],
    )


def sizes_table(runs, grid):
    """The size asked for, the size at the end and the accuracy, a row for each target.

    Args:
        runs: of `asked_for`.
        grid: `variants.summary` of runs at several lambda_gl; the last column has their
            accuracy at the size of the end, by interpolation in the logarithm of the
            size.

    Returns:
        A DataFrame of text; "not run yet" without runs.
    """
    if runs.empty:
        return NOT_RUN
    rows = {}
    for target, some in runs.groupby("target"):
        off = some.params / (target * some.dense) - 1
        rows[f"{target:.2f}×"] = {
            "runs": len(some),
            "parameters asked for": f"{target * some.dense.iloc[0]:,.0f}",
            "parameters at the end": f"{some.params.mean():,.0f}",
            "furthest off": f"{off[off.abs().idxmax()]:+.1%}",
            "accuracy (%)": plus_minus(
                some.accuracy.mean(), some.accuracy.std(), ".2f"
            ),
            "grid of λ (%)": _between(grid, some.params.mean()),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _between(grid, params):
    """The accuracy of a network of ``params`` on the line of a grid, as text."""
    grid = grid.sort_values("params")
    if not len(grid) or not grid.params.iloc[0] <= params <= grid.params.iloc[-1]:
        return "–"
    known = np.log(grid.params.astype(float))
    return f"{np.interp(np.log(params), known, grid.test_accuracy):.2f}"


def without_loss(rows, share=1 / 3, unit="params"):
    """Is a network of ``share`` of the size without loss, by some search?

    Each network is compared with itself, uncut, at the paper's margin. The best of k
    searches is chosen by its mean, and so tested at a k-th of the level (Bonferroni).

    rows: of `frame`. Returns a Verdict for the columns of each of SOURCES.
    """
    return [_verdict(rows, name, share, unit) for name in SOURCES]


def without_data(rows, share=1 / 3, unit="params", search="share of energy"):
    """Is the dense network of ``share`` of the size without loss, by its SVD alone?

    The search needs neither data nor training.

    rows: of `frame`. Returns a Verdict at the paper's margin.
    """
    claim = f"{1 / share:g} times smaller without loss, SVD, {search}, no data"
    some = _at(rows[rows.source == "SVD"], share, unit, search)
    if some.empty:
        return Verdict(claim)
    lost, say = gap(some.points), ACCURACY.say
    sentence = f"{say(lost.mean)}{bounds(lost, say)}, margin {say(-POINTS)}"
    word, scale = lost.above(-POINTS), some.scale.iloc[0]
    return Verdict(claim, word, lost.mean, nan, len(some), POINTS, scale, sentence, say)


def learned_beats_svd(rows, share=1 / 3, unit="params", search="loss per parameter"):
    """Are LoD's own columns better than an SVD's, cut to ``share`` by one search?

    rows: of `frame`. The dense network's columns are those of its SVD.
    """
    claim = f"LoD's columns beat an SVD's, {1 / share:.2g} times fewer {UNITS[unit]}"
    some = _at(rows, share, unit, search)
    merits = [some.test_accuracy[some.source == name] for name in ("LoD", "SVD")]
    if not all(map(len, merits)):
        return Verdict(claim)
    difference, say = gap(*merits), ACCURACY.say
    sentence = f"{say(difference.mean)} by LoD{bounds(difference, say)}"
    word, n, scale = difference.above(0), min(map(len, merits)), rows.scale.iloc[0]
    return Verdict(claim, word, difference.mean, nan, n, 0.0, scale, sentence, say)


def learned_table(rows, unit="params"):
    """Points by which LoD's columns are above an SVD's, as text: a row for each search.

    Each number has the sign of the verdict of `learned_beats_svd`. rows: of `frame`.
    """
    some = rows[rows.unit == unit]
    shares = sorted(some.share.unique(), reverse=True)
    table = {}
    for search in some.search.unique():
        found = [learned_beats_svd(rows, share, unit, search) for share in shares]
        table[search] = {
            f"{share:.2f}×": f"{one.ours:+.2f} {SIGNS[one.word]}" if one.n else NOT_RUN
            for share, one in zip(shares, found, strict=True)
        }
    return pd.DataFrame.from_dict(table, orient="index")


def _at(rows, share, unit, search=None):
    """The points of one budget, by one search or by all."""
    same = (rows.unit == unit) & ((rows.share - share).abs() < 1e-6)
    return rows[same if search is None else same & (rows.search == search)]


def _verdict(rows, name, share, unit):
    claim = f"{1 / share:g} times smaller without loss, columns by {name}, any search"
    some = _at(rows, share, unit)
    mine = some[some.source == name]
    if mine.empty:
        return Verdict(claim)
    groups = dict(list(mine.groupby("search")))
    level = 1 - (1 - LEVEL) / len(groups)
    found = {key: gap(some.points, level=level) for key, some in groups.items()}
    best = max(found, key=lambda key: found[key].mean)
    n, say = len(groups[best]), ACCURACY.say
    words = [one.above(-POINTS) for one in found.values()]
    word = any_holds(words)
    sentence = (
        f"best by {best} {say(found[best].mean)}"
        f"{bounds(found[best], say)}, margin {say(-POINTS)}; "
        f"{words.count(HOLDS)} of {len(found)} searches hold at this level"
    )
    scale = mine.scale.iloc[0]
    return Verdict(claim, word, found[best].mean, 0, n, POINTS, scale, sentence, say)


def _cell(some):
    if not len(some):
        return "–"
    accuracy = some.test_accuracy
    return plus_minus(accuracy.mean(), accuracy.std(), ".2f")
