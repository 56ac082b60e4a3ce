"""Measures of factors: angles, ranks and the decay of a column in excess."""

import numpy as np
import pytest

from maestro import theory
from maestro.theory import Descent

pytestmark = pytest.mark.course


def test_balanced_excess_decays_like_one_over_t():
    A, C = theory.random_target(9, 6, [9.0, 6.0, 3.0], seed=0), np.eye(6) / 6
    deltas = [0.0, 0.05, 0.1]
    U, V = theory.isolated_start(A, 0.5, deltas)
    np.testing.assert_allclose(theory.imbalance(U, V)[:, 3], deltas, atol=1e-12)
    np.testing.assert_allclose(theory.importance(U, V)[:, 3], 0.5)
    path = theory.sgd(A, C, U, V, [0, 1, 2], Descent(20_000, 0.5, every=500))
    size = theory.importance(path.U, path.V)[1:, :, 3]
    tau = path.steps[1:] * 0.5 * 2 / 54 / 4
    law = np.stack([theory.excess_decay(tau, 0.5, d) for d in deltas], 1)
    assert np.abs(np.log(size / law)).max() < 0.5
    assert theory.slope(tau[10:], size[10:, 0]) == pytest.approx(-1, abs=0.1)
    assert size[-1, 2] < size[-1, 0] / 100  # lopsided: exponential by now


def test_excess_decay_solves_its_equation():
    tau, h = np.linspace(0, 5, 11), 1e-6
    for delta in (0.0, 0.3):
        s = theory.excess_decay(tau, 0.7, delta)
        ahead, behind = (theory.excess_decay(tau + x, 0.7, delta) for x in (h, -h))
        slope = -s * np.sqrt(delta**2 + 4 * s**2)
        np.testing.assert_allclose((ahead - behind) / (2 * h), slope, rtol=1e-6)
        assert s[0] == pytest.approx(0.7)


def test_principal_angles_are_right_when_tiny():
    for angle in (1e-12, 1e-3, 1.0, np.pi / 2):
        P = np.eye(3)[:, :1]
        Q = np.array([[np.cos(angle)], [np.sin(angle)], [0.0]])
        assert theory.principal_angle(P, 5 * Q) == pytest.approx(angle, rel=1e-6)
    assert np.isnan(theory.principal_angle(np.eye(3)[:, :2], np.ones((3, 2))))


def test_learned_rank_counts_suffixes():
    U = np.diag([3.0, 2.0, 1e-3, 1e-3])
    assert theory.learned_rank(U, U, 1e-5) == 2
    assert theory.learned_rank(U, U, 1e-7) == 4
    assert theory.learned_rank(0 * U, U, 0.0) == 0
    np.testing.assert_allclose(theory.suffix_norms(np.diag([3.0, 4.0])), [5, 4])


def test_verdict():
    assert theory.verdict("it works", True) == "holds: it works"
    assert theory.verdict("it works", False).startswith("DOES NOT HOLD")


def test_a_column_without_size_has_no_decay():
    with pytest.raises(ValueError, match="size=0.0: it must be > 0"):
        theory.excess_decay(1.0, 0.0)
