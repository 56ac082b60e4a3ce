"""The size that is asked for is the size at the end, from above and from below."""

from dataclasses import replace

import pytest
from runs import figures, same, saved_weights, state_after

from maestro import methods
from maestro.campaign import describe
from maestro.methods import Budgeted
from maestro.training.fit import fit
from maestro.training.loop import Training
from maestro.training.record import record_of


def run(digits_config, epochs=5, **options):
    config = digits_config(epochs=epochs)
    options = {"target": 0.4, "start": 3e-3, "eps_ps": 1e-3} | options
    return methods.resolve(replace(config, method="budgeted", options=options))


@pytest.mark.parametrize("start", [1e-7, 3e-3, 3e-1])
@pytest.mark.parametrize(("unit", "target"), [("params", 0.4), ("macs", 0.6)])
def test_the_network_ends_at_the_wanted_size(
    start, unit, target, digits_config, few_digits, folders
):
    """Whether lambda_gl starts far too small, about right, or far too large."""
    config = run(digits_config, start=start, unit=unit, target=target)
    record = fit(config, task=few_digits)
    limit = target * record["dense"][unit]
    assert record["final"][unit] <= limit
    # nothing that one column of some layer would not bring above the limit
    most = max(
        (m + n) * (p if unit == "macs" else 1) for m, n, p in record["maps"].values()
    )
    assert record["final"][unit] > limit - most


def test_lambda_follows_the_size(digits_config, few_digits):
    training = Training(run(digits_config, start=1e-9), task=few_digits)
    method, seen = training.method, []
    while not training.finished:
        seen.append(method.lambda_gl)
        training.run_epoch()
    settles = round(0.7 * 5)
    assert all(a < b <= 2 * a for a, b in zip(seen, seen[1:settles], strict=False))
    assert method.lambda_gl == 0 and set(seen[settles:]) == {0.0}


def test_after_the_last_cut_the_ranks_stay(digits_config, few_digits, folders):
    record = fit(run(digits_config, settled=0.4), task=few_digits)
    assert record["ranks"][-1][0] <= 2


def test_a_resumed_run_is_the_same_run(one_thread, digits_config, few_digits, folders):
    config = run(digits_config)
    whole = fit(config, task=few_digits)
    weights = saved_weights(config)
    state = state_after(config, few_digits, steps=5)
    resumed = Training(config, task=few_digits)
    resumed.load_state_dict(state)
    while not resumed.finished:
        resumed.run_epoch()
    assert figures(record_of(resumed)) == figures(whole)
    assert same(resumed.model.state_dict(), weights)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"target": 0}, "target=0: it takes a number in"),
        ({"target": 1.5}, "target=1.5"),
        ({"settled": 0.0}, "settled=0.0"),
        ({"unit": "ms"}, "unit='ms': it is one of params, macs"),
        ({"start": 0}, "start=0: it takes a number > 0"),
    ],
)
def test_wrong_options_are_named(options, said):
    with pytest.raises(ValueError, match=said):
        Budgeted(**options)


def test_an_impossible_size_is_refused_before_training(digits_config, few_digits):
    with pytest.raises(ValueError, match="target=0.01: with one column in each layer"):
        Training(run(digits_config, target=0.01), task=few_digits)


def test_a_run_says_its_target(digits_config):
    assert "target=0.4" in describe(run(digits_config))
