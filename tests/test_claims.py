"""A claim holds, does not hold, or cannot be decided with the runs that there are."""

import math

import pytest
from test_speed import measurement  # noqa: F401
from test_tables import by_id, made_up, translating

from maestro.results import claims
from maestro.results.cells import NOT_RUN
from maestro.results.confidence import FAILS, HOLDS, UNDECIDED, Gap
from maestro.results.published import paper_table
from maestro.results.verdicts import (
    ACCURACY,
    PERPLEXITY,
    POINTS,
    RISE,
    SIZE,
    in_margin,
    in_order,
    report,
)


def runs(lambda_gl, accuracies, params=5000):
    """{id: record}, one run for each seed's accuracy."""
    return by_id(
        *(
            made_up(lambda_gl, seed, accuracy, (8000, params))
            for seed, accuracy in enumerate(accuracies)
        )
    )


def translated(lambda_gl, perplexities, params=5000):
    """{id: record}, one run for each seed's perplexity."""
    return by_id(
        *(
            translating(made_up(lambda_gl, seed, params=(8000, params)), perplexity)
            for seed, perplexity in enumerate(perplexities)
        )
    )


DENSE = runs(None, (99.0, 99.1, 99.05))
DENSE_TEXT = translated(None, (9.8, 9.9, 10.0), 10_000)


def test_margins_are_the_papers_largest_deviations_rounded_up():
    largest = max(paper_table(n).accuracy_std.max() for n in (11, 12, 13))
    assert POINTS - 0.1 < largest <= POINTS
    text, sizes = paper_table(14), paper_table(11)
    relative = (text.perplexity_std / text.perplexity).max()
    assert RISE - 0.005 < relative <= RISE
    relative = (sizes.params_std / sizes.params).max()
    assert SIZE - 0.02 < relative <= SIZE


def test_as_good_as_dense_within_the_margin():
    verdict = claims.no_loss_at_zero(DENSE | runs(0.0, (98.9, 98.95, 98.85)))
    assert verdict.word == HOLDS and verdict.n == 3 and verdict.margin == 0.5
    assert verdict.ours == pytest.approx(-0.15) and math.isnan(verdict.paper)
    assert verdict.scale == "paper"
    assert str(verdict).startswith(
        "no accuracy is lost at λ = 0: holds: -0.15 points to dense (95 % bounds -0.2"
    )


def test_noise_does_not_make_a_claim_hold():
    """A gap within two standard errors is no proof that nothing is lost."""
    noisy = runs(0.0, (99.9, 95.1, 97.8))
    verdict = claims.no_loss_at_zero(DENSE | noisy)
    assert verdict.word == UNDECIDED
    assert "cannot be decided with 3 runs: " in str(verdict)


def test_a_clear_loss_does_not_hold():
    verdict = claims.no_loss_at_zero(DENSE | runs(0.0, (97.0, 97.1, 96.9)))
    assert verdict.word == FAILS


@pytest.mark.parametrize("accuracy", [90.0, 99.05, 99.9])
def test_one_run_decides_nothing(accuracy):
    verdict = claims.no_loss_at_zero(DENSE | runs(0.0, (accuracy,)))
    assert verdict.word == UNDECIDED and verdict.n == 1
    assert "cannot be decided with 1 run: " in str(verdict)
    assert "bounds" not in str(verdict)


def test_the_papers_number_stands_beside_ours():
    records = DENSE | runs(0.0, (98.9, 99.0, 98.8))
    verdict = claims.no_loss_at_zero(records, paper_table(12))
    assert verdict.paper == pytest.approx(94.04 - 93.86)
    verdict = claims.cheaper_counted(records, paper_table(12))
    assert verdict.paper == 0.07
    assert math.isnan(claims.no_loss_at_zero(records, paper_table(14)).paper)


def test_perplexity_is_judged_by_its_ratio():
    worse = translated(0.0, (10.0, 10.1, 9.9), 10_000)
    verdict = claims.no_loss_at_zero(DENSE_TEXT | worse, None, PERPLEXITY)
    assert verdict.word == HOLDS
    assert "+1.0% perplexity to dense" in verdict.sentence
    assert "margin +3.5% perplexity" in verdict.sentence
    worse = translated(0.0, (11.0, 11.1, 10.9), 10_000)
    verdict = claims.no_loss_at_zero(DENSE_TEXT | worse, None, PERPLEXITY)
    assert verdict.word == FAILS


def test_a_smaller_network_of_lower_perplexity_is_seen():
    verdict = claims.smaller_and_better(
        DENSE_TEXT
        | translated(0.64, (9.4, 9.6))
        | translated(2.56, (6.8, 6.9, 7.0), 2000),
        paper_table(14),
    )
    assert verdict.word == HOLDS and verdict.paper == 6.9
    assert verdict.ours == pytest.approx(6.9)
    assert verdict.sentence.startswith(
        "6.90 at λ = 2.56 with 0.20× the parameters, 9.90 dense"
    )


def test_lower_by_less_than_the_noise_is_not_decided():
    verdict = claims.smaller_and_better(DENSE_TEXT | translated(0.64, (9.5, 10.1, 9.7)))
    assert verdict.word == UNDECIDED


def test_the_best_of_many_is_held_to_a_stricter_level():
    """Of many networks that are equally good one looks better by chance."""
    one = translated(0.64, (9.5, 9.7, 9.6))
    alone = claims.smaller_and_better(DENSE_TEXT | one)
    many = DENSE_TEXT | one
    for value in range(1, 12):
        many |= translated(float(value), (9.9, 10.0, 9.8))
    assert alone.word == HOLDS
    assert claims.smaller_and_better(many).word == UNDECIDED


def test_a_better_one_that_is_not_smaller_does_not_count():
    verdict = claims.smaller_and_better(DENSE_TEXT | translated(0.64, (6, 6.1), 10_000))
    assert verdict.word == FAILS
    assert verdict.sentence == "no network is smaller than the dense one"


def test_sizes_come_out_where_every_mean_does():
    published = {8e-5: 6100, 16e-5: 5000}
    close = runs(8e-5, (99, 99), 6000) | runs(16e-5, (99, 99), 5100)
    verdict = claims.footprints(close, published)
    assert verdict.word == HOLDS and verdict.sentence.startswith("2 of 2 means")
    assert (verdict.ours, verdict.paper) == (5100, 5000)
    far = runs(8e-5, (99, 99), 6000) | runs(16e-5, (99, 99), 7000)
    verdict = claims.footprints(far, published)
    assert verdict.word == FAILS and "+40% (λ = 16e-5)" in verdict.sentence
    mixed = by_id(
        *(made_up(8e-5, s, params=(8000, p)) for s, p in ((0, 5000), (1, 7000)))
    )
    verdict = claims.footprints(mixed, published)
    assert verdict.word == UNDECIDED
    assert verdict.sentence.endswith("the runs vary too much at λ = 8e-5")


def cheaper(lambda_gl, ratio, seeds=2):
    records = runs(lambda_gl, [99.0] * seeds)
    for record in records.values():
        record["history"]["train_macs"] = [ratio * record["dense"]["macs"]] * 2
    return records


def test_training_is_cheaper_from_a_weight_on():
    verdict = claims.cheaper_counted(
        cheaper(8e-5, 1.1) | cheaper(16e-5, 0.9) | cheaper(32e-5, 0.7)
    )
    assert verdict.word == HOLDS and verdict.ours == pytest.approx(0.7)
    assert verdict.sentence == (
        "0.70× dense MACs at the largest λ, below 1.00× from λ = 16e-5 on"
    )


def test_a_saving_that_the_largest_weight_loses_again_does_not_hold():
    verdict = claims.cheaper_counted(cheaper(8e-5, 0.9) | cheaper(16e-5, 1.1))
    assert verdict.word == FAILS
    assert "least 0.90× at λ = 8e-5" in verdict.sentence
    assert claims.cheaper_counted(cheaper(8e-5, 0.9, seeds=1)).word == UNDECIDED


def test_time_is_another_verdict_than_counts(measurement):  # noqa: F811
    verdict = claims.cheaper_timed(measurement, "resnet18")
    assert verdict.word == HOLDS and verdict.ours == 0.2
    assert verdict.sentence.startswith(
        "a step takes 1.20× the dense step at all ranks, 0.70× at half"
    )
    assert verdict.scale == "CPU"
    for row in measurement["models"]["resnet18"]["rows"]:
        row["step"]["ratio"] = row["step"]["low"] = row["step"]["high"] = 1.1
    assert claims.cheaper_timed(measurement, "resnet18").word == FAILS
    assert claims.cheaper_timed(None, "resnet18").word == NOT_RUN
    assert claims.cheaper_timed(measurement, "resnet50").word == NOT_RUN


def test_one_rank_that_returns_refutes_pruning_step_by_step():
    records = runs(8e-5, (99.0, 99.0))
    for record in records.values():
        record["ranks"] = [[0, {"a": 9}], [1, {"a": 7}], [2, {"a": 5}]]
    verdict = claims.ranks_fall_step_by_step(records)
    assert verdict.word == HOLDS and verdict.n == 2
    assert verdict.sentence == "ranks fall in 2 epochs of a run, and rise in 0"
    record["ranks"][2] = [2, {"a": 8}]
    assert claims.ranks_fall_step_by_step(records).word == FAILS


def test_one_layer_that_keeps_more_refutes_nesting():
    small, large = made_up(8e-5), made_up(16e-5)
    large["ranks"] = [[0, {"fc1": 9, "fc2": 5}], [2, {"fc1": 6, "fc2": 5}]]
    verdict = claims.nested_ranks(by_id(small, large))
    assert (verdict.word, verdict.ours, verdict.n) == (UNDECIDED, 0, 2)
    large["ranks"][-1] = [2, {"fc1": 8, "fc2": 5}]
    verdict = claims.nested_ranks(by_id(small, large))
    assert verdict.word == FAILS and "in 1 of 2 cases" in verdict.sentence


def test_networks_that_are_alike_are_no_evidence_of_an_order():
    alike = [made_up(x * 1e-5) for x in (8, 16, 32, 64)]
    for record in alike:
        record["ranks"] = [[0, {"fc1": 9}], [2, {"fc1": 6}]]
    assert claims.nested_ranks(by_id(*alike)).word == UNDECIDED
    for rank, record in zip((9, 8, 7, 6), alike, strict=True):
        record["ranks"][-1] = [2, {"fc1": rank}]
    assert claims.nested_ranks(by_id(*alike)).word == HOLDS


def test_an_order_that_chance_often_gives_decides_nothing():
    words = {networks: in_order(0, networks) for networks in ((3,), (4,), (3, 3), ())}
    assert words == {(3,): UNDECIDED, (4,): HOLDS, (3, 3): HOLDS, (): UNDECIDED}
    assert in_order(1, (7, 7)) == FAILS


def cut(*cuts):
    """Three lambda = 0 runs of 99 %, cut to each (lambda_gl, parameters, accuracy)."""
    whole = runs(0.0, (99.0, 99.0, 99.0), 10_000)
    donors = {}
    for lambda_gl, params, accuracy in cuts:
        for record, (key, donor) in zip(
            whole.values(), runs(lambda_gl, (99, 99, 99)).items(), strict=True
        ):
            donors[key] = donor
            point = {"parameters": {"lambda_gl": lambda_gl}, "params": params}
            point["test_accuracy"] = accuracy + 0.05 * record["config"]["seed"]
            record["studies"].setdefault("ranks_of", {})[key] = point
    return whole | donors


@pytest.mark.parametrize(
    ("smaller", "smallest", "word"),
    [
        (98.9, 98.9, HOLDS),
        (98.9, 90.0, UNDECIDED),  # nothing is recorded between 2 and 4 times
        (90.0, 80.0, FAILS),
    ],
)
def test_a_cut_is_judged_by_the_recorded_ones_on_both_sides(smaller, smallest, word):
    records = cut((8e-5, 5000, smaller), (16e-5, 2500, smallest))
    verdict = claims.cut_without_loss(records, 3)
    assert verdict.word == word
    assert verdict.sentence.startswith("2.0 times smaller")
    assert "4.0 times smaller" in verdict.sentence


def test_several_variants_of_one_weight_are_refused():
    other = runs(8e-5, (99.0,))
    [record] = other.values()
    record["config"]["options"]["eps_ps"] = 1e-5
    mixed = runs(8e-5, (99.0,)) | {"another": record}
    with pytest.raises(ValueError, match="λ = 8e-5 stands for several.*eps_ps"):
        claims.cheaper_counted(mixed)


def test_a_report_lists_the_verdicts():
    verdicts = claims.of_training(DENSE | runs(0.0, (98.9, 98.95, 98.85)))
    lines = report("paper", verdicts).splitlines()
    assert lines[:2] == ["paper:", ""] and len(lines) == 2 + len(verdicts)
    start = "- **no accuracy is lost at λ = 0**: holds: -0.15 points to dense"
    assert lines[-1].startswith(start)
    assert report("paper", claims.of_training({})) == f"paper: {NOT_RUN}"


def test_missing_runs_are_not_judged():
    for records in ({}, DENSE_TEXT, translated(0.64, (6.0,))):
        assert str(claims.smaller_and_better(records)).endswith(f": {NOT_RUN}")
    for verdict in claims.of_training({}) + [
        claims.footprints({}, {8e-5: 1}),
        claims.cut_without_loss({}, 3),
        claims.no_loss_at_zero(DENSE),
    ]:
        assert verdict.word == NOT_RUN and verdict.n == 0


def test_a_clear_difference_within_the_margin_is_called_worse():
    worse = Gap(-0.4, -0.48, -0.31)
    say = ACCURACY.say
    words = ", worse, but within the margin of 0.50 points"
    assert in_margin(worse, POINTS, say) == words
    for other in (Gap(-0.4, -0.9, 0.1), Gap(-0.2, -0.4, 0.0), Gap(-1, -1.2, -0.7)):
        assert in_margin(other, POINTS, say) == ""
    less = Gap(-0.02, -0.03, -0.01)
    words = in_margin(less, PERPLEXITY.margin, PERPLEXITY.say)
    assert words.endswith("of 3.5% perplexity")
