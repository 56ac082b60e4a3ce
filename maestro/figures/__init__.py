"""The book's figures, one function each: plain arrays in, a matplotlib Figure out.

Nothing here trains or reads records. Every figure is returned closed, so that a
notebook shows the figure once.
"""

from .cuts import cut_curves
from .overview import counted_and_timed, printed_and_ours
from .runs import (
    convergence,
    error_against,
    layer_ranks,
    mask_and_cut,
    rank_progression,
    trade_off,
)
from .sampling import sampling_costs, uniform_cuts
from .speed import step_parts, time_against_macs
from .systems import ablation, frontier
from .theory import (
    angles,
    column_sizes,
    dead_tail,
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
    "ablation",
    "angles",
    "column_sizes",
    "convergence",
    "counted_and_timed",
    "cut_curves",
    "dead_tail",
    "excess_decay",
    "frontier",
    "layer_ranks",
    "mask_and_cut",
    "ordering",
    "printed_and_ours",
    "rank_errors",
    "rank_progression",
    "remedies",
    "sampling_costs",
    "seed_ranks",
    "singular_values",
    "step_parts",
    "svd_recovery",
    "theorem_gaps",
    "time_against_macs",
    "trade_off",
    "uniform_cuts",
]
