"""Algorithm 2 line by line, on made-up courses, recorded runs and live trainings."""

import sys

import pytest

from maestro.deploy.tune import Epoch, find_lambda, recorded, trainings, with_optuna
from maestro.training.fit import fit


def course(sizes, accuracies, asked=None):
    """A ``train``: {lambda_gl: [params after each epoch]}, and as many accuracies."""

    def train(lambda_gl):
        if asked is not None:
            asked.append(lambda_gl)
        for params, accuracy in zip(
            sizes[lambda_gl], accuracies[lambda_gl], strict=True
        ):
            yield Epoch(accuracy, params, 10 * params, 2 * params)

    return train


SIZES = {8.0: [50, 20, 10], 4.0: [80, 50, 30], 2.0: [90, 70, 60], 1.0: [99, 98, 97]}
GOOD = {8.0: [50, 60, 70], 4.0: [60, 80, 91], 2.0: [70, 92, 95], 1.0: [80, 95, 99]}


def search(sizes=SIZES, good=GOOD, **arguments):
    given = {"accuracy": 90, "params": 65, "largest": 8.0, "smallest": 0.5}
    return find_lambda(course(sizes, good), **given | arguments)


def test_the_first_lambda_whose_network_meets_the_constraints_is_the_answer():
    found = search()
    assert found.met and found.answer.lambda_gl == 4.0
    assert [t.end for t in found.trials] == ["trained", "meets"]
    assert found.answer.last == Epoch(91, 30, 300, 60)
    assert found.cost == 2 * (50 + 20 + 10) + 2 * (80 + 50 + 30)


def test_a_training_stops_once_the_constraints_are_met():
    found = search(good=GOOD | {4.0: [60, 95, 91]})
    assert found.answer.epochs == 2 and found.answer.cost == 2 * (80 + 50)


def test_constraints_are_looked_at_every_few_epochs():
    found = search(good=GOOD | {4.0: [95, 80, 91]}, params=100, every=2)
    assert [t.lambda_gl for t in found.trials] == [8.0, 4.0]
    assert found.answer.epochs == 3  # and after the last one


def test_a_network_that_is_too_sparse_is_given_up():
    found = search(few_params=30)
    assert found.trials[0].end == "too sparse" and found.trials[0].epochs == 2


def test_too_large_a_network_ends_the_search_with_the_one_before():
    found = search(accuracy=99.5)
    assert not found.met and found.answer.lambda_gl == 2.0
    assert [t.end for t in found.trials] == ["trained"] * 3 + ["too large"]
    nothing = search(params=5)
    assert nothing.answer is None and not nothing.met and len(nothing.trials) == 1


def test_the_search_ends_at_the_smallest_lambda():
    found = search(accuracy=99.5, params=100, smallest=2.0)
    assert [t.lambda_gl for t in found.trials] == [8.0, 4.0]


def test_macs_are_a_constraint_too():
    found = search(params=None, macs=650)
    assert found.answer.lambda_gl == 4.0
    assert search(macs=5).answer is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"params": None}, "no constraint on the size"),
        ({"accuracy": "high"}, "accuracy='high'"),
        ({"largest": 0.1}, "0 < smallest < largest"),
        ({"every": 0}, "every=0: it takes an integer >= 1"),
        ({"few_params": -1}, "few_params=-1"),
    ],
)
def test_wrong_arguments_are_named(arguments, said):
    with pytest.raises(ValueError, match=said):
        search(**arguments)


def test_recorded_runs_are_the_live_trainings(
    one_thread, digits_config, few_digits, folders
):
    """The search on records takes the steps of the search that trains."""
    values = (8e-3, 4e-3, 2e-3)
    runs = [fit(digits_config(lambda_gl=v), task=few_digits) for v in values]
    limits = {"accuracy": 101, "params": 44_426, "largest": 8e-3, "smallest": 1.5e-3}
    replayed = find_lambda(recorded(runs), **limits)
    live = find_lambda(trainings(digits_config(), task=few_digits), **limits)
    plain = [t._replace(last=t.last._replace(network=None)) for t in live.trials]
    assert replayed.trials == plain and len(plain) > 1
    assert live.trials[0].last.network is not None
    with pytest.raises(ValueError, match="no run is recorded at lambda_gl=1"):
        next(recorded(runs)(1.0))


def test_optuna_finds_the_smallest_that_is_good_enough():
    pytest.importorskip("optuna")
    asked = []
    found = with_optuna(
        course(SIZES, GOOD, asked),
        accuracy=90,
        params=70,
        lambdas=list(SIZES),
        cost=4000,
    )
    assert found.met and found.answer.lambda_gl == 4.0
    before_last = found.cost - found.trials[-1].cost
    assert before_last < 4000 <= found.cost
    assert len(asked) == len(found.trials)


def test_optuna_takes_any_lambda_and_says_when_none_is_good_enough():
    pytest.importorskip("optuna")

    def train(lambda_gl):
        yield Epoch(50 - lambda_gl, 10, 100, 1)

    found = with_optuna(train, accuracy=90, params=70, lambdas=(1e-3, 10), cost=8)
    assert not found.met and len(found.trials) == 8
    assert all(1e-3 <= t.lambda_gl <= 10 for t in found.trials)
    best = max(found.trials, key=lambda t: t.last.accuracy)
    assert found.answer == best


def test_without_optuna_it_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(RuntimeError, match="pip install optuna==5.0.0"):
        with_optuna(course(SIZES, GOOD), accuracy=90, params=70, lambdas=(1, 8), cost=1)
