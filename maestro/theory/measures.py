"""Measures of factors: distances, importance, ranks, angles and decay."""

import math

import numpy as np

from .optima import prefix_products


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


def slope(x, y):
    """The exponent q of y ~ x^q: least squares on the logarithms."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def verdict(claim, holds):
    """The line that ends a notebook: the claim, and whether it held in this run."""
    return f"{'holds' if holds else 'DOES NOT HOLD HERE'}: {claim}"


def _basis(P):
    left, sigma, _ = np.linalg.svd(P, full_matrices=False)
    return left[:, sigma > 1e-14 * max(sigma.max(initial=0), 1e-300)]
