"""The method "tangent_cut": full ranks, then one cut to the wanted size."""

from dataclasses import replace

import pytest
import torch

from maestro import methods, ranks
from maestro.config import Recipe
from maestro.lowrank import low_rank_layers
from maestro.methods import Change, TangentCut
from maestro.training.fit import fit
from maestro.training.loop import Training


def run(digits_config, epochs=5, **options):
    config = digits_config(epochs=epochs)
    return methods.resolve(replace(config, method="tangent_cut", options=options))


@pytest.mark.parametrize(
    ("unit", "target", "settled"),
    [("params", 0.5, 0.6), ("params", 0.2, 0.4), ("macs", 0.6, 0.8)],
)
def test_the_network_is_cut_once_to_the_wanted_size(
    unit, target, settled, digits_config, few_digits, folders
):
    config = run(digits_config, unit=unit, target=target, settled=settled)
    record = fit(config, task=few_digits)
    dense, cut = record["dense"][unit], round(settled * 5)
    sizes = record["history"][unit]
    assert sizes[: cut - 1] == [dense] * (cut - 1)
    assert len(set(sizes[cut - 1 :])) == 1 and sizes[-1] <= target * dense
    # nothing that one column of some layer would not bring above the limit
    most = max(
        (m + n) * (p if unit == "macs" else 1) for m, n, p in record["maps"].values()
    )
    assert sizes[-1] > target * dense - most
    assert [at for at, _ in record["ranks"]] == [0, 1, cut]


@pytest.mark.course
def test_the_cut_keeps_the_best_columns_of_each_layer(digits_config, few_digits):
    training = Training(run(digits_config, warm_up=0), task=few_digits)
    full, cut = training.phases
    assert (full.epochs, cut.epochs) == (3, 2)
    training.run_epoch()
    model, method = training.model, training.method
    before = {name: layer.matrix() for name, layer in low_rank_layers(model).items()}
    change = method.after_phase(full, model, training.optimizer)
    assert Change.NEW_OPTIMIZER in change
    for name, layer in low_rank_layers(model).items():
        lost = torch.linalg.svdvals(before[name])[layer.rank :].norm()
        torch.testing.assert_close((before[name] - layer.matrix()).norm(), lost)
    assert method.after_phase(cut, model, None) is Change.NOTHING


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"settled": 0.1}, "settled=0.1: the cut would be after epoch 1; .* after 1"),
        ({"settled": 1.0}, "after epoch 5; it takes one after 1 and before 5"),
        ({"target": 0}, r"target=0: it takes a number in \(0, 1\]"),
        ({"unit": "bits"}, "unit='bits': it is one of params, macs"),
        ({"target": 1e-4}, "target=0.0001: with one column in each layer"),
    ],
)
def test_what_cannot_be_reached_is_refused_at_once(
    options, message, digits_config, few_digits
):
    with pytest.raises(ValueError, match=message):
        Training(run(digits_config, **options), task=few_digits)


def test_without_a_warm_up_the_training_starts_low_rank():
    phases = TangentCut(warm_up=0).phases(Recipe(epochs=10, batch_size=4, lr=0.1))
    assert [(p.name, p.first, p.epochs) for p in phases] == [
        ("low rank", 0, 6),
        ("after the cut", 6, 4),
    ]
    net = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.Linear(6, 4))
    method = TangentCut(warm_up=0)
    net = method.prepare(net, (torch.randn(1, 8),), torch.Generator())
    assert ranks(net) == {"0": 6, "1": 4}
