"""The system underneath: the cores of this process, and files that are written whole.

A disk error is one line that names the file or folder, the reason and the remedy.
"""

import errno
import os
import threading
from contextlib import contextmanager
from pathlib import Path

PROBE = b"\0" * 2**20  # what a folder must have room for; a record is a tenth of it
_REMEDIES = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some space there",
    errno.EACCES: "make it writable for this user",
    errno.EPERM: "make it writable for this user",
    errno.EROFS: "make it writable for this user",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.ENOTDIR: "move the file that is in the place of a folder",
    errno.EEXIST: "move the file that is in the place of a folder",
    errno.EISDIR: "move the folder that is in the place of a file",
}


class DiskError(OSError):
    """A file or folder that cannot be written; says which, why and what to do."""


def cores():
    """How many cores this process may use: its affinity counts, not the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads():
    """How many threads to compute with: OMP_NUM_THREADS of them, or one a core.

    More threads than free cores wait for each other at every operation, so a shared
    machine needs the limit.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores(), int(asked)) if asked.isdigit() and int(asked) else cores()


@contextmanager
def writing(path):
    """Within it an OSError becomes a DiskError that names ``path``."""
    try:
        yield
    except DiskError:
        raise
    except OSError as error:
        remedy = _REMEDIES.get(error.errno)
        why = f"{path} cannot be written: {error.strerror or error}"
        raise DiskError(f"{why}; {remedy}" if remedy else why) from error


def write_whole(path, content):
    """Put ``content`` (text or bytes) at ``path``: all of it, or what was there.

    Raises DiskError, with nothing half-written left behind.
    """
    path = Path(path)
    # a thread's number, which no other thread or process of the system has
    part = path.with_name(f".{path.name}.{threading.get_native_id()}.part")
    data = content.encode() if isinstance(content, str) else content
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(part, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def remove_parts(path):
    """Remove what processes that were killed left of writing ``path``.

    Whoever calls this must be the only one that writes there.
    """
    for part in path.parent.glob(f".{path.name}.*.part"):
        part.unlink(missing_ok=True)


def require_writable(folder):
    """Raise DiskError, naming ``folder``, unless a mebibyte can be written there.

    The folder is made if it is not there. Asked before hours of work, not after.
    """
    folder = Path(folder)
    probe = folder / f".probe.{os.getpid()}"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with open(probe, "wb") as file:
                file.write(PROBE)
                file.flush()
                os.fsync(file.fileno())
        finally:
            probe.unlink(missing_ok=True)
