"""Which runs the book needs, and running those that have no record."""

from .progress import describe
from .workers import RunsFailed, missing, run

__all__ = ["RunsFailed", "describe", "missing", "run"]
