"""Linear problems: targets, second moments of data, and starts of a training."""

import math

import numpy as np

STARTS = ("uniform", "balanced")


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
    square roots of the singular values on both sides (Sec. 3.3 has the SVD;
    the even split is that of Khodak et al. 2021).
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


def _random_rotation(n, rng):
    """A uniform orthogonal matrix; its signs are fixed, so that all LAPACKs agree."""
    Q, R = np.linalg.qr(rng.normal(size=(n, n)))
    return Q * np.sign(np.diag(R))
