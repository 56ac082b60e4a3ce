"""The paper's tables are as printed, to the last digit."""

import math

import pytest

from maestro.results import published
from maestro.results.cells import variant_name
from maestro.results.published import paper_table, params_from_macs, params_meant


def test_a_paper_table_that_is_not_there_or_damaged_is_named(tmp_path, monkeypatch):
    for number in (99, None, "11 "):
        with pytest.raises(ValueError, match="number=.*: it is one of .*11, 12, 13"):
            paper_table(number)
    monkeypatch.setattr(published, "PAPER", tmp_path)
    (tmp_path / "table11.csv").write_text("")
    with pytest.raises(ValueError, match="table11.csv is damaged .*: take it from"):
        paper_table(11)


def test_each_variant_of_the_paper_has_a_name_of_its_own():
    names = paper_table(11).lambda_gl.map(variant_name)
    assert names[0] == "dense" and names.nunique() == 8
    assert names[3] == "λ = 16e-5" and names[1] == "λ = 0"


PRINTED = {
    # table: rows, {(row, column): value}
    11: (
        8,
        {
            (0, "macs"): 281_640,
            (1, "accuracy"): 99.06,
            (1, "train_params_ratio"): 1.49,
            (2, "params"): 31_363,
            (3, "params"): 44_426,  # the misprint
            (3, "params_std"): 217,
            (4, "accuracy_std"): 0.39,
            (5, "macs_std"): 19_098,
            (7, "train_macs_ratio"): 0.39,
        },
    ),
    12: (
        11,
        {
            (0, "params"): 11.2,
            (4, "accuracy"): 94.19,
            (4, "params_std"): 0.020,
            (7, "macs"): 0.094,
            (10, "train_params_ratio"): 0.03,
        },
    ),
    13: (
        10,
        {
            (0, "params"): 20,
            (2, "accuracy"): 93.33,
            (5, "macs_std"): 0.0009,
            (9, "accuracy"): 88.53,
        },
    ),
    3: (3, {(1, "perplexity"): 7.34, (1, "macs"): 0.996, (2, "params"): 13.8}),
    4: (
        6,
        {(0, "accuracy"): 75.32, (0, "params"): 25.26, (2, "accuracy"): 76.0}
        | {(3, "accuracy"): 76.04, (4, "macs"): 2.1, (5, "params"): 9.2},
    ),
    14: (
        6,
        {
            (0, "perplexity"): 9.85,
            (3, "lambda_gl"): 1.28,
            (5, "macs_ratio"): 0.9,  # the misprint
            (5, "params"): 9.3,
        },
    ),
    15: (
        9,
        {
            (0, "params"): 25.56,
            (1, "accuracy"): 76.04,
            (4, "train_macs_ratio"): 1.22,
            (8, "params_ratio"): 0.28,
        },
    ),
}


@pytest.mark.parametrize("number", PRINTED)
def test_the_papers_tables_are_as_printed(number):
    rows, cells = PRINTED[number]
    table = paper_table(number)
    assert len(table) == rows
    for (row, column), value in cells.items():
        assert table.loc[row, column] == value, (row, column)
    ours = table.variant == "maestro"
    assert table.lambda_gl[ours].notna().all() and table.lambda_gl[~ours].isna().all()
    assert (table.variant == "dense").sum() == 1


def test_the_misprinted_parameters_follow_from_the_macs():
    implied = params_from_macs(paper_table(11))
    assert implied[0] == 44_426 and implied[2] == 31_363
    assert implied[3] == 18_155
    assert math.isnan(implied[4])  # by then convolutions lost ranks too
    meant = params_meant(paper_table(11))
    assert meant[3] == 18_155 and meant[2] == 31_363 and meant[7] == 5_293
    assert meant[4] == pytest.approx(0.26 * 44_426)
