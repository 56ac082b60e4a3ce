"""DLRT: dynamical low-rank training, after Schotthoefer 2022, by a parallel integrator.

A weight W = U S V^T, with orthonormal U (m, r) and V (n, r), follows the gradient flow
on the manifold of matrices of its rank. Each step of length h is that of the
rank-adaptive parallel integrator (Ceruti, Kusch, Lubich 2024), with G = dL/dW:

    K = U S - h G V,   L = V S^T - h G^T U,   S' = S - h U^T G V
    [U, U+] = qr([U, K]),   [V, V+] = qr([V, L])
    W' = [U, U+] [[S', L^T V+], [U+^T K, 0]] [V, V+]^T

and then W' is cut where the tail of its singular values, in Frobenius norm, falls below
a part ``theta`` of all. One backward pass gives all three gradients: the layers store
A = U sqrt(S) and B = V sqrt(S) with a diagonal S, so that G V = dL/dA / sqrt(S) and
G^T U = dL/dB / sqrt(S).

The integrator of Schotthoefer 2022 has -h U+^T G V+ in place of the 0, which takes a
second backward pass, in the larger bases (dlrt_augmented.py). Without that block
W' = W - h P(G), P the projection on the tangent space, and new singular values are of
second order in h. Ranks can rise, but do so more slowly than in that paper.

All other parameters are the optimiser's. The bases turn at every step, so the factors
have no momentum: their steps are longer instead, as long as momentum makes the others'
over time, h = lr / (1 - momentum). Weight decay is on W, a part of G.
"""

import torch

from ..config import integer, number
from ..lowrank import factorize, low_rank_layers, ranks, truncate
from .method import Change, Method


class DLRT(Method):
    """Ranks from a relative tolerance, at every step.

    Args:
        theta: a layer loses its last columns while their norm is at most this part of
            the norm of all.
        start: the ranks at the beginning, as a part of min(m, n) / 2, which is also the
            largest rank a layer may have.
        floor: columns that a layer keeps, or all that it may have, if these are fewer.
        skip: names or patterns of layers left dense.
    """

    replayable = False  # shapes change within an epoch

    def __init__(self, theta=0.1, start=1.0, floor=2, skip=()):
        self.floor = integer("floor", floor, low=1)
        self.theta, self.start = number("theta", theta), number("start", start)
        for name, value in (("theta", theta), ("start", start)):
            if not 0 < value <= 1:
                raise ValueError(f"{name}={value!r}: it takes a number in (0, 1]")
        self.skip = skip
        self._start_epoch()

    def phases(self, recipe):
        if recipe.optimizer != "sgd" or recipe.lookahead or recipe.clip:
            raise ValueError(
                f"dlrt with optimizer={recipe.optimizer}, lookahead={recipe.lookahead},"
                f" clip={recipe.clip:g}: it takes sgd, whose steps are the gradient's "
                "length; lookahead=0, because factors in other bases have no average; "
                "and clip=0, because the gradient of its factors is not that of S"
            )
        return super().phases(recipe)

    def prepare(self, model, example_inputs, generator):
        model = factorize(model, self.skip)
        layers = low_rank_layers(model).items()
        wanted = {n: max(1, int(self.start * most(layer))) for n, layer in layers}
        truncate(model, wanted)
        return super().prepare(model, example_inputs, generator)

    def groups(self, groups, model):
        """Without the factors, which the integrator moves; an empty group is theirs.

        The empty group is the last, and carries their rate, momentum and decay.
        """
        layers = low_rank_layers(model).values()
        factors = {id(p) for layer in layers for p in (layer.U, layer.V)}
        theirs = {"params": []}
        for group in groups:
            others = [p for p in group["params"] if id(p) not in factors]
            if len(others) < len(group["params"]):
                theirs = group | {"params": []}
            group["params"] = others
        return [group for group in groups if group["params"]] + [theirs]

    @torch.no_grad()
    def after_step(self, model, optimizer):
        """Move every factorised layer by the integrator's step."""
        group = optimizer.param_groups[-1]
        length, decay = group["lr"] / (1 - group["momentum"]), group["weight_decay"]
        for layer in self._counted(model).values():
            A, B = layer.U, layer.V
            sigma = A.norm(dim=0).square()  # (r,)
            dA = A.grad.addcmul(A, sigma, value=decay)
            dB = B.grad.addcmul(B, sigma, value=decay)
            if dA.isfinite().all():  # else the loop will say that the run diverged
                A, B = integrate(A, B, dA, dB, length)
                self._set(layer, A, B, self.theta)

    def _counted(self, model):
        """The layers that have gradients; the ranks of all are taken down."""
        self.steps += 1
        layers = low_rank_layers(model)
        for name, layer in layers.items():
            self.columns[name] = self.columns.get(name, 0) + layer.rank
            self.most[name] = max(self.most.get(name, 0), layer.rank)
        return {n: x for n, x in layers.items() if x.U.grad is not None}

    def _set(self, layer, A, B, theta):
        """Give ``layer`` the columns of A and B within ``theta``; returns their r."""
        rank = rank_within(A.norm(dim=0) * B.norm(dim=0), theta)
        rank = min(max(rank, self.floor), most(layer), A.shape[1])
        layer.set_factors(A[:, :rank].contiguous(), B[:, :rank].contiguous())
        return rank

    def after_epoch(self, model, optimizer):
        self._start_epoch()
        return Change.RECAPTURE

    def _start_epoch(self):
        # steps of the epoch; {layer: sum of r over them}; {layer: highest r of them}
        self.steps, self.columns, self.most = 0, {}, {}

    def ranks(self, model):
        return ranks(model)

    def training_cost(self, model):
        """Numbers at the highest ranks of the epoch's steps, MACs at their mean."""
        if not self.steps:
            return super().training_cost(model)
        mean = {name: total / self.steps for name, total in self.columns.items()}
        held = self.costs.footprint(self.most).params
        return held, self.costs.footprint(mean).macs

    def state_dict(self):
        return {"steps": self.steps, "columns": self.columns, "most": self.most}

    def load_state_dict(self, state):
        self.steps, self.columns = state["steps"], dict(state["columns"])
        self.most = dict(state["most"])


def most(layer):
    """The largest rank of a layer: twice as many columns must fit into both bases."""
    return max(1, layer.max_rank // 2)


def integrate(A, B, dA, dB, length):
    """One step of the parallel integrator, not yet truncated.

    Args:
        A, B: (m, r) and (n, r), W = A B^T; columns orthogonal, of equal norms in both.
        dA, dB: the gradients of the loss, as large.
        length: of the step.
    Returns:
        A, B of at most 2 r columns, by falling singular value, as those given.
    """
    kind = A.dtype
    A, B, dA, dB = (x.double() for x in (A, B, dA, dB))
    root = A.norm(dim=0).clamp(min=1e-12)  # (r,) sqrt(S)
    U, V, S = A / root, B / root, torch.diag(root.square())
    GV, GtU = dA / root, dB / root  # (m, r), (n, r)
    K, L = U * root.square() - length * GV, V * root.square() - length * GtU
    core = S - length * U.t() @ GV  # (r, r)
    more_U, more_V = _further(U, K), _further(V, L)  # (m, .), (n, .)
    zeros = core.new_zeros(more_U.shape[1], more_V.shape[1])
    top = torch.cat([core, L.t() @ more_V], 1)
    bottom = torch.cat([more_U.t() @ K, zeros], 1)
    P, sigma, Qt = torch.linalg.svd(torch.cat([top, bottom]))
    both = min(len(P), len(Qt))
    scale = sigma[:both].sqrt()
    A = torch.cat([U, more_U], 1) @ P[:, :both] * scale
    B = torch.cat([V, more_V], 1) @ Qt.t()[:, :both] * scale
    return A.to(kind), B.to(kind)


def _further(basis, matrix):
    """An orthonormal basis of the directions of ``matrix`` outside of ``basis``.

    Householder's decomposition of both together: orthonormal also where ``matrix`` has
    no further direction.
    """
    return torch.linalg.qr(torch.cat([basis, matrix], 1))[0][:, basis.shape[1] :]


def rank_within(sigma, theta):
    """The smallest r with ||sigma[r:]|| <= theta ||sigma||; sigma falls."""
    tails = sigma.flip(0).square().cumsum(0).sqrt().flip(0)  # (r,)
    return int((tails > theta * tails[0]).sum())
