"""Table 5: which run is which row, its costs, and the verdicts of Sec. 5.4."""

import pytest
from test_systems import record

from maestro.campaign import baselines
from maestro.results import ablation
from maestro.results.coverage import coverage
from maestro.results.records import config_of

LASSO = {"lambda_gl": 1e-3}


def some_records(whole=(90.0, 90.1, 89.9), unshrunken=(90.0, 90.1, 89.9)):
    rows = []
    for seed, (one, other) in enumerate(zip(whole, unshrunken, strict=True)):
        rows += [
            record("maestro", one, 400, seed=seed, **LASSO),
            record("maestro", 90.2, 1200, seed=seed, lambda_gl=0.0),
            record("unshrunken", other, 410, seed=seed, **LASSO),
            record("full_pass", 90.1 + seed / 10, 410, seed=seed, **LASSO),
        ]
    records = dict(rows)
    for some in records.values():
        cost = {"maestro": 500, "unshrunken": 700, "full_pass": 1500}
        config = config_of(some)
        macs = cost[config.method] if config.options["lambda_gl"] else 800
        some["history"]["train_macs"] = [macs, macs]
    return records


def test_each_run_belongs_to_its_row():
    records = some_records()
    counts = {name: len(some) for name, some in ablation.by_row(records).items()}
    assert list(counts.values()) == [3, 3, 3, 3, 0]
    table = ablation.ablation(records)
    assert table.cost.to_dict() == pytest.approx(
        {
            "Maestro": 1,
            "without the lasso": 1.6,
            "without shrinking": 1.4,
            "with a full pass": 3.0,
        }
    )


def test_rows_without_a_run_say_so():
    table = ablation.ablation_table(some_records())
    row = table.loc["with a full pass, distilled"]
    assert row["runs", "here"] == 0 and row["accuracy (%)", "here"] == "not run yet"
    assert row["MACs of training", "paper"] == "1.97×"
    assert row["parameters", "paper"] == "4,090,000"
    nothing = ablation.ablation_table({})
    assert (nothing["accuracy (%)", "here"] == "not run yet").all()
    assert [str(v) for v in ablation.verdicts({})][0].endswith("not run yet")


def test_the_verdicts_follow_the_runs():
    words = [v.word for v in ablation.verdicts(some_records())]
    assert words == ["holds", "holds", "holds", "holds", "not run yet"]
    worse = some_records(whole=(88.0, 88.1, 87.9))
    words = [v.word for v in ablation.verdicts(worse)]
    assert words[:3] == ["does not hold", "does not hold", "holds"]
    [first, *_] = ablation.verdicts(worse)
    assert first.paper == pytest.approx(94.19 - 94.04)


@pytest.mark.parametrize("scale", ["short", "paper"])
def test_the_rows_of_the_campaign_cover_table_5(scale):
    runs = baselines.ablation("resnet18", scale, (0,))
    recorded = {config.id: {"config": config.to_dict()} for config in runs}
    assert coverage(recorded)[scale]["Table 5"] == "4 of 4"
