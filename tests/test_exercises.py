"""Every chapter ends with three exercises; how they become a frame and a fold."""

import ast
import json
import re
import sys

import pytest

from maestro.paths import ROOT
from maestro.publish import exercises

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
COUNT = 3
# what the solutions may import beside the standard library: all of it is installed for
# the book, and the reader's copy of a notebook runs
INSTALLED = {"maestro", "torch", "numpy", "pandas", "IPython"}


def cells(path):
    return json.loads(path.read_text("utf-8"))["cells"]


def text(cell):
    return "".join(cell["source"])


def tags(cell):
    return set(cell["metadata"].get("tags", ()))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return request.param


def test_a_chapter_ends_with_three_exercises_and_their_solutions(notebook):
    every = cells(notebook)
    first = next(i for i, c in enumerate(every) if exercises.is_one(c))
    heading, *rest = every[first:]
    assert text(heading) == exercises.HEADING
    assert not any(map(exercises.is_one, every[:first]))
    assert len(rest) == 3 * COUNT, "a statement and a solution in words and code each"
    for number in range(COUNT):
        statement, words, code = rest[3 * number : 3 * number + 3]
        assert tags(statement) == {exercises.STATEMENT}
        title = exercises.TITLE.fullmatch(text(statement).splitlines()[0])
        assert (int(title[2]), int(title[3])) == (int(notebook.stem[:2]), number + 1)
        assert exercises.SOLUTION in tags(words) & tags(code)
        assert (words["cell_type"], code["cell_type"]) == ("markdown", "code")
        assert text(words).startswith(exercises.LEAD)
        assert "nbval-check-output" in tags(code) and code["outputs"]
        assert len(text(code).splitlines()) <= 25


def test_a_solution_imports_what_the_book_installs(notebook):
    for cell in cells(notebook):
        if cell["cell_type"] == "code" and exercises.is_one(cell):
            for node in ast.walk(ast.parse(text(cell))):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    names = [a.name for a in node.names]
                    names = [node.module] if hasattr(node, "module") else names
                    packages = {name.partition(".")[0] for name in names}
                    assert packages <= INSTALLED | sys.stdlib_module_names


DECIMAL = re.compile(r"(?<![\w.,^{])\d[\d,]*\.\d+(?!\w)")


def test_a_solution_in_words_has_no_number_that_the_cell_does_not_show(notebook):
    """What a run decides must change with the runs; prose would not."""
    every = [cell for cell in cells(notebook) if exercises.is_one(cell)][1:]
    for statement, words, code in zip(*[iter(every)] * 3, strict=True):
        printed = [line for o in code["outputs"] for line in o["text"]]
        shown = " ".join([text(statement), text(code), *printed])
        for number in DECIMAL.findall(text(words)):
            assert re.search(rf"(?<![\d.]){re.escape(number)}(?!\d)", shown), number


def test_a_solution_prints_no_verdict_of_the_chapter(notebook):
    """The claims are judged on the lines that a chapter prints before its exercises."""
    for cell in cells(notebook):
        if exercises.is_one(cell):
            printed = [line for o in cell.get("outputs", ()) for line in o["text"]]
            heads = ("holds: ", "DOES NOT HOLD HERE: ")
            assert not [line for line in printed if line.strip().startswith(heads)]


def cell(kind, source, *tags):
    return {"cell_type": kind, "metadata": {"tags": [*tags]}, "source": source}


GIVEN = [
    cell("markdown", "# Title"),
    cell("markdown", "## Exercises"),
    cell("markdown", "### Exercise 4.1: How many?\n\nCount $n$.", "exercise"),
    cell("markdown", "**Solution.** Seven.", "solution"),
    cell("code", "print(7)", "nbval-check-output", "solution"),
]


def test_a_page_has_frames_and_folds():
    title, heading, frame, opened, words, code, closed = exercises.folded(GIVEN)
    assert (title, heading, code) == (GIVEN[0], GIVEN[1], GIVEN[4])
    assert text(frame).splitlines()[:3] == [
        "(exercise-4-1)=",
        "",
        ":::::{admonition} Exercise 4.1: How many?",
    ]
    assert "Count $n$." in text(frame)
    assert "<summary>Solution of exercise 4.1</summary>" in text(opened)
    assert (text(words), text(closed)) == ("Seven.", "</details>")


def test_neighbouring_exercises_have_folds_of_their_own():
    again = cell("markdown", "### Exercise 4.2: Why?\n\nSay.", "exercise")
    shown = "\n".join(map(text, exercises.folded([*GIVEN, again, *GIVEN[3:]])))
    assert shown.count("<details") == shown.count("</details>") == 2
    assert "Solution of exercise 4.2" in shown


def test_a_page_without_exercises_stays_as_it_is(tmp_path):
    page = tmp_path / "page.ipynb"
    page.write_text(json.dumps({"cells": GIVEN[:1]}))
    exercises.fold(page)
    assert json.loads(page.read_text())["cells"] == GIVEN[:1]


def test_a_statement_without_a_title_is_refused():
    with pytest.raises(ValueError, match="### Exercise 1.2: Words"):
        exercises.folded([cell("markdown", "Count.", "exercise")])
