"""The pages that the build writes itself."""

from dataclasses import replace

import pytest
from test_records import made_up
from test_stress import COUNTS

from maestro.campaign import catalog, experiments
from maestro.config import RunConfig
from maestro.publish import generated
from maestro.results import measured, records, stress


def test_every_record_is_in_the_page_of_runs(digits_config):
    runs = [made_up(digits_config(method)) for method in ("maestro", "dense")]
    ran_on = {"processor": "AMD EPYC, AVX512", "threads": 2, "precision": "float32"}
    runs[0]["ran_on"] |= ran_on | {"torch": "2.13.0", "commit": "abc+"}
    page = generated.runs_page({run["id"]: run for run in runs})
    assert "2 runs, 0.0 hours" in page
    dense, ours = page.splitlines()[-3:-1]
    assert dense == (
        f"| `{runs[1]['id']}` | lenet on digits, scale paper, dense, seed 0 | "
        "3 epochs, batch 128, lr 0.05 | 2026-01-01 | CPU, torch – | `–` | 6 s |"
    )
    assert ours == (
        f"| `{runs[0]['id']}` | lenet on digits, scale paper, maestro, λ = 3e-3, "
        "ε = 0.1, seed 0 | 3 epochs, batch 128, lr 0.05 | 2026-01-01 | CPU, "
        "AMD EPYC, AVX512, 2 threads, float32, torch 2.13.0 | `abc+` | 6 s |"
    )


def test_a_page_without_runs_says_so():
    assert generated.runs_page({}).endswith("No runs recorded yet.\n")


def test_a_record_that_cannot_be_read_is_told_of(digits_config, folders):
    records.save(made_up(digits_config()))
    (folders.runs / "0123456789ab.json").write_text("{")
    with pytest.warns(UserWarning, match="left out: 0123456789ab.json"):
        assert "1 runs" in generated.runs_page()


def test_two_runs_never_read_alike():
    recorded = records.read_all()[0].values()
    configs = [RunConfig.from_dict(record["config"]) for record in recorded]
    configs += catalog.every_run()
    last = experiments.resnet50("laptop", partial=True)[-1]
    configs += [replace(last, size={"width": 8}), replace(last, scale="another")]
    options = last.options | {"skip": ["fc"], "sampler": "shuffled"}
    configs += [replace(last, options=options)]
    configs += [replace(last, recipe=replace(last.recipe, clip=0.1 + 1e-9))]
    configs += [replace(last, recipe=replace(last.recipe, clip=0.1))]
    texts = {generated.what(c) + generated.recipe(c): c.id for c in configs}
    assert len(texts) == len({config.id for config in configs}) > 150


def test_what_sets_a_run_apart_can_be_read():
    config = experiments.resnet50("laptop", partial=True)[-1]
    assert generated.what(config) == (
        "resnet50 on imagenette64, scale laptop, width 16, maestro, λ = 8e-4, "
        "ε = 1e-5, skip conv1 layer1 layer2 layer3 fc, seed 0"
    )
    assert generated.recipe(config) == (
        "14 epochs, batch 32, lr 0.05, weight_decay 0.0001, milestones 8 12"
    )


def test_networks_page_shows_every_network_and_reason():
    row = {"library": "timm", "layers": 3, "left_alone": {"tied": 2, "Embedding": 1}}
    works = {"merge": "works", "export": "works"}
    page = generated.networks_page(
        {
            "versions": {"torch": "2"},
            "uses": {"merge": "Plain layers.", "export": "A dynamic batch."},
            "rows": [
                row | {"network": "A", "uses": works},
                row | {"network": "B", "uses": works | {"export": "dense fails"}},
            ],
        }
    )
    assert "| A | all of it | 3 | 2 × tied; 1 × Embedding |" in page
    assert "| B | all but export (dense fails) | 3 |" in page
    assert "- **export**: A dynamic batch." in page and page.count("## timm") == 1


def test_tables_escape_bars():
    table = generated.markdown_table(("a",), [("x|y",)])
    assert table.endswith("| x\\|y |\n:::\n")


def test_the_counts_of_the_stress_test_are_in_their_table(monkeypatch):
    monkeypatch.setattr(measured, "load", lambda name: None)
    assert generated.stress_tables() == "Not counted yet.\n"
    monkeypatch.setattr(measured, "load", lambda name: COUNTS)
    page = generated.stress_tables()
    for what, times, result in stress.rows(COUNTS):
        assert f"| {what} | {times} | {result} |" in page
    assert page.endswith(stress.conditions(COUNTS) + "\n")
