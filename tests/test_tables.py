"""The tables say what the records and the paper say, to the last digit."""

import math
import statistics

import pytest

from maestro import methods, tables
from maestro.config import Recipe, RunConfig
from maestro.models import LeNet
from maestro.tables import NOT_RUN

RECIPE = Recipe(epochs=2, batch_size=64, lr=0.01)
DENSE = {"params": 10_000, "macs": 50_000}


def made_up(lambda_gl=None, seed=0, accuracy=99.0, params=(8000, 6000), scale="paper"):
    """A record of two epochs; the dense network's if lambda_gl is None."""
    method, options = "maestro", {"lambda_gl": lambda_gl}
    if lambda_gl is None:
        method, options = "dense", {}
    config = RunConfig("mnist", "lenet", method, RECIPE, options, seed, scale)
    history = {
        "train_loss": [0.2, 0.1],
        "test_accuracy": [accuracy + 0.5, accuracy],
        "params": list(params),
        "macs": [4 * p for p in params],
        "train_params": [15_000, 9_000],
        "train_macs": [60_000.0, 45_000.0],
        "seconds": [2.0, 3.0],
    }
    final = {name: column[-1] for name, column in history.items()}
    del final["seconds"]
    return {
        "id": config.id,
        "config": config.to_dict(),
        "status": "finished",
        "dense": DENSE,
        "history": history,
        "ranks": [[0, {"fc1": 9, "fc2": 5}], [2, {"fc1": 7, "fc2": 5}]],
        "final": final,
        "best": {"test_accuracy": accuracy + 0.5},
        "studies": {},
    }


def by_id(*records):
    return {record["id"]: record for record in records}


THREE = by_id(
    made_up(seed=0, accuracy=99.0, params=(10_000, 10_000)),
    made_up(8e-5, seed=0, accuracy=98.0, params=(8000, 6000)),
    made_up(8e-5, seed=1, accuracy=98.6, params=(8000, 6300)),
)


def test_a_row_for_each_run(digits_config):
    runs = tables.per_run(THREE)
    assert list(runs.seed) == [0, 0, 1]
    assert list(runs.method) == ["dense", "maestro", "maestro"]
    assert math.isnan(runs.lambda_gl[0]) and runs.lambda_gl[1] == 8e-5
    assert list(runs.test_accuracy) == [99.0, 98.0, 98.6]  # the last epoch's
    assert list(runs.best_accuracy) == [99.5, 98.5, 99.1]
    assert set(runs.train_params_ratio) == {(15_000 + 9_000) / 2 / 10_000}
    assert set(runs.train_macs_ratio) == {(60_000 + 45_000) / 2 / 50_000}
    assert set(runs.seconds) == {5.0}


def test_means_and_deviations_are_over_seeds():
    table = tables.summary(THREE).set_index("method")
    ours = table.loc["maestro"]
    assert ours.n == 2 and ours.lambda_gl == 8e-5
    assert ours.test_accuracy == pytest.approx(98.3)
    assert ours.test_accuracy_std == pytest.approx(statistics.stdev([98.0, 98.6]))
    assert ours.params == 6150 and ours.params_std == pytest.approx(300 / 2**0.5)
    assert ours.macs == 4 * 6150
    assert table.loc["dense"].n == 1 and math.isnan(table.loc["dense"].params_std)
    assert ours.dense_params == 10_000 and ours.dense_macs == 50_000


def test_no_records_make_an_empty_table():
    assert tables.per_run({}).empty and tables.summary({}).empty


def test_scales_are_never_mixed():
    mixed = THREE | by_id(made_up(8e-5, seed=2, scale="2 epochs"))
    with pytest.raises(ValueError, match=r"never mixed: \['2 epochs', 'paper'\]"):
        tables.summary(mixed)


def test_training_costs_at_full_rank_are_the_papers(few_digits):
    """Table 11, lambda = 0: 1.14 (its own bookkeeping; 1.134) and 1.49 times dense."""
    method = methods.make(RunConfig("mnist", "lenet", "maestro", RECIPE))
    model = method.prepare(LeNet(), few_digits.example, None)
    params, macs = method.training_cost(method.ranks(model))
    record = made_up(0.0) | {"dense": {"params": 44_426, "macs": 281_640}}
    record["history"] |= {"train_params": [params] * 2, "train_macs": [macs] * 2}
    row = tables.per_run(by_id(record)).iloc[0]
    assert row.train_params_ratio == pytest.approx(66_274 / 44_426)
    assert row.train_macs_ratio == pytest.approx(1.1340, abs=5e-5)


# ---------------------------------------------------------------- beside the paper


def row_of(records, number, lambda_gl=None):
    """A row of `footprint_table` of a table of the paper: (ours, the paper's) cells."""
    paper = tables.paper_table(number)
    wanted = [] if lambda_gl is None else [lambda_gl]
    row = tables.footprint_table(records, paper, wanted).iloc[-1]
    return [list(row.xs(side, level=1)) for side in ("here", "paper")]


def test_ours_stand_beside_the_papers():
    ours, paper = row_of(THREE, 11)
    assert ours == [1, "99.00", "40,000 (0.80×)", "10,000 (1.00×)", "1.05× / 1.20×"]
    assert paper[0] == "98.99 ± 0.09" and paper[3] == "1.00× / 1.00×"
    ours, paper = row_of(THREE, 11, 8e-5)
    assert ours == [
        2,
        "98.30 ± 0.42",
        "24,600 ± 849 (0.49×)",
        "6,150 ± 212 (0.61×)",
        "1.05× / 1.20×",
    ]
    assert paper == [
        "98.91 ± 0.09",
        "268,577 ± 389 (0.95×)",
        "31,363 ± 0 (0.71×)",
        "1.08× / 1.14×",
    ]


@pytest.mark.parametrize("records", [THREE, {}])
def test_what_has_no_record_says_so_and_never_shows_the_papers_number(records):
    ours, paper = row_of(records, 11, 64e-5)
    assert ours == [0] + [NOT_RUN] * 4
    assert paper[0] == "98.20 ± 0.49"


def test_what_the_paper_has_not_says_so():
    ours, paper = row_of(by_id(made_up(3e-3)), 11, 3e-3)
    assert ours[1] == "99.00"
    assert paper == ["not in the paper"] * 4


def test_the_papers_millions_are_shown_as_printed():
    _, paper = row_of({}, 12, 4e-6)
    assert paper[1:3] == ["0.55 ± 0.0047 (1.00×)", "11.1 ± 0.03 (0.99×)"]


def test_each_variant_of_the_paper_has_a_name_of_its_own():
    names = tables.paper_table(11).lambda_gl.map(tables.variant_name)
    assert names[0] == "dense" and names.nunique() == 8
    assert names[3] == "λ = 16e-5" and names[1] == "λ = 0"


# ---------------------------------------------------------------- the paper's numbers

PRINTED = {
    # table: rows, {(row, column): value}
    11: (
        8,
        {
            (0, "macs"): 281_640,
            (1, "accuracy"): 99.06,
            (1, "train_params_ratio"): 1.49,
            (2, "params"): 31_363,
            (3, "params"): 44_426,  # the misprint
            (3, "params_std"): 217,
            (4, "accuracy_std"): 0.39,
            (5, "macs_std"): 19_098,
            (7, "train_macs_ratio"): 0.39,
        },
    ),
    12: (
        11,
        {
            (0, "params"): 11.2,
            (4, "accuracy"): 94.19,
            (4, "params_std"): 0.020,
            (7, "macs"): 0.094,
            (10, "train_params_ratio"): 0.03,
        },
    ),
    13: (
        10,
        {
            (0, "params"): 20,
            (2, "accuracy"): 93.33,
            (5, "macs_std"): 0.0009,
            (9, "accuracy"): 88.53,
        },
    ),
    14: (
        6,
        {
            (0, "perplexity"): 9.85,
            (3, "lambda_gl"): 1.28,
            (5, "macs_ratio"): 0.9,  # the misprint
            (5, "params"): 9.3,
        },
    ),
    15: (
        9,
        {
            (0, "params"): 25.56,
            (1, "accuracy"): 76.04,
            (4, "train_macs_ratio"): 1.22,
            (8, "params_ratio"): 0.28,
        },
    ),
}


@pytest.mark.parametrize("number", PRINTED)
def test_the_papers_tables_are_as_printed(number):
    rows, cells = PRINTED[number]
    table = tables.paper_table(number)
    assert len(table) == rows
    for (row, column), value in cells.items():
        assert table.loc[row, column] == value, (row, column)
    lambdas = table.lambda_gl[table.variant == "maestro"]
    assert lambdas.notna().all() and table.lambda_gl.isna().sum() == 1


def test_the_misprinted_parameters_follow_from_the_macs():
    implied = tables.params_from_macs(tables.paper_table(11))
    assert implied[0] == 44_426 and implied[2] == 31_363
    assert implied[3] == 18_155
    assert math.isnan(implied[4])  # by then convolutions lost ranks too
    meant = tables.params_meant(tables.paper_table(11))
    assert meant[3] == 18_155 and meant[2] == 31_363 and meant[7] == 5_293
    assert meant[4] == pytest.approx(0.26 * 44_426)


# ---------------------------------------------------------------- ranks


def test_nested_counts_the_layers_that_got_more_rank():
    small, large = {"a": 5, "b": 4}, {"a": 3, "b": 6}
    assert tables.nested([small, large]) == (1, 2)
    assert tables.nested([small, large, {"a": 4, "b": 0}]) == (2, 4)
    assert tables.nested([{"a": 5}, {"a": 5}, {"a": 0}]) == (0, 2)
    assert tables.nested([small]) == (0, 0)


def test_ranks_are_told_epoch_by_epoch():
    record = made_up(8e-5)
    assert tables.final_ranks(record) == {"fc1": 7, "fc2": 5}
    assert tables.rank_history(record) == [14, 14, 12]
    assert tables.rank_history(record | {"ranks": [[0, {}]]}) == [0, 0, 0]
