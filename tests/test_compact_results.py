"""What the compact network reaches: the verdict, and six views."""

import pytest
from test_systems import record

from maestro.results.compact import (
    beside_dense,
    beside_table,
    near_dense,
    reaches,
    uncut,
    views_table,
)
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


def some_sizes(lost):
    """Dense runs, and two variants with tangent steps that lose ``lost`` points."""
    records = dense(91.0, 93.0, 92.0)
    for params, lambda_gl in ((400, 2e-3), (540, 1e-3)):
        for seed, accuracy in enumerate((91.0, 93.0, 92.0)):
            options = {"lambda_gl": lambda_gl, "sampler": "upper"}
            one = record("tangent", accuracy - lost[seed], params, seed=seed, **options)
            records |= dict([one])
    return records


def test_differences_to_dense_are_taken_seed_by_seed():
    records = some_sizes((0.4, 0.5, 0.6))
    table = beside_dense(records)
    assert list(table.params) == [0.54, 0.4] and list(table.n) == [3, 3]
    assert table.above[0].mean == pytest.approx(-0.5)
    assert table.above[0].low > -0.7  # the seeds' own deviation of a point is not in it
    [first, _] = beside_table(records).to_dict("index").values()
    assert first["points above dense"].startswith("-0.50 (95 % bounds -0.67 and")
    assert beside_table({}).empty and beside_dense({}).empty
    only = {k: r for k, r in records.items() if r["config"]["method"] == "tangent"}
    assert beside_dense(only).empty


@pytest.mark.parametrize(
    ("lost", "word"),
    [((0.4, 0.5, 0.6), HOLDS), ((2.0, 2.1, 2.2), FAILS), ((0.0, 1.0, 2.0), UNDECIDED)],
)
def test_the_largest_network_of_half_the_size_is_judged(lost, word):
    [verdict] = near_dense(some_sizes(lost))
    assert verdict.word == word and verdict.margin == 1
    assert "0.54 of the parameters" in verdict.sentence  # half, and less than 10 % more
    if word == HOLDS:  # each look has its part of the level
        assert "97.5 % bounds" in verdict.sentence
    assert near_dense(some_sizes(lost), share=0.3) == [] and near_dense({}) == []


def test_networks_of_full_size_are_told_from_those_that_were_cut():
    narrow = record("dense", 90.0, 100, size={"width": 8})
    whole = record("tangent", 91.0, 1000, lambda_gl=0.0, sampler="none")
    once = record("tangent_cut", 90.0, 500, target=0.5)
    records = some_sizes((0.0, 0.0, 0.0)) | dict([narrow, whole, once])
    assert uncut(records).keys() == dense(91.0, 93.0, 92.0).keys() | {whole[0]}
    assert uncut({}) == {}
