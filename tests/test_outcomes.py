"""Accuracies, sizes and later cuts: the paper's claims about what comes out."""

import pytest
from test_claims import DENSE, runs

from maestro.results import outcomes
from maestro.results.cells import NOT_RUN
from maestro.results.confidence import FAILS, HOLDS, UNDECIDED
from maestro.results.published import paper_table

PAPER = paper_table(11)
WHOLE = runs(None, (99.0, 99.1, 99.05), 44_426)  # dense


def test_accuracies_come_out_within_the_margin():
    close = DENSE | runs(256e-5, (96.6, 96.65, 96.7))
    verdict = outcomes.accuracies(close, PAPER)
    assert verdict.word == HOLDS and verdict.n == 3
    assert verdict.say(verdict.ours) == "99.05 (dense)"
    off = outcomes.accuracies(DENSE | runs(256e-5, (95.0, 95.1, 94.9)), PAPER)
    assert off.word == FAILS and "1 of 2 means are within" in off.sentence
    assert off.paper == 96.65
    assert outcomes.accuracies({}, PAPER).word == NOT_RUN


def test_the_smallest_network_that_is_as_good_is_named():
    some = WHOLE | runs(8e-5, (99.0, 99.05, 99.0), 40_000)
    some |= runs(16e-5, (99.0, 98.95, 99.05), 20_000) | runs(32e-5, (90, 90.1, 90.2))
    verdict = outcomes.smaller_and_as_good(some, PAPER)
    assert verdict.word == HOLDS and "λ = 16e-5" in verdict.sentence
    assert verdict.paper == PAPER.params_ratio[PAPER.lambda_gl == 16e-5].item()


def test_a_smaller_network_that_is_worse_does_not_hold():
    worse = WHOLE | runs(32e-5, (90, 90.1, 90.2))
    assert outcomes.smaller_and_as_good(worse).word == FAILS
    one = WHOLE | runs(32e-5, (99.0,))
    assert outcomes.smaller_and_as_good(one).word == UNDECIDED
    both = worse | runs(64e-5, (89.0,))  # which one run does not rule out
    assert outcomes.smaller_and_as_good(both).word == UNDECIDED
    assert outcomes.smaller_and_as_good(WHOLE).word == NOT_RUN


def test_one_network_that_grows_with_lambda_refutes_the_claim():
    falls = runs(8e-5, (99, 99), 20_000) | runs(16e-5, (99, 99), 10_000)
    verdict = outcomes.smaller_with_lambda(WHOLE | falls)
    assert verdict.word == UNDECIDED and verdict.n == 4  # by chance once in 2!²
    assert "0 of 2 cases" in str(verdict)
    more = falls | runs(32e-5, (99, 99), 5_000)
    assert outcomes.smaller_with_lambda(more).word == HOLDS  # once in 3!²
    alike = falls | runs(32e-5, (99, 99), 10_000)  # no evidence
    assert outcomes.smaller_with_lambda(alike).word == UNDECIDED
    grows = falls | runs(32e-5, (99, 99), 15_000)
    assert outcomes.smaller_with_lambda(grows).word == FAILS
    assert outcomes.smaller_with_lambda(WHOLE).word == NOT_RUN


@pytest.mark.parametrize("params, word", [(5000, HOLDS), (50_000, FAILS)])
def test_no_network_is_stored_larger_than_the_dense_one(params, word):
    verdict = outcomes.stored_no_larger(runs(8e-5, (99, 99), params))
    assert verdict.word == word and verdict.n == 2
    assert outcomes.stored_no_larger({}).word == NOT_RUN


def test_a_cut_is_judged_by_the_first_of_its_size():
    assert outcomes.cut_reaches(WHOLE, 10, 87.7).word == NOT_RUN
