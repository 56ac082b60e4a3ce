"""Confidence bounds of a difference of means, and the verdict on a claim.

The bounds are one-sided, by Welch's t. A claim about a difference holds, does not hold,
or cannot be decided with the available runs.
"""

from math import inf
from typing import NamedTuple

import numpy as np

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "cannot be decided"
LEVEL = 0.95  # of each one-sided bound


class Gap(NamedTuple):
    """A difference of means with its one-sided confidence bounds."""

    mean: float
    low: float
    high: float
    level: float = LEVEL

    def above(self, bound):
        """The verdict on the claim that the difference lies above ``bound``."""
        if self.low > bound:
            return HOLDS
        return FAILS if self.high < bound else UNDECIDED

    def within(self, bound):
        """The verdict on the claim that the difference is at most ``bound`` in size."""
        turned = Gap(-self.mean, -self.high, -self.low)
        return worst({self.above(-bound), turned.above(-bound)})


def worst(words):
    """The verdict on a claim, from the verdicts ``words`` on its parts."""
    return next(word for word in (FAILS, UNDECIDED, HOLDS) if word in words)


def any_holds(words):
    """The verdict on "one of them does", from the verdicts ``words`` on each.

    The caller tests each at its part of the level.
    """
    if HOLDS in words:
        return HOLDS
    return FAILS if set(words) == {FAILS} else UNDECIDED


def gap(ours, other=None, level=LEVEL):
    """The `Gap` between the means of two samples, or between one mean and zero.

    The bounds are infinite where a sample has fewer than two values.
    """
    samples = [np.asarray(x, float) for x in (ours, other) if x is not None]
    mean = samples[0].mean() - sum(x.mean() for x in samples[1:])
    if min(map(len, samples)) < 2:
        return Gap(mean, -inf, inf, level)
    variances = [x.var(ddof=1) / len(x) for x in samples]
    total = sum(variances)
    if not total:
        return Gap(mean, mean, mean, level)
    pairs = zip(variances, samples, strict=True)
    freedom = total**2 / sum(v**2 / (len(x) - 1) for v, x in pairs)
    half = t_quantile(freedom, level) * total**0.5
    return Gap(mean, mean - half, mean + half, level)


def paired(ours, other):
    """[difference of the values of each seed that both have], for `gap`.

    ours, other: {seed: value}.
    """
    return [value - other[seed] for seed, value in ours.items() if seed in other]


def t_quantile(freedom, level=LEVEL):
    """The ``level`` quantile of Student's t, by integration, without SciPy.

    For t = sqrt(freedom) tan(a) the density of a is proportional to
    cos(a)^(freedom - 1).
    """
    angles = np.linspace(0, np.pi / 2, 20_001)
    density = np.cos(angles) ** (freedom - 1)
    area = np.append(0, np.cumsum(density[1:] + density[:-1]))
    angle = np.interp((2 * level - 1) * area[-1], area, angles)
    return freedom**0.5 * np.tan(angle)
