"""The list of runs: what each scale keeps of the paper's, and what is wanted first."""

import math

import pytest

from maestro.campaign import experiments
from maestro.campaign.workers import describe


def steps_times_rate(recipe, examples):
    """Sum of the learning rates of all steps."""
    rates = [
        recipe.lr * recipe.lr_decay ** sum(epoch >= m for m in recipe.milestones)
        for epoch in range(recipe.epochs)
    ]
    return sum(rates) * -(-examples // recipe.batch_size)


@pytest.mark.parametrize("scales", [experiments.RESNET18, experiments.VGG19])
def test_the_short_scale_keeps_the_sum_of_learning_rates_and_the_grid(scales):
    paper, short = scales["paper"], scales["short"]
    kept = steps_times_rate(short.recipe, 50_000)
    assert kept == pytest.approx(steps_times_rate(paper.recipe, 50_000), rel=0.01)
    assert paper.lambdas == short.lambdas and not short.size


def test_imagenette_keeps_what_the_lasso_does_on_imagenet():
    paper, short = (experiments.RESNET50[name] for name in ("paper", "short"))
    ours = steps_times_rate(short.recipe, 9_469)
    theirs = steps_times_rate(paper.recipe, 1_281_167)
    for value, like in zip(sorted(short.lambdas), sorted(paper.lambdas), strict=True):
        assert value * ours == pytest.approx(like * theirs, rel=0.2)


def test_the_lambdas_are_those_of_the_papers_tables():
    assert sorted(experiments.RESNET18["paper"].lambdas) == pytest.approx(
        [0] + [4e-6 * 2**k for k in range(9)], rel=1e-12
    )
    assert sorted(experiments.TRANSFORMER["paper"].lambdas) == [
        0.32 * 2**k for k in range(5)
    ]


def test_the_first_rows_of_every_table_come_before_the_rest():
    runs = experiments.every_run()
    words = [describe(config) for config in runs]
    first_seed = [config.seed == 0 for config in runs if config.scale == "short"]
    assert first_seed == sorted(first_seed, reverse=True)
    headline = words.index("resnet50/imagenette64 short dense seed 0")
    grid = words.index(
        "resnet18/cifar10 short maestro lambda_gl=4e-06 eps_ps=1e-05 sampler=pair "
        "seed 0"
    )
    assert headline < grid
    paper = [c.scale.startswith("paper") and c.model != "lenet" for c in runs]
    assert paper == sorted(paper)


def test_lambdas_that_leave_nothing_to_cut_are_not_taken_for_none_given():
    runs = experiments.lenet_mnist(lambdas=(0.0,), seeds=(0,))
    assert [c.options.get("lambda_gl") for c in runs] == [None, 0.0]


def test_partial_decomposition_leaves_all_but_the_last_stage():
    dense, *others = experiments.resnet50("laptop", partial=True)
    assert dense == experiments.resnet50("laptop")[0]
    assert all(c.options["skip"] == experiments.BUT_LAST_STAGE for c in others)


def test_a_scale_that_is_not_there_is_told_what_there_is():
    with pytest.raises(ValueError, match="scale='tiny'.*paper, code.*laptop"):
        experiments.resnet18_cifar10("tiny")


def test_other_epochs_are_a_scale_of_their_own():
    config = experiments.resnet18_cifar10("laptop", epochs=1)[0]
    assert config.scale == "laptop, 1 epochs" and config.recipe.epochs == 1


def test_the_compact_scale_keeps_the_whitening_dense():
    dense, *others = experiments.compact_cifar10(seeds=(0,), samplers=("pair", "none"))
    words = "compact/cifar10_alternating compact, 11 epochs dense seed 0"
    assert describe(dense) == words
    assert dense.recipe.precision == "auto" and not dense.options
    assert all(config.options["skip"] == ["whiten"] for config in others)
    assert {config.options["sampler"] for config in others} == {"pair", "none"}


def test_the_compact_scale_goes_row_by_row_and_ends_with_the_narrow_networks():
    runs = [c for c in experiments.every_run() if c.model == "compact"]
    eleven = [c for c in runs if c.recipe.epochs == 11]
    assert runs[: len(eleven)] == eleven
    assert [c.method for c in eleven[:5]] == ["dense"] * 5
    assert [c.seed for c in eleven[:10]] == 2 * [0, 1, 2, 3, 4]
    assert all(c.options["lambda_gl"] == 0 for c in eleven[5:10])
    widths = [c.size["width"] for c in eleven[-25:]]
    assert widths == sorted(widths, reverse=True) and len(set(widths)) == 5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lambdas": (math.nan,)}, "lambdas=nan: it takes a finite number >= 0"),
        ({"lambdas": "1e-5"}, "lambdas='1': it takes a finite number >= 0"),
        ({"lambdas": (-1,)}, "lambdas=-1: it takes a finite number >= 0"),
        ({"lambdas": (True,)}, "lambdas=True: it takes a finite number >= 0"),
        ({"thresholds": ()}, r"thresholds=\(\): it takes at least one number"),
        ({"thresholds": (None,)}, "thresholds=None: it takes a finite number >= 0"),
        ({"seeds": (0.5,)}, "seed=0.5: it takes an integer >= 0"),
        ({"epochs": -1}, "epochs=-1: it takes an integer >= 1"),
    ],
)
def test_a_grid_of_what_is_no_number_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        experiments.lenet_mnist(**wrong)
