"""Trainable low-rank networks: LoD, from the Maestro paper, for any nn.Module.

net = maestro.factorize(model)                     # W = U V^T, same function
with maestro.sample(net):                          # ordered dropout, one step
    loss = task_loss(net(x), y)
    loss = loss + lambda_gl * maestro.hierarchical_group_lasso(net)
    loss.backward()                                # inside: checkpoints run net again
maestro.shrink(net, optimizer, eps_ps=1e-7)        # after each epoch
maestro.save(net, "net.safetensors")               # load(path, into=model)
maestro.export(net, "net.onnx", example_inputs)    # runs without this package
maestro.merge(net)                                 # plain PyTorch again
"""

from .deploy.export import export
from .deploy.files import load, manifest, save
from .deploy.fitting import fit_budget
from .deploy.report import advise, report
from .deploy.search import greedy
from .deploy.whitening import order_by_data
from .lowrank import (
    MODES,
    LowRankConv,
    LowRankConvTranspose,
    LowRankLinear,
    LowRankWeight,
    RankSampler,
    energy_ranks,
    factorize,
    hierarchical_group_lasso,
    importance,
    left_alone,
    low_rank_layers,
    merge,
    ranks,
    recalibrate,
    sample,
    shrink,
    truncate,
)
from .lowrank.counting import Footprint, costs, footprint

__version__ = "0.1.0"

__all__ = [
    "MODES",
    "Footprint",
    "LowRankConv",
    "LowRankConvTranspose",
    "LowRankLinear",
    "LowRankWeight",
    "RankSampler",
    "advise",
    "costs",
    "energy_ranks",
    "export",
    "factorize",
    "fit_budget",
    "footprint",
    "greedy",
    "hierarchical_group_lasso",
    "importance",
    "left_alone",
    "load",
    "low_rank_layers",
    "manifest",
    "merge",
    "order_by_data",
    "ranks",
    "recalibrate",
    "report",
    "sample",
    "save",
    "shrink",
    "truncate",
]
