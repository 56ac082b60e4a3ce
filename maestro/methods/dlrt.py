"""DLRT: dynamical low-rank training, after Schotthoefer 2022 and 2025.

A weight W = U S V^T, with orthonormal U (m, r) and V (n, r), follows the gradient flow
on the manifold of matrices of rank r, by the rank-adaptive integrator (Ceruti, Kusch,
Lubich 2022). With G = dL/dW, one cycle of ``every`` batches is

    the first batch   widens the bases: U <- qr([U, G V]), V <- qr([V, G^T U]);
                      W stays as it is, and S becomes (2 r, 2 r)
    the others        train S in the wider bases, by U^T G V
    after the last    SVD of S; its tail below a part ``theta`` of its norm is cut

The paper widens anew for each step of S, in three backward passes on one batch. Here
each batch has one, as in its authors' code of 2025: the gradient of the layer is
enough, because U S - h G V and G V add the same directions to U. Their code of 2022
also turns the right basis the wrong way when it truncates.

All other parameters are the optimiser's, at each batch. S has the same learning rate,
momentum and weight decay (on W); its momentum turns with the bases, as theirs does.
Within a cycle a layer stores A = U S, which moves, and B = V; outside of it
A = U sqrt(S) and B = V sqrt(S), with a diagonal S. A layer of several blocks has one S,
and bases that are orthonormal as a stack.
"""

import torch

from ..config import integer, number
from ..lowrank import factorize, low_rank_layers, ranks, truncate
from .method import Change, Method

ROUNDING = 1e-5  # a tail of singular values that a cycle without a step of S leaves


class DLRT(Method):
    """Ranks from a relative tolerance, after each cycle of batches.

    Args:
        theta: a layer loses its last columns while their norm is at most this part of
            the norm of all.
        start: the ranks at the beginning, as a part of min(m, n) / 2, which is also the
            largest rank a layer may have outside of a cycle.
        floor: columns that a cut leaves, or all that there may be, if these are fewer.
        every: batches in a cycle, at least 2; an epoch's last cycle ends with it.
        skip: names or patterns of layers left dense.
    """

    replayable = False
    reshapes = True

    def __init__(self, theta=0.1, start=1.0, floor=2, every=10, skip=()):
        self.floor = integer("floor", floor, low=1)
        self.every = integer("every", every, low=2)
        self.theta, self.start = number("theta", theta), number("start", start)
        for name, value in (("theta", theta), ("start", start)):
            if not 0 < value <= 1:
                raise ValueError(f"{name}={value!r}: it takes a number in (0, 1]")
        self.skip = skip
        # {layer: (U, momentum of S)} within a cycle; {layer: momentum} outside of it
        self.cycles, self.momenta = {}, {}
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
        wanted = {n: max(1, int(self.start * _most(layer))) for n, layer in layers}
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
        """Widen the bases of every layer, or move it; cut it after the last batch."""
        place, self.steps = self.steps % self.every, self.steps + 1
        for name, layer in low_rank_layers(model).items():
            self.columns[name] = self.columns.get(name, 0) + layer.rank
            self.most[name] = max(self.most.get(name, 0), layer.rank)
            if layer.U.grad is not None and place == 0:
                self._widen(name, layer)
            elif layer.U.grad is not None and name in self.cycles:
                self._move(layer, *self.cycles[name], optimizer.param_groups[-1])
            layer.U.grad = layer.V.grad = None  # which no optimiser empties
        if place == self.every - 1:
            self._cut(model, self.theta)

    def _widen(self, name, layer):
        basis, A, B = widen(layer.U, layer.V, layer.U.grad, layer.V.grad)
        momentum = basis.new_zeros(basis.shape[1], B.shape[1])
        if name in self.momenta:  # none of the new directions has any
            before = self.momenta[name]
            momentum[: len(before), : len(before)] = before
        layer.set_factors(A, B)
        self.cycles[name] = basis, momentum

    def _move(self, layer, basis, momentum, group):
        """One step of S of W = U S V^T, as SGD with the numbers of ``group`` would."""
        rate, mu, decay = group["lr"], group["momentum"], group["weight_decay"]
        gradient = basis.t() @ layer.U.grad.add(layer.U, alpha=decay)  # (p, q)
        momentum.mul_(mu).add_(gradient)
        step = gradient + mu * momentum if group["nesterov"] else momentum
        layer.U.sub_(rate * basis @ step)

    def _cut(self, model, theta):
        """End the cycle: every layer to the rank within ``theta``, and balanced."""
        layers = low_rank_layers(model)
        for name, (basis, momentum) in self.cycles.items():
            layer = layers[name]
            if not layer.U.isfinite().all():  # the loop will say that it diverged
                continue
            A, B, left, right = balance(basis, layer.U, layer.V)
            rank = rank_within(A.norm(dim=0) * B.norm(dim=0), theta)
            rank = min(max(rank, self.floor), _most(layer), A.shape[1])
            layer.set_factors(A[:, :rank], B[:, :rank])
            self.momenta[name] = left[:, :rank].t() @ momentum @ right[:, :rank]
        self.cycles = {}

    @torch.no_grad()
    def after_epoch(self, model, optimizer):
        if self.steps < 2:
            raise ValueError(
                f"an epoch of {self.steps} batches trains no factors: dlrt takes at "
                "least 2, one that widens their bases and one that moves them"
            )
        # a cycle of one batch widened the bases, and gave nothing to cut anew
        self._cut(model, ROUNDING if self.steps % self.every == 1 else self.theta)
        self._start_epoch()
        return Change.RECAPTURE

    def _start_epoch(self):
        # steps of the epoch; {layer: sum of r over them}; {layer: highest r of them}
        self.steps, self.columns, self.most = 0, {}, {}

    def ranks(self, model):
        return ranks(model)

    def training_cost(self, model):
        """Numbers at the highest ranks of the epoch's steps, MACs at their mean.

        Within a cycle a layer has three matrices: A, B and the basis U.
        """
        if not self.steps:
            return super().training_cost(model)
        mean = {name: total / self.steps for name, total in self.columns.items()}
        layers = low_rank_layers(model)
        bases = sum(len(layers[name].U) * rank for name, rank in self.most.items())
        held = self.costs.footprint(self.most).params + bases
        return held, self.costs.footprint(mean).macs

    def state_dict(self):
        names = ("steps", "columns", "most", "cycles", "momenta")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state):
        self.steps = state["steps"]
        for name in ("columns", "most", "cycles", "momenta"):
            setattr(self, name, dict(state[name]))


def _most(layer):
    """The largest rank of a layer: twice as many columns must fit into both bases."""
    return max(1, layer.max_rank // 2)


def widen(A, B, dA, dB):
    """Bases of W = A B^T that have room for its gradient; W stays as it is.

    Args:
        A, B: (m, r) and (n, r), W = A B^T.
        dA, dB: the gradients of the loss, G B and G^T A, as large.
    Returns:
        U: (m, p), p = min(m, 2 r), orthonormal; spans A and dA.
        A: (m, q), in the span of U, the same W = A B^T.
        B: (n, q), q = min(n, 2 r), orthonormal; spans those given, B and dB.
        The first r columns of U and of the new B are those given, orthonormalised.
    """
    kind = A.dtype
    A, B, dA, dB = (x.double() for x in (A, B, dA, dB))
    U, V = _basis(A, dA), _basis(B, dB)
    return U.to(kind), (A @ (B.t() @ V)).to(kind), V.to(kind)


def _basis(*parts):
    """An orthonormal basis of all columns of ``parts``, in their order and directions.

    By Householder's decomposition, which gives any direction for a column that adds
    none.
    """
    parts = [part / part.norm(dim=0).clamp(min=1e-300) for part in parts]
    Q, R = torch.linalg.qr(torch.cat(parts, 1))
    return torch.where(R.diagonal() < 0, -Q, Q)


def balance(U, A, B):
    """The factors of W = A B^T that `widen` takes, with all singular values.

    Args:
        U, B: (m, p) and (n, q), orthonormal. A: (m, q), in the span of ``U``.
    Returns:
        A, B: (m, r) and (n, r), r = min(p, q); columns orthogonal, of equal norms in
        both, by falling singular value.
        P, Q: (p, r) and (q, r), which turn the old bases into those of A and B.
    """
    kind = A.dtype
    U, A, B = (x.double() for x in (U, A, B))
    P, sigma, Qt = torch.linalg.svd(U.t() @ A, full_matrices=False)
    root, Q = sigma.sqrt(), Qt.t()
    return tuple(x.to(kind) for x in (U @ P * root, B @ Q * root, P, Q))


def rank_within(sigma, theta):
    """The smallest r with ||sigma[r:]|| <= theta ||sigma||; sigma falls."""
    tails = sigma.flip(0).square().cumsum(0).sqrt().flip(0)  # (r,)
    return int((tails > theta * tails[0]).sum())
