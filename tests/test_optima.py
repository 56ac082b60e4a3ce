"""The closed forms of the optima against searches that do not know them."""

import numpy as np
import pytest

from maestro import theory

pytestmark = pytest.mark.course


def gaps(U, V, A, C):
    """Excess over the least loss of each rank, relative to E‖Ax‖²."""
    excess = theory.prefix_losses(U, V, A, C) - theory.rank_optima(A, C)
    return excess / np.trace(A @ C @ A.T)


@pytest.mark.parametrize("seed", range(20))
def test_closed_form_is_optimal_at_every_rank(seed):
    A, C = theory.random_problem(seed)  # singular C among them
    U, V, eigenvalues = theory.nested_optimum(A, C)
    r = min(A.shape)
    assert U.shape == (A.shape[0], r) and V.shape == (A.shape[1], r)
    assert np.abs(gaps(U, V, A, C)).max() < 1e-13
    trailing = eigenvalues.sum() - eigenvalues.cumsum()
    np.testing.assert_allclose(trailing, theory.rank_optima(A, C), atol=1e-10)


@pytest.mark.parametrize("seed", range(4))
def test_a_search_of_one_rank_finds_the_optimum_and_nothing_below(seed):
    A, C = theory.random_problem(seed)
    scale = np.trace(A @ C @ A.T)
    for b, best in enumerate(theory.rank_optima(A, C), 1):
        found = theory.searched_optimum(A, C, b, seed=seed, rounds=300)
        assert -1e-12 < (found - best) / scale < 1e-3


def test_the_best_scales_undo_any_scaling_of_the_columns():
    A, C = theory.random_problem(3)
    U, V, _ = theory.nested_optimum(A, C)
    scales = np.linspace(-2, 3, U.shape[1])
    found = theory.best_scales(U * scales, V, A, C)
    np.testing.assert_allclose(found * scales, 1, atol=1e-9)


def test_the_best_scales_are_those_of_the_least_sum_of_losses():
    rng, (A, C) = np.random.default_rng(0), theory.random_problem(2, m=5, n=4)
    U, V = rng.normal(size=(5, 4)), rng.normal(size=(4, 4))
    scales = theory.best_scales(U, V, A, C)
    least = theory.prefix_losses(U * scales, V, A, C).sum()
    for _ in range(20):
        other = scales + 1e-3 * rng.normal(size=4)
        assert theory.prefix_losses(U * other, V, A, C).sum() > least


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


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: theory.nested_optimum(np.eye(3), np.eye(2)), "needs C"),
        (lambda: theory.nested_optimum(np.eye(2), -np.eye(2)), "negative"),
        (lambda: theory.nested_optimum(np.eye(2), [[1, 1], [0, 1]]), "symmetric"),
        (lambda: theory.theorem_solution(np.eye(2), np.eye(2), "best"), "best"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
