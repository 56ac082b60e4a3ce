"""Run one notebook with checked parameters, in the current Python.

papermill runs the notebook. This module checks the parameters before anything is
written, reports an error in one line, and gives an output its name only when the output
is complete.
"""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from ..campaign import catalog
from ..deploy.studies import train_and_study
from ..paths import ROOT
from ..system import require_writable, write_whole, writing
from ..training.distributed import is_main, joined
from . import downloads, parameters

BUILD = ROOT / "_build"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


class NotebookError(RuntimeError):
    """A notebook could not be run; the message is one line that says where and why."""


def run(notebook, words=(), output=None):
    """Run one notebook and write its output.

    With ``train=true`` the missing runs are trained first, with a progress bar. If the
    training is interrupted, the next call resumes it. All processes of torchrun train;
    the first one then runs the notebook. Whatever the notebook prints is shown.

    Args:
        notebook: the name of the notebook.
        words: its parameters, each as "name=value".
        output: the file to write, ``_build/run/<notebook>.ipynb`` if None. It is
            written whole, at the end, and only an earlier output is replaced.

    Returns:
        The path of the output; None in all processes but the first.

    Raises:
        ParameterError: a parameter is wrong.
        NotebookError: ``output`` is not allowed, or a cell fails.
        DiskError: the output cannot be written.
    """
    import papermill

    path = parameters.find(notebook)
    values = parameters.parse(path.stem, words)
    output = _place_for(BUILD / "run" / path.name if output is None else output)
    _train(path.stem, values)
    if not is_main():
        return None
    part = output.with_name(f".{output.stem}.part.ipynb")
    os.environ.update(this_kernel(BUILD))
    try:
        with writing(output):
            papermill.execute_notebook(
                path,
                part,
                parameters=values,
                kernel_name="python3",
                progress_bar=False,
                stdout_file=sys.stdout,
                stderr_file=sys.stderr,
                cwd=output.parent,
            )
            part.replace(output)
    except papermill.PapermillExecutionError:
        raise NotebookError(what_failed(part, path.name)) from None
    finally:
        part.unlink(missing_ok=True)
    return output


def _place_for(output):
    """``output`` as a writable path; only an earlier output may be replaced.

    Papermill marks its outputs. A notebook without the mark is a chapter or somebody's
    own work, which would be lost.
    """
    path = Path(output).absolute()
    if path.suffix != ".ipynb":
        raise NotebookError(f"output={str(output)!r}: name a file that ends in .ipynb")
    if path.resolve().parent == parameters.NOTEBOOKS.resolve():
        raise NotebookError(
            f"output={str(output)!r} is among the chapters: name a file elsewhere"
        )
    if path.exists():
        try:
            mark = json.loads(path.read_text("utf-8"))["metadata"]["papermill"]
        except (OSError, ValueError, KeyError, TypeError):
            mark = None
        if not mark:
            raise NotebookError(
                f"output={str(output)!r} exists and is not the output of an earlier "
                "run: name another file"
            )
    require_writable(path.parent)
    return path


def _train(name, values):
    values = parameters.defaults(name) | values
    if values.get("train"):
        configs = catalog.for_notebook(name, **values)
        device, workers = values["device"], values["workers"]
        with joined(device) as group:
            train_and_study(configs, device, workers, group=group)


def refresh(path):
    """Run a notebook with its defaults and store its outputs in it, normalised.

    Normalised: no papermill traces, no timings, the same cell ids each time, and what a
    cell prints in one piece.
    """
    part = BUILD / "stored" / path.name
    require_writable(part.parent)
    try:
        if start(path, part, os.environ | this_kernel(BUILD)).wait():
            raise NotebookError(what_failed(part, path.name))
        content = json.loads(part.read_text("utf-8"))
    finally:
        part.unlink(missing_ok=True)
        part.with_suffix(".log").unlink(missing_ok=True)
    metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    content["metadata"] = metadata
    content["cells"] = normalised(content["cells"])
    text = json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True)
    write_whole(path, text + "\n")


def normalised(cells):
    """Executed cells as they are stored, with the cell that installs behind the title.

    The cells are numbered without that one, whose text depends on the settings.
    """
    kept = [cell for cell in cells if not downloads.is_setup(cell)]
    counts = itertools.count(1)
    for number, cell in enumerate(kept, 1):
        cell["id"] = f"cell-{number:02d}"
        if cell["cell_type"] == "code":
            cell["outputs"] = merged(cell["outputs"])
            cell["execution_count"] = next(counts)
            for output in cell["outputs"]:
                if "execution_count" in output:
                    output["execution_count"] = cell["execution_count"]
        for name in ("papermill", "execution"):
            cell["metadata"].pop(name, None)
        if cell["metadata"].get("tags") == []:
            del cell["metadata"]["tags"]  # papermill adds an empty list
    return downloads.with_setup(kept, downloads.source())


def merged(outputs):
    """The outputs of a cell, with neighbouring outputs of one stream as one.

    The kernel divides what a cell prints at random moments.
    """
    kept = []
    for output in outputs:
        last = kept[-1] if kept else {}
        stream = output.get("name") if output["output_type"] == "stream" else None
        if stream and last.get("name") == stream:
            text = "".join([*last["text"], *output["text"]])
            last["text"] = text.splitlines(keepends=True)
        else:
            kept.append(dict(output))
    return kept


def start(path, out, env):
    """Papermill on one notebook, in a process of its own; it logs beside its output."""
    command = [sys.executable, "-m", "papermill", str(path), str(out)]
    command += ["--kernel", "python3", "--no-progress-bar", "--cwd", str(out.parent)]
    with open(out.with_suffix(".log"), "wb") as log:
        return subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )


def stop(processes):
    """Interrupt notebooks that still run, so that their kernels end with them."""
    for process in processes:
        process.send_signal(signal.SIGINT)
    for process in processes:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def this_kernel(work):
    """The variable under which the kernel ``python3`` is this very Python.

    Another Jupyter on the machine may have a kernel of that name: the folder written
    here, in ``work``, is looked at first.
    """
    folder = work / "kernel"
    kernel = folder / "kernels" / "python3"
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    argv.append("--log-level=ERROR")  # a lower level prints a warning at every start
    spec = {"argv": argv, "display_name": "Python 3", "language": "python"}
    write_whole(kernel / "kernel.json", json.dumps(spec))
    others = os.environ.get("JUPYTER_PATH")
    paths = [str(folder), others] if others else [str(folder)]
    return {"JUPYTER_PATH": os.pathsep.join(paths)}


def what_failed(path, name):
    """One line: which notebook, which cell, which error; ``path`` is its output."""
    try:
        cells = json.loads(path.read_text("utf-8"))["cells"]
    except (OSError, ValueError):
        cells = []
    marks = "papermill-error-cell-tag"  # cells that papermill adds to point at errors
    cells = [c for c in cells if marks not in c["metadata"].get("tags", ())]
    for number, cell in enumerate(cells, 1):
        for output in cell.get("outputs", ()):
            if output["output_type"] == "error":
                where = f"notebooks/{name}, cell {number} of {len(cells)}"
                return f"{where}: {_error_line(output)}"
    log = path.with_suffix(".log")
    said = log.read_text("utf-8", "replace").strip() if log.exists() else ""
    return f"notebooks/{name}: {(said or 'stopped without a message').splitlines()[-1]}"


def _error_line(output):
    """An error output in one line: its message, or the code that raised it."""
    message = output["evalue"].strip().split("\n")[0]
    if not message:  # a bare assert says nothing: the traceback's arrow points at it
        trace = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(output["traceback"]))
        pointed = re.findall(r"^-+> *\d+ *(.*)$", trace, re.MULTILINE)
        message = pointed[0].strip() if pointed else "no message"
    return f"{output['ename']}: {message}"
