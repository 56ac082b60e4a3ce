"""Confidence bounds are those of Welch's t test, and decide nothing on one run."""

from math import inf

import numpy as np
import pytest

from maestro.results.confidence import FAILS, HOLDS, UNDECIDED, Gap, gap, t_quantile
from maestro.results.verdicts import bounds


@pytest.mark.parametrize("freedom", [1, 1.37, 2, 3.6, 10, 80])
@pytest.mark.parametrize("level", [0.95, 0.99])
def test_quantiles_are_those_of_students_t(freedom, level):
    stats = pytest.importorskip("scipy.stats")
    expected = stats.t.ppf(level, freedom)
    assert t_quantile(freedom, level) == pytest.approx(expected, rel=1e-4)


def test_the_bounds_of_two_samples_are_welchs():
    stats = pytest.importorskip("scipy.stats")
    ours, other = [70.1, 71.3, 70.8], [75.0, 77.4]
    found = gap(ours, other)
    result = stats.ttest_ind(ours, other, equal_var=False)
    interval = result.confidence_interval(0.9)  # 5 % on each side
    assert found.mean == pytest.approx(np.mean(ours) - np.mean(other))
    assert found.low == pytest.approx(interval.low, abs=1e-3)
    assert found.high == pytest.approx(interval.high, abs=1e-3)


def test_the_bounds_of_one_sample_are_the_paired_tests():
    stats = pytest.importorskip("scipy.stats")
    interval = stats.ttest_1samp([0.3, -0.1, 0.2], 0).confidence_interval(0.9)
    found = gap([0.3, -0.1, 0.2])
    assert found.low == pytest.approx(interval.low, abs=1e-3)
    assert found.high == pytest.approx(interval.high, abs=1e-3)


def test_bounds_say_their_level():
    say = "{:+.1f}".format
    assert bounds(gap([1.0, 2.0, 3.0]), say).startswith(" (95 % bounds ")
    best_of_six = gap([1.0, 2.0, 3.0], level=1 - 0.05 / 6)
    assert bounds(best_of_six, say).startswith(" (99.2 % bounds ")


def test_one_run_has_no_bounds_and_decides_nothing():
    for found in (gap([1.0]), gap([1.0], [3.0, 3.1]), gap([1.0, 1.1], [3.0])):
        assert (found.low, found.high) == (-inf, inf)
        assert found.above(0) == UNDECIDED and found.within(100) == UNDECIDED


def test_runs_that_agree_exactly_have_exact_bounds():
    assert gap([5, 5, 5], [3, 3]) == Gap(2, 2, 2)


def test_a_claim_holds_fails_or_is_open():
    assert Gap(1, 0.5, 1.5).above(0) == HOLDS
    assert Gap(-1, -1.5, -0.5).above(0) == FAILS
    assert Gap(0, -0.5, 0.5).above(0) == UNDECIDED
    assert Gap(0, -0.5, 0.5).within(0.6) == HOLDS
    assert Gap(1, 0.9, 1.1).within(0.6) == Gap(-1, -1.1, -0.9).within(0.6) == FAILS
    assert Gap(0.5, 0.3, 0.7).within(0.6) == UNDECIDED
