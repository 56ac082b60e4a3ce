"""The study of uniform cuts: all layers at one share of their ranks, in two orders.

A network that was trained by LoD has columns in the order that training gave them, and
in that of the SVD of its trained products, layer by layer. A dense network has its SVD.
Nothing is trained again, and batch norm's statistics are estimated anew for every cut,
and for the whole network as well.
"""

from ..lowrank import low_rank_layers, ranks, refactorize
from .cuts import IMAGES, at_ranks
from .subject import factorised

SHARES = (1.0, 0.75, 0.5, 0.25)  # of the ranks
OWN, BY_SVD = "own order", "SVD"  # as results/sampling.py reads them


def can_be_cut_evenly(subject):
    """Whether a run on images trained a dense network, or factors without a lasso."""
    config = subject.config
    whole = config.method == "dense" or config.options.get("lambda_gl") == 0
    return config.task in IMAGES and whole


def uniform_cuts(subject, known=()):
    """The networks with all layers at one share of their ranks, at least one column.

    At their full ranks both orders are one function, which is evaluated once.

    Yields (name, {parameters, test_accuracy (%), test_loss}).
    """
    whole = None
    for order, network in orders(subject).items():
        full = ranks(network)
        for share in SHARES:
            name = f"{order}, {share:g}"
            if name in known:
                continue
            if share == 1 and whole:
                figures = whole
            else:
                cut = {layer: max(1, int(share * r)) for layer, r in full.items()}
                small = at_ranks(network, cut)
                figures = subject.evaluate(small)
            whole = figures if share == 1 else whole
            yield name, {"parameters": {"order": order, "share": share}} | figures


def orders(subject):
    """{order of the columns: a network with its columns in this order}."""
    network = subject.network()
    if not low_rank_layers(network):
        return {BY_SVD: factorised(network)}
    return {OWN: network, BY_SVD: refactorize(subject.network())}
