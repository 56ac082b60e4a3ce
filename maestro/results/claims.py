"""The paper's claims about its trained networks, as checks on run records.

Each function returns one line that begins with what was found. Nothing is judged on
runs that are missing: then the line says "not run yet".
"""

import numpy as np

from ..config import RunConfig
from .cells import NOT_RUN, variant_name
from .records import final_ranks
from .tables import nested, rank_history, studies, summary


def holds(claim, found):
    """'holds: ...' or 'does not hold: ...'."""
    return ("holds: " if claim else "does not hold: ") + found


def footprints(records, published, tolerance=0.1):
    """Do the sizes come out? published: {lambda_gl: parameters} that the paper means.

    Holds if every mean over seeds is within ``tolerance`` of the paper's.
    """
    ours = _maestro(records)
    off = {
        row.lambda_gl: row.params / published[row.lambda_gl] - 1
        for row in ours.itertuples()
        if row.lambda_gl in published
    }
    if not off:
        return NOT_RUN
    worst = max(off, key=lambda value: abs(off[value]))
    close = sum(abs(x) <= tolerance for x in off.values())
    return holds(
        close == len(off),
        f"{close} of {len(off)} within {tolerance:.0%} of the paper's parameters; "
        f"furthest {off[worst]:+.0%} (λ = {worst:g})",
    )


def no_loss_at_zero(records):
    """Does the factorised, sampled network reach the dense one? (lambda_gl = 0)

    Holds if its mean accuracy is at most two standard errors of the difference, over
    seeds, below the dense network's.
    """
    table = summary(records)
    if table.empty:
        return NOT_RUN
    dense, zero = table[table.method == "dense"], table[table.lambda_gl == 0]
    if dense.empty or zero.empty:
        return NOT_RUN
    gap, error = _gap(zero.iloc[0], dense.iloc[0], "test_accuracy")
    if np.isnan(error):
        return f"undecided: {gap:+.2f} points to dense, from one run each"
    found = f"{gap:+.2f} points to dense, standard error {error:.2f}"
    return holds(gap >= -2 * error, found)


def smaller_and_better(records):
    """Does some lambda_gl give a smaller network of a lower perplexity than dense?

    Holds if the best of the smaller networks is, on average over seeds, more than two
    standard errors of the difference below the dense one.
    """
    table = summary(records)
    dense = table[table.method == "dense"]
    if dense.empty or len(dense) == len(table):
        return NOT_RUN
    dense = dense.iloc[0]
    smaller = table[table.params < dense.params]
    if smaller.empty:
        return holds(False, "no network is smaller than the dense one")
    best = smaller.loc[smaller.perplexity.idxmin()]
    gap, error = _gap(best, dense, "perplexity")
    found = (
        f"{best.perplexity:.2f} at {variant_name(best.lambda_gl)} with "
        f"{best.params / dense.params:.2f}× the parameters, "
        f"{dense.perplexity:.2f} dense"
    )
    if np.isnan(error):
        return f"undecided: {found}, from one run each"
    return holds(gap < -2 * error, f"{found}, standard error {error:.2f}")


def cheaper_training(records):
    """From which lambda_gl on does training cost fewer MACs than dense training?"""
    ours = _maestro(records)
    if ours.empty:
        return NOT_RUN
    cheaper = ours[ours.train_macs_ratio < 1]
    least = ours.train_macs_ratio.min()
    if cheaper.empty:
        return holds(False, f"at best {least:.2f}× dense")
    start = cheaper.lambda_gl.min()
    return holds(True, f"from λ = {start:g} on, down to {least:.2f}× dense")


def ranks_fall_step_by_step(records):
    """Are the ranks pruned incrementally? In how many epochs, and does none return?"""
    runs = [r for r in records.values() if len(r["ranks"]) > 1]
    if not runs:
        return NOT_RUN
    rises, falls = 0, []
    for record in runs:
        steps = np.diff(rank_history(record))
        rises += int((steps > 0).sum())
        falls.append(int((steps < 0).sum()))
    found = (
        f"ranks fall in {min(falls)} to {max(falls)} epochs of a run, rise in {rises}"
    )
    return holds(rises == 0 and min(falls) > 1, found)


def nested_ranks(records):
    """Are the ranks nested for growing lambda_gl? Counted over layers and seeds."""
    by_seed = {}
    for record in records.values():
        config = RunConfig.from_dict(record["config"])
        if "lambda_gl" in config.options:
            runs = by_seed.setdefault(config.seed, [])
            runs.append((config.options["lambda_gl"], final_ranks(record)))
    counts = [
        nested([ranks for _, ranks in sorted(runs, key=lambda run: run[0])])
        for runs in by_seed.values()
    ]
    more, pairs = (
        (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0)
    )
    if not pairs:
        return NOT_RUN
    return holds(more == 0, f"not nested in {more} of {pairs} cases")


def cut_without_loss(records, factor, points=0.1):
    """Can the lambda_gl = 0 network be cut by ``factor`` with nothing retrained?

    Holds if some donor's ranks leave at most 1 / factor of the parameters at an
    accuracy within ``points`` of the uncut network's, on average over seeds.
    """
    cut, table = studies(records, "ranks_of"), summary(records)
    whole = table[table.lambda_gl == 0]
    if cut.empty or whole.empty:
        return NOT_RUN
    kept = cut[cut.accuracy >= whole.test_accuracy.iloc[0] - points]
    if kept.empty:
        return holds(False, f"no cut keeps the accuracy to {points:g} points")
    best = kept.dense_params.iloc[0] / kept.params.min()
    found = f"{best:.1f} times smaller within {points:g} points of the uncut network"
    return holds(best >= factor, found)


def _gap(one, other, column):
    """(difference of two means over seeds, its standard error: nan from one run)."""
    variances = [row[f"{column}_std"] ** 2 / row.n for row in (one, other)]
    return one[column] - other[column], sum(variances) ** 0.5


def _maestro(records):
    table = summary(records)
    return table if table.empty else table[table.method != "dense"]
