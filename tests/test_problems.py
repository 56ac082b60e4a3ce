"""The linear problems and starts of the theory are those that they say."""

import numpy as np
import pytest

from maestro import theory

pytestmark = pytest.mark.course


def test_the_random_problems_include_singular_ones():
    moments = [theory.random_problem(s)[1] for s in range(20)]
    singular = sum(np.linalg.matrix_rank(C) < len(C) for C in moments)
    assert 3 < singular < 17


def test_ball_second_moment_against_sampling():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 200_000))
    x *= rng.uniform(size=200_000) ** (1 / 3) / np.linalg.norm(x, axis=0)
    sampled = theory.second_moment(x)
    np.testing.assert_allclose(sampled, theory.ball_second_moment(3), atol=2e-3)


def test_balanced_start_is_the_svd_of_a_dense_layer():
    U, V = theory.start("balanced", 5, 4, 4, [0, 1])
    assert np.abs(theory.imbalance(U, V)).max() < 1e-12
    columns = theory.importance(U, V)
    assert (np.diff(columns) < 0).all()
    assert np.abs(U @ V.swapaxes(1, 2)).max() <= 1 / np.sqrt(4)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: theory.random_target(3, 2, [1.0, 1.0, 1.0], 0), "1 to 2"),
        (lambda: theory.random_target(3, 2, [-1.0], 0), "> 0"),
        (lambda: theory.random_moment([-1.0], 0), ">= 0"),
        (lambda: theory.start("zeros", 2, 2, 2, [0]), "zeros"),
        (lambda: theory.isolated_start(np.eye(2), 1.0, [0]), "full rank"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
