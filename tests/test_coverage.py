"""Coverage: a row counts if a run of its network, system and lambda_gl is there."""

import pytest

from maestro.campaign import baselines, experiments
from maestro.results import records
from maestro.results.coverage import coverage
from maestro.results.published import paper_table


def recorded(configs):
    return {config.id: {"config": config.to_dict()} for config in configs}


def test_nothing_is_covered_without_records():
    assert coverage({}).shape == (9, 0)


def test_rows_at_the_papers_lambdas_count_one_by_one():
    runs = experiments.resnet18_cifar10("short", lambdas=(16e-6, 4e-6), seeds=(0, 1))
    table = coverage(recorded(runs))["short"]
    assert table["Table 12"] == "3 of 11"  # and the dense row
    assert table["Table 16"] == "2 of 17"
    assert table["Table 5"] == "1 of 4"
    assert table["Table 11"] == "0 of 8"


def test_a_grid_of_its_own_counts_its_values():
    runs = experiments.resnet18_cifar10("laptop", lambdas=(2e-4, 8e-4, 0.0), seeds=(0,))
    table = coverage(recorded(runs))["laptop"]
    assert table["Table 12"] == "4 of 11"  # dense, 0 and two values


def test_a_baseline_counts_by_its_method():
    runs = baselines.pufferfish("resnet18", "laptop", (0,))
    table = coverage(recorded(runs))["laptop"]
    assert (table["Table 16"], table["Table 12"]) == ("1 of 17", "0 of 11")


def test_lenets_table_is_complete():
    good, _ = records.read_all()
    assert coverage(good).loc["Table 11", "paper"] == "8 of 8"


@pytest.mark.parametrize(("number", "rows"), [(5, 4), (16, 17)])
def test_the_published_tables_are_there(number, rows):
    assert len(paper_table(number)) == rows
