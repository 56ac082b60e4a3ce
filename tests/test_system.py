"""Files are written whole or not at all; what the disk refuses is told in one line."""

import errno
import os
import subprocess
import sys

import pytest

from maestro import system
from maestro.system import DiskError, require_writable, write_whole

LIMITED = """
import resource, sys
from maestro.system import require_writable, write_whole
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
for write in (lambda: write_whole(sys.argv[1], b"new" * 100_000),
              lambda: require_writable(sys.argv[2])):
    try:
        write()
    except OSError as error:
        print(error)
"""


def test_what_is_written_is_there_in_the_place_of_what_was(tmp_path):
    path = tmp_path / "deep" / "file"
    for content in ("old", b"new"):
        write_whole(path, content)
    assert path.read_bytes() == b"new" and list(path.parent.iterdir()) == [path]


def test_a_write_that_the_system_cuts_off_leaves_what_was_there(tmp_path):
    target = tmp_path / "file.pt"
    write_whole(target, "old")
    command = [sys.executable, "-c", LIMITED, target, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    why = "cannot be written: File too large; raise the limit on the size of files"
    assert done.stdout.splitlines() == [
        f"{place} {why} (ulimit -f)" for place in (target, tmp_path)
    ]
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_an_interrupt_while_writing_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "file.pt", b"new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.ENOSPC, "No space left on device; free some space there"),
        (errno.EROFS, "Read-only file system; make it writable for this user"),
        (errno.EIO, "Input/output error"),
    ],
)
@pytest.mark.parametrize("name", [".", "new/folder"])
def test_a_folder_that_takes_no_files_is_named(
    name, code, remedy, tmp_path, monkeypatch
):
    folder = tmp_path / name
    require_writable(folder)
    assert [path for path in folder.iterdir() if path.is_file()] == []

    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(DiskError) as caught:
        require_writable(folder)
    assert str(caught.value) == f"{folder} cannot be written: {remedy}"
    assert [path for path in folder.iterdir() if path.is_file()] == []


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "runs").write_text("")
    for folder in (tmp_path / "runs", tmp_path / "runs" / "deeper"):
        with pytest.raises(DiskError, match=r"runs.*; move the file that is in the pl"):
            require_writable(folder)


def test_cores_are_those_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert system.cores() == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    assert system.cores() == 64


@pytest.mark.parametrize(
    ("asked", "threads"),
    [(None, 4), ("1", 1), ("3", 3), ("8", 4), ("0", 4), ("2,1", 4)],
)
def test_threads_are_as_many_as_asked_for_at_most_one_a_core(
    monkeypatch, asked, threads
):
    monkeypatch.setattr(system, "cores", lambda: 4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert system.threads() == threads
