"""What methods with fixed ranks share: a network that is factorised once."""

import torch

from ..lowrank import factorize, low_rank_layers, ranks, truncate
from .method import Method


class FixedRank(Method):
    """A network whose layers are factorised once and keep their ranks.

    A subclass sets ``skip`` and calls `factorise` when the time has come. A checkpoint
    says whether that was before it, and at which ranks.
    """

    skip = ()
    factorised = False

    def factorise(self, model, rank_of):
        """Replace the layers of ``model`` by the leading columns of their SVD.

        W ~ U V^T with U = P sqrt(S) and V = Q sqrt(S). rank_of: (name, LowRank) -> r.
        Returns the model.
        """
        model = factorize(model, self.skip)
        wanted = {n: rank_of(n, layer) for n, layer in low_rank_layers(model).items()}
        truncate(model, wanted)
        self.count(model)
        self.factorised = True
        return model

    def restore_shapes(self, model, state):
        if state["factorised"] and not self.factorised:
            return self.factorise(model, lambda name, layer: layer.rank)
        return model

    def ranks(self, model):
        return ranks(model)

    def state_dict(self):
        return {"factorised": self.factorised}


def share(rank_ratio):
    """``rank_of`` for the same part of min(m, n) in every layer, rounded down."""
    return lambda name, layer: max(1, int(rank_ratio * layer.max_rank))


def without_decay(groups, parameters):
    """The optimiser's ``groups`` with ``parameters`` apart, without weight decay."""
    apart, ids = [], {id(p) for p in parameters}
    for group in groups:
        mine = [p for p in group["params"] if id(p) in ids]
        others = [p for p in group["params"] if id(p) not in ids]
        apart.append(group | {"params": others})
        apart.append(group | {"params": mine, "weight_decay": 0.0})
    return [group for group in apart if group["params"]]


def singular_values(layer):
    """Those of W = U V^T (r,), right after `factorise`: each column's two norms."""
    return (layer.U.norm(dim=0) * layer.V.norm(dim=0)).detach().double()


@torch.no_grad()
def add_frobenius_gradient(model, weight):
    """Add the gradient of weight ||U V^T||_F^2 / 2, of each layer, to ``.grad``."""
    for layer in low_rank_layers(model).values():
        U, V = layer.U, layer.V
        U.grad.addmm_(U, V.t() @ V, alpha=weight)
        V.grad.addmm_(V, U.t() @ U, alpha=weight)
