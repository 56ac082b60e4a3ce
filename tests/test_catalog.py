"""The list of all runs: what is wanted first."""

import pytest

from maestro.campaign import baselines, catalog
from maestro.campaign.workers import describe
from maestro.publish import parameters


def test_the_first_rows_of_every_table_come_before_the_rest():
    runs = catalog.every_run()
    words = [describe(config) for config in runs]
    beside = {c.id for make in catalog.SYSTEMS.values() for c in make()}
    short = [c for c in runs if c.scale == "short" and c.method in ("dense", "maestro")]
    short = [c for c in short if c.id not in beside]
    first_seed = [config.seed == 0 for config in short]
    assert first_seed == sorted(first_seed, reverse=True)
    headline = words.index(
        "resnet50/imagenette64 short dense seed 0, 30 epochs, batch 128, lr 0.1"
    )
    grid = words.index(
        "resnet18/cifar10 short maestro lambda_gl=4e-06 eps_ps=1e-05 sampler=pair "
        "seed 0, 30 epochs, batch 128, lr 0.1"
    )
    assert headline < grid
    paper = [c.scale.startswith("paper") and c.model != "lenet" for c in runs]
    assert paper == sorted(paper)


def test_the_compact_scale_goes_row_by_row():
    runs = catalog.every_compact_run()
    eleven = [c for c in runs if c.scale == "compact, 11 epochs"]
    assert runs[: len(eleven)] == eleven
    assert [c.method for c in eleven[:5]] == ["dense"] * 5
    assert [c.seed for c in eleven[:10]] == 2 * [0, 1, 2, 3, 4]
    for full, scale in ((64, "compact, 5 epochs"), (32, "half as wide, 5 epochs")):
        some = [c for c in runs if c.scale.endswith(scale) and c.seed == 0]
        narrow = [c.size["width"] for c in some if c.size.get("width", full) < full]
        shares = [width / full for width in narrow]
        assert shares == [0.75, 0.5, 0.875, 0.625, 0.375]
        cut = [c.options for c in some if c.method == "tangent_cut"]
        assert [o["target"] for o in cut] == [0.5, 0.5, 0.5, 0.25, 0.25]


def test_the_finalists_are_runs_of_the_compact_scale_with_more_seeds():
    finalists = catalog.NAMED["sampling, compact, finalists"]()
    assert len({config.id for config in finalists}) == 4 * 10
    compact = {config.id for config in catalog.every_compact_run(range(10))}
    assert {config.id for config in finalists} <= compact


def test_rates_are_tried_for_the_systems_that_train_factors_or_signs():
    tries = catalog.NAMED["systems, compact, rates"]()
    words = [describe(config) for config in tries]
    assert len(tries) == len(set(words)) == 3 * 11
    assert {config.recipe.lr for config in tries} == {1.5, 0.5, 0.15}
    assert {config.method for config in tries} == set(baselines.SLOWER)


def test_a_campaign_takes_an_experiments_name_or_part_of_a_description():
    named = catalog.chosen("systems, compact")
    assert {c.model for c in named} == {"compact"} and len(named) == 99
    assert [c.seed for c in named] == sorted(c.seed for c in named)
    part = catalog.chosen("compact, half as wide, 5 epochs width=32 depgraph")
    assert [c.method for c in part] == 6 * ["depgraph"]
    assert catalog.chosen("no such run") == []
    ids = {config.id for config in catalog.every_run()}
    for runs in catalog.NAMED.values():
        assert {config.id for config in runs()} <= ids
    everything = {config.id for runs in catalog.NAMED.values() for config in runs()}
    assert everything == ids


def test_experiments_that_lack_runs_are_counted(folders):
    every = dict((name, (left, total)) for name, left, total in catalog.lacking())
    assert every.keys() == catalog.NAMED.keys()
    assert all(left == total for left, total in every.values())
    folders.runs.mkdir(parents=True)
    for config in catalog.NAMED["ablation, lenet"]():
        (folders.runs / f"{config.id}.json").touch()
    assert "ablation, lenet" not in {name for name, _, _ in catalog.lacking()}


def test_every_system_has_rows_on_every_network():
    everywhere = {"pufferfish", "svd", "spectral", "cuttlefish", "imp", "raregems"}
    everywhere |= {"depgraph", "dlrt", "dlrt_augmented", "spectral_decay"}
    for name, others in {
        "lenet": set(),
        "compact": {"xnor", "tangent", "tangent_cut"},
        "resnet18": {"xnor"},
    }.items():
        configs = baselines.beside_maestro(name, (0,))
        methods = {config.method for config in configs}
        assert methods == everywhere | others | {"dense", "maestro"}
        for method in everywhere - {"cuttlefish"}:  # which chooses its size
            assert len({c.id for c in configs if c.method == method}) >= 2


@pytest.mark.parametrize("name", sorted(catalog.NOTEBOOKS))
def test_every_notebook_that_trains_names_its_runs(name):
    runs = catalog.for_notebook(name, **parameters.defaults(name))
    assert runs and len({config.id for config in runs}) == len(runs)
