"""Downloads with mirrors, checksums and resumption.

A file is NAME.part while its download is in progress. If the connection breaks, the
part stays and the next call resumes the download. A file gets its name only once its
checksum is right. A file put into the folder by hand is used like a fetched one.
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
_NO_RANGE = 416  # HTTP: the range is not in the file


@dataclass(frozen=True)
class Source:
    """A file to fetch, and its mirrors.

    Args:
        name: the name of the file.
        md5: the checksum, of the unpacked content if ``gzipped``, because packed files
            differ by packer.
        mirrors: addresses that ``name`` is appended to, in the order to try.
        gzipped: whether the file is a gzip.
    """

    name: str
    md5: str
    mirrors: tuple
    gzipped: bool = True


@contextmanager
def fetched(sources, folder, progress=True):
    """Fetch ``sources`` into ``folder`` for the time of the context; yields the paths.

    Files that had to be fetched are removed at the end. If the body raises, they stay,
    so that they need not be fetched again. Raises DataError as `fetch`.
    """
    sources = list(sources)
    new = [s.name for s in sources if not (folder / s.name).is_file()]
    yield [fetch(source, folder, progress) for source in sources]
    for name in new:
        (folder / name).unlink()


def fetch(source, folder, progress=True):
    """Fetch ``source`` into ``folder`` from the first mirror that has the file.

    A file that is in the folder with the right checksum is not fetched.

    Args:
        source: the `Source`.
        folder: a Path.
        progress: whether to show a progress bar.

    Returns:
        The path of the file.

    Raises:
        DataError: no mirror has the file. The message names the error of each mirror.
        DiskError: the folder cannot be written.
    """
    path = folder / source.name
    problems = []
    if path.is_file():
        if _md5(path, source) == source.md5:
            return path
        problems.append(f"{path} exists but is damaged (its md5 is not {source.md5})")
    part = path.with_name(f"{source.name}.part")
    if source.mirrors:
        require_writable(folder)
    for mirror in source.mirrors:
        problem = _try(mirror + source.name, source, part, progress)
        if problem is None:
            os.replace(part, path)
            return path
        problems.append(f"{mirror}: {problem}")
    why = "; ".join(problems) or "the file is missing"
    raise DataError(
        f"{source.name} could not be fetched: {why}. Download the file by hand, put it "
        f"into {folder}, and run this again"
    )


def _try(url, source, part, progress):
    """Download ``url`` to ``part`` and check the result; returns the error, or None."""
    begun = part.is_file()
    if begun and _md5(part, source) == source.md5:
        return None  # an earlier process was killed just before the renaming
    try:
        _download(url, part, progress)
    except urllib.error.HTTPError as error:
        if not (begun and error.code == _NO_RANGE):
            return str(error)
    except DiskError:
        raise  # no other mirror would help
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    if _md5(part, source) == source.md5:
        return None
    part.unlink()
    if begun:  # the earlier part may have been wrong: try once more from the start
        return _try(url, source, part, progress)
    return "the server sent another file (md5 differs)"


def _download(url, part, progress):
    """Download ``url`` to ``part``, resuming if the server can."""
    from tqdm import tqdm

    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url)
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            have = 0  # the server sends the whole file
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
    """The md5 of the file at ``path``, as in a Source; None for a broken gzip."""
    digest = hashlib.md5()
    try:
        with (gzip.open if source.gzipped else open)(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        return None
    return digest.hexdigest()
