"""The plain forms of a linear map (m, n) of rank r, and how many numbers each takes.

    dense       W itself                                  m n
    two maps    V^T, then U                               r (m + n)
    aligned     the same, with r rows of U an identity    r (m + n - r)

The last one comes from U V^T = (U G) (G^-1 V^T), with G the inverse of r rows of U. It
is below dense at every rank under min(m, n). The order of its outputs is an index of m
numbers, which are not trained, but which a file has to hold.
"""

from typing import NamedTuple

DENSE, TWO_MAPS, ALIGNED = "dense", "two maps", "aligned"


class Form(NamedTuple):
    """params: numbers that are trained. stored: with the index, of 32 bits a number."""

    name: str
    params: int
    stored: int


def forms(m, n, r, aligned=False):
    """Every `Form` that a map of rank ``r`` can be stored in, dense first.

    PyTorch has no layer of a bias alone that convolutions and exporters take: rank 0 is
    stored as one column of zeros.
    """
    r = max(r, 1)
    two = r * (m + n)
    found = [Form(DENSE, m * n, m * n), Form(TWO_MAPS, two, two)]
    if aligned and r < min(m, n):
        found.append(Form(ALIGNED, two - r * r, two - r * r + m))
    return found


def smallest(m, n, r, aligned=False):
    """The `Form` that takes the least memory; the plainer one of equals."""
    return min(forms(m, n, r, aligned), key=lambda form: form.stored)
