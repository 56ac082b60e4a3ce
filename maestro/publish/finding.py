"""The searches and tables of the chapter on finding lambda, from recorded courses."""

from typing import NamedTuple

import pandas as pd

from ..config import Recipe, RunConfig
from ..deploy.tune import Search, find_lambda, recorded, with_optuna
from ..methods import resolve
from ..results import variants
from ..results.cells import NOT_RUN, plus_minus, variant_name


class Asked(NamedTuple):
    """A search: its seed and constraints, and its cost in trainings at its answer.

    accuracy: wanted, in per cent; size: the most parameters.
    """

    seed: int
    accuracy: float
    size: int
    search: Search
    trainings: float


def courses(records, seeds, eps_ps=1e-5):
    """{seed: its recorded runs with a lasso at one threshold}; no seed without one."""
    some = variants.by_threshold(records).get(eps_ps, {})
    found = {
        seed: [
            run
            for value, run in variants.by_lambda(some, seed).items()
            if value and run["config"]["method"] == "maestro"
        ]
        for seed in seeds
    }
    return {seed: runs for seed, runs in found.items() if runs}


def searches(courses, wanted, few=0.0, **how):
    """Algorithm 2 for every seed and pair of constraints: [`Asked`, ...].

    Args:
        courses: of `courses`.
        wanted: [(accuracy, most parameters), ...].
        few: few_params as a share of the most parameters.
        how: further arguments of `find_lambda`.
    """
    return [
        _asked(
            runs,
            seed,
            accuracy,
            size,
            find_lambda(
                recorded(runs),
                accuracy=accuracy,
                params=size,
                few_params=few * size,
                **how,
            ),
        )
        for accuracy, size in wanted
        for seed, runs in courses.items()
    ]


def beside_optuna(courses, asked):
    """Optuna on the constraints of each of ``asked``, for the same cost: [`Asked`]."""
    found = []
    for one in asked:
        runs = courses[one.seed]
        values = [run["config"]["options"]["lambda_gl"] for run in runs]
        limits = {"accuracy": one.accuracy, "params": one.size}
        search = with_optuna(
            recorded(runs),
            lambdas=values,
            cost=one.search.cost,
            seed=one.seed,
            **limits,
        )
        found.append(_asked(runs, one.seed, one.accuracy, one.size, search))
    return found


def table(asked):
    """A row for each pair of constraints, over seeds; "not run yet" without any."""
    rows = {}
    for (accuracy, size), some in _by_constraints(asked).items():
        met = [one for one in some if one.search.met]
        rows[f"{accuracy:g} %, {size:,} parameters"] = {
            "met": f"{len(met)} of {len(some)}",
            "λ": _values({one.search.answer.lambda_gl for one in met}),
            "parameters": _mean([one.search.answer.last.params for one in met], ",.0f"),
            "trials": _mean([len(one.search.trials) for one in some], ".1f"),
            "trainings": _mean([one.trainings for one in some], ".2f"),
        }
    return _framed(rows)


def ways_table(ways):
    """A row for each way to search, over all constraints and seeds.

    ways: {name: [`Asked`, ...]}.
    """
    rows = {
        name: {
            "met": f"{sum(one.search.met for one in asked)} of {len(asked)}",
            "trainings": _mean([one.trainings for one in asked], ".2f"),
            "trials": _mean([len(one.search.trials) for one in asked], ".1f"),
        }
        for name, asked in ways.items()
        if asked
    }
    return _framed(rows)


def optuna_table(ours, theirs):
    """Algorithm 2 beside Optuna: met, cost and size, over all constraints and seeds."""
    both = [
        (a, b)
        for a, b in zip(ours, theirs, strict=True)
        if a.search.met and b.search.met
    ]
    rows = {}
    for place, (name, asked) in enumerate(
        {"Algorithm 2": ours, "Optuna, TPE": theirs}.items()
    ):
        if asked:
            sizes = [pair[place].search.answer.last.params for pair in both]
            rows[name] = {
                "met": f"{sum(one.search.met for one in asked)} of {len(asked)}",
                "trials": _mean([len(one.search.trials) for one in asked], ".1f"),
                "parameters where both met": _mean(sizes, ",.0f"),
            }
    return _framed(rows)


def digits_run(epochs=2):
    """The configuration of a LeNet that learns scikit-learn's digits in a moment."""
    options = {"lambda_gl": 1e-3, "eps_ps": 1e-1}
    recipe = Recipe(epochs=epochs, batch_size=128, lr=0.05)
    return resolve(RunConfig("digits", "lenet", "maestro", recipe, options))


def costs(searches):
    """{seed: the costs of its searches, met or not, in trainings}."""
    found = {}
    for one in searches:
        found.setdefault(one.seed, []).append(one.trainings)
    return found


def _asked(runs, seed, accuracy, size, search):
    """The search with its cost, divided by that of a training at its answer."""
    answer = search.answer or search.trials[-1]
    whole = sum(epoch.train_macs for epoch in recorded(runs)(answer.lambda_gl))
    return Asked(seed, accuracy, size, search, search.cost / whole)


def _by_constraints(asked):
    groups = {}
    for one in asked:
        groups.setdefault((one.accuracy, one.size), []).append(one)
    return groups


def _values(lambdas):
    return ", ".join(variant_name(v)[4:] for v in sorted(lambdas)) or "–"


def _mean(values, form):
    if not values:
        return "–"
    series = pd.Series(values, dtype=float)
    return plus_minus(series.mean(), series.std(), form)


def _framed(rows):
    return pd.DataFrame.from_dict(rows, orient="index") if rows else NOT_RUN
