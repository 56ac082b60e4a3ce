"""The ablation: Maestro without one of its parts, or with one more pass (Table 5)."""

from math import nan

import pandas as pd

from .cells import NOT_RUN, count, plus_minus, ratio
from .confidence import gap, worst
from .published import paper_table
from .records import config_of
from .systems import accounts, system
from .verdicts import POINTS, Verdict, bounds, in_margin

# {row here: the row of Table 5}; the paper does not say which full pass it has
PRINTED = {
    "Maestro": "maestro",
    "without the lasso": "without group lasso",
    "without shrinking": "without progressive shrinking",
    "with a full pass": "with full training",
    "with a full pass, distilled": "with full training",
}


def by_row(records):
    """{row of PRINTED: {id: record}}: each record belongs to the row of its parts."""
    rows = {name: {} for name in PRINTED}
    for key, record in records.items():
        config = config_of(record)
        name = system(config)
        if name == "Maestro" and not config.options["lambda_gl"]:
            name = "without the lasso"
        if name in rows:
            rows[name][key] = record
    return rows


def ablation(records):
    """`accounts` of the rows of PRINTED, by name; rows without a run are left out.

    Columns: accuracy, accuracy_std, params, n, and cost: the MACs of training, relative
    to Maestro's, nan without its runs.
    """
    rows = {}
    for name, some in by_row(records).items():
        if some:
            [row] = accounts(some).itertuples()
            rows[name] = {
                "accuracy": row.accuracy,
                "accuracy_std": row.accuracy_std,
                "params": row.params,
                "cost": row.training,
                "n": row.n,
            }
    columns = ["accuracy", "accuracy_std", "params", "cost", "n"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    whole = table.cost["Maestro"] if "Maestro" in table.index else nan
    return table.assign(cost=table.cost / whole)


def printed_ablation():
    """Table 5 with the columns of `ablation` and its rows; one row stands for two."""
    table = paper_table(5).set_index("variant")
    table["cost"], table["params"] = table.train_macs_ratio, 1e6 * table.params
    return table.loc[list(PRINTED.values())].set_axis(list(PRINTED))


def ablation_table(records):
    """`ablation` as text, beside Table 5."""
    ours, theirs, rows = ablation(records), printed_ablation(), {}
    for name in PRINTED:
        cells = {("runs", "here"): 0}
        for figure in ("accuracy (%)", "MACs of training", "parameters"):
            cells[figure, "here"] = NOT_RUN
        if name in ours.index:
            cells |= _cells(ours.loc[name], "here")
            cells["runs", "here"] = int(ours.n[name])
        rows[name] = cells | _cells(theirs.loc[name], "paper")
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.columns = pd.MultiIndex.from_tuples(table.columns)
    return table[["runs", "accuracy (%)", "MACs of training", "parameters"]]


def verdicts(records):
    """The verdicts on what Sec. 5.4 says of each part."""
    return [
        _no_worse(records, "without the lasso", "the lasso costs no accuracy"),
        _no_worse(records, "without shrinking", "shrinking costs no accuracy"),
        _cheaper(records),
        *(_no_better(records, name) for name in PRINTED if "full pass" in name),
    ]


def _no_worse(records, name, claim):
    """Is Maestro as accurate as without one of its parts?"""
    whole, other = _accuracies(records, "Maestro"), _accuracies(records, name)
    if not whole or not other:
        return Verdict(claim)
    return _judged(claim, gap(whole, other), min(len(whole), len(other)), name)


def _no_better(records, name):
    """Is Maestro as accurate as with one more pass in each step?"""
    claim = f"{name.removeprefix('with ')} helps by less than {POINTS:g} points"
    return _no_worse(records, name, claim)


def _judged(claim, difference, n, name):
    say = "{:+.2f} points".format
    sentence = f"{say(difference.mean)} to the runs {name}{bounds(difference, say)}"
    sentence += in_margin(difference, POINTS, say)
    theirs = printed_ablation().accuracy
    paper = theirs["Maestro"] - theirs[name]
    word = difference.above(-POINTS)
    return Verdict(claim, word, difference.mean, paper, n, POINTS, "", sentence, say)


def _cheaper(records):
    """Is Maestro cheaper to train than each of the other rows?"""
    claim, table = "both make training cheaper", ablation(records)
    parts = [n for n in ("without the lasso", "without shrinking") if n in table.index]
    if len(parts) < 2 or table.cost.isna().any():
        return Verdict(claim)
    costs, printed = table.cost[parts], printed_ablation().cost
    whole = _costs(records, "Maestro")
    word = worst({gap(_costs(records, name), whole).above(0) for name in parts})
    said = " and ".join(f"{cost:.2f} times {name}" for name, cost in costs.items())
    n, theirs = int(table.n[parts].min()), printed["without the lasso"]
    sentence = f"the MACs of training are {said}"
    say = "{:.2f}× Maestro's MACs".format
    return Verdict(claim, word, costs.min(), theirs, n, sentence=sentence, say=say)


def _costs(records, name):
    """The MACs of training of the runs of a row."""
    runs = by_row(records)[name].values()
    return [sum(record["history"]["train_macs"]) for record in runs]


def _accuracies(records, name):
    runs = by_row(records)[name].values()
    return [record["final"]["test_accuracy"] for record in runs]


def _cells(row, where):
    accuracy = plus_minus(row.accuracy, row.accuracy_std, ".2f")
    return {
        ("accuracy (%)", where): accuracy,
        ("MACs of training", where): ratio(row.cost),
        ("parameters", where): count(row.params, nan),
    }
