"""What sampling costs: differences seed by seed, and the verdict on the claim."""

import pytest
from test_systems import record

from maestro import figures
from maestro.campaign.experiments import sampling_cifar10
from maestro.results.cells import NOT_RUN
from maestro.results.confidence import FAILS, HOLDS, UNDECIDED, Gap
from maestro.results.sampling import (
    cut_points,
    cut_table,
    order_verdicts,
    sampled,
    sampling_table,
    sampling_verdicts,
    way,
)


def some_records(pair=(80.0, 81.0, 82.0), seeds=3):
    rows = []
    for seed in range(seeds):
        rows += [
            record("dense", 90.0 + seed, 1000, seed=seed),
            record("maestro", 89.0 + seed, 1000, seed=seed, sampler="none"),
            record("maestro", pair[seed], 1000, seed=seed, sampler="pair"),
            record("tangent", 90.5 + seed, 1000, seed=seed, sampler="none"),
        ]
    return {key: record | {"studies": {}} for key, record in rows}


def test_differences_are_taken_seed_by_seed():
    table = sampled(some_records()).set_index(["way", "sampler"])
    own = table.loc["own steps"]
    # although seeds differ by 2 points
    assert own.from_dense["none"] == Gap(-1, -1, -1)
    assert own.from_dense["pair"] == Gap(-10, -10, -10)
    assert own.from_unsampled["none"] is None
    assert own.from_unsampled["pair"] == Gap(-9, -9, -9)
    tangent = table.loc["tangent steps, dense start"]
    assert tangent.from_dense["none"].mean == 0.5 and tangent.n["none"] == 3


def test_a_seed_without_its_dense_run_is_left_out():
    records = some_records()
    records = {
        key: record
        for key, record in records.items()
        if record["config"]["method"] != "dense" or record["config"]["seed"] == 1
    }
    row = sampled(records).iloc[0]
    assert row.n == 3 and row.from_dense.mean == -1
    assert row.from_dense.low == -float("inf")


@pytest.mark.parametrize(
    ("pair", "word"),
    [
        ((80.0, 81.0, 82.0), FAILS),
        ((88.9, 89.9, 90.9), HOLDS),  # 0.1 points, always
        ((85.0, 90.0, 95.0), UNDECIDED),
    ],
)
def test_the_verdict_needs_a_margin(pair, word):
    [verdict] = sampling_verdicts(some_records(pair))
    assert verdict.word == word and verdict.n == 3 and verdict.margin == 0.5


def test_a_verdict_counts_pairs():
    records = some_records()
    [key] = [
        key
        for key, some in records.items()
        if some["config"]["method"] == "maestro"
        and (some["config"]["seed"], some["config"]["options"]["sampler"])
        == (2, "none")
    ]
    del records[key]
    [verdict] = sampling_verdicts(records)
    assert verdict.n == 2


def test_one_seed_decides_nothing():
    [verdict] = sampling_verdicts(some_records(seeds=1))
    assert verdict.word == UNDECIDED and "bounds" not in verdict.sentence


def test_every_way_of_the_campaign_has_a_name_of_its_own():
    configs = sampling_cifar10(seeds=(0,))
    rate = max(config.recipe.lr for config in configs)
    names = {
        (way(config, rate), config.options["sampler"])
        for config in configs
        if config.method != "dense"
    }
    assert len(names) == len(configs) - 1
    assert "own steps, 0.33 of the rate" in {name for name, _ in names}


def test_the_table_and_the_figure_say_what_has_not_run():
    assert sampling_table({}).empty
    [ax] = figures.sampling_costs(sampled({})).get_axes()
    assert [text.get_text() for text in ax.texts] == [NOT_RUN]
    table = sampling_table(some_records())
    row = table.loc["own steps", "pair"]
    assert row["points above dense"] == "-10.00 (95 % bounds -10.00 and -10.00)"
    assert table.loc["tangent steps, dense start", "none"].iloc[2] == "–"


def test_the_figure_has_one_point_a_row():
    fig = figures.sampling_costs(sampled(some_records()))
    [ax] = fig.get_axes()
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names[1] == "own steps: pair"
    points = [line for line in ax.lines if line.get_marker() == "o"]
    assert [line.get_xdata() for line in points] == [[-1], [-10], [0.5]]


def cut_records(own=(60.0, 61.0, 62.0)):
    """The records of `some_records` with the study of uniform cuts, at two shares."""
    records = some_records()
    for run in records.values():
        seed = run["config"]["seed"]
        found = {"SVD": 70.0 + seed}
        if run["config"]["method"] != "dense":
            found["own order"] = own[seed]
        points = {}
        for order, accuracy in found.items():
            for share, less in ((1.0, 0.0), (0.5, 4.0)):
                what = {"order": order, "share": share}
                point = {"parameters": what, "test_accuracy": accuracy - less}
                points[f"{order}, {share:g}"] = point
        run["studies"] = {"uniform": points}
    return records


def test_each_network_is_compared_with_itself():
    table = cut_table(cut_records())
    assert list(table.columns) == ["uncut (%)", "0.5", "mean", "runs"]
    assert list(table.loc["dense", "", "SVD"]) == ["71.0 ± 1.0", *2 * ["-4.0 ± 0.0"], 3]
    assert table.loc["own steps", "pair", "own order"]["uncut (%)"] == "61.0 ± 1.0"
    assert cut_table({}).empty


@pytest.mark.parametrize(
    ("own", "word"),
    [
        ((60.0, 61.0, 62.0), FAILS),
        ((70.1, 71.1, 72.1), HOLDS),
        ((60.0, 71.0, 82.0), UNDECIDED),
    ],
)
def test_orders_of_one_network_are_compared(own, word):
    verdicts = order_verdicts(cut_records(own))
    assert [v.word for v in verdicts] == 3 * [word] and verdicts[0].n == 3
    assert "(own steps, none)" in verdicts[0].claim
    assert order_verdicts({}) == []
    half = cut_records(own)
    for run in half.values():
        run["studies"]["uniform"].pop("SVD, 0.5")
    assert order_verdicts(half) == []


def test_the_figure_of_cuts_has_a_line_for_each_sampler_and_the_dense_network():
    points = cut_points(cut_records()).query("way in ('dense', 'own steps')")
    fig = figures.uniform_cuts(points)
    for ax in fig.get_axes():
        lines = [line for line in ax.lines if line.get_marker() == "None"]
        assert [line.get_label() for line in lines][1:] == ["none", "pair"]
    [ax, _] = figures.uniform_cuts(cut_points({})).get_axes()
    assert [text.get_text() for text in ax.texts] == [NOT_RUN]
