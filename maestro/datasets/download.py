"""Files from the net: several mirrors, checksums, resuming; whole or not at all.

While a file comes in it is NAME.part, which is kept when the connection breaks and gone
on with the next time. Only what has the right checksum gets its name. A file that was
put there by hand is as good as one that was fetched.
"""

import gzip
import hashlib
import http.client
import os
import urllib.error
import urllib.request
import zlib
from contextlib import contextmanager
from dataclasses import dataclass

from ..system import DiskError, require_writable, writing
from .prepared import DataError

_CHUNK = 1 << 16  # bytes
_TIMEOUT = 30  # seconds without an answer
_NO_RANGE = 416  # HTTP: what we have already is no beginning of that file


@dataclass(frozen=True)
class Source:
    """A file to fetch, and where from.

    md5: of the unpacked content if ``gzipped`` (which does not depend on who packed
    it), else of the file. mirrors: addresses to put before ``name``, in this order.
    """

    name: str
    md5: str
    mirrors: tuple
    gzipped: bool = True


@contextmanager
def fetched(sources, folder, progress=True):
    """Paths of ``sources`` in ``folder``, for as long as they are made use of.

    Those that had to be fetched are removed at the end. If what is done with them goes
    wrong they stay, and need not be fetched again. Raises DataError as `fetch` does.
    """
    sources = list(sources)
    new = [s.name for s in sources if not (folder / s.name).is_file()]
    yield [fetch(source, folder, progress) for source in sources]
    for name in new:
        (folder / name).unlink()


def fetch(source, folder, progress=True):
    """The path of ``source`` in ``folder``, fetched from the first mirror that has it.

    Raises DataError naming a file that is there but damaged, each mirror and what was
    wrong with it, and what to do by hand; DiskError if the folder cannot be written.
    """
    path = folder / source.name
    problems = []
    if path.is_file():
        if _md5(path, source) == source.md5:
            return path
        problems.append(f"{path} is there but damaged (its md5 is not {source.md5})")
    part = path.with_name(f"{source.name}.part")
    if source.mirrors:
        require_writable(folder)
    for mirror in source.mirrors:
        problem = _try(mirror + source.name, source, part, progress)
        if problem is None:
            os.replace(part, path)
            return path
        problems.append(f"{mirror}: {problem}")
    why = "; ".join(problems) or "it is not there"
    raise DataError(
        f"{source.name} could not be had: {why}. Fetch it by hand, put it in {folder}, "
        "and run this again"
    )


def _try(url, source, part, progress):
    """Make ``part`` the right file, from ``url``; returns what went wrong, or None."""
    begun = part.is_file()
    if begun and _md5(part, source) == source.md5:
        return None  # it was killed just before the end
    try:
        _download(url, part, progress)
    except urllib.error.HTTPError as error:
        if not (begun and error.code == _NO_RANGE):
            return str(error)
    except DiskError:
        raise  # another mirror would not help
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    if _md5(part, source) == source.md5:
        return None
    part.unlink()
    if begun:  # perhaps what was there was wrong already: once more from the start
        return _try(url, source, part, progress)
    return "what it sent is not the file (md5 differs)"


def _download(url, part, progress):
    """Write what ``url`` sends to ``part``, after what is there if it can go on."""
    from tqdm import tqdm

    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url)
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            have = 0  # it sends all of it
        length = answer.headers.get("Content-Length")
        size = have + int(length) if length else None
        name = url.rpartition("/")[2]
        with (
            open(part, "ab" if have else "wb") as file,
            tqdm(
                total=size,
                initial=have,
                unit="B",
                unit_scale=True,
                desc=name,
                disable=not progress,
            ) as bar,
        ):
            while chunk := answer.read(_CHUNK):
                with writing(part):
                    bar.update(file.write(chunk))
                    file.flush()
            have = file.tell()
    if size is not None and have < size:
        raise OSError(f"the connection broke after {have:,} of {size:,} bytes")


def _md5(path, source):
    """The md5 that a Source has, of the file at ``path``; None if it is no gzip."""
    digest = hashlib.md5()
    try:
        with (gzip.open if source.gzipped else open)(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        return None
    return digest.hexdigest()
