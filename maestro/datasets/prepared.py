"""Prepared data sets: one .npz each, whole or not there, checked at each reading."""

import os
import zipfile
import zlib

import numpy as np

from ..system import writing


class DataError(RuntimeError):
    """Data that is missing or damaged; says which file and what to do."""


# what numpy, zip and zlib raise on a file that is cut off, overwritten or another one
_DAMAGE = (OSError, ValueError, EOFError, TypeError, KeyError, NotImplementedError)
_DAMAGE += (zipfile.BadZipFile, zlib.error)


def read(path, sha256, fingerprint):
    """The arrays of a prepared data set, if they are what they were.

    Their ``fingerprint`` (a function of them) must be ``sha256``, or the one that
    `write` put beside them. Raises DataError naming the file and the way to a good one.
    """
    if not path.is_file():
        raise DataError(f"{path} is not there; {how_to_get(path.stem)}")
    try:
        with np.load(path) as file:
            arrays = dict(file)
        written = str(arrays.pop("sha256", ""))
        found = fingerprint(arrays)
    except _DAMAGE as error:
        why = str(error)
    else:
        if found in (sha256, written):
            return arrays
        expected = sha256 or written or "known"
        why = f"its sha256 is {found[:12]}..., not {expected[:12]}..."
    raise DataError(
        f"{path} is damaged ({why}); delete it, then {how_to_get(path.stem)}"
    )


def write(path, arrays, fingerprint):
    """Write ``arrays`` and their fingerprint to ``path``, whole or not at all.

    Raises DiskError if the disk refuses.
    """
    part = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            np.savez(part, **arrays, sha256=np.array(fingerprint(arrays)))
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


def how_to_get(name):
    return f"fetch it with `python -m maestro data {name}`, or set MAESTRO_DATA"
