"""Low-rank layers W = U V^T for any network, and what LoD does to them (Sec. 3)."""

from .base import LowRank
from .batch_norm import recalibrate
from .convolutions import LowRankConv, LowRankConvTranspose
from .draws import columns_in_use
from .factorize import factorize, left_alone, low_rank_layers, ranks, refactorize
from .layers import LowRankLinear, LowRankWeight
from .merging import merge
from .penalty import (
    add_lasso_gradient,
    hierarchical_group_lasso,
    importance,
    proximal_step,
    suffix_norms,
    tail_floor,
)
from .sampling import MODES, Masks, RankSampler, expected_columns, sample
from .shrinking import energy_ranks, shrink, truncate
from .tangent import tangent_gradients

__all__ = [
    "MODES",
    "LowRank",
    "LowRankConv",
    "LowRankConvTranspose",
    "LowRankLinear",
    "LowRankWeight",
    "Masks",
    "RankSampler",
    "add_lasso_gradient",
    "columns_in_use",
    "energy_ranks",
    "expected_columns",
    "factorize",
    "hierarchical_group_lasso",
    "importance",
    "left_alone",
    "low_rank_layers",
    "merge",
    "proximal_step",
    "ranks",
    "recalibrate",
    "refactorize",
    "sample",
    "shrink",
    "suffix_norms",
    "tail_floor",
    "tangent_gradients",
    "truncate",
]
