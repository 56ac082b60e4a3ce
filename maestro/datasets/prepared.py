"""Prepared data sets: one .npz each, written whole, checked at each reading."""

import io
import zipfile
import zlib

import numpy as np

from ..system import write_whole


class DataError(RuntimeError):
    """Data is missing or damaged. The message names the file and the remedy."""


# the exceptions of numpy, zip and zlib on a truncated, overwritten or other file
_DAMAGE = (OSError, ValueError, EOFError, TypeError, KeyError, NotImplementedError)
_DAMAGE += (zipfile.BadZipFile, zlib.error)


def read(path, sha256, fingerprint):
    """The arrays of a prepared data set, after a check of their fingerprint.

    Args:
        path: the .npz.
        sha256: the known fingerprint; None if only the one stored by `write` is known.
        fingerprint: the function of the arrays.

    Raises:
        DataError: the file is missing or damaged, or has another fingerprint.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing; {how_to_get(path.stem)}")
    try:
        with np.load(path) as file:
            arrays = dict(file)
        written = str(arrays.pop("sha256", ""))
        computed = fingerprint(arrays)
    except _DAMAGE as error:
        why = str(error)
    else:
        if computed in (sha256, written):
            return arrays
        expected = sha256 or written or "known"
        why = f"its sha256 is {computed[:12]}..., not {expected[:12]}..."
    raise DataError(
        f"{path} is damaged ({why}); delete it, then {how_to_get(path.stem)}"
    )


def write(path, arrays, fingerprint):
    """Write ``arrays`` and their fingerprint to ``path``, whole or not at all.

    Raises DiskError if the file cannot be written.
    """
    content = io.BytesIO()
    np.savez(content, **arrays, sha256=np.array(fingerprint(arrays)))
    write_whole(path, content.getbuffer())


def how_to_get(name):
    return f"fetch it with `python -m maestro data {name}`, or set MAESTRO_DATA"
