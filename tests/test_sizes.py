"""Points of cuts by source and search, and the verdict on a cut without loss."""

import pandas as pd
import pytest
from test_tables import by_id, made_up

from maestro.results import sizes
from maestro.results.cells import NOT_RUN
from maestro.results.confidence import FAILS, HOLDS, UNDECIDED

PARAMETERS = {"search": "loss", "unit": "params", "share": 1 / 3, "lazy": False}


def cut(lambda_gl, source, points, uncut=99.0, search="loss"):
    """{id: record}, one run a seed, its network cut to a third with these points."""
    records = []
    for seed, lost in enumerate(points):
        record = made_up(lambda_gl, seed, uncut, (44_426, 44_426))
        point = {
            "parameters": PARAMETERS | {"source": source, "search": search},
            "test_accuracy": uncut + lost,
            "params": 14_800,
            "macs": 200_000,
            "commit": "-",
            "date": "-",
        }
        records.append(record | {"studies": {"cuts": {f"{source}, {search}": point}}})
    return by_id(*records)


def test_points_are_compared_with_the_same_network_uncut():
    rows = sizes.frame(cut(0.0, "LoD", (-0.1, -0.2, -0.3)))
    assert list(rows.points) == pytest.approx([-0.1, -0.2, -0.3])
    line = sizes.curve(rows, "LoD", "loss", "params")
    assert line.accuracy.iloc[0] == pytest.approx(98.8) and line.n.iloc[0] == 3
    assert line["std"].iloc[0] == pytest.approx(0.1)
    table = sizes.table(rows, "params", [1 / 3])
    assert list(table.iloc[0]) == ["98.80 ± 0.10", 3]


def test_points_that_came_later_stand_with_their_source():
    lod = sizes.frame(cut(0.0, "LoD", (-0.1, -0.2)))
    rows = pd.concat([lod, lod.assign(source="SVD"), lod.assign(search="energy")])
    table = sizes.table(rows, "params", [1 / 3])
    assert list(table.index) == [("LoD", "loss"), ("LoD", "energy"), ("SVD", "loss")]


@pytest.mark.parametrize(
    ("points", "word"),
    [
        ((-0.10, -0.12, -0.11), HOLDS),
        ((-3.0, -3.1, -2.9), FAILS),
        ((-0.1, -1.5, 0.3), UNDECIDED),
        ((-0.1,), UNDECIDED),
    ],
)
def test_without_loss_is_judged_by_the_papers_margin(points, word):
    rows = sizes.frame(cut(0.0, "LoD", points))
    lod, by_data, svd, _ = sizes.without_loss(rows)
    assert lod.word == word and lod.n == len(points) and lod.margin == 0.5
    assert svd.word == by_data.word == NOT_RUN
    assert lod.claim.startswith("3 times smaller without loss, columns by LoD")
    better = rows.assign(source="LoD, data-aware", points=0.0)
    lod, by_data, *_ = sizes.without_loss(pd.concat([rows, better]))
    assert lod.word == word  # columns in another order do not count for LoD's own
    assert by_data.word == (HOLDS if len(points) > 1 else UNDECIDED)


def test_the_search_without_data_is_judged_alone():
    rows = sizes.frame(cut(0.0, "SVD", (-0.1, -0.12, -0.11), search="share of energy"))
    verdict = sizes.without_data(rows)
    assert verdict.word == HOLDS and verdict.n == 3
    other = sizes.frame(cut(0.0, "LoD", (-0.1, -0.12), search="share of energy"))
    assert sizes.without_data(other).word == NOT_RUN


def test_without_points_nothing_is_judged():
    rows = sizes.frame({})
    assert sizes.table(rows, "params", []) == NOT_RUN
    assert sizes.curve(rows, "LoD", "loss").empty
    judged = [*sizes.without_loss(rows), sizes.without_data(rows)]
    assert all(one.word == NOT_RUN for one in judged)
    assert sizes.sizes_table(sizes.asked_for({}), None) == NOT_RUN
    assert not any(len(x) for _, x, *_ in sizes.series(rows, "loss"))


def test_sizes_asked_for_and_got():
    records = {}
    for seed, params in enumerate((22_000, 22_200)):
        record = made_up(0.0, seed, 98.0 + seed, (44_426, params))
        record["config"]["options"]["target"] = 0.5
        record["dense"] = {"params": 44_426, "macs": 281_640}
        records[str(seed)] = record
    grid = pd.DataFrame({"params": [44_200, 11_050], "test_accuracy": [99.0, 98.0]})
    table = sizes.sizes_table(sizes.asked_for(records), grid)
    [row] = table.to_dict("records")
    assert row["grid of λ (%)"] == "98.50"  # half of the way in the logarithm
    short = sizes.sizes_table(sizes.asked_for(records), grid[:1])
    assert list(short["grid of λ (%)"]) == ["–"]
    assert row["runs"] == 2 and row["parameters at the end"] == "22,100"
    assert row["furthest off"] == "-1.0%" and row["accuracy (%)"] == "98.50 ± 0.71"
