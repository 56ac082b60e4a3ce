"""The tables say what the records and the paper say, to the last digit."""

import pytest

from maestro import methods
from maestro.config import Recipe, RunConfig
from maestro.models import LeNet
from maestro.results import records, tables, variants
from maestro.results.published import paper_table
from maestro.results.tables import NOT_RUN

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
        "evaluation_seconds": [0.5, 0.5],
    }
    final = {
        name: column[-1]
        for name, column in history.items()
        if name not in records.MEASURED
    }
    return {
        "id": config.id,
        "config": config.to_dict(),
        "status": "finished",
        "dense": DENSE,
        "history": history,
        "ranks": [[0, {"fc1": 9, "fc2": 5}], [2, {"fc1": 7, "fc2": 5}]],
        "final": final,
        "best": {"test_accuracy": accuracy + 0.5},
        "ran_on": {"device": "CPU", "threads": 1, "precision": "float32"},
        "studies": {},
    }


def by_id(*records):
    return {record["id"]: record for record in records}


THREE = by_id(
    made_up(seed=0, accuracy=99.0, params=(10_000, 10_000)),
    made_up(8e-5, seed=0, accuracy=98.0, params=(8000, 6000)),
    made_up(8e-5, seed=1, accuracy=98.6, params=(8000, 6300)),
)


def test_energy_is_in_the_table_of_costs_where_it_was_reported_and_seconds_never():
    dense, ours = made_up(), made_up(8e-5)
    table = tables.cost_table(by_id(dense, ours))
    assert list(table) == ["MACs of a step, ratio to dense", "on"]
    dense["history"]["joules"] = [900.0, 1100.0]
    ours["history"]["joules"] = [250.0, 250.0]
    table = tables.cost_table(by_id(dense, ours))
    assert list(table["energy (J)"]) == ["2,000", "500"]
    assert list(table["energy, ratio to dense"]) == ["1.00×", "0.25×"]
    assert not any("second" in name for name in table)


def test_training_costs_at_full_rank_are_the_papers(few_digits):
    """Table 11, lambda = 0: 1.14 (its own bookkeeping; 1.134) and 1.49 times dense."""
    config = methods.resolve(RunConfig("mnist", "lenet", "maestro", RECIPE))
    method = methods.make(config)
    model = method.prepare(LeNet(), few_digits.example, None)
    params, macs = method.training_cost(model)
    record = made_up(0.0) | {"dense": {"params": 44_426, "macs": 281_640}}
    record["history"] |= {"train_params": [params] * 2, "train_macs": [macs] * 2}
    row = variants.per_run(by_id(record)).iloc[0]
    assert row.train_params_ratio == pytest.approx(66_274 / 44_426)
    assert row.train_macs_ratio == pytest.approx(1.1340, abs=5e-5)


# ---------------------------------------------------------------- beside the paper


def row_of(records, number, lambda_gl=None):
    """A row of `footprint_table` of a table of the paper: (ours, the paper's) cells."""
    paper = paper_table(number)
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


def translating(record, perplexity):
    """``record`` of a network that translates."""
    history = record["history"] | {"perplexity": [2 * perplexity, perplexity]}
    return record | {
        "history": history,
        "final": record["final"] | {"perplexity": perplexity},
    }


TWO = by_id(
    translating(made_up(), 9.5), translating(made_up(2.56, params=(8000, 2000)), 7.0)
)


def test_perplexity_is_a_column_where_it_is_asked_for():
    table = tables.footprint_table(
        TWO, paper_table(14), [2.56], ["perplexity", "accuracy (%)"]
    )
    row = table.loc["λ = 2.56"]
    assert row["perplexity", "here"] == "7.00"
    assert row["perplexity", "paper"] == "6.90 ± 0.07"
    assert row["accuracy (%)", "here"] == "99.00"
    assert row["parameters", "paper"] == "13.8 ± 0.113 (0.26×)"


def test_another_network_stands_alone():
    table = tables.footprint_table(THREE, None, [8e-5])
    assert {where for _, where in table.columns} == {"here"}
    assert table.loc["λ = 8e-5", ("accuracy (%)", "here")] == "98.30 ± 0.42"


def test_a_section_has_its_own_rows_and_the_dense_one():
    part = "Not decomposing first four blocks and last layer"
    partial = paper_table(15, part)
    assert list(partial.lambda_gl[1:]) == [2e-6, 4e-6, 8e-6]
    full = paper_table(15, "Decomposing all layers")
    assert full.lambda_gl.isna().sum() == 1 and len(full) == 6
    table = tables.footprint_table({}, partial, [4e-6, 1e-6])
    assert table.loc["λ = 4e-6", ("accuracy (%)", "paper")] == "75.74"
    assert table.loc["λ = 1e-6", ("accuracy (%)", "paper")] == "not in the paper"
    with pytest.raises(ValueError, match="section='nosuch'; it is one of"):
        paper_table(15, "nosuch")


def test_baselines_that_have_not_been_run_say_so():
    table = tables.baselines_table(TWO, paper_table(3), "perplexity")
    assert list(table.index) == ["dense", "Pufferfish", "Maestro, λ = 2.56"]
    here = table.xs("here", axis=1, level=1)
    assert list(here.loc["Pufferfish"]) == [0, NOT_RUN, NOT_RUN, NOT_RUN]
    assert here.loc["dense", "perplexity"] == "9.50"
    assert here.loc["Maestro, λ = 2.56", "parameters"] == "2,000 (0.20×)"
    printed = table.xs("paper", axis=1, level=1)
    assert list(printed.loc["Pufferfish"]) == ["7.34 ± 0.12", "0.996", "26.7"]


def test_compression_of_each_set():
    sets = {"one": by_id(translating(made_up(2.56), 7.0)), "none": {}}
    table = tables.compression_table(sets)
    assert list(table.loc["one"]) == [1, "14", "12", "6,000 (0.60×)", "7.00"]
    assert list(table.loc["none"]) == [0, NOT_RUN, NOT_RUN, NOT_RUN, NOT_RUN]


def test_a_perplexity_without_bounds_is_short():
    table = tables.compression_table({"a": by_id(translating(made_up(2.56), 1e300))})
    assert table.loc["a", "perplexity"] == "1.00e+300"


def test_sets_of_runs_side_by_side():
    table = tables.side_by_side({"one": THREE, "none": {}}, [8e-5, 16e-5])
    assert list(table.index) == ["λ = 8e-5", "λ = 16e-5"]
    assert list(table.one) == ["6,150 at 98.30 %", NOT_RUN]
    assert list(table["none"]) == 2 * [NOT_RUN]


def in_bfloat16(record):
    return record | {"ran_on": record["ran_on"] | {"precision": "bfloat16"}}


def test_runs_of_several_precisions_are_never_mixed_silently():
    """A table shows the precision of its rows where the runs differ in it."""
    reduced = in_bfloat16(made_up(8e-5))
    mixed, column = by_id(made_up(), reduced), ("precision", "here")
    paper = paper_table(11)
    table = tables.footprint_table(mixed, paper, [8e-5, 16e-5])
    assert list(table[column]) == ["float32", "bfloat16", NOT_RUN]
    assert column not in tables.footprint_table(by_id(made_up()), paper, [8e-5])
    assert "precision, here |" in tables.headline(mixed, paper, [8e-5])
    costs = tables.cost_table(mixed)
    assert list(costs.precision) == ["float32", "bfloat16"]
    sets = {"a": by_id(reduced), "b": by_id(made_up(8e-5))}
    beside = tables.side_by_side(sets, [8e-5]).loc["λ = 8e-5"]
    assert list(beside) == [
        "6,000 at 99.00 %, bfloat16",
        "6,000 at 99.00 %, float32",
    ]


def test_a_row_of_several_precisions_names_them():
    one = by_id(translating(made_up(2.56), 7.0))
    several = one | by_id(in_bfloat16(translating(made_up(2.56, seed=1), 7.0)))
    table = tables.compression_table({"one": one, "several": several, "none": {}})
    assert list(table.precision) == ["float32", "bfloat16 and float32", NOT_RUN]
    table = tables.footprint_table(several, None, [2.56])
    assert list(table["precision", "here"]) == [NOT_RUN, "bfloat16 and float32"]


def test_quality_and_costs_are_two_tables_with_every_column():
    paper = paper_table(11)
    both = tables.footprint_table(THREE, paper, [8e-5])
    quality = tables.quality_table(THREE, paper, [8e-5])
    costs = tables.training_table(THREE, paper, [8e-5])
    apart = ("accuracy (%)", "difference")
    assert set(quality) | set(costs) == set(both) | {apart}
    assert set(quality) & set(costs) == set()
    assert len(quality.columns) <= 6 and len(costs.columns) <= 4


def test_a_difference_is_within_twice_the_deviation_of_two_runs():
    paper = paper_table(11)
    mean, spread = 98.91, 0.09  # of the paper at 8e-5
    for lift, word in ((0.05, "within"), (3.0, "outside")):
        runs = by_id(
            *(
                made_up(8e-5, seed, mean + lift + d)
                for seed, d in enumerate((-0.1, 0, 0.1))
            )
        )
        cell = tables.quality_table(runs, paper, [8e-5]).iloc[-1]
        said = cell["accuracy (%)", "difference"]
        assert said == f"{lift:+.2f}, {word}", spread
    one = tables.quality_table(by_id(made_up(8e-5)), paper, [8e-5]).iloc[-1]
    assert one["accuracy (%)", "difference"].endswith(", one run")
    none = tables.quality_table({}, paper, [8e-5]).iloc[-1]
    assert none["accuracy (%)", "difference"] == NOT_RUN
