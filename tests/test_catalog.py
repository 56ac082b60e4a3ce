"""The list of all runs: what is wanted first."""

from maestro.campaign import catalog
from maestro.campaign.workers import describe


def test_the_first_rows_of_every_table_come_before_the_rest():
    runs = catalog.every_run()
    words = [describe(config) for config in runs]
    first_seed = [config.seed == 0 for config in runs if config.scale == "short"]
    assert first_seed == sorted(first_seed, reverse=True)
    headline = words.index("resnet50/imagenette64 short dense seed 0, batch 128")
    grid = words.index(
        "resnet18/cifar10 short maestro lambda_gl=4e-06 eps_ps=1e-05 sampler=pair "
        "seed 0, batch 128"
    )
    assert headline < grid
    paper = [c.scale.startswith("paper") and c.model != "lenet" for c in runs]
    assert paper == sorted(paper)


def test_the_compact_scale_goes_row_by_row_and_ends_with_the_narrow_networks():
    runs = [c for c in catalog.every_run() if c.model == "compact"]
    eleven = [c for c in runs if c.recipe.epochs == 11]
    assert runs[: len(eleven)] == eleven
    assert [c.method for c in eleven[:5]] == ["dense"] * 5
    assert [c.seed for c in eleven[:10]] == 2 * [0, 1, 2, 3, 4]
    assert all(c.options["lambda_gl"] == 0 for c in eleven[5:10])
    widths = [c.size["width"] for c in eleven[-25:]]
    assert widths == sorted(widths, reverse=True) and len(set(widths)) == 5
