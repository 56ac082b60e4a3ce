"""A run's id: the same for the same run, another for any other."""

import json
from dataclasses import field, fields, make_dataclass, replace

import pytest

from maestro import config, paths
from maestro.campaign import catalog, experiments
from maestro.config import Recipe, RunConfig

RECIPE = Recipe(epochs=20, batch_size=64, lr=0.01)
RUN = RunConfig("mnist", "lenet", "maestro", RECIPE, {"lambda_gl": 8e-5, "skip": ["a"]})


def test_the_id_of_a_known_run_never_changes():
    first = experiments.lenet_mnist()[0]
    assert (first.method, first.seed) == ("dense", 0)
    assert first.id == "ed9aaa228994"


def test_every_run_of_the_experiments_has_an_id_of_its_own():
    runs = {c.id: c for c in catalog.every_run()}
    told = {json.dumps(c.to_dict(), sort_keys=True) for c in catalog.every_run()}
    assert len(runs) == len(told)


OTHER = {
    "task": "digits",
    "model": "vgg",
    "method": "dense",
    "options": {"lambda_gl": 16e-5, "skip": ["a"]},
    "seed": 1,
    "scale": "tiny",
    "size": {"width": 8},
}
OTHER_RECIPE = {
    "epochs": 21,
    "batch_size": 128,
    "lr": 0.02,
    "optimizer": "adam",
    "momentum": 0.8,
    "weight_decay": 1e-4,
    "milestones": (5,),
    "lr_decay": 0.5,
    "schedule": "inverse_sqrt",
    "warmup": 10,
    "betas": (0.9, 0.98),
    "adam_eps": 1e-9,
    "clip": 0.25,
    "decay_vectors": False,
    "nesterov": True,
    "label_smoothing": 0.2,
    "triangle": (0.2, 0.23, 0.07),
    "norm_lr": 64.0,
    "lookahead": 5,
    "freeze": (("whiten.bias", 3),),
    "precision": "auto",
    "evaluate_every": 2,
}


@pytest.mark.parametrize("name", [f.name for f in fields(RunConfig)])
def test_the_id_changes_with_every_field(name):
    if name != "recipe":
        assert replace(RUN, **{name: OTHER[name]}).id != RUN.id


@pytest.mark.parametrize("name", [f.name for f in fields(Recipe)])
def test_the_id_changes_with_every_field_of_the_recipe(name):
    recipe = replace(RECIPE)
    object.__setattr__(recipe, name, OTHER_RECIPE[name])  # alone, fitting or not
    assert replace(RUN, recipe=recipe).id != RUN.id


def test_the_id_does_not_depend_on_order_or_on_how_a_number_is_written():
    turned = replace(RUN, options=dict(reversed(RUN.options.items())))
    assert list(turned.options) != list(RUN.options) and turned.id == RUN.id
    values = RUN.to_dict()
    turned = RunConfig.from_dict(dict(reversed(values.items())))
    assert turned.id == RUN.id
    whole = replace(RUN, recipe=replace(RECIPE, lr=1.0))
    assert replace(RUN, recipe=replace(RECIPE, lr=1)).id == whole.id
    assert replace(RUN, recipe=replace(RECIPE, milestones=[3])).id == (
        replace(RUN, recipe=replace(RECIPE, milestones=(3,))).id
    )


def test_equal_configurations_have_one_id():
    for one, other in (
        ({"lambda_gl": 1}, {"lambda_gl": 1.0}),
        ({"lambda_gl": 0}, {"lambda_gl": -0.0}),
        ({"skip": ["a", 2]}, {"skip": ("a", 2.0)}),
        ({"of": {"each": 1e20}}, {"of": {"each": 10**20}}),
    ):
        first, second = (replace(RUN, options=options) for options in (one, other))
        assert first == second and first.id == second.id, (one, other)
    assert replace(RUN, options={"lambda_gl": 1.5}).id != RUN.id
    wide, narrow = (replace(RUN, size={"width": width}) for width in (8, 8.0))
    assert wide == narrow and wide.id == narrow.id


@pytest.mark.parametrize(
    "name", [f.name for f in (*fields(RunConfig), *fields(Recipe))]
)
def test_an_option_named_as_a_field_of_every_run_is_refused(name):
    with pytest.raises(ValueError, match=f"options=.*: {name} is a field of every run"):
        replace(RUN, options={"lambda_gl": 1.0, name: 3})


def test_runs_of_a_variant_differ_in_the_seed_only():
    assert config.variant(replace(RUN, seed=3)) == config.variant(RUN)
    for name, value in OTHER.items():
        if name != "seed":
            assert config.variant(replace(RUN, **{name: value})) != config.variant(RUN)
    other = replace(RUN, options=RUN.options | {"eps_ps": 1e-5})
    assert config.variant(other) != config.variant(RUN)
    other = replace(RUN, recipe=replace(RECIPE, batch_size=128))
    assert config.variant(other) != config.variant(RUN)


def test_a_field_that_a_later_version_adds_keeps_the_ids(monkeypatch):
    later = make_dataclass(
        "Recipe", [("warmup", int, field(default=0))], bases=(Recipe,), frozen=True
    )
    same = replace(RUN, recipe=later(epochs=20, batch_size=64, lr=0.01))
    assert same.id == RUN.id
    other = replace(RUN, recipe=later(epochs=20, batch_size=64, lr=0.01, warmup=5))
    assert other.id != RUN.id
    more = make_dataclass(
        "RunConfig",
        [("precision", str, field(default="float32"))],
        bases=(RunConfig,),
        frozen=True,
    )
    old = RUN.to_dict()
    monkeypatch.setattr(config, "RunConfig", more)
    assert more.from_dict(old).id == RUN.id
    assert more.from_dict(old | {"precision": "bfloat16"}).id != RUN.id


def test_a_configuration_comes_back_from_json_as_it_was():
    run = replace(
        RUN,
        recipe=replace(RECIPE, milestones=(10, 15), freeze=(("fc1.bias", 1),)),
        options={"skip": ("a", "b")},
    )
    again = RunConfig.from_dict(json.loads(json.dumps(run.to_dict())))
    assert again == run and again.id == run.id
    assert again.recipe.milestones == (10, 15)
    assert again.recipe.freeze == (("fc1.bias", 1),)


def test_options_cannot_be_changed_from_outside():
    options = {"lambda_gl": 8e-5}
    run = replace(RUN, options=options)
    before = run.id
    options["lambda_gl"] = 1.0
    assert run.id == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("epochs", 2.0),
        ("epochs", True),
        ("batch_size", -1),
        ("batch_size", "64"),
        ("lr", -0.1),
        ("lr", float("nan")),
        ("lr", float("inf")),
        ("lr", "0.1"),
        ("lr", None),
        ("momentum", True),
        ("weight_decay", [0.1]),
        ("lr_decay", -1),
        ("optimizer", "adma"),
        ("betas", (0.9, 1.0)),
        ("milestones", 3),
        ("milestones", (0,)),
        ("milestones", (1.5,)),
        ("decay_vectors", 0),
        ("nesterov", 1),
        ("label_smoothing", 1.5),
        ("triangle", (0.2, 0.23)),
        ("triangle", (0.2, 1, 0.07)),
        ("norm_lr", -1),
        ("lookahead", 0.5),
        ("freeze", ("whiten.bias", 3)),
        ("freeze", (("whiten.bias", -1),)),
        ("precision", "bfloat16"),
        ("evaluate_every", 0),
        ("evaluate_every", 1.5),
    ],
)
def test_a_bad_value_in_the_recipe_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"{name}="):
        replace(RECIPE, **{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", -1),
        ("seed", "0"),
        ("seed", False),
        ("task", None),
        ("model", 3),
        ("options", {"lambda_gl": float("nan")}),
        ("options", {"skip": {1, 2}}),
        ("options", 5),
        ("options", [("lambda_gl", 1)]),
        ("options", {1: 2}),
        ("size", None),
        ("recipe", None),
        ("recipe", RUN.to_dict()["recipe"]),
    ],
)
def test_a_bad_value_in_the_run_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"{name}="):
        replace(RUN, **{name: value})


@pytest.mark.parametrize(
    "values",
    [
        None,
        [],
        {},
        {"task": "mnist"},
        RUN.to_dict() | {"colour": "red"},
        RUN.to_dict() | {"recipe": None},
        RUN.to_dict() | {"recipe": RUN.to_dict()["recipe"] | {"warm": 1}},
        RUN.to_dict() | {"recipe": RUN.to_dict()["recipe"] | {"milestones": 3}},
        {k: v for k, v in RUN.to_dict().items() if k != "model"},
    ],
)
def test_what_is_no_configuration_is_refused(values):
    with pytest.raises(ValueError, match="not a run's configuration|milestones="):
        RunConfig.from_dict(values)


def test_the_folder_of_data_can_be_named(monkeypatch, tmp_path):
    monkeypatch.setenv("MAESTRO_DATA", str(tmp_path))
    assert paths.data_folder() == tmp_path
    monkeypatch.setenv("MAESTRO_DATA", "")
    assert paths.data_folder() == paths.CACHE
