"""IMP: densities, rewound weights, and zeros that stay."""

import pytest
import torch
from torch import nn

from maestro.config import Recipe, RunConfig
from maestro.methods import IMP, Change, resolve
from maestro.training.loop import Training


def config_of(epochs=3, **options):
    recipe = Recipe(epochs, 50, 0.05, momentum=0.9, weight_decay=1e-3)
    return resolve(RunConfig("digits", "lenet", "imp", recipe, options))


def test_each_round_removes_the_smallest_of_what_is_left():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(10, 6), nn.ReLU(), nn.Linear(6, 4))
    method = IMP(rounds=2, fraction=0.5, rewind=0)
    net = method.prepare(net, torch.zeros(1, 10), None)
    start = {name: value.clone() for name, value in net.state_dict().items()}
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn_like(p))
    sizes = torch.cat([net[0].weight.abs().flatten(), net[2].weight.abs().flatten()])
    bound = sizes.median()
    expected = {i: net[i].weight.abs() > bound for i in (0, 2)}
    phases = method.phases(Recipe(3, 1, 0.1))
    assert method.before_epoch(net, None) == Change.NOTHING
    assert method.after_phase(phases[0], net, None) == Change.NOTHING
    assert method.density == 1  # a round ends with what it has trained
    assert method.before_epoch(net, None) == Change.NEW_OPTIMIZER
    for i in (0, 2):
        rewound = start[f"{i}.weight"] * expected[i]
        assert torch.equal(net[i].weight, rewound)
        assert torch.equal(net[i].bias, start[f"{i}.bias"])
    assert method.density == 0.5
    method.after_phase(phases[1], net, None)
    method.before_epoch(net, None)
    assert method.density == 0.25
    method.after_phase(phases[2], net, None)
    assert method.before_epoch(net, None) == Change.NOTHING
    assert method.density == 0.25
    assert method.size(net).params == 84 / 4 + 10
    assert method.size(net).bits == 32 * (84 / 4 + 10) + 84


def test_weights_and_schedule_go_back_to_an_early_epoch(few_digits, monkeypatch):
    config = config_of(rounds=2, fraction=0.3, rewind=1, skip=["fc3"])
    run, starts = Training(config, task=few_digits), []

    def note_start():
        if run.step == 0:
            state = run.model.state_dict()
            starts.append({name: weight.clone() for name, weight in state.items()})

    monkeypatch.setattr(run.method, "draw", note_start)
    while not run.finished:
        run.run_epoch()
    assert len(starts) == 3 + 2 + 2
    early, second, third = starts[1], starts[3], starts[5]
    for name, weight in early.items():
        mask = run.method.masks.get(name)
        for state, kept in ((second, 0.7), (third, 0.49)):
            if mask is None:
                assert torch.equal(state[name], weight)
            else:
                gone = state[name] == 0
                assert torch.equal(state[name][~gone], weight[~gone])
                assert kept - 0.3 < 1 - gone.float().mean() <= 1
    assert run.method.density == pytest.approx(0.49, abs=1e-4)
    for name, mask in run.method.masks.items():
        assert not run.model.get_parameter(name)[~mask].any()
    assert "fc3.weight" not in run.method.masks


def test_a_round_is_evaluated_before_its_weights_go_back(few_digits):
    """The history has what each density is worth, not the rewound network."""
    config = config_of(rounds=2, fraction=0.5, rewind=0)
    run = Training(config, task=few_digits)
    while not run.finished:
        run.run_epoch()
    lines, prunable = run.history.lines, 44_190
    left = [1, 1, 1] + 3 * [1 / 2] + 3 * [1 / 4]
    assert [line["params"] for line in lines] == [
        pytest.approx(236 + part * prunable, abs=1) for part in left
    ]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rounds": -1}, "rounds=-1: it takes an integer >= 0"),
        ({"fraction": 1.0}, r"fraction=1.0: it takes a number in \(0, 1\)"),
        ({"rewind": 3}, "rewind=3: it takes fewer than the recipe's 3 epochs"),
        ({"skip": ["fc9"]}, "names no module"),
    ],
)
def test_wrong_numbers_are_refused(wrong, message, few_digits):
    with pytest.raises(ValueError, match=message):
        Training(config_of(**wrong), task=few_digits)


def test_a_schedule_that_counts_steps_is_refused():
    recipe = Recipe(3, 32, 0.1, schedule="inverse_sqrt", warmup=2)
    with pytest.raises(ValueError, match="'inverse_sqrt' cannot be rewound"):
        IMP(rounds=1).phases(recipe)


def test_masks_follow_the_network_to_its_device():
    method = IMP(rounds=1)
    net = method.prepare(nn.Sequential(nn.Linear(4, 3)), torch.zeros(1, 4), None)
    method._apply(net.to("meta"))
    assert {mask.device.type for mask in method.masks.values()} == {"meta"}
    assert [weight for weight, _ in method.pairs] == [net[0].weight]
