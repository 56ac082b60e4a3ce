"""The runs that the book needs, and the training of those without a record."""

from .progress import describe
from .workers import RunsFailed, missing, run

__all__ = ["RunsFailed", "describe", "missing", "run"]
