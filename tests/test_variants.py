"""Means are over the seeds of one variant; nothing else is ever averaged."""

import math
import statistics
from dataclasses import replace

import pytest
from test_tables import THREE, by_id, made_up, translating

from maestro.campaign import experiments
from maestro.config import RunConfig
from maestro.results import points, records, tables, variants
from maestro.results.published import paper_table


def varied(record, **changes):
    """``record`` of another configuration; changes of its fields, or of options."""
    config = RunConfig.from_dict(record["config"])
    options = config.options | changes.pop("options", {})
    config = replace(config, options=options, **changes)
    return record | {"id": config.id, "config": config.to_dict()}


def at(eps_ps, lambda_gl=8e-5, **more):
    return varied(made_up(lambda_gl, **more), options={"eps_ps": eps_ps})


BATCH_128 = replace(RunConfig.from_dict(made_up()["config"]).recipe, batch_size=128)


def test_a_row_for_each_run():
    runs = variants.per_run(THREE)
    assert list(runs.seed) == [0, 0, 1]
    assert list(runs.method) == ["dense", "maestro", "maestro"]
    assert math.isnan(runs.lambda_gl[0]) and runs.lambda_gl[1] == 8e-5
    assert list(runs.test_accuracy) == [99.0, 98.0, 98.6]  # the last epoch's
    assert list(runs.best_accuracy) == [99.5, 98.5, 99.1]
    assert set(runs.train_params_ratio) == {(15_000 + 9_000) / 2 / 10_000}
    assert set(runs.train_macs_ratio) == {(60_000 + 45_000) / 2 / 50_000}
    assert set(runs.seconds) == {5.0}  # of training alone


def test_means_and_deviations_are_over_seeds():
    table = variants.summary(THREE).set_index("method")
    ours = table.loc["maestro"]
    assert ours.n == 2 and ours.lambda_gl == 8e-5
    assert ours.test_accuracy == pytest.approx(98.3)
    assert ours.test_accuracy_std == pytest.approx(statistics.stdev([98.0, 98.6]))
    assert ours.params == 6150 and ours.params_std == pytest.approx(300 / 2**0.5)
    assert ours.macs == 4 * 6150
    assert table.loc["dense"].n == 1 and math.isnan(table.loc["dense"].params_std)
    assert ours.dense_params == 10_000 and ours.dense_macs == 50_000


def test_no_records_make_an_empty_table():
    assert variants.per_run({}).empty and variants.summary({}).empty


def test_scales_are_never_mixed():
    mixed = THREE | by_id(made_up(8e-5, seed=2, scale="2 epochs"))
    with pytest.raises(ValueError, match=r"scales are .*: \['2 epochs', 'paper'\]"):
        variants.summary(mixed)


def test_images_have_no_perplexity():
    assert variants.summary(THREE).perplexity.isna().all()


def test_other_tasks_and_models_are_never_mixed():
    for name, value in (("task", "digits"), ("model", "vgg19")):
        mixed = THREE | by_id(varied(made_up(16e-5), **{name: value}))
        with pytest.raises(ValueError, match=f"{name}s are never mixed"):
            variants.summary(mixed)


DIFFERENT = {
    "threshold": {"options": {"eps_ps": 1e-5}},
    "sampler": {"options": {"sampler": "shuffled"}},
    "layers left dense": {"options": {"skip": ["conv1"]}},
    "batch": {"recipe": BATCH_128},
    "width": {"size": {"width": 8}},
    "method": {"method": "masked"},
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_runs_that_differ_in_more_than_the_seed_are_not_averaged(name):
    one, other = made_up(8e-5, 0, 98.0), made_up(8e-5, 1, 99.0)
    table = variants.summary(by_id(one, varied(other, **DIFFERENT[name])))
    assert list(table.n) == [1, 1] and set(table.test_accuracy) == {98.0, 99.0}
    assert table.label.is_unique and table.label.str.startswith("λ = 8e-5, ").all()


def test_both_thresholds_of_the_chapter_on_lenet_stay_apart():
    found = records.find(experiments.lenet_mnist())
    table = variants.summary(found)
    assert set(table.n) == {3} and len(table) == 2 + 2 * 6
    assert list(table.label[:4]) == [
        "dense",
        "λ = 0",
        "λ = 8e-5, eps_ps 1e-07",
        "λ = 8e-5, eps_ps 1e-05",
    ]
    largest = table[table.lambda_gl == 256e-5]
    assert largest.params.max() > 8 * largest.params.min()
    with pytest.raises(ValueError, match="λ = 8e-5 .* one of eps_ps: 1e-07, 1e-05"):
        tables.footprint_table(found, None, [8e-5])


MIXED = by_id(at(1e-7), at(1e-5, seed=1))
ASKED = {
    "of_variant": lambda: variants.of_variant(variants.per_run(MIXED), 8e-5),
    "pick": lambda: variants.pick(variants.summary(MIXED), 8e-5),
    "side_by_side": lambda: tables.side_by_side({"both": MIXED}, [8e-5]),
    "params_at": lambda: tables.params_at(variants.summary(MIXED), 8e-5),
    "compression_table": lambda: tables.compression_table({"λ = 8e-5": MIXED}),
    "baselines_table": lambda: tables.baselines_table(
        by_id(at(1e-7, 2.56), at(1e-5, 2.56, seed=1)),
        paper_table(3),
        "perplexity",
    ),
    "by_lambda": lambda: variants.by_lambda(by_id(at(1e-7), at(1e-5)), 0),
    "losses": lambda: variants.losses(MIXED, "maestro", 8e-5),
}


@pytest.mark.parametrize("name", ASKED)
def test_what_asks_for_one_variant_is_told_of_several(name):
    with pytest.raises(ValueError, match="several variants; take one of eps_ps: 1e-0"):
        ASKED[name]()


def test_two_dense_networks_are_not_one():
    dense, other = made_up(), varied(made_up(seed=1), recipe=BATCH_128)
    table = variants.summary(by_id(dense, other))
    assert sorted(table.label) == ["dense, batch_size 128", "dense, batch_size 64"]
    with pytest.raises(ValueError, match="dense stands for several.*batch_size: "):
        variants.pick(table, math.nan)


def test_a_method_without_a_lasso_is_not_the_dense_network():
    ours = varied(made_up(accuracy=90.0), method="pufferfish")
    table = variants.summary(by_id(ours))
    assert list(table.label) == ["Pufferfish"]
    assert variants.pick(table, math.nan) is None
    table = variants.summary(by_id(ours, made_up(accuracy=99.0)))
    assert variants.pick(table, math.nan).test_accuracy == 99.0
    found = by_id(*(translating(one, 9.5) for one in (ours, made_up())))
    table = tables.baselines_table(found, paper_table(3), "perplexity")
    assert table.loc["Pufferfish", ("perplexity", "here")] == "9.50"


def test_the_points_of_a_study_are_not_averaged_over_variants():
    first, second = at(1e-7), at(1e-5, seed=1)
    for whole in (made_up(0.0), made_up(0.0, seed=1)):
        point = {"parameters": {"lambda_gl": 8e-5}, "test_accuracy": 98.0}
        point |= {"params": 5, "macs": 7}
        studies = {"ranks_of": {donor["id"]: point for donor in (first, second)}}
        found = by_id(first, second, whole | {"studies": studies})
        with pytest.raises(ValueError, match="λ = 8e-5 stands for several variants"):
            points.means(found, "ranks_of")


def test_differences_name_the_fields():
    config = RunConfig.from_dict(at(1e-7)["config"])
    other = replace(config, recipe=BATCH_128, options={"lambda_gl": 8e-5}, seed=5)
    assert variants.differences([config, other]) == {
        "batch_size": [64, 128],
        "eps_ps": [1e-7, None],
    }
    assert variants.differences([config, replace(config, seed=3)]) == {}
