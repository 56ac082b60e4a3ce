"""Tiles, the page of claims and the cards say what the register says."""

import re

from maestro.paths import ROOT
from maestro.publish import cards, dashboard, evidence, register
from maestro.results.confidence import FAILS, HOLDS
from maestro.results.verdicts import SIGNS, Verdict

TITLES = cards.titles(ROOT / "notebooks")


def one(word, chapter="10_lenet_mnist"):
    """{section: [a claim of one part with this verdict]}."""
    claim = register.Claim("key", "Fig. 1", "A < B", "A is less than B", None)
    verdict = Verdict(
        "a", word, 0.5, 0.4, 3, 0, "paper", "It is $so$", "{:.1f}×".format
    )
    part = evidence.Part(chapter, "LeNet", verdict)
    return {"Figures": [register.Judged(claim, word, [part])]}


def test_titles_have_the_number_of_their_file():
    assert TITLES["10_lenet_mnist"] == "10. LeNet on MNIST"
    assert TITLES["01_svd_recovery"].startswith("1. ")


def test_a_tile_says_sign_word_numbers_and_where():
    text = dashboard.tiles(one(FAILS), TITLES)
    assert f"{SIGNS[FAILS]}</i> does not hold" in text and "paper Fig. 1" in text
    assert "LeNet: 0.5× · the paper 0.4× · 3 runs, scale paper" in text
    assert "A &lt; B" in text and 'href="claims.html#claim-key"' in text
    assert 'href="../notebooks/10_lenet_mnist.html">10. LeNet on MNIST<' in text


def test_every_claim_has_one_tile(sections):
    text = dashboard.tiles(sections, TITLES)
    keys = re.findall(r'claims.html#claim-([a-z0-9-]+)"', text)
    assert keys == [o.claim.key for o in register.every(sections)]
    counts = re.findall(r"<b>(\d+)</b>", dashboard.answer(sections))
    assert sum(map(int, counts)) == len(keys)


def test_a_changed_verdict_changes_tile_claim_and_card():
    for make in (
        lambda some: dashboard.tiles(some, TITLES),
        lambda some: cards.claims(some, TITLES),
        lambda some: cards.card("10_lenet_mnist", some),
        dashboard.answer,
    ):
        assert make(one(HOLDS)) != make(one(FAILS))
