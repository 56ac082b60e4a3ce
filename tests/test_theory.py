"""The closed forms of maestro.theory against searches that do not know them."""

import numpy as np
import pytest

from maestro import theory
from maestro.theory import Descent, Objective

pytestmark = pytest.mark.course


def gaps(U, V, A, C):
    """Excess over the least loss of each rank, relative to E‖Ax‖²."""
    excess = theory.prefix_losses(U, V, A, C) - theory.rank_optima(A, C)
    return excess / np.trace(A @ C @ A.T)


# --- closed form ----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_closed_form_is_optimal_at_every_rank(seed):
    A, C = theory.random_problem(seed)  # singular C among them
    U, V, eigenvalues = theory.nested_optimum(A, C)
    r = min(A.shape)
    assert U.shape == (A.shape[0], r) and V.shape == (A.shape[1], r)
    assert np.abs(gaps(U, V, A, C)).max() < 1e-13
    trailing = eigenvalues.sum() - eigenvalues.cumsum()
    np.testing.assert_allclose(trailing, theory.rank_optima(A, C), atol=1e-10)


def test_the_random_problems_include_singular_ones():
    moments = [theory.random_problem(s)[1] for s in range(20)]
    singular = sum(np.linalg.matrix_rank(C) < len(C) for C in moments)
    assert 3 < singular < 17


@pytest.mark.parametrize("seed", range(4))
def test_a_search_of_one_rank_finds_the_optimum_and_nothing_below(seed):
    A, C = theory.random_problem(seed)
    scale = np.trace(A @ C @ A.T)
    for b, best in enumerate(theory.rank_optima(A, C), 1):
        found = theory.searched_optimum(A, C, b, seed=seed, rounds=300)
        assert -1e-12 < (found - best) / scale < 1e-3


def test_columns_are_eigenvectors_of_A_C_At():
    A, C = theory.random_problem(1)
    U, V, eigenvalues = theory.nested_optimum(A, C)
    np.testing.assert_allclose(A @ C @ A.T @ U, U * eigenvalues, atol=1e-10)
    np.testing.assert_allclose(U.T @ U, np.eye(U.shape[1]), atol=1e-12)
    np.testing.assert_array_equal(V, A.T @ U)


def test_uniform_ball_gives_the_truncated_svd():
    A, _ = theory.random_problem(0, m=7, n=5)
    U, V, _ = theory.nested_optimum(A, theory.ball_second_moment(5))
    left, sigma, right = np.linalg.svd(A, full_matrices=False)
    truncated = theory.prefix_products(left * sigma, right.T)
    np.testing.assert_allclose(theory.prefix_products(U, V), truncated, atol=1e-12)


def test_ball_second_moment_against_sampling():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 200_000))
    x *= rng.uniform(size=200_000) ** (1 / 3) / np.linalg.norm(x, axis=0)
    sampled = theory.second_moment(x)
    np.testing.assert_allclose(sampled, theory.ball_second_moment(3), atol=2e-3)


def test_identity_gives_pca():
    X = np.random.default_rng(0).normal(size=(5, 40)) * np.arange(5, 0, -1)[:, None]
    U, V, _ = theory.nested_optimum(np.eye(5), theory.second_moment(X))
    components = np.linalg.svd(X)[0]
    projections = theory.prefix_products(components, components)
    np.testing.assert_allclose(theory.prefix_products(U, V), projections, atol=1e-12)


def test_no_D_has_a_better_pair_nearby():
    A, C = theory.random_problem(2, m=5, n=4)
    U, V, _ = theory.nested_optimum(A, C)
    rng = np.random.default_rng(0)
    for p in ([0.25] * 4, [0.7, 0.1, 0.1, 0.1], [0.0, 0.0, 0.0, 1.0]):
        best = theory.objective(U, V, A, C, p)
        for scale in (1e-3, 0.1, 1.0):
            step = (
                rng.normal(size=(50, 5, 4)) * scale,
                rng.normal(size=(50, 4, 4)) * scale,
            )
            near = theory.objective(U + step[0], V + step[1], A, C, p)
            assert (near > best - 1e-12).all()


# --- the theorem as printed -----------------------------------------------------------


def test_corrected_theorem_holds_for_any_shape():
    for seed in range(20):
        A, C = theory.random_problem(seed)
        U, V = theory.theorem_solution(A, C, "corrected")
        assert np.abs(gaps(U, V, A, C)).max() < 1e-12


@pytest.mark.parametrize("reading", ["printed", "transposed"])
def test_printed_theorem_fails(reading):
    for seed in range(20):
        A, C = theory.random_problem(seed, m=5, n=5)
        U, V = theory.theorem_solution(A, C, reading)
        assert gaps(U, V, A, C).max() > 0.01
    tall, C = theory.random_problem(0, m=7, n=4)
    with pytest.raises(ValueError, match="7 x 4"):
        theory.theorem_solution(tall, C, reading)


def test_for_the_ball_the_transposed_theorem_is_right_up_to_column_scale():
    A, _ = theory.random_problem(0, m=5, n=5)
    C = theory.ball_second_moment(5)
    U, V = theory.theorem_solution(A, C, "transposed")
    sigma = np.linalg.svd(A, compute_uv=False)
    assert np.abs(gaps(U, V * sigma, A, C)).max() < 1e-12


# --- gradients ------------------------------------------------------------------------


@pytest.mark.parametrize("b", [1, 3, 4])
def test_gradients_against_finite_differences(b):
    A, C = theory.random_problem(3, m=6, n=4)
    rng = np.random.default_rng(0)
    U, V = rng.normal(size=(6, 4)), rng.normal(size=(4, 4))
    gU, gV = theory.gradients(U, V, A, C, b)
    dU, dV = rng.normal(size=U.shape), rng.normal(size=V.shape)
    h = 1e-6
    ahead, behind = (
        theory.prefix_losses(U + s * dU, V + s * dV, A, C)[b - 1] for s in (h, -h)
    )
    slope = (gU * dU).sum() + (gV * dV).sum()
    assert (ahead - behind) / (2 * h) == pytest.approx(slope, rel=1e-6)
    assert not gU[:, b:].any() and not gV[:, b:].any()


def test_gradients_take_one_rank_per_seed():
    A, C = theory.random_problem(3, m=6, n=4)
    U, V = theory.start("uniform", 6, 4, 4, [0, 1, 2])
    together = theory.gradients(U, V, A, C, np.array([1, 4, 2]))
    for s, b in enumerate((1, 4, 2)):
        alone = theory.gradients(U[s], V[s], A, C, b)
        np.testing.assert_allclose(together[0][s], alone[0], atol=1e-14)
        np.testing.assert_allclose(together[1][s], alone[1], atol=1e-14)


def test_every_summand_is_flat_at_the_closed_form():
    A, C = theory.random_problem(5)
    U, V, _ = theory.nested_optimum(A, C)
    for b in range(1, U.shape[1] + 1):
        for side in theory.gradients(U, V, A, C, b):
            assert np.abs(side).max() < 1e-11


@pytest.mark.parametrize("hierarchical", [True, False])
def test_lasso_gradient_against_finite_differences(hierarchical):
    rng = np.random.default_rng(0)
    U, V = rng.normal(size=(1, 5, 3)), rng.normal(size=(1, 4, 3))

    def penalty(U, V):
        if hierarchical:
            return (theory.suffix_norms(U) + theory.suffix_norms(V)).sum()
        return (np.linalg.norm(U, axis=1) + np.linalg.norm(V, axis=1)).sum()

    gU, gV = theory._lasso_gradient(U, V, hierarchical)
    dU, dV = rng.normal(size=U.shape), rng.normal(size=V.shape)
    h = 1e-6
    measured = penalty(U + h * dU, V + h * dV) - penalty(U - h * dU, V - h * dV)
    assert measured / (2 * h) == pytest.approx((gU * dU).sum() + (gV * dV).sum())
    U[..., 1:] = 0
    assert np.isfinite(theory._lasso_gradient(U, V, hierarchical)[0]).all()


# --- SGD ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def problem():
    A = theory.random_target(6, 4, [4.0, 3.0, 2.0, 1.0], seed=0)
    return A, theory.random_moment([1.5, 1.0, 0.8, 0.6], seed=1)


@pytest.mark.parametrize("p", [None, [0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]])
def test_sgd_goes_to_the_closed_form_whatever_D(problem, p):
    A, C = problem
    Q, _, _ = theory.nested_optimum(A, C)
    seeds = [0, 1, 2]
    U, V = theory.start("uniform", 6, 4, 4, seeds)
    path = theory.sgd(A, C, U, V, seeds, Descent(8000, 0.2, every=8000), Objective(p))
    assert theory.prefix_angles(path.U[-1], Q).max() < 1e-4
    assert gaps(path.U[-1], path.V[-1], A, C).max() < 1e-8


def test_a_rank_that_is_never_drawn_is_not_found(problem):
    A, C = problem
    Q, _, _ = theory.nested_optimum(A, C)
    U, V = theory.start("uniform", 6, 4, 4, [0])
    p = [0.3, 0.0, 0.4, 0.3]
    path = theory.sgd(A, C, U, V, [0], Descent(8000, 0.2), Objective(p))
    angles = theory.prefix_angles(path.U[-1, 0], Q)
    assert angles[1] > 0.01
    assert np.delete(angles, 1).max() < 1e-4


def test_sampled_data_stop_short_of_the_closed_form(problem):
    A, C = problem
    Q, _, _ = theory.nested_optimum(A, C)
    U, V = theory.start("uniform", 6, 4, 4, [0])
    path = theory.sgd(A, C, U, V, [0], Descent(8000, 0.2, batch=16))
    angles = theory.prefix_angles(path.U[-1, 0], Q)
    assert angles[:3].min() > 1e-4  # below full rank: a noise floor
    assert angles[3] < 1e-8  # the full rank can interpolate


def test_seeds_do_not_depend_on_their_company(problem):
    A, C = problem
    U, V = theory.start("uniform", 6, 4, 4, [7, 3])
    pair = theory.sgd(A, C, U, V, [7, 3], Descent(50, 0.1))
    alone = theory.sgd(A, C, U[1:], V[1:], [3], Descent(50, 0.1))
    np.testing.assert_allclose(pair.U[:, 1], alone.U[:, 0], atol=1e-12)
    assert list(pair.steps) == [0, 10, 20, 30, 40, 50]


def test_changes_and_last_record(problem):
    A, C = problem
    U, V = theory.start("balanced", 6, 4, 4, [0])
    path = theory.sgd(A, C, U, V, [0], Descent(25, 0.1, changes={10: np.zeros((4, 4))}))
    assert list(path.steps) == [0, 10, 20, 25]
    np.testing.assert_array_equal(path.U[1], path.U[-1])  # no data, no gradient
    assert np.abs(path.U[0] - path.U[1]).max() > 0


# --- speed ----------------------------------------------------------------------------


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


# --- measures -------------------------------------------------------------------------


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


def test_balanced_start_is_the_svd_of_a_dense_layer():
    U, V = theory.start("balanced", 5, 4, 4, [0, 1])
    assert np.abs(theory.imbalance(U, V)).max() < 1e-12
    columns = theory.importance(U, V)
    assert (np.diff(columns) < 0).all()
    assert np.abs(U @ V.swapaxes(1, 2)).max() <= 1 / np.sqrt(4)


# --- bad input ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: theory.random_target(3, 2, [1.0, 1.0, 1.0], 0), "1 to 2"),
        (lambda: theory.random_target(3, 2, [-1.0], 0), "> 0"),
        (lambda: theory.random_moment([-1.0], 0), ">= 0"),
        (lambda: theory.start("zeros", 2, 2, 2, [0]), "zeros"),
        (lambda: theory.nested_optimum(np.eye(3), np.eye(2)), "needs C"),
        (lambda: theory.nested_optimum(np.eye(2), -np.eye(2)), "negative"),
        (lambda: theory.nested_optimum(np.eye(2), [[1, 1], [0, 1]]), "symmetric"),
        (lambda: theory.theorem_solution(np.eye(2), np.eye(2), "best"), "best"),
        (lambda: theory.isolated_start(np.eye(2), 1.0, [0]), "full rank"),
        (lambda: theory.excess_decay(1.0, 0.0), "> 0"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": 0}, "steps=0"),
        ({"lr": -1.0}, "lr=-1.0"),
        ({"seeds": [0, 1]}, "2 seeds for 1"),
        ({"probabilities": [1.0, 1.0]}, "sum 1"),
    ],
)
def test_sgd_refuses_bad_settings(change, words):
    U, V = theory.start("uniform", 2, 2, 2, [0])
    given = {"steps": 5, "lr": 0.1, "seeds": [0], "probabilities": None} | change
    descent = Descent(given["steps"], given["lr"])
    objective = Objective(given["probabilities"])
    with pytest.raises(ValueError, match=words):
        theory.sgd(np.eye(2), np.eye(2), U, V, given["seeds"], descent, objective)
    with pytest.raises(ValueError, match="0"):
        theory.gradients(U, V, np.eye(2), np.eye(2), 0)


def test_divergence_is_reported():
    U, V = theory.start("uniform", 2, 2, 2, [0])
    with pytest.raises(FloatingPointError, match="diverged"):
        theory.sgd(9 * np.eye(2), np.eye(2), U, V, [0], Descent(500, 50.0))


def test_verdict():
    assert theory.verdict("it works", True) == "holds: it works"
    assert theory.verdict("it works", False).startswith("DOES NOT HOLD")
