"""BLEU scores as the records have them, and nothing where they have none."""

import pytest

from maestro.config import Recipe, RunConfig
from maestro.results import bleu
from maestro.results.cells import NOT_RUN

SIGNATURE = "nrefs:1|case:mixed|eff:no|tok:none|smooth:exp|version:2.6.0"


def run(lambda_gl=None, scores=(), scale="laptop"):
    """What a translating run's record tells; scores: (greedy, beam 5), or none."""
    named = zip(bleu.SEARCHES, scores, strict=False)
    points = {name: {"score": x, "signature": SIGNATURE} for name, x in named}
    method, options = "maestro", {"lambda_gl": lambda_gl}
    if lambda_gl is None:
        method, options = "dense", {}
    recipe = Recipe(epochs=1, batch_size=1, lr=0.1)
    config = RunConfig("multi30k", "transformer", method, recipe, options, scale=scale)
    studies = {"bleu": points} if points else {}
    return {"config": config.to_dict(), "studies": studies}


def by_id(*records):
    return dict(enumerate(records))


def test_a_row_is_the_mean_over_the_seeds_that_were_translated():
    records = by_id(run(0.32, (30, 32)), run(0.32, (31, 33)), run(0.32), run())
    table = bleu.bleu_table(records, [0.32, 0.64])
    assert list(table.index) == ["dense", "λ = 0.32", "λ = 0.64"]
    assert list(table.loc["λ = 0.32"]) == [2, "30.50 ± 0.71", "32.50 ± 0.71"]
    for row in ("dense", "λ = 0.64"):
        assert list(table.loc[row]) == [0, NOT_RUN, NOT_RUN]


def test_one_run_has_no_deviation():
    table = bleu.bleu_table(by_id(run(None, (20, 21))), [])
    assert list(table.loc["dense"]) == [1, "20.00", "21.00"]


def test_without_records_nothing_is_run():
    table = bleu.bleu_table({}, [0.32])
    assert list(table.loc["λ = 0.32"]) == [0, NOT_RUN, NOT_RUN]
    assert bleu.signatures({}) == NOT_RUN


def test_scales_are_never_mixed():
    mixed = by_id(run(0.32, (30, 32)), run(0.64, (30, 32), scale="short"))
    with pytest.raises(ValueError, match=r"never mixed: \['laptop', 'short'\]"):
        bleu.bleu_table(mixed, [0.32])


def test_each_signature_is_told_once():
    records = by_id(run(0.32, (30, 32)), run(0.64, (28, 29)))
    assert bleu.signatures(records) == SIGNATURE
