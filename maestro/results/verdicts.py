"""Verdicts: what is judged, by which measure and margin, and how it is worded.

The margins come from the paper, not from our runs, and are the same in every chapter:
each is the largest deviation over seeds that the paper's tables print, rounded up. Only
the compact network, which is not the paper's, has a margin of its own (`compact.NEAR`).
"""

from math import expm1, factorial, inf, log, nan, prod
from typing import NamedTuple

import numpy as np

from .cells import NOT_RUN
from .confidence import FAILS, HOLDS, LEVEL, UNDECIDED

POINTS = 0.5  # of accuracy; Tables 11 to 13 print deviations up to 0.49
RISE = 0.035  # of perplexity, relative; Table 14 prints deviations up to 3.4 %
SIZE = 0.1  # of parameters, relative; Table 11 prints deviations up to 8.3 %

IN_PART = "holds in part"
# every word of a verdict with the sign that stands beside it, so that colour is not
# all that tells them apart
SIGNS = {HOLDS: "✓", IN_PART: "◐", FAILS: "✗", UNDECIDED: "?", NOT_RUN: "…"}


class Verdict(NamedTuple):
    """One claim of the paper, judged.

    claim: the claim in short; word: HOLDS, FAILS, UNDECIDED or NOT_RUN; ours, paper:
    the number here and in the paper, nan if there is none; n: the runs behind ours, the
    fewest where several means are compared; margin: how much worse counts as equal;
    scale: of the experiment, or the device of a timing; say: a number such as ours or
    paper in words.
    """

    claim: str
    word: str = NOT_RUN
    ours: float = nan
    paper: float = nan
    n: int = 0
    margin: float = 0.0
    scale: str = ""
    sentence: str = ""
    say: callable = "{:g}".format

    def __str__(self):
        if self.word == NOT_RUN:
            return f"{self.claim}: {NOT_RUN}"
        runs = f" with {counted(self.n, 'run')}"
        return (
            f"{self.claim}: {self.word}{runs if self.word == UNDECIDED else ''}: "
            f"{self.sentence}"
        )


def together(words):
    """The verdict on a claim from those on its parts, which may not all have run.

    The claim holds if every part does, and in part if some part does.
    """
    words = set(words)
    if words == {HOLDS}:
        return HOLDS
    if words & {HOLDS, IN_PART}:
        return IN_PART
    return next((word for word in (FAILS, UNDECIDED) if word in words), NOT_RUN)


def in_order(against, networks):
    """The word on networks that should lie in the order of their lambda_gl.

    Args:
        against: how many neighbours lie in the other order; one is enough to fail.
        networks: how many different ones there are of each seed. If lambda_gl had no
            effect, the k networks of a seed would lie in this order with the
            probability 1 / k!. Networks that are alike bring no evidence.
    """
    if against:
        return FAILS
    by_chance = prod(1 / factorial(k) for k in networks)
    return HOLDS if by_chance <= 1 - LEVEL else UNDECIDED


def counted(number, noun):
    """'1 run', '3 runs'; the plural of ``noun`` ends in s."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def report(heading, verdicts):
    """``verdicts`` as a Markdown list; one line where none of them has been run."""
    if all(one.word == NOT_RUN for one in verdicts):
        return f"{heading}: {NOT_RUN}"
    lines = [f"- **{one.claim}**{str(one)[len(one.claim) :]}" for one in verdicts]
    return "\n".join([f"{heading}:\n", *lines])


class Measure(NamedTuple):
    """A figure that networks are judged by.

    column: in the records; merit: its values, the higher the better; margin: in merit;
    say: a difference of merit in words.
    """

    column: str
    merit: callable
    margin: float
    say: callable


ACCURACY = Measure(
    "test_accuracy", np.asarray, POINTS, lambda merit: f"{merit:+.2f} points"
)
# the logarithm of a perplexity is the loss, in which differences are relative
PERPLEXITY = Measure(
    "perplexity",
    lambda values: -np.log(values),
    log(1 + RISE),
    lambda merit: f"{expm1(-merit):+.1%} perplexity",
)


def bounds(difference, say):
    """' (95 % bounds -0.3 and +0.1 points)'; empty for one run, which has no bounds.

    The level is higher where the best of several means is judged.
    """
    if difference.high == inf:
        return ""
    ends = difference.low, difference.high
    low, high = (say(bound).split(" ")[0] for bound in ends)
    return f" ({100 * difference.level:.3g} % bounds {low} and {high})"


def in_margin(difference, margin, say):
    """', worse, but within the margin of 0.50 points', where the bounds say so; or ''.

    Such a difference counts as none, although chance does not explain it.
    """
    if -margin < difference.low and difference.high < 0:
        return f", worse, but within the margin of {say(-margin).lstrip('+-')}"
    return ""
