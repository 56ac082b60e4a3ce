"""What the compact network reaches: the verdict, and six views."""

import pytest
from test_systems import record

from maestro.results.compact import reaches, views_table
from maestro.results.confidence import FAILS, HOLDS, UNDECIDED


def dense(*accuracies):
    return dict(
        record("dense", a, 1000, seed=seed) for seed, a in enumerate(accuracies)
    )


@pytest.mark.parametrize(
    ("accuracies", "word"),
    [
        ((92.0, 91.9, 92.1), HOLDS),
        ((91.0, 90.9, 91.1), FAILS),
        ((90.0, 91.6, 93.0), UNDECIDED),
        ((95.0,), UNDECIDED),
    ],
)
def test_a_mean_reaches_a_number_by_its_lower_bound(accuracies, word):
    verdict = reaches(dense(*accuracies), 91.5)
    assert verdict.word == word and verdict.n == len(accuracies)


def test_other_methods_do_not_count():
    records = dense(92.0, 91.9, 92.1) | dict(
        [record("maestro", 10.0, 400, lambda_gl=1e-3)]
    )
    assert reaches(records, 91.5).word == HOLDS
    assert str(reaches({}, 91.5)) == "The dense network reaches 91.5 %: not run yet"


def test_six_views_are_those_of_the_study():
    records = dense(91.0, 92.0)
    first, second = records.values()
    first["studies"] = {"views": {"six": {"test_accuracy": 93.0}}}
    second["studies"] = {}
    table = views_table(records)
    assert table.to_dict("index") == {
        "dense, seed 0": {"one view (%)": "91.00", "six views (%)": "93.00"}
    }
    assert views_table({}).empty
