"""A report on the packages, data and browser that the book needs on this machine."""

import importlib.util
import platform
import sys
from importlib import metadata

from ..paths import RUNS, data_folder
from ..results import records
from . import browser

NEEDED = ("torch", "numpy", "pandas", "matplotlib", "tqdm")
BOOK = ("papermill", "ipykernel", "sklearn", "jupyter_book", "nbval", "playwright")


def report():
    """Print the report; returns 1 if a package for training is missing, else 0."""
    print(f"Python {platform.python_version()} ({sys.executable})")
    missing = [name for name in NEEDED if not _has(name)]
    print(f"to train: {'complete' if not missing else 'missing ' + ', '.join(missing)}")
    lacking = [name for name in BOOK if not _has(name)]
    print(f"for the book: {'complete' if not lacking else 'no ' + ', '.join(lacking)}")
    if not missing:
        _torch()
    prepared = sorted(path.stem for path in data_folder().glob("*.npz"))
    print(f"data in {data_folder()}: {', '.join(prepared) or 'none yet'}")
    print(f"browser for the site's tests: {browser.find_browser() or 'none'}")
    good, bad = records.read_all()
    print(f"records in {RUNS}: {len(good)} good, {len(bad)} damaged")
    return int(bool(missing))


def _torch():
    import torch

    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, GPU: {cuda}")
    from ..datasets import torchvision_repair

    try:
        torchvision_repair.import_torchvision()
    except ImportError:
        print("torchvision: not installed (only its own networks and ImageNet need it)")
        return
    note = " (built for another torch; repaired)" if torchvision_repair.repaired else ""
    print(f"torchvision {metadata.version('torchvision')}{note}")


def _has(name):
    return importlib.util.find_spec(name) is not None
