"""Numbers read as the paper writes them."""

import math

import pytest

from maestro.results import cells


@pytest.mark.parametrize(
    ("lambda_gl", "name"),
    [
        (math.nan, "dense"),
        (0.0, "λ = 0"),
        (16e-5, "λ = 16e-5"),
        (2e-6, "λ = 2e-6"),
        (0.000512, "λ = 512e-6"),
        (0.32, "λ = 0.32"),
        (5.12, "λ = 5.12"),
    ],
)
def test_variants_have_the_papers_names(lambda_gl, name):
    assert cells.variant_name(lambda_gl) == name


def test_counts_deviations_and_ratios():
    assert cells.count(44_426, 0.4) == "44,426 ± 0"
    assert cells.count(0.248, 0.0032) == "0.248 ± 0.0032"
    assert cells.count(25.56, math.nan) == "25.56"
    assert cells.plus_minus(9.853, 0.1, ".2f") == "9.85 ± 0.10"
    assert cells.ratio(0.414) == "0.41×" and cells.ratio(math.nan) == "–"
