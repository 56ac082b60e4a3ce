"""Linear problems: the closed form of LoD's optimum, and SGD on Eq. (3) and (6).

This module checks the paper's theory (Sec. 3.1 and 4, App. C and E.1-E.2) by running
experiments. Everything is NumPy in float64 and works on ``W = U Vᵀ`` with ``U`` (m, r)
and ``V`` (n, r). The data enter only through their second moment ``C = E[x xᵀ]``
(n, n), because the loss of the prefix of rank b is a function of ``C`` alone:

    L_b(U, V) = E ‖U_:b V_:bᵀ x - A x‖² = ‖(U_:b V_:bᵀ - A) C^½‖_F²

Arrays may carry leading dimensions (seeds, recorded steps): (..., m, r) and so on.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

READINGS = ("printed", "transposed", "corrected")
STARTS = ("uniform", "balanced")


class Path(NamedTuple):
    """The course of SGD: the factors at the recorded steps, for every seed."""

    steps: np.ndarray  # (T,) number of updates made before each record
    U: np.ndarray  # (T, S, m, r)
    V: np.ndarray  # (T, S, n, r)


# --- problems -------------------------------------------------------------------------


def random_target(m, n, singular_values, seed):
    """A random (m, n) matrix with these non-zero singular values; the rest are zero.

    Directions are uniform (QR of Gaussian matrices). Raises ValueError if there are
    more singular values than min(m, n) or one is not positive.
    """
    sigma = np.asarray(singular_values, float)
    if sigma.ndim != 1 or not 1 <= len(sigma) <= min(m, n):
        raise ValueError(f"singular_values={sigma}: 1 to {min(m, n)} of them")
    if not (sigma > 0).all():
        raise ValueError(f"singular_values={sigma}: all must be > 0")
    rng = np.random.default_rng(seed)
    left = _random_rotation(m, rng)[:, : len(sigma)]
    right = _random_rotation(n, rng)[:, : len(sigma)]
    return (left * sigma) @ right.T


def random_moment(eigenvalues, seed):
    """A random second moment C (n, n) with these eigenvalues, in random directions.

    Raises ValueError if one is negative.
    """
    values = np.asarray(eigenvalues, float)
    if not (values >= 0).all():
        raise ValueError(f"eigenvalues={values}: all must be >= 0")
    vectors = _random_rotation(len(values), np.random.default_rng(seed))
    return (vectors * values) @ vectors.T


def random_problem(seed, m=None, n=None):
    """A Gaussian A (m, n), 2 <= m, n <= 9 drawn if not given, and a random moment C.

    C is that of 1 to 2n Gaussian points, so it is singular about half the time.
    """
    rng = np.random.default_rng([seed, 4])
    m = m or int(rng.integers(2, 10))
    n = n or int(rng.integers(2, 10))
    points = rng.normal(size=(n, int(rng.integers(1, 2 * n + 1))))
    return rng.normal(size=(m, n)), second_moment(points)


def _random_rotation(n, rng):
    """A uniform orthogonal matrix; its signs are fixed, so that all LAPACKs agree."""
    Q, R = np.linalg.qr(rng.normal(size=(n, n)))
    return Q * np.sign(np.diag(R))


def second_moment(X):
    """E[x xᵀ] (..., n, n) of the points that are the columns of X (..., n, N).

    It is the covariance when the points are centred, as the paper assumes.
    """
    X = np.asarray(X, float)
    return X @ X.swapaxes(-1, -2) / X.shape[-1]


def ball_second_moment(n):
    """E[x xᵀ] for x uniform on the unit ball of Rⁿ: the identity divided by n + 2."""
    return np.eye(n) / (n + 2)


def start(kind, m, n, r, seeds):
    """Starting factors U (S, m, r), V (S, n, r), one pair per seed.

    ``"uniform"``: two plain linear layers as PyTorch starts them, entries uniform in
    ±1/√fan_in. ``"balanced"``: a dense layer started so, split by its SVD with the
    square roots of the singular values on both sides (Sec. 3.3, "Initialization").
    Raises ValueError on another kind.
    """
    if kind not in STARTS:
        raise ValueError(f"kind={kind!r}: one of {', '.join(STARTS)}")
    pairs = [_start_one(kind, m, n, r, np.random.default_rng([s, 1])) for s in seeds]
    return tuple(np.stack(side) for side in zip(*pairs, strict=True))


def isolated_start(A, size, deltas):
    """The SVD of A (rank k), followed by one superfluous column, for each δ.

    Returns U (S, m, k + 1), V (S, n, k + 1): the last column has ‖u‖‖v‖ = ``size``,
    ‖u‖² - ‖v‖² = δ and is orthogonal to the singular vectors of A. Raises ValueError
    when A has full rank (no room for it) or ``size`` is not positive.
    """
    left, sigma, right = np.linalg.svd(A)
    k = int((sigma > 1e-12 * sigma[0]).sum())
    if k == min(A.shape):
        raise ValueError(f"A {A.shape} has full rank {k}: no direction is in excess")
    if not size > 0:
        raise ValueError(f"size={size!r}: it must be > 0")
    delta = np.asarray(deltas, float)[:, None]
    long = np.sqrt((np.abs(delta) + np.sqrt(delta**2 + 4 * size**2)) / 2)
    ends = (
        np.where(delta >= 0, long, size / long),
        np.where(delta >= 0, size / long, long),
    )
    root = np.sqrt(sigma[:k])
    factors = []
    for vectors, end in zip((left, right.T), ends, strict=True):
        scale = np.concatenate([np.tile(root, (len(delta), 1)), end], 1)  # (S, k + 1)
        factors.append(vectors[None, :, : k + 1] * scale[:, None, :])
    return tuple(factors)


def _start_one(kind, m, n, r, rng):
    if kind == "uniform":
        V = rng.uniform(-1, 1, size=(n, r)) / math.sqrt(n)
        return rng.uniform(-1, 1, size=(m, r)) / math.sqrt(r), V
    left, sigma, right = np.linalg.svd(rng.uniform(-1, 1, size=(m, n)) / math.sqrt(n))
    root = np.sqrt(sigma[:r])
    return left[:, :r] * root, right[:r].T * root


# --- losses and closed forms ----------------------------------------------------------


def prefix_products(U, V):
    """U_:b V_:bᵀ for b = 1..r, stacked in front of the matrix: (..., r, m, n)."""
    pieces = U.swapaxes(-1, -2)[..., :, None] * V.swapaxes(-1, -2)[..., None, :]
    return pieces.cumsum(-3)


def prefix_losses(U, V, A, C):
    """L_b = E‖U_:b V_:bᵀ x - A x‖² for b = 1..r, as an array (..., r)."""
    error = prefix_products(U, V) - np.asarray(A)[..., None, :, :]
    return ((error @ np.asarray(C)[..., None, :, :]) * error).sum((-1, -2))


def objective(U, V, A, C, probabilities=None):
    """Eq. (6), Σ_b p_b L_b; Eq. (3) when ``probabilities`` is left out (all 1/r)."""
    p = _probabilities(probabilities, U.shape[-1])
    return prefix_losses(U, V, A, C) @ p


def gradients(U, V, A, C, b):
    """The gradient of L_b with respect to U (..., m, r) and V (..., n, r).

    ``b``: a rank, or one per leading index, 1 <= b <= r. Columns after the b-th get 0.
    Raises ValueError on a rank outside that range.
    """
    r = U.shape[-1]
    b = np.asarray(b)
    if (b < 1).any() or (b > r).any():
        raise ValueError(f"b={b!r}: ranks go from 1 to {r}")
    kept = (np.arange(r) < b[..., None]).astype(float)[..., None, :]
    return _masked_gradients(U, V, A, C, kept)


def _masked_gradients(U, V, A, C, kept):
    """`gradients` for a 0/1 mask ``kept`` (..., 1, r) of the columns in use."""
    U = U * kept
    error = (U @ V.swapaxes(-1, -2) - A) @ C
    return 2 * (error @ V) * kept, 2 * error.swapaxes(-1, -2) @ U


def nested_optimum(A, C):
    """A minimiser of Eq. (6) for every choice of p_b > 0: (U, V, eigenvalues).

    The columns of U (m, r) are the leading eigenvectors of A C Aᵀ, V = Aᵀ U (n, r),
    and the eigenvalues (r,) fall; r = min(m, n). Raises ValueError when the shapes do
    not fit or C is not symmetric positive semi-definite. (Theorem 4.1, corrected.)
    """
    A, C = _problem(A, C)
    left, sigma, _ = np.linalg.svd(A @ _root(C))
    r = min(A.shape)
    return left[:, :r], A.T @ left[:, :r], sigma[:r] ** 2


def rank_optima(A, C):
    """The smallest loss that any map of rank b can have, b = 1..r: an array (r,).

    Eckart-Young for A C^½: the sum of the squared singular values after the b-th.
    """
    A, C = _problem(A, C)
    squares = np.linalg.svd(A @ _root(C), compute_uv=False) ** 2
    return squares.sum() - squares.cumsum()


def searched_optimum(A, C, rank, seed=0, rounds=2000):
    """The loss that a search for one rank alone ends at, without the closed form.

    Alternating least squares on E‖U Vᵀ x - A x‖² from a random start, U (m, rank).
    """
    A, C = _problem(A, C)
    U = np.random.default_rng(seed).normal(size=(A.shape[0], rank))
    for _ in range(rounds):
        U, _ = np.linalg.qr(U)
        V = A.T @ U
        U = A @ C @ V @ np.linalg.pinv(V.T @ C @ V, rcond=1e-13, hermitian=True)
    error = U @ V.T - A
    return float(((error @ C) * error).sum())


def theorem_solution(A, C, reading):
    """(U*, V*) of Eq. (6) out of a solution (Ū, V̄) of Eq. (7), three ways.

    With the full SVD A = Ũ Σ̃ Ṽᵀ, and Ū = V̄ the eigenvectors of Σ̃ Ṽᵀ C Ṽ Σ̃ᵀ:
    ``"printed"``, U* = Ũᵀ Ū, V* = Ṽᵀ V̄ (Theorem C.1 to the letter);
    ``"transposed"``, U* = Ũ Ū, V* = Ṽ V̄ (its orientation turned round);
    ``"corrected"``, U* = Ũ Ū, V* = Ṽ Σ̃ᵀ V̄.
    Raises ValueError on another reading, or when the shapes of a reading do not fit
    (the first two need m = n).
    """
    if reading not in READINGS:
        raise ValueError(f"reading={reading!r}: one of {', '.join(READINGS)}")
    A, C = _problem(A, C)
    m, n = A.shape
    if reading != "corrected" and m != n:
        raise ValueError(f"A is {m} x {n}: the {reading} formula only fits m = n")
    left, sigma, right_t = np.linalg.svd(A)
    Sigma = np.zeros((m, n))
    np.fill_diagonal(Sigma, sigma)
    bar = np.linalg.svd(Sigma @ right_t @ _root(C))[0][:, : min(m, n)]  # Ū = V̄
    if reading == "printed":
        return left.T @ bar, right_t @ bar
    return left @ bar, right_t.T @ (bar if reading == "transposed" else Sigma.T @ bar)


def _root(C):
    """The symmetric square root of C."""
    values, vectors = np.linalg.eigh(C)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T


def _problem(A, C):
    A, C = np.asarray(A, float), np.asarray(C, float)
    if A.ndim != 2 or C.shape != (A.shape[1], A.shape[1]):
        raise ValueError(f"A {A.shape} needs C ({A.shape[-1:]} twice), not {C.shape}")
    scale = np.abs(C).max(initial=0)
    if not np.allclose(C, C.T, atol=1e-12 * scale):
        raise ValueError("C is not symmetric")
    if np.linalg.eigvalsh(C).min(initial=0) < -1e-10 * scale:
        raise ValueError("C has a negative eigenvalue: it is no second moment")
    return A, C


def _probabilities(probabilities, r):
    if probabilities is None:
        return np.full(r, 1 / r)
    p = np.asarray(probabilities, float)
    if p.shape != (r,) or (p < 0).any() or not math.isclose(p.sum(), 1):
        raise ValueError(f"probabilities={probabilities!r}: {r} numbers >= 0, sum 1")
    return p


# --- training -------------------------------------------------------------------------


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
        slopes = _masked_gradients(U, V, A, C, kept)
        if self.full_pass:
            whole = _masked_gradients(U, V, A, C, 1.0)
            slopes = [g + h for g, h in zip(slopes, whole, strict=True)]
        slopes = [slope / m for slope in slopes]
        if self.lambda_gl:
            pull = _lasso_gradient(U, V, self.hierarchical)
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
        changes: {step: C}, the second moment from that step on.
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
    _check_shapes(U, V, A, C, seeds)
    rngs = [np.random.default_rng([s, 2]) for s in seeds]
    p = _probabilities(objective.probabilities, U.shape[-1])
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


def _lasso_gradient(U, V, hierarchical):
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
    return second_moment(_root_of_all(C) @ noise)


def _root_of_all(C):
    values, vectors = np.linalg.eigh(C)
    return (vectors * np.sqrt(values.clip(0))[..., None, :]) @ vectors.swapaxes(-1, -2)


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


def _check_shapes(U, V, A, C, seeds):
    (S, m, r), n = U.shape, V.shape[-2]
    if V.shape != (S, n, r) or A.shape[-2:] != (m, n) or C.shape[-2:] != (n, n):
        raise ValueError(
            f"U {U.shape}, V {V.shape}, A {A.shape}, C {C.shape} do not fit"
        )
    if len(seeds) != S:
        raise ValueError(f"{len(seeds)} seeds for {S} starts")


# --- measures -------------------------------------------------------------------------


def distances(path, targets):
    """‖U_:b V_:bᵀ - T_b‖_F for b = 1..r at each record: (T, S, r).

    ``targets``: (r, m, n) or (S, r, m, n), e.g. `prefix_products` of the optimum.
    """
    error = prefix_products(path.U, path.V) - np.asarray(targets)
    return np.sqrt((error**2).sum((-1, -2)))


def importance(U, V):
    """‖u_b‖‖v_b‖ of each column b, (..., r): the estimate of a singular value."""
    return np.sqrt((U**2).sum(-2) * (V**2).sum(-2))


def suffix_norms(factor):
    """‖U_b:‖_F over the columns b..r, for b = 1..r: (..., r)."""
    squares = (factor**2).sum(-2)
    return np.sqrt(squares[..., ::-1].cumsum(-1)[..., ::-1])


def learned_rank(U, V, eps_ps):
    """The rank that progressive shrinking (Sec. 3.3) would keep, (...,) of integers.

    Columns from the first b on with ‖U_b:‖‖V_b:‖ <= eps_ps go.
    """
    return (suffix_norms(U) * suffix_norms(V) > eps_ps).sum(-1)


def imbalance(U, V):
    """δ_b = ‖u_b‖² - ‖v_b‖² of each column, (..., r); gradient flow conserves it."""
    return (U**2).sum(-2) - (V**2).sum(-2)


def excess_decay(tau, size, delta=0.0):
    """The size s(τ) = ‖u‖‖v‖ of a column that the target does not need.

    Solves s' = -s √(δ² + 4 s²), s(0) = ``size`` > 0: s / (1 + 2 s τ) if δ = 0,
    otherwise |δ| / (2 sinh(|δ| τ + arsinh(|δ| / 2s))). τ is time: steps times lr times
    the curvature of the loss times P(b >= the column).
    """
    delta, tau = np.abs(delta), np.asarray(tau, float)
    if not np.all(size > 0):
        raise ValueError(f"size={size!r}: it must be > 0")
    if np.all(delta == 0):
        return size / (1 + 2 * size * tau)
    return delta / (2 * np.sinh(delta * tau + np.arcsinh(delta / (2 * size))))


def principal_angle(P, Q):
    """The largest principal angle between the column spaces of P and Q, in radians.

    Through the sine, so that angles far below 1e-8 are still right; NaN if the spaces
    differ in dimension (a column of P is numerically zero or dependent).
    """
    P, Q = _basis(P), _basis(Q)
    if P.shape != Q.shape:
        return math.nan
    sine = np.linalg.norm(Q - P @ (P.T @ Q), 2)
    return float(np.arcsin(min(sine, 1.0)))


def prefix_angles(U, Q):
    """`principal_angle` between U_:b and Q_:b for b = 1..r of Q: (..., r)."""
    r = Q.shape[-1]
    flat = U.reshape(-1, *U.shape[-2:])
    angles = [
        [principal_angle(u[:, :b], Q[:, :b]) for b in range(1, r + 1)] for u in flat
    ]
    return np.array(angles).reshape(*U.shape[:-2], r)


def _basis(P):
    left, sigma, _ = np.linalg.svd(P, full_matrices=False)
    return left[:, sigma > 1e-14 * max(sigma.max(initial=0), 1e-300)]


def slope(x, y):
    """The exponent q of y ~ x^q: least squares on the logarithms."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def verdict(claim, holds):
    """The line that ends a notebook: the claim, and whether it held in this run."""
    return f"{'holds' if holds else 'DOES NOT HOLD HERE'}: {claim}"
