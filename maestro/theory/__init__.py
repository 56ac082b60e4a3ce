"""Linear problems: the closed form of LoD's optimum, and SGD on Eq. (3) and (6).

This package checks the paper's theory (Sec. 3.1 and 4, App. C and E.1-E.2) by running
experiments. Everything is NumPy in float64 and works on ``W = U Vᵀ`` with ``U`` (m, r)
and ``V`` (n, r). Arrays may carry leading dimensions (seeds, recorded steps):
(..., m, r) and so on.
"""

from .descent import (
    Descent,
    Objective,
    Path,
    sgd,
)
from .measures import (
    distances,
    excess_decay,
    imbalance,
    importance,
    learned_rank,
    prefix_angles,
    principal_angle,
    slope,
    suffix_norms,
    verdict,
)
from .optima import (
    READINGS,
    best_scales,
    gradients,
    nested_optimum,
    objective,
    prefix_losses,
    prefix_products,
    rank_optima,
    searched_optimum,
    theorem_solution,
)
from .problems import (
    STARTS,
    ball_second_moment,
    isolated_start,
    random_moment,
    random_problem,
    random_target,
    second_moment,
    start,
)

__all__ = [
    "Descent",
    "Objective",
    "Path",
    "READINGS",
    "STARTS",
    "ball_second_moment",
    "best_scales",
    "distances",
    "excess_decay",
    "gradients",
    "imbalance",
    "importance",
    "isolated_start",
    "learned_rank",
    "nested_optimum",
    "objective",
    "prefix_angles",
    "prefix_losses",
    "prefix_products",
    "principal_angle",
    "random_moment",
    "random_problem",
    "random_target",
    "rank_optima",
    "searched_optimum",
    "second_moment",
    "sgd",
    "slope",
    "start",
    "suffix_norms",
    "theorem_solution",
    "verdict",
]
