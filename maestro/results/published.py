"""The paper's tables as printed (data/paper), and their misprints corrected."""

import math

import pandas as pd

from ..paths import PAPER

DENSE_SECTION = "No decomposition"  # of Tables 4 and 15


def paper_table(number, section=None, dtype=None):
    """A table of the paper as printed (data/paper).

    Args:
        number: the number of the table.
        section: a heading of Table 4 or 15. Only the rows of this section and of the
            dense network are kept; None keeps all rows.
        dtype: str for cells that keep the digits that are printed; else numbers.

    Returns:
        A DataFrame; empty cells are nan.

    Raises:
        ValueError: there is no such table or section, or the file is damaged.
    """
    path = PAPER / f"table{number}.csv"
    if not path.is_file():
        known = sorted(int(p.stem[5:]) for p in PAPER.glob("table*.csv"))
        raise ValueError(f"number={number!r}: it is one of {known}")
    try:
        table = pd.read_csv(path, dtype=dtype)
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}): take it from the repository anew"
        ) from None
    if section is None:
        return table
    if section not in set(table.section):
        raise ValueError(f"section={section!r}; it is one of {set(table.section)}")
    return table[table.section.isin([DENSE_SECTION, section])]


def printed_row(paper, lambda_gl):
    """The row of a `paper_table` with this lambda_gl (nan: the dense one), or None."""
    rows = paper[paper.variant == "dense"]
    if not math.isnan(lambda_gl):
        rows = paper[(paper.lambda_gl - lambda_gl).abs() <= 1e-9 * max(1, lambda_gl)]
    return None if rows.empty else rows.iloc[0]


def params_from_macs(paper):
    """The parameters that the MACs column of Table 11 implies; nan if it implies none.

    While only fully connected layers lose ranks, each parameter lost is one MAC lost,
    so both columns fall by the same number.
    """
    dense = paper.iloc[0]
    implied = dense.params - (dense.macs - paper.macs)
    return implied.where(implied > 0)


def params_meant(paper):
    """The parameters of Table 11 with its slipped rows corrected, a Series.

    Where the printed count disagrees with the printed ratio, the count implied by the
    MACs takes its place if that count agrees with the ratio; otherwise the ratio times
    the dense count does.
    """
    by_ratio = paper.params_ratio * paper.params[0]
    rounding = 0.0051 * paper.params[0]
    implied = params_from_macs(paper)
    second = implied.where((implied - by_ratio).abs() <= rounding, by_ratio)
    return paper.params.where((paper.params - by_ratio).abs() <= rounding, second)
