"""The paper's claims about what comes out: accuracies, sizes, and cuts afterwards.

Judged on run records, as those on training are (claims.py).
"""

from math import nan

import numpy as np

from .cells import variant_name
from .claims import cuts_of, fewest, grouped
from .confidence import FAILS, HOLDS, LEVEL, any_holds, gap, worst
from .published import printed_row
from .verdicts import ACCURACY, POINTS, Verdict, bounds, in_margin, in_order


def accuracies(records, paper, measure=ACCURACY):
    """Do the accuracies come out? Holds if every mean is within the margin of a row's.

    paper: a `paper_table`, of which the dense row and those with a lambda_gl count.
    """
    name = "accuracy" if measure is ACCURACY else "perplexity"
    claim, (dense, groups, scale) = f"the paper's {name} comes out", grouped(records)
    groups = ({nan: dense} if len(dense) else {}) | groups
    rows = {value: printed_row(paper, value) for value in groups}
    off = {
        value: gap(
            measure.merit(some[measure.column]) - measure.merit(rows[value][name])
        )
        for value, some in groups.items()
        if rows[value] is not None
    }
    if not off:
        return Verdict(claim)
    far = max(off, key=lambda value: abs(off[value].mean))
    close = sum(abs(one.mean) <= measure.margin for one in off.values())
    sentence = (
        f"{close} of {len(off)} means are within {measure.say(measure.margin)} of the "
        f"paper's, the furthest is {measure.say(off[far].mean)} ({variant_name(far)})"
    )
    word = worst({one.within(measure.margin) for one in off.values()})
    ours, theirs = groups[far][measure.column].mean(), rows[far][name]
    n, say = fewest({x: groups[x] for x in off}), f"{{:.2f}} ({variant_name(far)})"
    return Verdict(
        claim, word, ours, theirs, n, measure.margin, scale, sentence, say.format
    )


def smaller_and_as_good(records, paper=None, measure=ACCURACY):
    """Does some lambda_gl give a smaller network that is as good as the dense one?

    Each of k smaller networks is tested at a k-th of the level (Bonferroni), and the
    smallest that holds is named, or else the best.
    """
    claim, (dense, low_rank, scale) = "smaller, and as good as dense", grouped(records)
    if not len(dense) or not low_rank:
        return Verdict(claim)
    size = dense.params.mean()
    shares = {x: some.params.mean() / size for x, some in low_rank.items()}
    shares = {x: share for x, share in shares.items() if share < 1}
    if not shares:
        n, sentence = fewest(low_rank), "no network is smaller than the dense one"
        return Verdict(claim, FAILS, n=n, scale=scale, sentence=sentence)
    level, merit = 1 - (1 - LEVEL) / len(shares), measure.merit
    gaps = {
        x: gap(merit(low_rank[x][measure.column]), merit(dense[measure.column]), level)
        for x in shares
    }
    words = {x: one.above(-measure.margin) for x, one in gaps.items()}
    good = [x for x, word in words.items() if word == HOLDS]
    named = min(good, key=shares.get) if good else max(gaps, key=lambda x: gaps[x].mean)
    word = any_holds(words.values())
    sentence = (
        f"{shares[named]:.2f}× the parameters at {variant_name(named)}, "
        f"{measure.say(gaps[named].mean)} to dense{bounds(gaps[named], measure.say)}"
        f"{in_margin(gaps[named], measure.margin, measure.say)}"
    )
    n, theirs = min(len(low_rank[named]), len(dense)), nan
    if paper is not None and (row := printed_row(paper, named)) is not None:
        theirs = row.params_ratio
    say = "{:.2f}× the parameters".format
    return Verdict(
        claim, word, shares[named], theirs, n, measure.margin, scale, sentence, say
    )


def smaller_with_lambda(records):
    """Does a larger lambda_gl leave a smaller network? Counted, seed by seed."""
    claim, (_, low_rank, scale) = (
        "a larger λ leaves a smaller network",
        grouped(records),
    )
    sizes = {}  # {seed: the parameters by growing lambda_gl}
    for _, some in sorted(low_rank.items()):
        for seed, params in zip(some.seed, some.params, strict=True):
            sizes.setdefault(seed, []).append(params)
    steps = np.concatenate([np.diff(some) for some in sizes.values()] or [[]])
    if not len(steps):
        return Verdict(claim)
    against = int((steps > 0).sum())
    sentence = f"a larger λ leaves a larger network in {against} of {len(steps)} cases"
    n, say = sum(map(len, sizes.values())), "{:.0f} cases against".format
    word = in_order(against, [len(set(some)) for some in sizes.values()])
    return Verdict(claim, word, against, 0, n, 0.0, scale, sentence, say)


def stored_no_larger(records):
    """Is a trained network never stored larger than the dense one? (App. D.4)"""
    claim = "a network is never stored larger than dense"
    sizes = [(r["final"]["params"], r["dense"]["params"]) for r in records.values()]
    if not sizes:
        return Verdict(claim)
    larger = sum(ours > dense for ours, dense in sizes)
    sentence = f"{larger} of {len(sizes)} trained networks are larger than dense"
    say, word = "{:.0f} larger".format, FAILS if larger else HOLDS
    return Verdict(claim, word, larger, 0, len(sizes), sentence=sentence, say=say)


def cut_reaches(records, factor, accuracy):
    """Does the lambda_gl = 0 network, cut by ``factor`` or more, keep ``accuracy``?

    The first recorded cut of at least ``factor`` is judged, at the margin POINTS.
    """
    claim, cuts = f"{factor:g} times smaller at {accuracy:g} %", cuts_of(records)
    if cuts.empty:
        return Verdict(claim)
    groups = {some.factor.mean(): some for _, some in cuts.groupby("lambda_gl")}
    far = [times for times in groups if times >= factor]
    if not far:
        return Verdict(claim)
    some, say = groups[min(far)], ACCURACY.say
    above, mean = gap(some.test_accuracy - accuracy), some.test_accuracy.mean()
    sentence = (
        f"{min(far):.1f} times smaller {mean:.2f} %, {say(above.mean)} to the paper's"
        f"{bounds(above, say)}"
    )
    word, percent = above.above(-POINTS), "{:.2f} %".format
    scale = next(iter(records.values()))["config"]["scale"]
    n = len(some)
    return Verdict(claim, word, mean, accuracy, n, POINTS, scale, sentence, percent)
