"""Trainable low-rank networks: LoD, from the Maestro paper, for any nn.Module.

net = maestro.factorize(model)                     # W = U V^T, same function
with maestro.sample(net):                          # ordered dropout, one step
    loss = task_loss(net(x), y)
    loss = loss + lambda_gl * maestro.hierarchical_group_lasso(net)
    loss.backward()                                # inside: checkpoints run net again
maestro.shrink(net, optimizer, eps_ps=1e-7)        # after each epoch
maestro.merge(net)                                 # plain PyTorch again
"""

from .lowrank import (
    MODES,
    LowRankConv2d,
    LowRankLinear,
    RankSampler,
    factorize,
    hierarchical_group_lasso,
    importance,
    left_alone,
    low_rank_layers,
    merge,
    ranks,
    sample,
    shrink,
    truncate,
)
from .lowrank.counting import Footprint, costs, footprint

__version__ = "0.1.0"

__all__ = [
    "MODES",
    "Footprint",
    "LowRankConv2d",
    "LowRankLinear",
    "RankSampler",
    "costs",
    "factorize",
    "footprint",
    "hierarchical_group_lasso",
    "importance",
    "left_alone",
    "low_rank_layers",
    "merge",
    "ranks",
    "sample",
    "shrink",
    "truncate",
]
