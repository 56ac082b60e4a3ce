"""The book's build: what stops it, what it leaves standing, what it writes itself."""

import sys

import nbformat
import pytest

from maestro.publish import notebooks, parameters, site
from maestro.system import DiskError


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A book of one page and one notebook; returns (its root, a way to write cells)."""
    (tmp_path / "book").mkdir()
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "book" / "intro.md").write_text(
        "# Intro\n\n[on](../notebooks/01_a.ipynb)"
    )
    (tmp_path / "CITATION.cff").write_text("title: small\n")
    (tmp_path / "_config.yml").write_text("title: small\nonly_build_toc_files: true\n")
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: book/intro\nchapters:\n  - file: notebooks/01_a\n"
    )
    monkeypatch.setattr(parameters, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(site, "ROOT", tmp_path)
    monkeypatch.setattr(notebooks, "BUILD", tmp_path / "_build")
    monkeypatch.setenv("JUPYTER_PATH", "")  # put back when the test is over

    def write(*sources):
        cells = [nbformat.v4.new_markdown_cell("# A")]
        cells += [nbformat.v4.new_code_cell(source) for source in sources]
        cells[1].metadata["tags"] = ["parameters"]
        kernel = {"name": "python3", "display_name": "", "language": "python"}
        notebook = nbformat.v4.new_notebook(
            cells=cells, metadata={"kernelspec": kernel}
        )
        nbformat.write(notebook, tmp_path / "notebooks" / "01_a.ipynb")

    write("seed = 1", "print(f'seed {seed}')")
    return tmp_path, write


def test_a_failed_build_leaves_the_last_good_site(small, capfd):
    root, write = small
    index = site.build(1, root)
    page = root / "_build/html/notebooks/01_a.html"
    assert "seed 1" in page.read_text() and index.as_uri() in capfd.readouterr().out
    write("seed = 1", "assert seed == 2")
    with pytest.raises(site.BookError, match=r"01_a.ipynb, cell 3 of 3: .*seed == 2"):
        site.build(1, root)
    write("seed = 3", "print(f'seed {seed}')")
    (root / "book" / "intro.md").write_text("# Intro\n\n[to](nowhere.md)")
    with pytest.raises(site.BookError):
        site.build(1, root)
    assert "nowhere.md" in capfd.readouterr().err
    assert "seed 1" in page.read_text()
    (root / "book" / "intro.md").write_text("# Intro")
    site.build(1, root)
    assert "seed 3" in page.read_text()


def test_a_swap_that_was_cut_off_is_undone(tmp_path):
    (tmp_path / "html.old").mkdir()
    site._restore(tmp_path / "html")
    assert (tmp_path / "html").is_dir() and not (tmp_path / "html.old").exists()


def test_a_notebook_without_a_place_in_the_book_stops_it(small):
    root, _ = small
    (root / "notebooks" / "02_b.ipynb").write_text("{}")
    with pytest.raises(site.BookError, match="02_b.ipynb is not in _toc.yml"):
        site.build(1, root)


def test_run_writes_the_whole_notebook_or_nothing(small, capfd):
    root, write = small
    out = notebooks.run("01_a", ["seed=5"])
    assert "seed 5" in out.read_text() and "seed 5" in capfd.readouterr().out
    out.unlink()
    write("seed = 1", "assert seed == 1, 'not one'")
    with pytest.raises(
        notebooks.NotebookError, match="01_a.ipynb, cell 4 of 4.*: not one"
    ):
        notebooks.run("01_a", ["seed=5"])
    assert list(out.parent.iterdir()) == []
    for words in (["sede=5"], ["seed=x"]):
        with pytest.raises(parameters.ParameterError):
            notebooks.run("01_a", words)


def test_nothing_is_overwritten_but_what_an_earlier_run_wrote(small, tmp_path, capfd):
    root, _ = small
    chapter = root / "notebooks" / "01_a.ipynb"
    mine, before = root / "mine.ipynb", chapter.read_text()
    mine.write_text(before)  # a notebook that somebody wrote
    (root / "a.ipynb").mkdir()
    (root / "file").write_text("")
    for output, why in (
        (chapter, "among the chapters: name a file elsewhere"),
        (root / "notebooks" / "99_new.ipynb", "among the chapters"),
        (mine, "not the output of an earlier run: name another file"),
        (root / "a.ipynb", "not the output of an earlier run"),
        (root / "out.txt", "name a file that ends in .ipynb"),
        ("", "': name a file that ends in .ipynb"),
    ):
        with pytest.raises(notebooks.NotebookError, match=f"output='.*{why}"):
            notebooks.run("01_a", output=output)
    with pytest.raises(DiskError, match="move the file that is in the place of a fold"):
        notebooks.run("01_a", output=root / "file" / "out.ipynb")
    assert chapter.read_text() == mine.read_text() == before
    out = notebooks.run("01_a", ["seed=5"], root / "out.ipynb")
    assert notebooks.run("01_a", ["seed=6"], out) == out
    assert "seed 6" in out.read_text()


@pytest.mark.parametrize("jobs", [0, -1, 1.5, True, "2", None])
def test_a_wrong_number_of_jobs_stops_before_anything_is_written(jobs, small):
    root, _ = small
    with pytest.raises(ValueError, match=f"jobs={jobs!r}: it takes an integer >= 1"):
        site.build(jobs, root)
    assert not (root / "_build").exists()


def test_a_book_that_cannot_be_written_says_where(small):
    root, _ = small
    (root / "_build").write_text("")
    with pytest.raises(DiskError, match="_build cannot be written"):
        site.build(1, root)


def test_another_jupyters_python3_is_not_used(small, monkeypatch, capfd):
    root, write = small
    foreign = root / "foreign" / "kernels" / "python3"
    foreign.mkdir(parents=True)
    (foreign / "kernel.json").write_text(
        '{"argv": ["/bin/false"], "display_name": "other", "language": "python"}'
    )
    monkeypatch.setenv("JUPYTER_PATH", str(root / "foreign"))
    write("seed = 1", "import sys; print('it is', sys.executable)")
    notebooks.run("01_a")
    assert f"it is {sys.executable}" in capfd.readouterr().out
