"""DLRT by the augmented integrator: that of Schotthoefer 2022, in cycles as in 2025.

W = U S V^T as in dlrt.py, moved by the rank-adaptive integrator of Ceruti, Kusch and
Lubich (2022). With G = dL/dW, one cycle of ``every`` batches is

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

from ..config import integer
from ..lowrank import low_rank_layers
from .dlrt import DLRT

ROUNDING = 1e-5  # a tail of singular values that a cycle without a step of S leaves


class AugmentedDLRT(DLRT):
    """Ranks from a relative tolerance, after each cycle of batches.

    Args:
        theta, start, floor, skip: as of `DLRT`; the largest rank is that outside of a
            cycle.
        every: batches in a cycle, at least 2; an epoch's last cycle ends with it.
    """

    def __init__(self, theta=0.1, start=1.0, floor=2, every=10, skip=()):
        super().__init__(theta, start, floor, skip)
        self.every = integer("every", every, low=2)
        # {layer: (U, momentum of S)} within a cycle; {layer: momentum} outside of it
        self.cycles, self.momenta = {}, {}

    @torch.no_grad()
    def after_step(self, model, optimizer):
        """Widen the bases of every layer, or move it; cut it after the last batch."""
        place = self.steps % self.every
        for name, layer in self._counted(model).items():
            if place == 0:
                self._widen(name, layer)
            elif name in self.cycles:
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
            if layer.U.isfinite().all():  # else the loop will say that the run diverged
                A, B, P, Q = balance(basis, layer.U, layer.V)
                rank = self._set(layer, A, B, theta)
                self.momenta[name] = P[:, :rank].t() @ momentum @ Q[:, :rank]
        self.cycles = {}

    @torch.no_grad()
    def after_epoch(self, model, optimizer):
        if self.steps < 2:
            raise ValueError(
                f"an epoch of {self.steps} batches trains no factors: dlrt_augmented "
                "takes at least 2, one that widens their bases and one that moves them"
            )
        # a cycle of one batch widened the bases, and gave nothing to cut anew
        self._cut(model, ROUNDING if self.steps % self.every == 1 else self.theta)
        return super().after_epoch(model, optimizer)

    def training_cost(self, model):
        """As of `DLRT`; a cycle has a third matrix for each layer, the basis U."""
        held, macs = super().training_cost(model)
        layers = low_rank_layers(model)
        bases = sum(len(layers[name].U) * rank for name, rank in self.most.items())
        return held + bases, macs

    def state_dict(self):
        return super().state_dict() | {"cycles": self.cycles, "momenta": self.momenta}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.cycles, self.momenta = dict(state["cycles"]), dict(state["momenta"])


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
