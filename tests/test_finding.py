"""Searches on recorded courses, and the tables of them."""

import pytest

from maestro.deploy.tune import find_lambda, recorded
from maestro.publish import finding
from maestro.results import claims
from maestro.results.cells import NOT_RUN
from maestro.results.confidence import HOLDS, UNDECIDED


def run(lambda_gl, sizes, accuracies):
    """As much of a record as a search reads."""
    history = {"test_accuracy": accuracies, "params": sizes, "macs": sizes}
    history["train_macs"] = [10.0] * len(sizes)
    return {"config": {"options": {"lambda_gl": lambda_gl}}, "history": history}


COURSES = {
    0: [
        run(4.0, [50, 20], [50, 60]),
        run(2.0, [60, 40], [60, 95]),
        run(1.0, [90, 80], [80, 99]),
    ]
}
GRID = {"largest": 4.0, "smallest": 0.5}


def test_costs_are_in_trainings_at_the_answer():
    [one] = finding.searches(COURSES, [(90, 50)], **GRID)
    assert one.search == find_lambda(
        recorded(COURSES[0]), accuracy=90, params=50, **GRID
    )
    assert one.search.met and one.search.answer.lambda_gl == 2.0
    assert one.trainings == 2.0  # four epochs, of two that a training has


def test_the_searches_of_a_seed_count_once():
    asked = finding.searches(COURSES | {1: COURSES[0]}, [(90, 50), (99.9, 50)], **GRID)
    costs = finding.costs(asked)
    assert list(costs) == [0, 1] and costs[0] == costs[1] == [2.0, asked[2].trainings]
    verdict = claims.cost_of_a_search({0: [1.0, 2.0], 1: [2.0, 2.0], 2: [1.0, 2.0]})
    assert verdict.word == HOLDS and verdict.n == 3 and "in 6 searches" in str(verdict)
    assert claims.cost_of_a_search({0: [1.0, 2.0]}).word == UNDECIDED
    assert claims.cost_of_a_search({}).word == NOT_RUN


def test_few_params_are_a_share_of_the_constraint():
    [one] = finding.searches(COURSES, [(90, 100)], few=0.6, **GRID)
    assert one.search.trials[0].end == "too sparse" and one.search.trials[0].epochs == 1


def test_tables_have_a_row_for_each_pair_of_constraints():
    asked = finding.searches(COURSES, [(90, 50), (99.9, 50)], **GRID)
    table = finding.table(asked)
    assert list(table.met) == ["1 of 1", "0 of 1"]
    assert table.parameters.iloc[0] == "40" and table.parameters.iloc[1] == "–"
    ways = finding.ways_table({"as it is": asked, "none": []})
    assert list(ways.index) == ["as it is"] and ways.met.iloc[0] == "1 of 2"
    assert finding.table([]) == NOT_RUN == finding.optuna_table([], [])


def test_optuna_is_asked_the_same_for_the_same_cost():
    pytest.importorskip("optuna")
    asked = finding.searches(COURSES, [(90, 50)], **GRID)
    [other] = finding.beside_optuna(COURSES, asked)
    assert (other.accuracy, other.size) == (90, 50)
    assert other.search.cost >= asked[0].search.cost
    assert other.search.cost - other.search.trials[-1].cost < asked[0].search.cost
    table = finding.optuna_table(asked, [other])
    assert list(table.index) == ["Algorithm 2", "Optuna, TPE"]


def test_the_run_of_the_live_cell_can_be_made():
    assert finding.digits_run(3).recipe.epochs == 3
