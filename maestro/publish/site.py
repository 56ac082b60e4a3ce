"""The build of the book: papermill runs the notebooks, jupyter-book makes the site.

``build()`` works in ``_build/``. The function copies the pages to ``_build/source``,
runs every notebook into that folder, writes the pages that come from records, and
builds a new site next to the current one. Only a site without a warning replaces the
current one, so a failed or interrupted build leaves the last good site as it was. The
build uses no network.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from ..config import integer
from ..paths import ROOT
from ..results import speed, times
from ..system import require_writable, threads
from . import cards, downloads, exercises, generated, notebooks, start, touch

PAGES = ("_config.yml", "_toc.yml", "CITATION.cff", "book")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class BookError(RuntimeError):
    """The book could not be built; the message is one line that says where and why."""


def build(jobs=2, root=ROOT):
    """Run every notebook, ``jobs`` at a time, build the site, return its index.html.

    ``root`` holds ``_config.yml``, ``_toc.yml``, ``book/`` and ``notebooks/``.
    Raises ValueError on ``jobs`` that is no count, DiskError if the folder for it all
    cannot be written, BookError if a notebook fails or the site has a warning.
    """
    integer("jobs", jobs, low=1)
    work = Path(root) / "_build"
    source, site = work / "source", work / "html"
    where = downloads.source(root)
    _refuse_forgotten(Path(root))
    require_writable(work)
    _restore(site)
    _copy_sources(Path(root), source)
    seconds = _run_notebooks(Path(root) / "notebooks", source / "notebooks", jobs)
    _write_pages(Path(root), source, seconds, where)
    _swap(_make_site(source, work), site)
    index = (site / "index.html").resolve()
    print(
        f"The book is built. Open it in a browser, no server needed:\n{index.as_uri()}"
    )
    return index


# ---------------------------------------------------------------- sources


def _write_pages(root, source, seconds, where):
    """Everything in ``source`` that is made from records, and the files to download."""
    pages = source / "book" / "generated"
    pages.mkdir()
    (pages / "modes.md").write_text(generated.modes_table(), "utf-8")
    (pages / "parameters.md").write_text(generated.parameter_tables(), "utf-8")
    (pages / "seconds.md").write_text(generated.seconds_table(seconds), "utf-8")
    (pages / "stress.md").write_text(generated.stress_tables(), "utf-8")
    (pages / "install.md").write_text(start.install_lines(where), "utf-8")
    measured = speed.load("cpu")
    (pages / "gains.md").write_text(start.gains_table(measured), "utf-8")
    (pages / "losses.md").write_text(start.losses(times.load()), "utf-8")
    (source / "book" / "runs.md").write_text(generated.runs_page(), "utf-8")
    (source / "book" / "networks.md").write_text(generated.networks_page(), "utf-8")
    if (source / "book" / "touch.md").is_file():
        touch.write(source / "book" / "assets" / "touch")
    cards.publish(source)
    for path in sorted((root / "notebooks").glob("[!.]*.ipynb")):
        page = source / "notebooks" / path.name
        exercises.fold(page)
        downloads.add(path, source / "downloads", where, page)


def _refuse_forgotten(root):
    """Every notebook has its place in the book's table of contents."""
    contents = (root / "_toc.yml").read_text("utf-8")
    for path in sorted((root / "notebooks").glob("[!.]*.ipynb")):
        if f"notebooks/{path.stem}\n" not in contents + "\n":
            raise BookError(f"notebooks/{path.name} is not in _toc.yml")


def _copy_sources(root, source):
    """A fresh ``source`` with the hand-written pages of ``root``."""
    shutil.rmtree(source, ignore_errors=True)
    (source / "notebooks").mkdir(parents=True)
    for name in PAGES:
        copy = shutil.copytree if (root / name).is_dir() else shutil.copy
        copy(root / name, source / name)


def _run_notebooks(folder, out, jobs):
    """Run all notebooks into ``out``; return {name: seconds}. The first error stops.

    One process and one kernel each; the cores are shared out among the ``jobs``.
    """
    from tqdm import tqdm

    waiting = sorted(folder.glob("[!.]*.ipynb"))
    running, seconds = {}, {}
    share = str(max(1, threads() // jobs))
    env = (
        os.environ
        | notebooks.this_kernel(out.parent.parent)
        | dict.fromkeys(THREADS, share)
    )
    bar = tqdm(
        total=len(waiting), desc="notebooks", unit="notebook", dynamic_ncols=True
    )
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                path = waiting.pop(0)
                running[path.stem] = (
                    notebooks.start(path, out / path.name, env),
                    time.monotonic(),
                )
            for name, (process, start) in list(running.items()):
                if process.poll() is None:
                    continue
                del running[name]
                if process.returncode:
                    raise BookError(
                        notebooks.what_failed(out / f"{name}.ipynb", f"{name}.ipynb")
                    )
                seconds[name] = time.monotonic() - start
                bar.update()
            bar.set_postfix_str(" ".join(running), refresh=False)
            time.sleep(0.1)
    finally:
        bar.close()
        notebooks.stop([process for process, _ in running.values()])
    return seconds


# ---------------------------------------------------------------- site


def _make_site(source, work):
    """jupyter-book on ``source``; return the folder of the finished site."""
    out = work / "new"
    shutil.rmtree(out, ignore_errors=True)
    start = "import sys; from jupyter_book.cli.main import main; sys.exit(main())"
    strict = ["-W", "-n", "--keep-going", "-q"]
    command = [sys.executable, "-c", start, "build", str(source), "--path-output"]
    print("building the site ...", flush=True)
    done = subprocess.run(
        command + [str(out), *strict], capture_output=True, text=True, encoding="utf-8"
    )
    if done.returncode or not (out / "_build/html/index.html").is_file():
        output = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
        lines = output.replace(f"{source.resolve()}{os.sep}", "").splitlines()
        errors = [x for x in lines if re.search("WARNING|ERROR|CRITICAL|Error:", x)]
        print("\n".join(errors or lines[-30:]), file=sys.stderr)
        raise BookError("the site was not built: see the warnings and errors above")
    return out / "_build" / "html"


def _swap(new, site):
    """Put ``new`` in the place of ``site``; the old one goes only when it stands."""
    old = site.with_name("html.old")
    shutil.rmtree(old, ignore_errors=True)
    if site.exists():
        site.rename(old)
    new.rename(site)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(site.with_name("new"), ignore_errors=True)


def _restore(site):
    """Undo a swap that was cut off half-way."""
    old = site.with_name("html.old")
    if old.exists() and not site.exists():
        old.rename(site)
