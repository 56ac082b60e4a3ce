"""What readers take away: buttons, files, and the cell that installs; with and without
a public address."""

import ast
import importlib.util
import json
import subprocess
import sys
from importlib import metadata

import pytest
from packaging.requirements import Requirement

from maestro.paths import ROOT
from maestro.publish import downloads, notebooks, start
from maestro.publish.downloads import Source

NOWHERE = Source("", "v1.0")
PUBLIC = Source("https://github.com/owner/book", "v1.0")
ELSEWHERE = Source("https://git.example.org/owner/book", "v1.0")
CELLS = [
    {"cell_type": "markdown", "metadata": {}, "source": ["# Title\n", "\n", "Text."]},
    {"cell_type": "code", "metadata": {}, "source": ["x = 1\n", "print(x)"]},
]


def settings(folder, text):
    (folder / "_config.yml").write_text(text)
    return folder


def test_the_address_is_one_setting(tmp_path):
    told = "repository:\n  url: https://github.com/owner/book/\n  branch: v1.0\n"
    assert downloads.source(settings(tmp_path, told)) == PUBLIC
    assert PUBLIC.pinned == "https://github.com/owner/book@v1.0"
    for empty in ("title: a\n", 'repository:\n  url: ""\n', "repository:\n"):
        assert downloads.source(settings(tmp_path, empty)).url == ""
    assert downloads.source().tag  # the book's own settings can be read


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (
            "url: github.com/owner/book\n  branch: v1",
            "url='github.com/owner/book' in _co",
        ),
        (
            "url: https://github.com/owner\n  branch: v1",
            "it takes https://HOST/OWNER/NAM",
        ),
        (
            "url: https://github.com/owner/book",
            "branch='' in _config.yml: it takes a t",
        ),
    ],
)
def test_a_wrong_address_is_told(told, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        downloads.source(settings(tmp_path, f"repository:\n  {told}\n"))


def run_setup(where, monkeypatch, there):
    """Run the cell where ``maestro`` is there or missing; the commands it started."""
    commands, path = [], list(sys.path)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: find(name) if there else None
    )
    monkeypatch.setattr(subprocess, "run", lambda *a, **named: commands.append(a[0]))
    monkeypatch.setattr(sys, "path", path)
    exec("".join(downloads.setup_cell(where)["source"]), {})
    return commands, path


@pytest.mark.parametrize("where", [NOWHERE, PUBLIC])
def test_where_the_package_is_there_nothing_is_installed(where, monkeypatch):
    before = list(sys.path)
    assert run_setup(where, monkeypatch, there=True) == ([], before)


def test_a_missing_package_is_installed_from_the_tag(monkeypatch):
    [command], path = run_setup(PUBLIC, monkeypatch, there=False)
    assert command[1:4] == ["-m", "pip", "install"]
    assert command[-2:] == ["-e", f"git+{PUBLIC.pinned}#egg=maestro-book"]
    assert path[-1] == "book/maestro-book"  # where pip's --src book puts it
    assert set(downloads.NEEDS) <= set(command)


def test_without_an_address_the_missing_package_is_named(monkeypatch):
    with pytest.raises(ModuleNotFoundError, match="maestro is missing: .* Start"):
        run_setup(NOWHERE, monkeypatch, there=False)


def test_what_notebooks_import_is_installed():
    own = {Requirement(r).name for r in metadata.requires("maestro-book") or ()}
    there = own | set(downloads.NEEDS) | {"ipython", "maestro-book"}
    by_module = metadata.packages_distributions()
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            if cell["cell_type"] != "code":
                continue
            for node in ast.walk(ast.parse("".join(cell["source"]))):
                names = [a.name for a in getattr(node, "names", ())]
                if isinstance(node, ast.ImportFrom):
                    names = [node.module]
                elif not isinstance(node, ast.Import):
                    continue
                tops = {name.partition(".")[0] for name in names}
                for top in tops - sys.stdlib_module_names - {"maestro"}:
                    assert there & {d.lower() for d in by_module[top]}, (path, top)


def test_the_cell_takes_the_place_of_an_earlier_one():
    once = downloads.with_setup(CELLS, PUBLIC)
    assert [downloads.is_setup(cell) for cell in once] == [False, True, False]
    assert downloads.with_setup(once, PUBLIC) == once
    again = downloads.with_setup(once, NOWHERE)
    assert len(again) == 3 and again[1] == downloads.setup_cell(NOWHERE)


def test_stored_cells_are_numbered_without_the_one_that_installs():
    cells = downloads.with_setup(json.loads(json.dumps(CELLS)), NOWHERE)
    output = {"output_type": "execute_result", "execution_count": 2, "data": {}}
    cells[1] |= {"execution_count": 1}
    cells[2] |= {"execution_count": 2, "outputs": [output]}
    stored = notebooks.normalised(cells)
    assert [cell["id"] for cell in stored] == ["cell-01", "setup", "cell-02"]
    assert stored[1]["execution_count"] is None
    assert stored[2]["execution_count"] == 1
    assert stored[2]["outputs"][0]["execution_count"] == 1


@pytest.mark.parametrize("where", [NOWHERE, PUBLIC, ELSEWHERE])
def test_the_page_links_the_files_and_colab_where_it_can(where, tmp_path):
    pages, files = tmp_path / "notebooks", tmp_path / "downloads"
    pages.mkdir()
    for path in (tmp_path / "a.ipynb", pages / "a.ipynb"):
        path.write_text(json.dumps({"cells": CELLS}))
    downloads.add(tmp_path / "a.ipynb", files, where, pages / "a.ipynb")
    shown = "".join(json.loads((pages / "a.ipynb").read_text())["cells"][0]["source"])
    assert shown.startswith("# Title\n\n```{div} take-away\n")
    assert shown.endswith("```\n\nText.")
    for ending in ("ipynb", "py"):
        assert f"<../downloads/a.{ending}>`" in shown
    colab = "(https://colab.research.google.com/github/owner/book/blob/v1.0/notebooks/"
    assert (f"[Open in Colab]{colab}a.ipynb)" in shown) == (where is PUBLIC)
    assert ("colab" in shown.lower()) == (where is PUBLIC)
    kept = json.loads((files / "a.ipynb").read_text())["cells"]
    assert kept == downloads.with_setup(CELLS, where)
    script = (files / "a.py").read_text()
    assert script.startswith("# %% [markdown]\n# # Title\n#\n# Text.\n\n# %%\n# ")
    names = {"importlib": importlib}
    exec(script, names)  # maestro is there, so nothing is installed
    assert names["x"] == 1


def test_the_tag_is_installed_where_there_is_an_address():
    assert start.install_lines(NOWHERE) == ""
    line = f'pip install "maestro-book @ git+{PUBLIC.pinned}"'
    assert line in start.install_lines(PUBLIC)
