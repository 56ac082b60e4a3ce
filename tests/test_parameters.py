"""A wrong parameter stops a notebook at once and is told what would be right."""

import json
import math

import pytest

from maestro.paths import ROOT
from maestro.publish import parameters
from maestro.publish.parameters import KNOWN, ParameterError

CELL = """seeds = [0, 1, 2]  # one training each
lambdas = [0.0, 8e-5]
train = False
device = "auto"
steps = 2_000
lr = 0.5
"""
DEFAULTS = {
    "seeds": [0, 1, 2],
    "lambdas": [0.0, 8e-5],
    "train": False,
    "device": "auto",
    "steps": 2000,
    "lr": 0.5,
}


def write(folder, name, source, tags=("parameters",)):
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["# A title"]},
        {"cell_type": "code", "metadata": {}, "source": ["import maestro"]},
        {
            "cell_type": "code",
            "metadata": {"tags": list(tags)},
            "source": source.splitlines(keepends=True),
        },
    ]
    (folder / f"{name}.ipynb").write_text(json.dumps({"cells": cells}))


@pytest.fixture(autouse=True)
def notebooks(tmp_path, monkeypatch):
    """Two notebooks in a folder of their own, one without parameters."""
    write(tmp_path, "10_lenet_mnist", CELL)
    write(tmp_path, "02_plain", "x = 1", tags=())
    monkeypatch.setattr(parameters, "NOTEBOOKS", tmp_path)


# ---------------------------------------------------------------- notebooks


def test_a_notebook_is_found_by_its_name_however_written(tmp_path):
    path = tmp_path / "10_lenet_mnist.ipynb"
    for name in ("10_lenet_mnist", path.name, f"notebooks/{path.name}"):
        assert parameters.find(name) == path
    assert parameters.notebooks() == ["02_plain", "10_lenet_mnist"]


@pytest.mark.parametrize(
    ("name", "near"),
    [("10_lenet_minst", "10_lenet_mnist"), ("lenet_mnist.ipynb", "10_lenet_mnist")],
)
def test_a_notebook_that_is_not_there_is_told_the_nearest(name, near):
    with pytest.raises(ParameterError) as caught:
        parameters.find(name)
    assert f"did you mean '{near}'? there are: 02_plain, 10_" in str(caught.value)


def test_without_any_near_name_all_are_listed(tmp_path):
    with pytest.raises(ParameterError, match="no notebook 'xyz'; there are: 02_plain"):
        parameters.find("xyz")
    for path in tmp_path.glob("*.ipynb"):
        path.unlink()
    with pytest.raises(ParameterError, match="there are: none here"):
        parameters.find("10_lenet_mnist")


def test_the_defaults_are_what_the_tagged_cell_says():
    assert parameters.defaults("10_lenet_mnist") == DEFAULTS
    assert parameters.defaults("02_plain") == {}


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"cells": [1]}', '{"cells": 3}'])
def test_a_damaged_notebook_is_named(damage, tmp_path):
    (tmp_path / "02_plain.ipynb").write_text(damage)
    with pytest.raises(
        ParameterError, match="02_plain.ipynb is damaged .*: take it fr"
    ):
        parameters.parse("02_plain", ["lr=1"])


def test_what_was_left_half_written_is_no_notebook(tmp_path):
    (tmp_path / ".10_lenet_mnist.ipynb").write_text("{")
    assert parameters.notebooks() == ["02_plain", "10_lenet_mnist"]


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("wrong", [None, math.nan, "nan", "1_0", "a,,b", "[", {}, b"1"])
def test_no_parameter_takes_what_is_none_of_its_kind(name, wrong):
    for given in (wrong, [wrong]):
        with pytest.raises(ParameterError, match=f"^{name}(=| is empty).*it takes "):
            KNOWN[name].read(name, given)


@pytest.mark.parametrize(
    "name", [n for n, p in KNOWN.items() if p.kind in (int, float)]
)
def test_no_number_is_read_from_a_truth(name):
    for given in (True, "true", [False]):
        with pytest.raises(ParameterError, match=f"^{name}=.*it takes "):
            KNOWN[name].read(name, given)


def test_the_table_has_a_row_for_each_parameter_of_each_notebook():
    rows = parameters.table()
    assert {row["name"]: row["default"] for row in rows} == DEFAULTS
    assert all(row["notebook"] == "10_lenet_mnist" and row["help"] for row in rows)
    values = {row["name"]: row["values"] for row in rows}
    assert values["seeds"] == "integers from 0 to 4,294,967,295, separated by commas"
    assert values["device"] == "one of auto, cpu, cuda"
    assert values["train"] == "true or false"
    assert values["steps"] == "an integer from 1 to 10,000,000"


# ---------------------------------------------------------------- values

GOOD = [
    ("seeds", "0", [0]),
    ("seeds", "0,1", [0, 1]),
    ("seeds", "[1,2]", [1, 2]),  # as papermill's -p hands a list over
    ("seeds", "( 1 , 2 )", [1, 2]),
    ("seeds", (3, 4), [3, 4]),
    ("seeds", 5, [5]),
    ("lambdas", "1e-3", [1e-3]),  # as YAML hands a float over
    ("lambdas", "[8e-5, 0]", [8e-5, 0.0]),
    ("lambdas", [0, 1e-3], [0.0, 1e-3]),
    ("lr", "1e-3", 1e-3),
    ("lr", " .5 ", 0.5),
    ("lr", 1, 1.0),
    ("train", "true", True),
    ("train", "False", False),
    ("train", True, True),
    ("steps", "7", 7),
    ("steps", 7, 7),
    ("scales", "short,laptop", ["short", "laptop"]),
    ("scales", "paper, code", ["paper, code"]),
    ("scales", "paper,paper, code,short", ["paper", "paper, code", "short"]),
    ("scales", "['paper', 'paper, code', 'short']", ["paper", "paper, code", "short"]),
    ("scales", ["paper, code"], ["paper, code"]),
    ("device", "cpu", "cpu"),
    ("device", "'cpu'", "cpu"),
]


@pytest.mark.parametrize(("name", "given", "value"), GOOD)
def test_a_good_value_comes_out_in_its_declared_type(name, given, value):
    read = KNOWN[name].read(name, given)
    assert read == value and type(read) is type(value)
    if isinstance(value, list):
        assert [type(v) for v in read] == [type(v) for v in value]


BAD = [
    ("seeds", "0,x", "seeds='x': it takes integers from 0 to 4,294,967,295, separated"),
    ("seeds", "1,,2", "seeds='1,,2': it takes integers"),
    ("seeds", "[1, 2, ]", "seeds='\\[1, 2, \\]'"),
    ("seeds", ",", "seeds=','"),
    ("seeds", "[1,2", "seeds='\\[1'"),
    ("seeds", "((1,2))", "seeds='\\(1'"),
    ("seeds", "1_000", "seeds='1_000'"),
    ("seeds", "'1'", "seeds=\"'1'\""),
    ("seeds", "4294967296", "seeds='4294967296': it takes integers from 0"),
    ("seeds", "9" * 5000, "seeds='9999"),  # more digits than Python reads
    ("seeds", "１", "seeds='１'"),
    ("seeds", {0: 1}, "seeds=\\{0: 1\\}"),
    ("lambdas", "1e-5,,1e-4", "lambdas='1e-5,,1e-4'"),
    ("lambdas", "1_0e-5", "lambdas='1_0e-5'"),
    ("lambdas", "1e999", "lambdas='1e999'"),
    ("lambdas", "None", "lambdas='None'"),
    ("seeds", "0,-1", "seeds=' ?-1'"),
    ("seeds", "0.5", "seeds='0.5'"),
    ("seeds", [0, 1.0], "seeds=1.0"),
    ("seeds", [True], "seeds=True"),
    ("seeds", [[1]], r"seeds=\[1\]"),
    ("seeds", None, "seeds=None"),
    ("seeds", "", "seeds is empty: it takes integers from 0"),
    ("seeds", [], "seeds is empty"),
    ("lambdas", "nan", "lambdas='nan': it takes numbers >= 0"),
    ("lambdas", [math.inf], "lambdas=inf"),
    ("lambdas", "-1e-5", "lambdas='-1e-5'"),
    ("lr", "fast", "lr='fast': it takes a number >= 0"),
    ("lr", math.nan, "lr=nan"),
    ("lr", "inf", "lr='inf'"),
    ("lr", True, "lr=True"),
    ("lr", -1, "lr=-1"),
    ("lr", [0.1], r"lr=\[0.1\]"),
    ("scales", "paper,code", "scales='code': it takes any of paper, 'paper, code', "),
    ("scales", "", "scales is empty"),
    ("train", "yes", "train='yes': it takes true or false"),
    ("train", 1, "train=1"),
    ("train", None, "train=None"),
    ("steps", 0, "steps=0: it takes an integer from 1 to 10,000,000"),
    ("steps", "1e3", "steps='1e3'"),
    ("steps", 5.0, "steps=5.0"),
    ("steps", 10_000_001, "steps=10000001"),
    ("device", "gpu", "device='gpu': it takes one of auto, cpu, cuda"),
    ("device", 0, "device=0"),
    ("device", "'cpu", 'device="\'cpu"'),
    ("steps", "1_000", "steps='1_000'"),
    ("workers", "65", "workers='65': it takes an integer from 1 to 64"),
    ("singular_values", "1e-4", "it takes at most 6 numbers from 0.001 to"),
    ("singular_values", "7,6,5,4,3,2,1", "it takes at most 6 numbers"),
]


@pytest.mark.parametrize(("name", "given", "message"), BAD)
def test_a_bad_value_is_told_what_is_right(name, given, message):
    with pytest.raises(ParameterError, match=message):
        KNOWN[name].read(name, given)


@pytest.mark.parametrize(
    ("notebook", "word", "message"),
    [
        ("17_sampling", "epochs=3", "epochs='3': it takes one of 2, 5, 11"),
        ("00_quickstart", "epochs=0", "it takes an integer from 1 to"),
        ("20_what_it_costs", "device=auto", "it takes one of cpu, cuda"),
        ("12_vgg19_cifar10", "scales=compact, 11 epochs", "it takes any of paper, "),
        ("13_transformer_multi30k", "scales='paper, usual rate'", "any of paper, "),
    ],
)
def test_a_chapter_may_take_fewer_values(notebook, word, message, monkeypatch):
    monkeypatch.setattr(parameters, "NOTEBOOKS", ROOT / "notebooks")
    with pytest.raises(ParameterError, match=message):
        parameters.parse(notebook, [word])
    assert parameters.parse("17_sampling", ["epochs=11"]) == {"epochs": 11}
    words = ["scales=compact, 11 epochs,compact, 5 epochs"]
    found = parameters.parse("21_compact_cifar10", words)
    assert found == {"scales": ["compact, 11 epochs", "compact, 5 epochs"]}


# ---------------------------------------------------------------- the command line


def test_words_become_typed_values():
    words = ["seeds=0,1", "train=true", "lr=1e-3", "lambdas=[8e-5,16e-5]"]
    assert parameters.parse("10_lenet_mnist", words) == {
        "seeds": [0, 1],
        "train": True,
        "lr": 1e-3,
        "lambdas": [8e-5, 16e-5],
    }
    assert parameters.parse("10_lenet_mnist", []) == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seeds"], "'seeds': write parameters as name=value"),
        (["seeds=0", "lr=1", "seeds=1"], "seeds is given twice"),
        (["sedes=0"], "has no parameter 'sedes'; did you mean 'seeds'\\? it takes: se"),
        (["zzz=0"], "no parameter 'zzz'; it takes: seeds, lambdas, train, device"),
        (["epochs=3"], "10_lenet_mnist has no parameter 'epochs'"),  # another one's
        (["=3"], "no parameter ''"),
        (["train=1"], "train='1': it takes true or false"),
        (["seeds="], "seeds is empty"),
    ],
)
def test_a_wrong_word_is_told_what_is_right(words, message):
    with pytest.raises(ParameterError, match=message):
        parameters.parse("10_lenet_mnist", words)


def test_a_notebook_without_parameters_takes_none():
    with pytest.raises(ParameterError, match="no parameter 'lr'; it takes: none"):
        parameters.parse("02_plain", ["lr=1"])


# ---------------------------------------------------------------- in a notebook


def as_run(injected="", **values):
    """A notebook's ``globals()`` behind its parameters cell and papermill's own."""
    cells = ["", "import maestro", CELL]
    if injected:
        cells.append("# Parameters\n" + injected)
    return DEFAULTS | values | {"In": cells}


def test_a_notebook_gets_its_defaults_and_what_it_was_told():
    assert vars(parameters.check("10_lenet_mnist", as_run())) == DEFAULTS
    told = as_run('seeds = "[4,5]"\ntrain = "true"\n', seeds="[4,5]", train="true")
    assert vars(parameters.check("10_lenet_mnist", told)) == DEFAULTS | {
        "seeds": [4, 5],
        "train": True,
    }


def test_outside_of_a_notebook_the_names_given_are_taken():
    assert parameters.check("10_lenet_mnist", {"lr": "1e-3"}).lr == 1e-3


def test_an_unknown_name_that_papermill_injected_is_refused():
    told = as_run("learning_rate = 0.1\nlambads = [1]\n", lambads=[1])
    with pytest.raises(ParameterError, match="no parameter 'learning_rate'; it takes"):
        parameters.check("10_lenet_mnist", told)
    told = as_run("lambads = [1]\n", lambads=[1])
    with pytest.raises(ParameterError, match="did you mean 'lambdas'"):
        parameters.check("10_lenet_mnist", told)


@pytest.mark.parametrize(
    ("injected", "values", "message"),
    [
        ("steps = 0", {"steps": 0}, "steps=0"),
        ("lr = float('nan')", {"lr": math.nan}, "lr=nan"),  # as papermill writes it
        ("lr = float('-inf')", {"lr": -math.inf}, "lr=-inf"),
        ("train = None", {"train": None}, "train=None"),
        ("seeds = 'a'", {"seeds": "a"}, "seeds='a'"),
    ],
)
def test_a_bad_value_that_papermill_injected_is_refused(injected, values, message):
    with pytest.raises(ParameterError, match=message):
        parameters.check("10_lenet_mnist", as_run(injected, **values))


def test_names_that_the_notebook_itself_assigns_are_no_parameters():
    told = as_run() | {"anything": 3}
    told["In"].append("anything = 3")
    assert vars(parameters.check("10_lenet_mnist", told)) == DEFAULTS


def test_a_change_after_the_last_step_is_refused(tmp_path):
    write(tmp_path, "04_change", "steps = 2_500\nchange_at = 1_200\n")
    message = "change_at=1200: it takes an integer below steps=500"
    with pytest.raises(ParameterError, match=message):
        parameters.parse("04_change", ["steps=500"])
    given = {"steps": 500, "change_at": 500}
    with pytest.raises(ParameterError, match="change_at=500: .* below steps=500"):
        parameters.check("04_change", given)
    words, values = ["steps=500", "change_at=499"], {"steps": 500, "change_at": 499}
    assert parameters.parse("04_change", words) == values
