"""The paper's claims about its trained networks, each judged on run records.

A claim about a mean over seeds is judged by its confidence bounds. "As good as" is a
test of non-inferiority: the claim holds if the lower bound lies above the margin, does
not hold if the upper bound lies below the margin, and cannot be decided otherwise, or
with one run. A claim about every run (ranks fall, ranks are nested) is counted: one
case against the claim refutes it.
"""

from math import nan

import numpy as np

from . import points, speed
from .cells import variant_name
from .confidence import FAILS, HOLDS, LEVEL, UNDECIDED, Gap, any_holds, gap, worst
from .ranks import nested, rank_history
from .records import final_ranks
from .variants import by_lambda, of_variant, per_run
from .verdicts import ACCURACY, PERPLEXITY, POINTS, SIZE, Verdict, bounds, in_order

OF_DENSE = "{:.2f}× dense".format


def of_training(records, paper=None, measure=ACCURACY):
    """The verdicts on what the paper says of every network that it trains.

    records: {id: record} of one experiment; paper: its `paper_table`, or None where the
    network is another than the paper's.
    """
    return [
        cheaper_counted(records, paper),
        ranks_fall_step_by_step(records),
        nested_ranks(records),
        no_loss_at_zero(records, paper, measure),
    ]


def footprints(records, published):
    """Do the sizes come out? published: {lambda_gl: parameters} that the paper means.

    Holds if the mean at every lambda_gl is within SIZE of the paper's number.
    """
    claim, (_, low_rank, scale) = "the paper's footprints come out", grouped(records)
    runs = {x: some for x, some in low_rank.items() if x in published}
    if not runs:
        return Verdict(claim)
    off = {x: gap(some.params / published[x] - 1) for x, some in runs.items()}
    words = {x: one.within(SIZE) for x, one in off.items()}
    close = sum(abs(one.mean) <= SIZE for one in off.values())
    far = max(off, key=lambda x: abs(off[x].mean))
    sentence = (
        f"{close} of {len(off)} means are within {SIZE:.0%} of the paper's parameters, "
        f"the furthest is {off[far].mean:+.0%} ({variant_name(far)})"
    )
    unsure = [variant_name(x) for x, word in words.items() if word == UNDECIDED]
    if unsure:
        sentence += f"; the runs vary too much at {', '.join(unsure)}"
    word, n = worst(words.values()), fewest(runs)
    ours, theirs = runs[far].params.mean(), published[far]
    say = "{:,.0f} parameters".format
    return Verdict(claim, word, ours, theirs, n, SIZE, scale, sentence, say)


def no_loss_at_zero(records, paper=None, measure=ACCURACY):
    """Is the factorised, sampled network as good as the dense one? (lambda_gl = 0)"""
    name = "accuracy" if measure is ACCURACY else "perplexity"
    claim = f"no {name} is lost at λ = 0"
    dense, low_rank, scale = grouped(records, only=0.0)
    if not len(dense) or not low_rank:
        return Verdict(claim)
    zero = low_rank[0.0]
    merits = [measure.merit(some[measure.column]) for some in (zero, dense)]
    difference, theirs = gap(*merits), nan
    if paper is not None and (paper.lambda_gl == 0).any():
        at_zero, whole = paper[paper.lambda_gl == 0], paper[paper.variant == "dense"]
        theirs = at_zero[name].iloc[0] - whole[name].iloc[0]
    sentence = (
        f"{measure.say(difference.mean)} to dense{bounds(difference, measure.say)}, "
        f"margin {measure.say(-measure.margin)}"
    )
    word, n = difference.above(-measure.margin), min(len(zero), len(dense))
    ours, margin = difference.mean, measure.margin
    return Verdict(claim, word, ours, theirs, n, margin, scale, sentence, measure.say)


def smaller_and_better(records, paper=None):
    """Does some lambda_gl give a smaller network of a lower perplexity than dense?

    The best of k smaller networks is chosen by its perplexity, so that each is tested
    at a k-th of the level (Bonferroni). Better means better: there is no margin.
    """
    claim, (dense, low_rank, scale) = (
        "smaller and of lower perplexity",
        grouped(records),
    )
    if not len(dense) or not low_rank:
        return Verdict(claim)
    size, theirs = dense.params.mean(), nan if paper is None else paper.perplexity.min()
    smaller = {x: some for x, some in low_rank.items() if some.params.mean() < size}
    if not smaller:
        sentence = "no network is smaller than the dense one"
        n = fewest(low_rank)
        return Verdict(claim, FAILS, nan, theirs, n, scale=scale, sentence=sentence)
    merit, level = PERPLEXITY.merit, 1 - (1 - LEVEL) / len(smaller)
    gaps = {
        x: gap(merit(some.perplexity), merit(dense.perplexity), level)
        for x, some in smaller.items()
    }
    best = max(gaps, key=lambda x: gaps[x].mean)
    ours, n = smaller[best].perplexity.mean(), min(len(smaller[best]), len(dense))
    sentence = (
        f"{ours:.2f} at {variant_name(best)} with "
        f"{smaller[best].params.mean() / size:.2f}× the parameters, "
        f"{dense.perplexity.mean():.2f} dense"
        f"{bounds(gaps[best], PERPLEXITY.say)}"
    )
    word = any_holds([one.above(0) for one in gaps.values()])
    say = "perplexity {:.2f}".format
    return Verdict(claim, word, ours, theirs, n, 0.0, scale, sentence, say)


def cheaper_counted(records, paper=None):
    """Does training cost fewer MACs than dense training from some lambda_gl on?

    Holds if training with the largest lambda_gl does, which is the paper's own order.
    """
    claim, (_, low_rank, scale) = "training costs less, counted", grouped(records)
    if not low_rank:
        return Verdict(claim)
    costs = {x: some.train_macs_ratio for x, some in low_rank.items()}
    largest, start = max(costs), None
    for value in sorted(costs, reverse=True):
        if costs[value].mean() >= 1:
            break
        start = value
    ours, n = costs[largest].mean(), len(costs[largest])
    sentence = f"{ours:.2f}× dense MACs at the largest λ"
    if start is None:
        least = min(costs, key=lambda x: costs[x].mean())
        sentence += f", least {costs[least].mean():.2f}× at {variant_name(least)}"
    else:
        sentence += f", below 1.00× from {variant_name(start)} on"
    word = gap(1 - costs[largest]).above(0)
    theirs = nan if paper is None else paper.train_macs_ratio.iloc[-1]
    return Verdict(claim, word, ours, theirs, n, 0.0, scale, sentence, OF_DENSE)


def cheaper_timed(measurement, model):
    """Does a training step take less time than a dense step once ranks have fallen?

    measurement: of `speed.load`, or None; model: a name in it. Judged at the smallest
    share of the ranks that was timed, by the quartiles over rounds; n is 1, the
    measurement.
    """
    claim = "training costs less, timed"
    steps, measured = _low_rank_steps(measurement, model)
    if steps is None:
        return Verdict(claim)
    least = steps.iloc[0]
    word = Gap(-least.step, -least.step_high, -least.step_low).above(-1)
    sentence = f"a step takes {_by_share(steps.step, 'the dense step')} ({measured})"
    scale = measurement["ran_on"]["device"]
    return Verdict(claim, word, least.step, nan, 1, 0.0, scale, sentence, OF_DENSE)


def lighter(measurement, model):
    """Does a training step hold less memory than a dense step once ranks have fallen?

    measurement, model: as for `cheaper_timed`. Judged at the smallest share of the
    ranks; memory is counted and has no bounds.
    """
    claim = "training takes less memory"
    steps, measured = _low_rank_steps(measurement, model)
    if steps is None:
        return Verdict(claim)
    least = steps.memory.iloc[0]
    shares = _by_share(steps.memory, "the dense memory")
    sentence = f"a step holds {shares} ({measured})"
    scale, word = measurement["ran_on"]["device"], HOLDS if least < 1 else FAILS
    return Verdict(claim, word, least, nan, 1, 0.0, scale, sentence, OF_DENSE)


def _low_rank_steps(measurement, model):
    """(`speed.rows` of a network's LoD steps by share, at its first batch size; where
    they were measured); (None, "") without a measurement."""
    if measurement is None or model not in measurement["models"]:
        return None, ""
    batch = speed.batches(measurement, model)[0]
    rows = speed.rows(measurement)
    rows = rows.query("model == @model and kind == 'lod' and batch == @batch")
    measured = f"batch {batch}; {speed.ran_on(measurement)}"
    return rows.set_index("share").sort_index(), measured


def _by_share(values, whole):
    """'1.16× the dense step at all ranks, 0.69× at half'; values: by share."""
    return ", ".join(
        f"{value:.2f}× {whole if share == 1 else ''}".rstrip()
        + f" at {speed.SHARES[share]}"
        for share, value in values[::-1].items()
    )


def ranks_fall_step_by_step(records):
    """Are the ranks pruned incrementally? In several epochs, and does none return?"""
    claim = "ranks are pruned incrementally"
    runs = [r for r in records.values() if len(r["ranks"]) > 1]
    if not runs:
        return Verdict(claim)
    steps = [np.diff(rank_history(record)) for record in runs]
    rises = int(sum((some > 0).sum() for some in steps))
    falls = [int((some < 0).sum()) for some in steps]
    word = HOLDS if not rises and min(falls) > 1 else FAILS
    sentence = f"ranks fall in {_range(falls)} epochs of a run, and rise in {rises}"
    scale = runs[0]["config"]["scale"]
    n, say = len(runs), "{:.0f} rises".format
    return Verdict(claim, word, rises, 0, n, 0.0, scale, sentence, say)


def cost_of_a_search(costs, paper=3.0):
    """Does finding lambda_gl cost at most 2 to 3 trainings? (Sec. 3.3 on Algorithm 2)

    The searches of one seed use the same trainings: the mean of each seed counts once.

    costs: {seed: what its searches cost, as shares of one training at their answer}.
    """
    claim = "Algorithm 2 costs at most 2 to 3 trainings"
    if not costs:
        return Verdict(claim)
    means = np.array([np.mean(some) for some in costs.values()])
    word, every = gap(paper - means).above(0), np.concatenate([*costs.values()])
    sentence = (
        f"{means.mean():.1f} trainings on average, {every.min():.1f} to "
        f"{every.max():.1f} in {len(every)} searches"
    )
    n, say = len(means), "{:.1f} trainings".format
    return Verdict(claim, word, means.mean(), paper, n, sentence=sentence, say=say)


def nested_ranks(records):
    """Are the ranks nested for growing lambda_gl? Counted over layers and seeds."""
    claim = "ranks are nested"
    seeds = dict.fromkeys(record["config"]["seed"] for record in records.values())
    by_seed = [by_lambda(records, seed) for seed in seeds]
    found = [[final_ranks(run) for run in runs.values()] for runs in by_seed]
    counts = [nested(some) for some in found]
    more, pairs = sum(count[0] for count in counts), sum(count[1] for count in counts)
    if not pairs:
        return Verdict(claim)
    sentence = f"a larger λ leaves a layer more rank in {more} of {pairs} cases"
    unlike = [len({tuple(ranks.items()) for ranks in some}) for some in found]
    n, word = sum(map(len, found)), in_order(more, unlike)
    scale = next(iter(records.values()))["config"]["scale"]
    say = "{:.0f} cases against".format
    return Verdict(claim, word, more, 0, n, 0.0, scale, sentence, say)


def cut_without_loss(records, factor):
    """Can the lambda_gl = 0 network be cut by ``factor`` with nothing retrained?

    Only cuts to other runs' ranks are recorded. The claim holds if the first cut of at
    least ``factor`` keeps the accuracy, and fails if the last cut below ``factor`` does
    not. Each network is compared with itself, uncut.
    """
    claim, cuts = (
        f"{factor:g} times smaller without loss, not retrained",
        cuts_of(records),
    )
    if cuts.empty:
        return Verdict(claim)
    judged = [
        (some.factor.mean(), gap(some.points), len(some))
        for _, some in cuts.groupby("lambda_gl")
    ]
    judged.sort()
    before = [one for one in judged if one[0] < factor][-1:]
    beyond = [one for one in judged if one[0] >= factor][:1]
    word = UNDECIDED
    if any(one.above(-POINTS) == HOLDS for _, one, _ in beyond):
        word = HOLDS
    elif any(one.above(-POINTS) == FAILS for _, one, _ in before):
        word = FAILS
    say = ACCURACY.say
    sentence = "; ".join(
        f"{times:.1f} times smaller {say(one.mean)}{bounds(one, say)}"
        for times, one, _ in before + beyond
    )
    sentence += f", margin {say(-POINTS)}"
    _, nearest, n = (beyond or before)[0]
    scale = next(iter(records.values()))["config"]["scale"]
    return Verdict(claim, word, nearest.mean, 0, n, POINTS, scale, sentence, say)


def grouped(records, only=None):
    """(dense runs, {lambda_gl: low-rank runs} by growing lambda_gl, scale).

    The runs are rows of `per_run`. only: leave the other values of lambda_gl out.
    Raises ValueError if one lambda_gl stands for several variants.
    """
    runs = per_run(records)
    if runs.empty:
        return runs, {}, ""
    values = sorted(set(runs.lambda_gl.dropna()))
    if only is not None:
        values = [value for value in values if value == only]
    groups = {value: of_variant(runs, value) for value in values}
    return of_variant(runs, nan), groups, runs.scale.iloc[0]


def cuts_of(records):
    """One row for each lambda_gl = 0 run and cut: lambda_gl, factor, points."""
    cuts = points.of_study(records, "ranks_of")
    if len(cuts):
        cuts["factor"] = cuts.dense_params / cuts.params
        cuts["points"] = cuts.test_accuracy - cuts.uncut
    return cuts


def fewest(groups):
    return min(map(len, groups.values()))


def _range(counts):
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high}"
