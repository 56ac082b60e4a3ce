"""The points of the frontiers are the records' and the paper's own numbers."""

import pytest

from maestro import models
from maestro.results import records
from maestro.results.cells import NETWORKS
from maestro.results.frontiers import (
    PRINTED,
    TASKS,
    frontiers,
    name_of,
    printed,
)


@pytest.fixture(scope="module")
def good():
    return records.read_all()[0]


def test_every_finished_run_is_a_point_with_its_own_figures(good):
    points = [point for group in frontiers(good) for point in group["points"]]
    runs = {point["run"]: point for point in points if "run" in point}
    assert runs.keys() == {k for k, r in good.items() if r["status"] == "finished"}
    for run, point in runs.items():
        final = good[run]["final"]
        assert point["params"] == final["params"] and point["macs"] == final["macs"]
        assert abs(point["accuracy"] - final["test_accuracy"]) <= 5e-4
        assert point["seed"] == good[run]["config"]["seed"] and point["seconds"] > 0


def test_seeds_share_their_label_and_nothing_else_does(good):
    for group in frontiers(good):
        runs = [point for point in group["points"] if "run" in point]
        seen = {(point["label"], point["seed"]) for point in runs}
        assert len(seen) == len(runs)


def test_a_run_that_diverged_is_no_point(good):
    run = next(iter(good))
    record = good[run] | {"status": "diverged"}
    points = [p for group in frontiers({run: record}) for p in group["points"]]
    assert not [point for point in points if "run" in point]


def test_the_papers_points_are_those_of_its_tables():
    rows = printed("resnet18", "cifar10", "paper")
    dense, pufferfish = rows[0], next(r for r in rows if r["system"] == "Pufferfish")
    assert (dense["accuracy"], dense["params"], dense["macs"]) == (
        93.86,
        11_200_000,
        560_000_000,
    )
    assert (pufferfish["table"], pufferfish["params"]) == (16, 3_336_000)
    assert next(r for r in rows if r["system"] == "IMP")["macs"] is None
    lenet = {row["label"]: row["params"] for row in printed("lenet", "mnist", "paper")}
    assert lenet["Maestro, λ = 16e-5"] == 18_155  # printed: 44,426, a misprint
    assert printed("resnet18", "cifar10", "laptop") == []


def test_every_network_and_task_has_a_name(good):
    assert NETWORKS.keys() == models.MODELS.keys()
    tasks = {record["config"]["task"] for record in good.values()}
    assert tasks <= TASKS.keys()


def test_a_network_of_the_paper_has_a_group_without_a_run():
    groups = frontiers({})
    assert [group["name"] for group in groups] == [name_of(*key) for key in PRINTED]
    assert all(point["table"] for group in groups for point in group["points"])
    assert name_of("compact", "cifar10", "compact, 5 epochs") == (
        "Compact network on CIFAR-10, scale 5 epochs"
    )
