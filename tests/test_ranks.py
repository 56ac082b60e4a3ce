"""Ranks that come back are counted layer by layer, and missing runs say so."""

from test_tables import made_up

from maestro.results import ranks
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
    assert table.loc[("batch 64", "cut"), "parameters"] == "6,000"
    assert set(table.loc["other"]["accuracy (%)"]) == {NOT_RUN}
    assert set(table.loc["other"]["runs"]) == {0}
