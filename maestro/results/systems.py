"""The systems side by side: what each costs to train and to deploy (Table 16, Fig. 3).

One accounting for all. To deploy: numbers (those that are not zero), and bits, with the
map of what is zero and with binary weights as bits. In training: the most numbers held
at a time, all epochs of all phases and rounds, and the MACs of their forward passes,
relative to one training of the dense network with the same recipe. Not in these MACs:
the matrix decompositions that some systems make beside them, and evaluations.
"""

from math import nan
from typing import NamedTuple

import pandas as pd

from ..config import variant
from .cells import NOT_RUN, plus_minus, ratio, variant_name
from .confidence import Gap, gap, paired, worst
from .published import paper_table
from .records import config_of
from .variants import differences, variant_columns
from .verdicts import ACCURACY, Verdict, bounds, in_margin

BITS = 32  # of a number
NARROW = "dense, narrow"  # a dense network of fewer channels than the widest one
LONGER = "dense, trained longer"  # one with more epochs than the others' recipe has
# {method: (name, option that sets the size, how its value is written)}
NAMES = {
    "dense": ("dense", None, ""),
    "maestro": ("Maestro", "lambda_gl", ""),
    "masked": ("Maestro, masked", "lambda_gl", ""),
    "proximal": ("Maestro, proximal", "lambda_gl", ""),
    "tangent": ("tangent steps", "lambda_gl", ""),
    "tangent_cut": ("cut once", "target", "{:.0%} wanted"),
    "pretrained": ("Maestro, pretrained", "lambda_gl", ""),
    "budgeted": ("Maestro, size asked for", "target", "{:.0%} wanted"),
    "unshrunken": ("without shrinking", "lambda_gl", ""),
    "full_pass": ("with a full pass", "lambda_gl", ""),
    "pufferfish": ("Pufferfish", "rank_ratio", "ρ = {:g}"),
    "cuttlefish": ("Cuttlefish", None, ""),
    "spectral": ("spectral init.", "params_share", "{:.0%} wanted"),
    "svd": ("SVD", "rank_ratio", "ρ = {:g}"),
    "spectral_decay": ("spectral decay", "coefficient", "c = {:g}"),
    "dlrt": ("DLRT", "theta", "θ = {:g}"),
    "dlrt_augmented": ("augmented DLRT", "theta", "θ = {:g}"),
    "imp": ("IMP", "rounds", "{} rounds"),
    "raregems": ("RareGems", "density", "density {:g}"),
    "depgraph": ("DepGraph", "params_share", "{:.0%} wanted"),
    "xnor": ("XNOR-Net", None, ""),
}
# {(method, option that is not zero): what the name has more}
MORE = {
    ("svd", "tune"): "SVD, tuned",
    ("spectral", "frobenius_decay"): "spectral init., FD",
    ("full_pass", "distilled"): "with a full pass, distilled",
}
OURS = {"maestro", "masked", "proximal", "tangent", "pretrained", "budgeted"}
OURS |= {"unshrunken", "full_pass", "tangent_cut"}
SIZES = ["accuracy", "params", "bits", "macs", "binary_macs"]
# the columns of `accounting_table` that say what a network is, and how it was made
DEPLOYED = ["accuracy (%)", "numbers to deploy", "bits to deploy / 32", "MACs", "runs"]
COSTS = ["held", "epochs", "training"]


def system(config):
    """The name of the system that trained ``config``, without its size.

    Tangent steps are tried with several samplers, so their name has the sampler.
    """
    for (method, option), name in MORE.items():
        if config.method == method and config.options.get(option):
            return name
    name = NAMES[config.method][0]
    if config.method in ("tangent", "tangent_cut"):
        return f"{name}, {config.options['sampler']}"
    return name


def label(config):
    """`system`, and what sets its size: 'Pufferfish, ρ = 0.33'."""
    _, option, written = NAMES[config.method]
    if option == "lambda_gl":
        return f"{system(config)}, {variant_name(config.options[option])}"
    if option:
        return f"{system(config)}, {written.format(config.options[option])}"
    return system(config)


def accounts(records):
    """What every variant costs, means over seeds, in the order of NAMES.

    Ratios are to the widest dense network that a record names, trained with the fewest
    epochs of a recipe. A run that diverged has no part in the means; a variant of such
    runs alone has no figures.

    Args:
        records: {id: record} of one task, model and scale.
    Returns:
        DataFrame with the columns label, system, config, n, diverged (runs), the
        figures of SIZES and COSTS, accuracy_std, dense_params and dense_macs; empty
        without records.
    Raises:
        ValueError: tasks, models or scales are mixed.
    """
    if not records:
        return pd.DataFrame(columns=["label", "system", "config", "n", *SIZES, *COSTS])
    whole = max((r["dense"] for r in records.values()), key=lambda d: d["params"])
    configs = [columns["config"] for columns in variant_columns(records)]
    epochs = min(config.recipe.epochs for config in configs)
    pairs = zip(configs, records.values(), strict=True)
    runs = pd.DataFrame([_account(c, r, whole, epochs) for c, r in pairs])
    groups = runs.groupby(runs.config.map(variant))
    table = groups[["config", "system"]].first().join(groups[SIZES + COSTS].mean())
    table["accuracy_std"], table["n"] = groups["accuracy"].std(), groups["n"].sum()
    table["diverged"] = groups.size() - table.n
    table["dense_params"], table["dense_macs"] = whole["params"], whole["macs"]
    table["order"] = table.config.map(lambda config: list(NAMES).index(config.method))
    table = table.sort_values(["order", "system", "params"], ascending=[1, 1, 0])
    table.insert(0, "label", _labels(table))
    return table.drop(columns="order").reset_index(drop=True)


def accounting_table(records):
    """`accounts` as text: one row for each variant.

    "as printed elsewhere" counts XNOR-Net as its authors do, all of the dense network's
    numbers as bits; of the other systems it is the count of numbers.
    """
    rows = {}
    for row in accounts(records).itertuples():
        if not row.n:
            rows[row.label] = {"runs": f"{row.diverged} diverged"}
            continue
        printed = row.dense_params / BITS if row.system == "XNOR-Net" else row.params
        rows[row.label] = {
            "accuracy (%)": plus_minus(row.accuracy, row.accuracy_std, ".2f"),
            "numbers to deploy": f"{row.params:,.0f}",
            "bits to deploy / 32": f"{row.bits / BITS:,.0f}",
            "as printed elsewhere": f"{printed:,.0f}",
            "MACs": f"{row.macs:,.0f}",
            "of them binary": f"{row.binary_macs:,.0f}" if row.binary_macs else "–",
            "numbers in training": f"{row.held:,.0f}",
            "epochs": f"{row.epochs:.0f}",
            "MACs of training": ratio(row.training),
            "runs": f"{row.n}, {row.diverged} diverged" if row.diverged else row.n,
        }
    return pd.DataFrame.from_dict(rows, orient="index").fillna("–")


def accounting_tables(records):
    """`accounting_table` in two narrow ones: what each network is; what it cost."""
    table = accounting_table(records)
    if table.empty:
        return [table]
    others = table.drop(columns=DEPLOYED)
    plain = others["of them binary"] == "–"
    return [
        table[DEPLOYED],
        others.drop(columns="of them binary") if plain.all() else others,
    ]


def rates_table(records):
    """Accuracy (%) of every system at every learning rate, as text.

    records: {id: record} of one task, model and scale, one seed.
    """
    rows = {}
    for record in records.values():
        config, accuracy = config_of(record), record["final"]["test_accuracy"]
        rows.setdefault(label(config), {})[config.recipe.lr] = f"{accuracy:.2f}"
    table = pd.DataFrame.from_dict(rows, orient="index").fillna(NOT_RUN)
    table = table[sorted(table.columns, reverse=True)]
    return table.rename(columns="learning rate {:g}".format)


def differences_table(records, pairs):
    """Points by which one variant is above another, seed by seed, as text.

    Args:
        records: {id: record} of one task, model and scale.
        pairs: [(label, label)] of `accounts`, the first minus the second.
    Returns:
        A DataFrame with a row for each pair: its bounds, and the seeds that both have.
    """
    found = merits(records)
    of = {r.label: found[variant(r.config)] for r in _finished(records).itertuples()}
    rows = {}
    for one, other in pairs:
        both = _both(of.get(one, {}), of.get(other, {}), by_seed=True)
        said = NOT_RUN
        if both.seeds:
            said = f"{_points(both.difference.mean)}{bounds(both.difference, _points)}"
        rows[one, other] = {"points": said, "seeds": both.seeds}
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(table.index, names=["network", "above"])
    return table


def merits(records, measure=ACCURACY):
    """{variant: {seed: merit by ``measure``}} of the runs that did not diverge."""
    found = {}
    for record in records.values():
        if record["status"] != "diverged":
            config = config_of(record)
            merit = measure.merit(record["final"][measure.column])
            found.setdefault(variant(config), {})[config.seed] = merit
    return found


def missing_systems(configs, records):
    """The systems of ``configs`` without a record, in words; empty if none."""
    done = {system(c) for c in configs if c.id in records}
    names = [name for name in dict.fromkeys(map(system, configs)) if name not in done]
    return ", ".join(names)


def frontier(records):
    """`accounts` relative to the dense network, for a figure.

    The error of a run is divided by that of the dense network of its seed, so that a
    system with fewer seeds stands beside the same seeds.

    Columns: system, numbers (bits to deploy, relative), macs (relative), error (of the
    test, relative), error_std, n. Empty without a dense run.
    """
    table = _finished(records)
    dense = table[table.system == "dense"]
    if dense.empty:
        return pd.DataFrame(columns=["system", "numbers", "macs", "error", "n"])
    ran = [r for r in records.values() if r["status"] != "diverged"]
    runs = pd.DataFrame(
        {
            "variant": [variant(config_of(r)) for r in ran],
            "seed": [config_of(r).seed for r in ran],
            "error": [100 - r["final"]["test_accuracy"] for r in ran],
        }
    )
    whole = runs[runs.variant == variant(dense.config.iloc[0])]
    base = runs.seed.map(whole.set_index("seed").error).fillna(whole.error.mean())
    errors = (runs.error / base).groupby(runs.variant)
    names = table.config.map(variant)
    return pd.DataFrame(
        {
            "system": table.system,
            "numbers": table.bits / BITS / table.dense_params,
            "macs": table.macs / table.dense_macs,
            "error": names.map(errors.mean()),
            "error_std": names.map(errors.std()),
            "n": table.n,
        }
    )


def printed_frontier(model):
    """The rows of Table 16 on ``model``, with the columns of `frontier`."""
    table = paper_table(16)
    table = table[table.model == model]
    dense = table[table.variant == "dense"].iloc[0]
    base = 100 - dense.accuracy
    return pd.DataFrame(
        {
            "system": table.variant.map(lambda name: NAMES[name][0]),
            "numbers": table.params / dense.params,
            "macs": table.macs / dense.macs,
            "error": (100 - table.accuracy) / base,
            "error_std": table.accuracy_std / base,
        }
    )


def duels(records, champion="Maestro", by_seed=False):
    """Each system against ``champion`` at its size or below, as the paper compares.

    Of the champion's shrunken variants it is the one with the most bits to deploy that
    has no more than the system. A difference is that of the seeds that both have. Its
    95 % bounds decide.

    Args:
        records: {id: record} of one task, model and scale.
        champion: the name of a system of ours. Of ours, only Maestro is a challenger.
        by_seed: whether the differences are taken seed by seed.

    Returns:
        A DataFrame of text, one row for each variant of another system.
    """
    rows = {}
    ran = _shrunken(accounts(records), champion)
    for row, best, both in _pairs(records, ACCURACY, champion, by_seed):
        cells = {"accuracy (%)": plus_minus(row.accuracy, row.accuracy_std, ".2f")}
        cells["bits / 32"] = f"{row.bits / BITS:,.0f}"
        names = (
            champion,
            "its bits / 32",
            f"points for {champion}",
            "seeds",
            "ahead",
        )
        found = dict.fromkeys(names, "none as small" if ran else NOT_RUN)
        if best is not None:
            points, word = NOT_RUN, NOT_RUN
            if both.seeds:
                difference = both.difference
                points = f"{_points(difference.mean)}{bounds(difference, _points)}"
                word = difference.above(0)
            figures = f"{best.bits / BITS:,.0f}", points, both.seeds, word
            found = dict(zip(names, (best.label, *figures), strict=True))
        rows[row.label] = cells | found
    return pd.DataFrame.from_dict(rows, orient="index")


def against(records, methods, claim, measure=ACCURACY, margin=None, by_seed=False):
    """[Verdict], one for each system of ``methods``: is Maestro as good, and no larger?

    The claim holds against a system if it does against each of its variants for which
    Maestro has a network as small.

    Args:
        records: {id: record} of one task, model and scale.
        methods: the names of the other systems' methods.
        claim: the claim in short; the name of the system is added.
        measure: the `Measure` to compare by.
        margin: how much worse counts as good; that of ``measure`` if None.
        by_seed: as for `duels`.
    """
    judged, margin = {}, measure.margin if margin is None else margin
    for row, best, both in _pairs(records, measure, by_seed=by_seed):
        if row.config.method in methods and best is not None and both.seeds:
            judged.setdefault(row.system, []).append((row, both))
    return [
        _against(f"{claim} {name}", some, measure, margin)
        for name, some in judged.items()
    ]


def _against(claim, pairs, measure, margin):
    """The verdict on one system; pairs: [(variant of it, `Both`)]."""
    say, gaps = measure.say, [both.difference for _, both in pairs]
    sentence = "; ".join(
        f"{say(gap.mean)}{bounds(gap, say)} to {row.label}{in_margin(gap, margin, say)}"
        for (row, _), gap in zip(pairs, gaps, strict=True)
    )
    word, scale = worst({gap.above(-margin) for gap in gaps}), pairs[0][0].config.scale
    nearest, n = min(gap.mean for gap in gaps), min(both.seeds for _, both in pairs)
    return Verdict(claim, word, nearest, nan, n, margin, scale, sentence, say)


class Both(NamedTuple):
    """How many seeds two variants have in common, and the `Gap` between them there."""

    seeds: int
    difference: Gap | None


def _pairs(records, measure, champion="Maestro", by_seed=False):
    """[(variant of another system, the champion's of its size, `Both`), ...].

    The last two are None where the champion has none as small.
    """
    table, found, pairs = _finished(records), merits(records, measure), []
    for row in table.itertuples():
        aside = row.config.method in OURS and row.system != "Maestro"
        if row.system in ("dense", champion) or aside:
            continue
        ours = _shrunken(table, champion)
        smaller = [one for one in ours if one.bits <= row.bits]
        best, both = max(smaller, key=lambda one: one.bits, default=None), None
        if best is not None:
            sides = (found[variant(one.config)] for one in (best, row))
            both = _both(*sides, by_seed)
        pairs.append((row, best, both))
    return pairs


def _finished(records):
    """The rows of `accounts` with a run that did not diverge."""
    return accounts(records).query("n > 0")


def _both(ours, theirs, by_seed):
    """`Both` of the merits {seed: merit} of two variants."""
    seeds = [seed for seed in ours if seed in theirs]
    if not seeds:
        return Both(0, None)
    if by_seed:
        return Both(len(seeds), gap(paired(ours, theirs)))
    sides = ([side[seed] for seed in seeds] for side in (ours, theirs))
    return Both(len(seeds), gap(*sides))


def _shrunken(table, champion):
    """The champion's variants with a lasso or a wanted size, rows of `accounts`."""
    rows = [row for row in table.itertuples() if row.system == champion]
    return [r for r in rows if r.config.options.get(NAMES[r.config.method][1])]


def _points(value):
    # "-0.00" is below zero, unless by the rounding of sums
    return f"{round(value, 9) + 0.0:+.2f}"


def _account(config, record, whole, epochs):
    """One run's figures; ``whole``, ``epochs``: of the dense network's training."""
    final, history = record["final"], record["history"]
    name = system(config)
    if config.method == "dense" and config.recipe.epochs > epochs:
        name = LONGER
    elif config.method == "dense" and record["dense"] != whole:
        name = NARROW
    named = {"config": config, "system": name}
    if record["status"] == "diverged":
        return named | dict.fromkeys(SIZES + COSTS, nan) | {"n": 0}
    return named | {
        "n": 1,
        "accuracy": final["test_accuracy"],
        "params": final["params"],
        "bits": final.get("bits", final["params"] * BITS),
        "macs": final["macs"],
        "binary_macs": final.get("binary_macs", 0),
        "held": max(history["train_params"]),
        "epochs": len(history["train_macs"]),
        "training": sum(history["train_macs"]) / (epochs * whole["macs"]),
    }


def _labels(table):
    """Unique labels: those of several variants have the fields that differ."""
    configs = list(table.config)
    names = [
        _dense_label(config, name) if name in (NARROW, LONGER) else label(config)
        for config, name in zip(configs, table.system, strict=True)
    ]
    labels = []
    for place, name in enumerate(names):
        same = [i for i, other in enumerate(names) if other == name]
        apart = differences([configs[i] for i in same])
        mine = same.index(place)
        fields = [f"{field} {values[mine]}" for field, values in apart.items()]
        labels.append(", ".join([name, *fields]))
    return labels


def _dense_label(config, name):
    """'dense, width 24', 'dense, 10 epochs, width 24'."""
    epochs = [f"{config.recipe.epochs} epochs"] if name == LONGER else []
    width = [f"width {config.size['width']}"] if "width" in config.size else []
    return ", ".join(["dense", *epochs, *width])
