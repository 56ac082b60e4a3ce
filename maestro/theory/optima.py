"""The losses of all prefixes, their gradients, and optima in closed form (Sec. 4).

The data enter only through their second moment ``C = E[x xᵀ]`` (n, n), because the loss
of the prefix of rank b is a function of ``C`` alone:

    L_b(U, V) = E ‖U_:b V_:bᵀ x - A x‖² = ‖(U_:b V_:bᵀ - A) C^½‖_F²
"""

import math

import numpy as np

READINGS = ("printed", "transposed", "corrected")


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
    p = probabilities_of(probabilities, U.shape[-1])
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
    return masked_gradients(U, V, A, C, kept)


def masked_gradients(U, V, A, C, kept):
    """`gradients` for a 0/1 mask ``kept`` (..., 1, r) of the columns in use."""
    U = U * kept
    error = (U @ V.swapaxes(-1, -2) - A) @ C
    return 2 * (error @ V) * kept, 2 * error.swapaxes(-1, -2) @ U


def nested_optimum(A, C):
    """A minimiser of Eq. (6) for every choice of p_b > 0: (U, V, eigenvalues).

    The columns of U (m, r) are the leading eigenvectors of A C Aᵀ, V = Aᵀ U (n, r),
    and the eigenvalues (r,) fall; r = min(m, n). Raises ValueError when the shapes do
    not fit or C is not symmetric positive semi-definite. (Theorem C.1, corrected; the
    paper has no closed form.)
    """
    A, C = _problem(A, C)
    left, sigma, _ = np.linalg.svd(A @ root(C))
    r = min(A.shape)
    return left[:, :r], A.T @ left[:, :r], sigma[:r] ** 2


def rank_optima(A, C):
    """The smallest loss that any map of rank b can have, b = 1..r: an array (r,).

    Eckart-Young for A C^½: the sum of the squared singular values after the b-th.
    """
    A, C = _problem(A, C)
    squares = np.linalg.svd(A @ root(C), compute_uv=False) ** 2
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
    bar = np.linalg.svd(Sigma @ right_t @ root(C))[0][:, : min(m, n)]  # Ū = V̄
    if reading == "printed":
        return left.T @ bar, right_t @ bar
    return left @ bar, right_t.T @ (bar if reading == "transposed" else Sigma.T @ bar)


def best_scales(U, V, A, C):
    """The factor of each column of U (m, r) at which the sum of all L_b is least: (r,).

    Least squares, because the prefix products are linear in these numbers.
    """
    half = root(np.asarray(C, float))
    pieces = U.T[:, :, None] * (half @ V).T[:, None, :]  # u_k v_kᵀ C^½
    pieces = pieces.reshape(len(pieces), -1)
    kept = np.tri(len(pieces))  # row b: the columns of the prefix
    system = (kept[:, None, :] * pieces.T[None]).reshape(-1, len(pieces))
    target = np.tile((A @ half).ravel(), len(pieces))
    return np.linalg.lstsq(system, target, rcond=None)[0]


def probabilities_of(probabilities, r):
    """``probabilities`` of the ranks 1..r as an array (r,); uniform if None.

    Raises ValueError unless they are r numbers >= 0 with sum 1.
    """
    if probabilities is None:
        return np.full(r, 1 / r)
    p = np.asarray(probabilities, float)
    if p.shape != (r,) or (p < 0).any() or not math.isclose(p.sum(), 1):
        raise ValueError(f"probabilities={probabilities!r}: {r} numbers >= 0, sum 1")
    return p


def root(C):
    """The symmetric square root of C (..., n, n)."""
    values, vectors = np.linalg.eigh(C)
    return (vectors * np.sqrt(values.clip(0))[..., None, :]) @ vectors.swapaxes(-1, -2)


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
