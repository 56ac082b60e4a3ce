"""The notebooks as files: clean, comparable, parameterised, and able to turn red."""

import ast
import json
import re
import shutil
import subprocess
import sys

import pytest

from maestro.paths import ROOT
from maestro.publish import downloads, exercises, notebooks, parameters
from maestro.training.distributed import ALONE

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
COMPARED = "nbval-check-output"


def cells(path, kind=None):
    """The chapter's cells, without the one that installs."""
    content = json.loads(path.read_text("utf-8"))
    kinds = (kind,) if kind else ("code", "markdown")
    chapter = [c for c in content["cells"] if not downloads.is_setup(c)]
    return [c for c in chapter if c["cell_type"] in kinds]


def tags(cell):
    return cell["metadata"].get("tags", [])


def source(cell):
    return "".join(cell["source"])


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return request.param


def test_executed_in_order_without_errors(notebook):
    code = cells(notebook, "code")
    assert [c["execution_count"] for c in code] == list(range(1, len(code) + 1))
    for cell in code:
        for output in cell["outputs"]:
            assert output["output_type"] != "error"
            assert output.get("name") != "stderr", source(cell)


def test_the_first_code_cell_installs_what_is_missing(notebook):
    """The one of today's settings; `make notebooks` brings it up to date."""
    stored = json.loads(notebook.read_text("utf-8"))["cells"]
    assert stored == downloads.with_setup(stored, downloads.source())


def test_what_is_printed_or_tabulated_is_compared(notebook):
    """So that no page shows what another processor would not."""
    for cell in cells(notebook, "code"):
        texts = [o for o in cell["outputs"] if "image/png" not in o.get("data", {})]
        assert not texts or COMPARED in tags(cell), source(cell)


def test_is_a_chapter_not_a_program(notebook):
    """Length, prose, definitions, kernel: the habits of the house.

    The exercises at the end are counted by their own test.
    """
    code, prose = (
        [c for c in cells(notebook, kind) if not exercises.is_one(c)]
        for kind in ("code", "markdown")
    )
    assert 15 <= len(code) + len(prose) <= 32
    text = "\n".join(source(c) for c in prose)
    program = "\n".join(source(c) for c in code)
    if notebook.stem != "00_quickstart":  # there the code is what it is about
        assert len(text) > len(program), "more prose than code"
    definitions = [n for n in ast.walk(ast.parse(program)) if _is_definition(n)]
    assert len(definitions) <= 2
    assert source(prose[0]).startswith("# ")
    kernel = json.loads(notebook.read_text("utf-8"))["metadata"]["kernelspec"]
    assert kernel["name"] == "python3"


def _is_definition(node):
    return isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)


def test_one_literal_parameters_cell_that_is_checked_and_used(notebook):
    code = cells(notebook, "code")
    tagged = [i for i, c in enumerate(code) if "parameters" in tags(c)]
    assert tagged == [0], "the first code cell, and no other"
    tree = ast.parse(source(code[0]))
    assert all(isinstance(node, ast.Assign) for node in tree.body)
    names = [node.targets[0].id for node in tree.body]
    for node in tree.body:
        ast.literal_eval(node.value)  # bare literals, nothing derived
    for line in source(code[0]).splitlines():
        assert "#" in line or not line.strip(), f"no comment: {line}"
    assert f'p = parameters.check("{notebook.stem}", globals())' in source(code[1])
    rest = "\n".join(source(c) for c in code[1:])
    for name in names:
        used = re.search(rf"\bp\.{name}\b", rest) or "vars(p)" in rest
        assert used, f"parameter {name} is not used"
    parameters.parse(notebook.stem, [])  # every name and default is known


def test_what_trains_makes_its_studies_too(notebook):
    """By the one function that the command line calls as well."""
    program = "\n".join(source(c) for c in cells(notebook, "code"))
    calls = [n.func for n in ast.walk(ast.parse(program)) if isinstance(n, ast.Call)]
    names = {ast.unparse(call).rpartition(".")[2] for call in calls}
    trains = "train" in parameters.defaults(notebook.stem)
    assert ("train_and_study" in names) == trains
    assert not names & {"run", "study"}


def test_the_command_line_trains_before_the_notebook_runs(monkeypatch):
    given = []
    monkeypatch.setattr(
        notebooks, "train_and_study", lambda *a, **more: given.append((a, more))
    )
    values = {"train": True, "seeds": [7], "lambdas": [16e-5], "device": "cpu"}
    notebooks._train("10_lenet_mnist", values | {"workers": 3, "thresholds": [1e-7]})
    [((configs, *rest), more)] = given
    assert rest == ["cpu", 3] and more == {"group": ALONE}
    assert [(c.method, c.seed) for c in configs] == [("dense", 7), ("maestro", 7)]
    notebooks._train("10_lenet_mnist", {})  # which by default trains nothing
    assert len(given) == 1


def test_compares_something_that_can_fail(notebook):
    compared = [c for c in cells(notebook, "code") if COMPARED in tags(c)]
    assert compared
    assert all(c["outputs"] for c in compared), "a compared cell without output"
    claims = [c for c in cells(notebook, "code") if "assert " in source(c)]
    assert claims or any("claims." in source(c) for c in compared)


def test_every_figure_has_a_caption_and_alt_text(notebook):
    for cell in cells(notebook, "code"):
        pictures = [o for o in cell["outputs"] if "image/png" in o.get("data", {})]
        if pictures:
            told = cell["metadata"].get("mystnb", {})
            assert len(pictures) == 1
            assert len(told["image"]["alt"]) > 30
            assert told["figure"]["caption"] and told["figure"]["name"]


def test_holds_no_paths_and_no_large_outputs(notebook):
    for cell in cells(notebook):
        text = source(cell) + json.dumps(cell.get("outputs", ""))
        assert not re.search(r"/(home|root|Users|tmp|work)/", text)
        assert len(json.dumps(cell.get("outputs", ""))) < 200_000
        assert "papermill" not in cell["metadata"]


def nbval(path):
    command = [sys.executable, "-m", "pytest", "-q", "-rf", "-p", "no:cacheprovider"]
    command += ["--nbval-lax", "--nbval-current-env", str(path)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_every_changed_number_and_verdict_turns_nbval_red_and_nothing_else(tmp_path):
    """A copy of a chapter with other stored outputs; the failures say what to do."""
    changes = {"holds: ": "fails: ", "281,640": "281,641"}
    content = json.loads((ROOT / "notebooks" / "10_lenet_mnist.ipynb").read_text())
    changed = {change: set() for change in changes}
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(code):
        for old, new in changes.items():
            outputs = json.dumps(cell["outputs"])
            if COMPARED in tags(cell) and old in outputs:
                changed[old].add(number)
                cell["outputs"] = json.loads(outputs.replace(old, new))
    assert all(changed.values()), f"in no compared output: {changed}"
    copy = tmp_path / "10_lenet_mnist.ipynb"
    copy.write_text(json.dumps(content), "utf-8")
    shutil.copy(ROOT / "conftest.py", tmp_path)
    result = nbval(copy)
    assert result.returncode == 1, result.stdout
    red = re.findall(r"^FAILED .*::Cell (\d+)", result.stdout, re.MULTILINE)
    assert set(map(int, red)) == set.union(*changed.values()), result.stdout[-3000:]
    assert result.stdout.count("`make notebooks` stores it") == len(red)
    assert "`python -m maestro notebooks 10_lenet_mnist` for this one" in result.stdout


def test_what_a_cell_prints_is_stored_in_one_piece():
    def stream(*text, name="stdout"):
        return {"output_type": "stream", "name": name, "text": list(text)}

    table = {"output_type": "display_data", "data": {"text/plain": ["a table"]}}
    given = [stream("one\n", "tw"), stream("o\n"), stream("x", name="stderr")]
    given += [stream("three"), table, stream("four"), stream("five")]
    assert notebooks.merged(given) == [
        stream("one\n", "two\n"),
        stream("x", name="stderr"),
        stream("three"),
        table,
        stream("fourfive"),
    ]


def test_stored_streams_are_in_one_piece(notebook):
    for cell in cells(notebook, "code"):
        assert notebooks.merged(cell["outputs"]) == cell["outputs"]


@pytest.mark.parametrize(
    ("name", "words", "shown"),
    [
        ("00_quickstart", ["epochs=1", "lambdas=0"], ["smaller where the lasso is on"]),
        ("01_svd_recovery", ["steps=300"], []),
        ("05_theorem", ["problems=10", "seeds=3,4"], []),
        (
            "10_lenet_mnist",
            ["seeds=1", "lambdas=16e-5,5e-5"],
            ["3 of 5 runs have", "not run yet"],
        ),
    ],
)
def test_runs_with_other_parameters(name, words, shown, tmp_path):
    out = notebooks.run(name, words, tmp_path / "out.ipynb")
    text = out.read_text("utf-8")
    assert all(words in text for words in shown)
    assert '"output_type": "error"' not in text
    assert [path.name for path in tmp_path.iterdir()] == ["out.ipynb"]
