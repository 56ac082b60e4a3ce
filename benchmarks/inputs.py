"""Give each input of wrong.py to a process of its own, and judge the answer.

The answer is right if the exit status is not 0, if stderr is one line with everything
that wrong.py asks for, and if no file of the project is new, gone or changed. Several
copies of the project are worked in; each is given one input at a time.
"""

import os
import queue
import resource
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import wrong

from maestro.paths import ROOT
from maestro.publish.notebooks import this_kernel

FOLDERS = ("maestro", "notebooks", "book", "data/paper", "data/bench", "data/runs")
FILES = ("_config.yml", "_toc.yml", "README.md")
RECORDS = 3  # so many records are copied
CALL = """
import sys
try:
    exec(sys.argv[1])
except Exception as error:
    sys.exit(f"error: {error}")
"""
# in a namespace of its own: the mount goes with the process, however that ends
MOUNT = 'mount -t tmpfs -o "$1" tmpfs "$2" && shift 2 && exec "$@"'
DISKS = {  # disk: (how to mount it, what the answer says)
    "full": ("size=64k", "No space left on device; free some space there"),
    "read-only": ("ro", "Read-only file system; make it writable for this user"),
}
LIMIT = 4096  # bytes a file, where nobody may mount a disk
LIMITED = "File too large; raise the limit on the size of files (ulimit -f)"


class Input(NamedTuple):
    """One wrong input, and what the line that answers it must have in it."""

    kind: str
    words: str  # the input, for people
    command: list  # the input, for the system
    answer: tuple  # parts of the line
    damage: tuple = None  # (file, function of its content)
    limited: bool = False  # in the size of its files


def every_input():
    """(all of wrong.py as `Input`s, how the disks are made full, in words)."""
    inputs = [Input("commands", w, ours(w), (a,)) for w, a in wrong.COMMANDS.items()]
    for words, answer in wrong.PARAMETERS.items():
        inputs.append(Input("parameters", words, ours(f"run {words}"), (answer,)))
    for notebook, name, value, answer in wrong.PAPERMILL:
        words = f"papermill {notebook} -p {name} {value}"
        command = [sys.executable, "-m", "papermill", f"notebooks/{notebook}.ipynb"]
        command += ["out.ipynb", "--no-progress-bar", "-p", name, value]
        inputs.append(Input("papermill", words, command, (answer,)))
    for code, answer in wrong.FUNCTIONS.items():
        inputs.append(Input("functions", code, call(code), (answer,)))
    for path, how, change, what, answer in wrong.DAMAGED:
        command = call(what) if "(" in what else ours(what)
        words = f"{what}, {path} {how}"
        inputs.append(Input("damaged files", words, command, (answer,), (path, change)))
    if can_mount():
        return inputs + disk_inputs(), "small and read-only file systems"
    return inputs + limited_inputs(), f"a limit of {LIMIT} bytes on every file"


def disk_inputs():
    """Commands that meet a full disk, and a read-only one."""
    return [
        Input(
            "disks",
            f"{words}, {folder} on a {disk} disk",
            ["unshare", "-rm", "sh", "-c", MOUNT, "sh", option, folder, *ours(words)],
            (folder, f" cannot be written: {answer}"),
        )
        for folder, words in wrong.DISKS
        for disk, (option, answer) in DISKS.items()
    ]


def limited_inputs():
    """The same commands, where every file has its limit."""
    return [
        Input("disks", words, ours(words), (folder, LIMITED), limited=True)
        for folder, words in wrong.DISKS
    ]


def can_mount():
    """Whether this user may mount a file system, in a namespace of his own."""
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/tmp"]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False


def ours(words):
    return [sys.executable, "-m", "maestro", *words.split()]


def call(code):
    return [sys.executable, "-c", CALL, wrong.PRELUDE + code]


def answers(folder, inputs, at_once=2):
    """Give every input to a process, some at once; yields (input, what is wrong).

    What is wrong with the answer is in words, '' if nothing is.
    """
    copies = queue.SimpleQueue()
    for number in range(at_once):
        copies.put(copy_of_the_project(folder / f"project {number}"))

    def one(given):
        project = copies.get()
        try:
            return given, judge(given, project)
        finally:
            copies.put(project)

    with ThreadPoolExecutor(at_once) as pool:
        yield from pool.map(one, inputs)


def copy_of_the_project(folder):
    skip = shutil.ignore_patterns("__pycache__", ".*")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=skip)
    for name in FILES:
        shutil.copy(ROOT / name, folder / name)
    for path in sorted((folder / "data/runs").glob("*.json"))[RECORDS:]:
        path.unlink()
    for name in ("data/cache", "_build", "out"):
        (folder / name).mkdir()
    return folder


def judge(given, project):
    """What is wrong with the answer to ``given``, in words; '' if nothing is."""
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (LIMIT, LIMIT))
    with damaged(project, given.damage):
        before = files_of(project)
        done = subprocess.run(
            given.command,
            cwd=project,
            env=environment(project),
            capture_output=True,
            text=True,
            preexec_fn=limit if given.limited else None,
        )
        lines = done.stderr.splitlines()
        if given.kind == "papermill":  # it writes what it ran, and a traceback
            (project / "out.ipynb").unlink(missing_ok=True)
            lines = [line for line in lines if line.startswith("ParameterError: ")][:1]
        changed = sorted(set(before.items()) ^ set(files_of(project).items()))
    problems = []
    if done.returncode == 0:
        problems.append("exit status 0")
    if len(lines) != 1:
        said = " / ".join(lines[-3:])
        problems.append(f"{len(lines)} lines, exit status {done.returncode}: {said}")
    elif not all(part in lines[0] for part in given.answer):
        problems.append(f"{lines[0]!r} instead of {' ... '.join(given.answer)!r}")
    if changed:
        problems.append(f"{changed[0][0]} is new, gone or changed")
    return "; ".join(problems)


def environment(project):
    """The variables of a process that works in ``project`` alone."""
    return (
        os.environ
        | this_kernel(project / "_build")
        | {
            "PYTHONPATH": str(project),
            "PYTHONDONTWRITEBYTECODE": "1",
            "MAESTRO_DATA": str(project / "data/cache"),
            "OMP_NUM_THREADS": "1",
        }
    )


@contextmanager
def damaged(project, damage):
    """Within it the file has another content."""
    if damage is None:
        yield
        return
    pattern, change = damage
    path = next(iter(sorted(project.glob(pattern))), project / pattern)
    content = path.read_bytes() if path.is_file() else None
    path.write_bytes(change(content))
    try:
        yield
    finally:
        path.unlink() if content is None else path.write_bytes(content)


def files_of(folder):
    """{path: (size, time of the last change)} of every file under ``folder``."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and "_build/kernel" not in str(path)
    }
