"""Rows that have not run take one line, and no cell is a quoted Python string."""

import pandas as pd

from maestro.publish.shown import Shown
from maestro.results.cells import NOT_RUN

BESIDE = pd.DataFrame(
    {
        ("runs", "here"): [3, 0],
        ("accuracy (%)", "here"): ["99.1", NOT_RUN],
        ("accuracy (%)", "paper"): ["99.0", "98.0"],
    },
    index=["λ = 0", "λ = 8e-5"],
)


def test_a_row_without_a_run_is_folded_with_the_papers_numbers():
    text = Shown(BESIDE)._repr_html_()
    table, _, folded = text.partition("<details>")
    assert "99.1" in table and "λ = 8e-5" not in table and NOT_RUN not in table
    assert "not run yet, the paper&#x27;s numbers: λ = 8e-5" in folded
    assert "98.0" in folded and folded.count(NOT_RUN) == 1
    assert repr(Shown(BESIDE)).endswith("\nnot run yet: λ = 8e-5")


def test_a_table_in_which_nothing_has_run_is_one_folded_line():
    text = Shown(BESIDE.iloc[1:])._repr_html_()
    assert text.startswith("<details><summary>not run yet")
    assert text.count(NOT_RUN) == 1


def test_a_table_without_the_paper_names_what_is_missing():
    table = pd.DataFrame({"size": ["1", NOT_RUN], "runs": [1, 0]}, index=["a", "b"])
    assert Shown(table)._repr_html_().endswith("<p>not run yet: b</p>")


def test_no_table_is_a_sentence():
    for nothing in (Shown(NOT_RUN), Shown(pd.DataFrame()), Shown()):
        assert nothing._repr_html_() == "<p>not run yet</p>"
        assert repr(nothing) == "not run yet"


def test_several_tables_stand_below_each_other():
    text = Shown(BESIDE, BESIDE.iloc[:1])._repr_html_()
    assert text.count("<table") == 3


def test_many_rows_without_a_run_are_counted():
    table = pd.DataFrame({"size": [NOT_RUN] * 6}, index=list("abcdef"))
    assert repr(Shown(table)) == "not run yet: 6 rows, a to f"
