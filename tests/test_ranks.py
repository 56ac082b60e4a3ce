"""Ranks that come back are counted layer by layer, and missing runs say so."""

from test_tables import made_up

from maestro.results import ranks, records
from maestro.results.cells import NOT_RUN


def run(history, seed=0, accuracy=99.0):
    record = made_up(64e-5, seed, accuracy)
    record["maps"] = {"fc1": [9, 9, 1], "fc2": [9, 9, 1]}
    record["ranks"] = [[epoch, layers] for epoch, layers in enumerate(history)]
    return record


FALLS = [{"fc1": 9, "fc2": 9}, {"fc1": 5, "fc2": 8}, {"fc1": 4, "fc2": 8}]
# the total falls all the same
RETURNS = [{"fc1": 9, "fc2": 9}, {"fc1": 1, "fc2": 8}, {"fc1": 2, "fc2": 4}]


def test_a_rank_that_returns_is_seen_although_the_total_falls():
    assert ranks.came_back(run(FALLS)) == 0
    assert ranks.came_back(run(RETURNS)) == 1


def test_masked_and_cut_runs_have_a_row_each():
    masked = [run(RETURNS), run(FALLS, seed=1, accuracy=98.0)]
    table = ranks.masked_table({"batch 64": (masked, [run(FALLS)]), "other": ([], [])})
    assert dict(table.loc[("batch 64", "masked")]) == {
        "runs": 2,
        "ranks back": "1, 0",
        "total rank": "6, 12",
        "parameters": "6,000 ± 0",
        "accuracy (%)": "98.50 ± 0.71",
    }
    assert table.loc[("batch 64", "removed"), "parameters"] == "6,000"
    assert set(table.loc["other"]["accuracy (%)"]) == {NOT_RUN}
    assert set(table.loc["other"]["runs"]) == {0}


def test_nested_counts_the_layers_that_got_more_rank():
    small, large = {"a": 5, "b": 4}, {"a": 3, "b": 6}
    assert ranks.nested([small, large]) == (1, 2)
    assert ranks.nested([small, large, {"a": 4, "b": 0}]) == (2, 4)
    assert ranks.nested([{"a": 5}, {"a": 5}, {"a": 0}]) == (0, 2)
    assert ranks.nested([small]) == (0, 0)


def test_layers_of_a_kind_are_averaged():
    layers = {"encoder.0.attention.q": 4, "encoder.1.attention.q": 7, "output": 3}
    layers |= {"layer1.0.conv1": 1, "layer1.12.conv1": 2, "layer2.0.conv1": 5}
    assert ranks.by_kind(layers) == {
        "encoder.attention.q": 5.5,
        "output": 3,
        "layer1.conv1": 1.5,
        "layer2.conv1": 5,
    }


def test_the_rank_of_each_epoch():
    record = made_up(8e-5)
    assert records.final_ranks(record) == {"fc1": 7, "fc2": 5}
    assert ranks.rank_history(record) == [14, 14, 12]
    assert ranks.rank_history(record | {"ranks": [[0, {}]]}) == [0, 0, 0]
