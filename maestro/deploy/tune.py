"""Algorithm 2: a lambda_gl for constraints on accuracy and size, and Optuna beside it.

A search asks a function for the course of a training at some lambda_gl, epoch by epoch,
and stops asking when it has seen enough. So one search runs on live trainings
(`trainings`), on recorded ones (`recorded`), and on a loop of one's own.
"""

import warnings
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ..config import number

MEETS, SPARSE, TRAINED, LARGE = "meets", "too sparse", "trained", "too large"


class Epoch(NamedTuple):
    """A network after an epoch: its accuracy (%), its size as shipped, and the cost.

    train_macs: of a training example's forward pass in this epoch, on average.
    network: the network itself; None if nothing but figures is known.
    """

    accuracy: float
    params: int
    macs: int
    train_macs: float
    network: object = None


class Trial(NamedTuple):
    """A training at one lambda_gl: its last `Epoch`, how it ended, what it cost.

    epochs: how many were trained; cost: the sum of their ``train_macs``.
    """

    lambda_gl: float
    last: Epoch
    epochs: int
    cost: float
    end: str


@dataclass
class Search:
    """The trials of a search, in order, and which is its answer.

    answer: a `Trial`; None if no network was small enough. met: whether the answer
    meets all constraints.
    """

    trials: list = field(default_factory=list)
    answer: Trial | None = None
    met: bool = False

    @property
    def cost(self):
        """The cost of all trials."""
        return sum(trial.cost for trial in self.trials)


def find_lambda(
    train,
    *,
    accuracy,
    params=None,
    macs=None,
    largest,
    smallest,
    every=1,
    few_params=0,
):
    """Algorithm 2: lambda_gl is halved until a network meets the constraints.

    A training stops as soon as its network meets them, and when the network has fewer
    than ``few_params`` parameters. A finished training whose network is too large ends
    the search: the answer is then the one before, which was small enough.

    Args:
        train: a function of lambda_gl that yields an `Epoch` after each epoch.
        accuracy: the least accuracy, in per cent.
        params, macs: the most parameters and MACs; at least one of them.
        largest: the first lambda_gl.
        smallest: the search ends when lambda_gl falls to this or below.
        every: how many epochs apart the constraints are looked at.
        few_params: 0 for no such stop.

    Returns:
        `Search`.

    Raises:
        ValueError: an argument is wrong.
    """
    limits = _limits(accuracy, params, macs)
    if not 0 < number("smallest", smallest) < number("largest", largest):
        raise ValueError(
            f"smallest={smallest!r}, largest={largest!r}: it takes 0 < smallest < "
            "largest"
        )
    if type(every) is not int or every < 1:
        raise ValueError(f"every={every!r}: it takes an integer >= 1")
    search, lambda_gl = Search(), float(largest)
    while lambda_gl > smallest:
        trial = _try(train, lambda_gl, limits, every, number("few_params", few_params))
        search.trials.append(trial)
        if trial.end == LARGE:
            break
        search.answer, search.met = trial, trial.end == MEETS
        if search.met:
            break
        lambda_gl /= 2
    return search


def with_optuna(
    train, *, accuracy, params=None, macs=None, lambdas, cost, seed=0, sampler=None
):
    """The same question to Optuna 5 (TPE): the smallest network that is good enough.

    A trial is a whole training. Trials go on until they have cost as much as allowed.

    Args:
        train, accuracy, params, macs: as for `find_lambda`.
        lambdas: (smallest, largest), any number between them; or more values, to choose
            from these.
        cost: the sum of ``train_macs`` after which no trial begins.
        seed: of the sampler.
        sampler: an Optuna sampler in place of TPE.

    Returns:
        `Search`; its answer is the smallest network that meets all constraints, or
        the best that Optuna saw.

    Raises:
        ValueError: an argument is wrong.
        RuntimeError: Optuna is missing.
    """
    optuna = _optuna()
    limits, search = _limits(accuracy, params, macs), Search()
    unit = next(iter(limits))

    def objective(trial):
        lambda_gl = _suggested(trial, lambdas)
        tried = _try(train, lambda_gl, None, 1, 0)
        search.trials.append(tried)
        trial.set_constraint("accuracy", accuracy - tried.last.accuracy)
        for name, limit in limits.items():
            if name != "accuracy":
                trial.set_constraint(name, getattr(tried.last, name) / limit - 1)
        return getattr(tried.last, unit)

    sampler = sampler or optuna.samplers.TPESampler(seed=seed)
    study = optuna.create_study(direction="minimize", sampler=sampler)
    while search.cost < cost:
        study.optimize(objective, n_trials=1)
    good = [trial for trial in search.trials if _meets(trial.last, limits)]
    search.met = bool(good)
    if good:
        search.answer = min(good, key=lambda trial: getattr(trial.last, unit))
    else:
        search.answer = max(search.trials, key=lambda trial: trial.last.accuracy)
    return search


def trainings(config, device="cpu", task=None):
    """A ``train`` for `find_lambda`: ``config`` at any lambda_gl, on a device.

    config: a RunConfig of a method with the option lambda_gl. Nothing is recorded.
    """
    from ..training.loop import Training

    def train(lambda_gl):
        options = config.options | {"lambda_gl": lambda_gl}
        training = Training(replace(config, options=options), device, task)
        while not training.finished:
            training.run_epoch()
            line = training.history.lines[-1]
            figures = (line[name] for name in ("params", "macs", "train_macs"))
            yield Epoch(line["test_accuracy"], *figures, training.model)

    return train


def recorded(records):
    """A ``train`` for `find_lambda` that reads what recorded runs did.

    records: those of one variant but for lambda_gl, and one seed.
    """
    by_lambda = {r["config"]["options"]["lambda_gl"]: r for r in records}

    def train(lambda_gl):
        near = [x for x in by_lambda if abs(x - lambda_gl) <= 1e-9 * lambda_gl]
        if not near:
            raise ValueError(f"no run is recorded at lambda_gl={lambda_gl:g}")
        history = by_lambda[near[0]]["history"]
        names = ("test_accuracy", "params", "macs", "train_macs")
        for values in zip(*(history[name] for name in names), strict=True):
            yield Epoch(*values)

    return train


def _try(train, lambda_gl, limits, every, few_params):
    """The `Trial` at ``lambda_gl``; without limits, a whole training."""
    epochs = cost = 0
    for last in train(lambda_gl):
        epochs, cost = epochs + 1, cost + last.train_macs
        if limits is None or epochs % every:
            continue
        if _meets(last, limits):
            return Trial(lambda_gl, last, epochs, cost, MEETS)
        if last.params < few_params:
            return Trial(lambda_gl, last, epochs, cost, SPARSE)
    if limits is not None and _meets(last, limits):
        return Trial(lambda_gl, last, epochs, cost, MEETS)
    large = limits is not None and not _small_enough(last, limits)
    return Trial(lambda_gl, last, epochs, cost, LARGE if large else TRAINED)


def _limits(accuracy, params, macs):
    """{unit: limit}, sizes first, checked."""
    number("accuracy", accuracy)
    sizes = {"params": params, "macs": macs}
    sizes = {unit: number(unit, v) for unit, v in sizes.items() if v is not None}
    if not sizes:
        raise ValueError("no constraint on the size: give params, macs or both")
    return sizes | {"accuracy": accuracy}


def _meets(epoch, limits):
    return epoch.accuracy >= limits["accuracy"] and _small_enough(epoch, limits)


def _small_enough(epoch, limits):
    sizes = (unit for unit in limits if unit != "accuracy")
    return all(getattr(epoch, unit) <= limits[unit] for unit in sizes)


def _suggested(trial, lambdas):
    """The lambda_gl that Optuna wants tried next."""
    if len(lambdas) == 2:
        return trial.suggest_float("lambda_gl", *sorted(lambdas), log=True)
    ordered = sorted(lambdas)
    return ordered[trial.suggest_int("place", 0, len(ordered) - 1)]


def _optuna():
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a bar for notebooks, not used here
            import optuna
    except ModuleNotFoundError:
        raise RuntimeError("Optuna is missing: pip install optuna==5.0.0") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
