"""Every claim of the paper has a judge, and every judge reads what is recorded."""

import json

import pytest

from maestro.paths import ROOT
from maestro.publish import dashboard, evidence, register
from maestro.results.cells import NOT_RUN
from maestro.results.confidence import FAILS, HOLDS, UNDECIDED
from maestro.results.verdicts import IN_PART, SIGNS, together

CLAIMS = [claim for some in register.SECTIONS.values() for claim in some]


def test_a_claim_holds_only_if_every_part_does():
    assert together([HOLDS, HOLDS]) == HOLDS
    for other in (FAILS, UNDECIDED, NOT_RUN):
        assert together([HOLDS, other]) == IN_PART
    assert together([FAILS, UNDECIDED, NOT_RUN]) == FAILS
    assert together([UNDECIDED, NOT_RUN]) == UNDECIDED
    assert together([NOT_RUN]) == together([]) == NOT_RUN


def test_every_claim_has_a_key_a_place_and_parts(sections):
    assert len({claim.key for claim in CLAIMS}) == len(CLAIMS)
    judged = register.every(sections)
    assert [one.claim for one in judged] == CLAIMS
    for one in judged:
        assert one.parts and one.word in SIGNS and register.lead(one) in one.parts
        own, _ = register.apart(one.parts)
        assert one.word == together(part.verdict.word for part in own)
        for part in one.parts:
            assert (ROOT / "notebooks" / f"{part.chapter}.ipynb").is_file()
            assert part.chapter in register.QUESTIONS
            assert part.verdict.scale, one.claim.key
            ran = part.verdict.word != NOT_RUN
            assert bool(part.verdict.n and part.verdict.sentence) == ran


def test_other_networks_scales_and_systems_stand_beside_a_claim(sections):
    by_key = {one.claim.key: one for one in register.every(sections)}
    for one in by_key.values():
        for part in one.parts:
            scale = part.verdict.scale
            own = scale in (*evidence.OF_THE_PAPER, *dashboard.BASES)
            assert own or part.aside, (one.claim.key, part.subject, scale)
    low_rank = by_key["low-rank"]
    assert {p.subject for p in low_rank.parts if not p.aside} == {"ResNet-18", "VGG-19"}
    assert low_rank.word == NOT_RUN and register.lead(low_rank).aside
    nested = {p.subject for p in by_key["fig-9"].parts if not p.aside}
    assert nested == {"LeNet, ε = 1e-5", "LeNet, ε = 1e-7", "ResNet-18", "VGG-19"}


def test_counted_and_timed_savings_are_two_claims(sections):
    by_key = {one.claim.key: one for one in register.every(sections)}
    assert {p.verdict.scale for p in by_key["timed"].parts} == {"CPU"}
    counted = by_key["counted"].parts
    assert {p.verdict.claim for p in counted} == {"training costs less, counted"}


def test_a_changed_record_changes_its_verdict(sections, tmp_path):
    """LeNet without a lasso, ten points worse: sampling then does harm."""
    for source in (ROOT / "data" / "runs").glob("*.json"):
        record = json.loads(source.read_text("utf-8"))
        config = record["config"]
        name = config["model"], config["method"], config["options"].get("lambda_gl")
        if name == ("lenet", "maestro", 0.0):
            course = record["history"]["test_accuracy"]
            course[:] = [accuracy - 10 for accuracy in course]
            record["final"]["test_accuracy"] -= 10
            record["best"]["test_accuracy"] -= 10
        (tmp_path / source.name).write_text(json.dumps(record), "utf-8")
    changed = evidence.Evidence(runs=tmp_path)
    [claim] = [claim for claim in CLAIMS if claim.key == "fig-10"]
    before = [one for one in register.every(sections) if one.claim is claim][0]
    after = claim.judge(changed)
    assert before.parts[0].verdict.word == HOLDS
    assert after[0].verdict.word == FAILS
    assert after[0].verdict.ours == pytest.approx(before.parts[0].verdict.ours - 10)


def test_no_records_no_verdicts(tmp_path):
    nothing = evidence.Evidence(runs=tmp_path)
    for key in ("incremental", "smaller", "deploy", "low-rank", "table-11", "table-5"):
        [claim] = [claim for claim in CLAIMS if claim.key == key]
        assert {p.verdict.word for p in claim.judge(nothing)} == {NOT_RUN}, key


def test_a_live_chapter_is_read_by_what_it_prints(tmp_path):
    chapter = "01_svd_recovery"

    def judged(text):
        cell = {"outputs": [{"output_type": "stream", "text": [text]}]}
        (tmp_path / f"{chapter}.ipynb").write_text(json.dumps({"cells": [cell]}))
        return evidence.Evidence(tmp_path)

    [part] = judged("holds: it is so\n").said(chapter, "it is so")
    assert part.verdict.word == HOLDS and part.verdict.n == 10
    once = evidence.Said("it is so", n=1, against=True)
    [part] = judged("holds: it is so\n").said(chapter, once)
    assert part.verdict.word == FAILS and part.verdict.n == 1
    [part] = judged("DOES NOT HOLD HERE: it is so\n").said(chapter, "it is so")
    assert part.verdict.word == FAILS
    with pytest.raises(ValueError, match="01_svd_recovery.ipynb prints no verdict 'it"):
        judged("holds: something else\n").said(chapter, "it is so")
