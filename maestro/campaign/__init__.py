"""Which runs the book needs, and running those that have no record."""

from .workers import describe, missing, run

__all__ = ["describe", "missing", "run"]
