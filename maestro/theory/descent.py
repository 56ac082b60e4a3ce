"""SGD on Eq. (3) and (6), with the group lasso of Eq. (5) if wanted."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .optima import masked_gradients, probabilities_of, root
from .problems import second_moment


class Path(NamedTuple):
    """The course of SGD: the factors at the recorded steps, for every seed."""

    steps: np.ndarray  # (T,) number of updates made before each record
    U: np.ndarray  # (T, S, m, r)
    V: np.ndarray  # (T, S, n, r)


@dataclass(frozen=True)
class Objective:
    """The objective of `sgd`: Eq. (6), alone by default.

    Args:
        probabilities: of the ranks 1..r, (r,); uniform if None, which is Eq. (3).
        full_pass: add the loss of the full rank to the loss of the sampled rank.
        lambda_gl: the weight of the group lasso of Eq. (5).
        hierarchical: take the group lasso over suffixes, else over single columns.
    """

    probabilities: object = None
    full_pass: bool = False
    lambda_gl: float = 0.0
    hierarchical: bool = True

    def gradients(self, U, V, A, C, kept):
        """The gradient for U (S, m, r) and V (S, n, r) at the sampled columns ``kept``.

        The loss is the mean over the m outputs, L_b / m, as in PyTorch's MSELoss.
        """
        m = U.shape[-2]
        slopes = masked_gradients(U, V, A, C, kept)
        if self.full_pass:
            whole = masked_gradients(U, V, A, C, 1.0)
            slopes = [g + h for g, h in zip(slopes, whole, strict=True)]
        slopes = [slope / m for slope in slopes]
        if self.lambda_gl:
            pull = lasso_gradient(U, V, self.hierarchical)
            slopes = [s + self.lambda_gl * q for s, q in zip(slopes, pull, strict=True)]
        return slopes


@dataclass(frozen=True)
class Descent:
    """How `sgd` descends.

    Args:
        steps: the number of updates.
        lr: the learning rate, one number or one per step (steps,).
        momentum: the weight of the last update's direction.
        batch: if > 0, each step replaces C by the second moment of this many fresh
            Gaussian points with second moment C.
        changes: {step: C}, the second moment from that step on, 0 <= step < steps.
        every: record the factors after each ``every`` updates.
    """

    steps: int
    lr: object
    momentum: float = 0.0
    batch: int = 0
    changes: dict | None = None
    every: int = 10


def sgd(A, C, U, V, seeds, descent, objective=Objective()):
    """SGD on Eq. (6) for all seeds at once; in each step each seed draws its own b.

    Args:
        A: the target, (m, n) or (S, m, n).
        C: the second moment of the data, (n, n) or (S, n, n).
        U, V: the starting factors, (S, m, r) and (S, n, r).
        seeds: S integers.
        descent: the `Descent`.
        objective: the `Objective`.

    Returns:
        A `Path`, recorded before the first update, after each ``descent.every``
        updates and after the last one.

    Raises:
        ValueError: shapes, counts, rates or probabilities do not fit.
        FloatingPointError: the descent diverges.
    """
    U, V, A, C = (np.array(x, float) for x in (U, V, A, C))
    steps, changes, momentum = descent.steps, descent.changes or {}, descent.momentum
    rates = _rates(descent.lr, steps)
    _check_changes(changes, steps)
    _check_shapes(U, V, A, C, seeds)
    rngs = [np.random.default_rng([s, 2]) for s in seeds]
    p = probabilities_of(objective.probabilities, U.shape[-1])
    kept = _kept_columns(rngs, p, steps)  # (steps, S, 1, r)
    factors, speed = [U, V], [np.zeros_like(U), np.zeros_like(V)]
    marks, records = [0], [(U.copy(), V.copy())]
    for t in range(steps):
        if t in changes:
            C = np.array(changes[t], float)
        moment = _sampled_moment(C, descent.batch, rngs) if descent.batch else C
        with np.errstate(over="ignore", invalid="ignore"):  # reported below
            slopes = objective.gradients(*factors, A, moment, kept[t])
            speed = [momentum * v + s for v, s in zip(speed, slopes, strict=True)]
            factors = [f - rates[t] * v for f, v in zip(factors, speed, strict=True)]
        if (t + 1) % descent.every == 0 or t + 1 == steps:
            if not all(np.isfinite(f).all() for f in factors):
                raise FloatingPointError(
                    f"diverged before step {t + 1}: lr={descent.lr!r}"
                )
            marks.append(t + 1)
            records.append(factors)
    return Path(np.array(marks), *(np.stack(f) for f in zip(*records, strict=True)))


def lasso_gradient(U, V, hierarchical):
    """Gradient of Eq. (5) without lambda; 0 where a norm is 0."""
    squares = np.stack([(U * U).sum(-2), (V * V).sum(-2)])  # (2, S, r)
    if hierarchical:
        squares = squares[..., ::-1].cumsum(-1)[..., ::-1]
    weights = 1 / np.sqrt(np.where(squares > 0, squares, np.inf))
    if hierarchical:  # column j is in the suffixes that begin at 1..j
        weights = weights.cumsum(-1)
    return U * weights[0][..., None, :], V * weights[1][..., None, :]


def _sampled_moment(C, batch, rngs):
    """Second moment of ``batch`` Gaussian points per seed, (S, n, n)."""
    noise = np.stack([rng.normal(size=(C.shape[-1], batch)) for rng in rngs])
    return second_moment(root(C) @ noise)


def _kept_columns(rngs, p, steps):
    """The drawn ranks as 0/1 masks over columns, (steps, S, 1, r)."""
    r = len(p)
    drawn = np.stack([rng.choice(r, size=steps, p=p) + 1 for rng in rngs], 1)
    return (np.arange(r) < drawn[..., None]).astype(float)[..., None, :]


def _rates(lr, steps):
    if steps < 1:
        raise ValueError(f"steps={steps!r}: at least 1")
    rates = np.full(steps, lr) if np.ndim(lr) == 0 else np.asarray(lr, float)
    if rates.shape != (steps,) or not (rates >= 0).all():
        raise ValueError(f"lr={lr!r}: a number >= 0, or {steps} of them")
    return rates


def _check_changes(changes, steps):
    late = [step for step in changes if not 0 <= step < steps]
    if late:
        raise ValueError(f"changes at step {late[0]}: the steps are 0 to {steps - 1}")


def _check_shapes(U, V, A, C, seeds):
    (S, m, r), n = U.shape, V.shape[-2]
    if V.shape != (S, n, r) or A.shape[-2:] != (m, n) or C.shape[-2:] != (n, n):
        raise ValueError(
            f"U {U.shape}, V {V.shape}, A {A.shape}, C {C.shape} do not fit"
        )
    if len(seeds) != S:
        raise ValueError(f"{len(seeds)} seeds for {S} starts")
