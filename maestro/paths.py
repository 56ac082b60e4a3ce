"""Where files lie: the repository's folders, and the data sets."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "data" / "runs"
PAPER = ROOT / "data" / "paper"
MODELS = ROOT / "data" / "models"
CACHE = ROOT / "data" / "cache"


def data_folder():
    """Where prepared data sets lie: MAESTRO_DATA if it is set, else data/cache."""
    return Path(os.environ.get("MAESTRO_DATA") or CACHE)
