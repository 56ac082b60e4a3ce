"""The runs of an experiment: what each keeps of the paper's."""

import math

import pytest

from maestro.campaign import catalog, experiments, scales
from maestro.campaign.workers import describe


def test_lambdas_that_leave_nothing_to_cut_are_not_taken_for_none_given():
    runs = experiments.lenet_mnist(lambdas=(0.0,), seeds=(0,))
    assert [c.options.get("lambda_gl") for c in runs] == [None, 0.0]


def test_partial_decomposition_leaves_all_but_the_last_stage():
    dense, *others = experiments.resnet50("laptop", partial=True)
    assert dense == experiments.resnet50("laptop")[0]
    assert all(c.options["skip"] == scales.BUT_LAST_STAGE for c in others)


def test_a_scale_that_is_not_there_is_told_what_there_is():
    with pytest.raises(ValueError, match="scale='tiny'.*paper, code.*laptop"):
        experiments.resnet18_cifar10("tiny")


def test_other_epochs_are_a_scale_of_their_own():
    config = experiments.resnet18_cifar10("laptop", epochs=1)[0]
    assert config.scale == "laptop, 1 epochs" and config.recipe.epochs == 1


def test_the_compact_scale_keeps_the_whitening_dense():
    configs = experiments.compact_cifar10("compact, 5 epochs", seeds=(0,))
    dense = configs[0]
    words = "compact/cifar10_alternating compact, 5 epochs dense seed 0"
    assert describe(dense) == f"{words}, 5 epochs, batch 1024, lr 1.5, precision auto"
    assert dense.recipe.precision == "auto" and not dense.options
    low_rank = [c for c in configs if c.method != "dense"]
    assert all(c.options["skip"] == ["whiten"] for c in low_rank)
    assert {c.options["warm_up"] for c in low_rank if c.method == "tangent"} == {1}
    assert low_rank[-1].method == "maestro"
    assert low_rank[-1].options["sampler"] == "pair"
    narrow = [c for c in configs if c.size]
    assert {c.method for c in narrow} == {"dense"} and len(narrow) == 5
    with pytest.raises(ValueError, match="scale='tiny': compact has compact, 11"):
        experiments.compact_cifar10("tiny")


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


def test_cuttlefish_can_settle_within_every_recipe():
    runs = [c for c in catalog.every_run() if c.method == "cuttlefish"]
    assert {c.recipe.epochs for c in runs} >= {5, 8, 14, 20, 30, 90, 300}
    for config in runs:
        waits = config.options["window"] + config.options["patience"]
        assert waits <= config.recipe.epochs / 2, config
