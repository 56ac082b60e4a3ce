"""The files that benchmarks/ writes: data/bench, a file for each measurement."""

import json

from ..paths import ROOT

FOLDER = ROOT / "data" / "bench"


def load(name, folder=FOLDER):
    """The measurement ``name``, as the benchmark wrote it; None without a file.

    Raises ValueError if the file is damaged.
    """
    path = folder / f"{name}.json"
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}): take it from the repository anew"
        ) from None
