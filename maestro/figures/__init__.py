"""The book's figures: plain arrays in, a matplotlib Figure out, one function each.

Nothing here trains or reads records; every figure comes back closed, so that a
notebook shows it once.
"""

from .runs import (
    convergence,
    error_against,
    layer_ranks,
    mask_and_cut,
    rank_progression,
    trade_off,
)
from .theory import (
    angles,
    excess_decay,
    ordering,
    rank_errors,
    remedies,
    seed_ranks,
    singular_values,
    svd_recovery,
    theorem_gaps,
)

__all__ = [
    "error_against",
    "angles",
    "convergence",
    "excess_decay",
    "layer_ranks",
    "mask_and_cut",
    "ordering",
    "rank_errors",
    "rank_progression",
    "remedies",
    "seed_ranks",
    "singular_values",
    "svd_recovery",
    "theorem_gaps",
    "trade_off",
]
