"""A claim holds, does not, or is not judged."""

from test_tables import by_id, made_up, translating

from maestro.results import claims
from maestro.results.cells import NOT_RUN


def runs(lambda_gl, perplexities, params=5000):
    """{id: record}, one run for each seed's perplexity."""
    return by_id(
        *(
            translating(made_up(lambda_gl, seed, params=(8000, params)), perplexity)
            for seed, perplexity in enumerate(perplexities)
        )
    )


DENSE = runs(None, (9.8, 10.0), 10_000)


def test_a_smaller_network_of_lower_perplexity_is_found():
    found = claims.smaller_and_better(
        DENSE | runs(0.64, (9.4, 9.6)) | runs(2.56, (6.8, 7.0), 2000)
    )
    assert found.startswith(
        "holds: 6.90 at λ = 2.56 with 0.20× the parameters, 9.90 dense, standard error "
    )


def test_one_that_is_not_lower_by_more_than_the_noise_is_not():
    found = claims.smaller_and_better(DENSE | runs(0.64, (9.5, 10.1)))
    assert found.startswith("does not hold: 9.80 at λ = 0.64")


def test_a_better_one_that_is_not_smaller_does_not_count():
    found = claims.smaller_and_better(DENSE | runs(0.64, (6.0, 6.1), 10_000))
    assert found == "does not hold: no network is smaller than the dense one"


def test_one_run_each_decides_nothing():
    found = claims.smaller_and_better(runs(None, (9.8,), 10_000) | runs(0.64, (6.0,)))
    assert found.startswith("undecided: 6.00 at λ = 0.64")
    assert found.endswith("from one run each")


def test_missing_runs_are_not_judged():
    for records in ({}, DENSE, runs(0.64, (6.0,))):
        assert claims.smaller_and_better(records) == NOT_RUN
