"""The page of claims and the chapters' cards say what the register says."""

import json

import pytest
import torch
from test_dashboard import TITLES, one

from maestro.paths import ROOT
from maestro.publish import cards, register
from maestro.results.confidence import HOLDS
from maestro.results.verdicts import SIGNS


def test_the_page_of_claims_is_that_of_the_records(sections):
    """If not: `python -m maestro claims` makes the page anew."""
    page = ROOT / "book" / "claims.md"
    assert page.read_text("utf-8") == cards.claims_page(sections, TITLES)


def test_nothing_is_tested_without_saying_what_came_out(sections):
    text = (ROOT / "book" / "claims.md").read_text("utf-8")
    assert "Tested in" not in text
    table = text.partition(cards.MARK)[2]
    assert table.count("* - (claim-") == len(register.every(sections))


def test_a_page_without_the_mark_is_refused(tmp_path):
    page = tmp_path / "claims.md"
    page.write_text("# Claims\n")
    with pytest.raises(ValueError, match="has no line '<!-- from here"):
        cards.claims_page(one(HOLDS), TITLES, page)


def test_a_card_has_three_lines():
    text = cards.card("10_lenet_mnist", one(HOLDS))
    lines = [line for line in text.splitlines() if line.startswith("**")]
    assert [line.split(":**")[0] for line in lines] == [
        "**Asked",
        "**Came out",
        "**How sure",
    ]
    assert f"[{SIGNS[HOLDS]} holds]{{.verdict .holds}}: [A < B](#claim-key)" in lines[1]
    assert lines[2].startswith("**How sure:** 3 runs, scale paper. Means over runs")
    assert cards.card("20_what_it_costs", one(HOLDS)) == ""


def test_every_judged_chapter_has_a_card(sections):
    for chapter in register.QUESTIONS:
        assert cards.card(chapter, sections), chapter


def test_a_dressed_notebook_begins_with_its_number_and_card(tmp_path):
    path = tmp_path / "01_a.ipynb"
    cells = [{"cell_type": "markdown", "source": ["# A title\n", "\n", "It begins."]}]
    path.write_text(json.dumps({"cells": cells}))
    assert cards.titles(tmp_path) == {"01_a": "1. A title"}
    cards.dress(path, "a card\n", "1. A title")
    [cell] = json.loads(path.read_text())["cells"]
    assert cell["source"] == "# 1. A title\n\na card\n\nIt begins."
    cards.dress(path, "", "1. A title", "an ending")
    assert json.loads(path.read_text())["cells"][-1]["source"] == "an ending"


def test_a_chapter_ends_with_its_environment_and_its_runs():
    text = cards.ending("22_ablation")
    assert f"torch {torch.__version__.split('+')[0]}" in text and "commit `" in text
    assert "of 20 runs have a record" in text and "{dropdown}" in text
    assert "has no runs of its own" in cards.ending("05_theorem")
