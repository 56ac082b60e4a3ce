"""SGD on linear problems: where it ends, and what it refuses."""

import numpy as np
import pytest
from test_optima import gaps

from maestro import theory
from maestro.theory import Descent, Objective
from maestro.theory.descent import lasso_gradient

pytestmark = pytest.mark.course


@pytest.mark.parametrize("hierarchical", [True, False])
def testlasso_gradient_against_finite_differences(hierarchical):
    rng = np.random.default_rng(0)
    U, V = rng.normal(size=(1, 5, 3)), rng.normal(size=(1, 4, 3))

    def penalty(U, V):
        if hierarchical:
            return (theory.suffix_norms(U) + theory.suffix_norms(V)).sum()
        return (np.linalg.norm(U, axis=1) + np.linalg.norm(V, axis=1)).sum()

    gU, gV = lasso_gradient(U, V, hierarchical)
    dU, dV = rng.normal(size=U.shape), rng.normal(size=V.shape)
    h = 1e-6
    measured = penalty(U + h * dU, V + h * dV) - penalty(U - h * dU, V - h * dV)
    assert measured / (2 * h) == pytest.approx((gU * dU).sum() + (gV * dV).sum())
    U[..., 1:] = 0
    assert np.isfinite(lasso_gradient(U, V, hierarchical)[0]).all()


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


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": 0}, "steps=0"),
        ({"lr": -1.0}, "lr=-1.0"),
        ({"seeds": [0, 1]}, "2 seeds for 1"),
        ({"probabilities": [1.0, 1.0]}, "sum 1"),
        ({"changes": {5: np.eye(2)}}, "changes at step 5: the steps are 0 to 4"),
    ],
)
def test_sgd_refuses_bad_settings(change, words):
    U, V = theory.start("uniform", 2, 2, 2, [0])
    given = {"steps": 5, "lr": 0.1, "seeds": [0], "probabilities": None} | change
    descent = Descent(given["steps"], given["lr"], changes=given.get("changes"))
    objective = Objective(given["probabilities"])
    with pytest.raises(ValueError, match=words):
        theory.sgd(np.eye(2), np.eye(2), U, V, given["seeds"], descent, objective)
    with pytest.raises(ValueError, match="0"):
        theory.gradients(U, V, np.eye(2), np.eye(2), 0)


def test_divergence_is_reported():
    U, V = theory.start("uniform", 2, 2, 2, [0])
    with pytest.raises(FloatingPointError, match="diverged"):
        theory.sgd(9 * np.eye(2), np.eye(2), U, V, [0], Descent(500, 50.0))
