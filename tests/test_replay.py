"""Steps recorded once and replayed are the steps that would have been run.

What stands for the GPU here is in tape.py.
"""

import copy
import gc

import pytest
import torch
from runs import EVERY_METHOD, Pictures, run_of_pictures
from torch import nn

import maestro
from maestro import methods
from maestro.config import Recipe, RunConfig
from maestro.lowrank import Masks, RankSampler, low_rank_layers
from maestro.results import records
from maestro.training import fit, loop
from maestro.training.record import record_of
from maestro.training.replay import TRIES, CudaRecorder, Replay, copied

# ------------------------------------------------------------------------- the masks


@pytest.mark.parametrize("product", [True, False])
@pytest.mark.parametrize(
    "dense", [nn.Linear(6, 5), nn.Linear(5, 6), nn.Conv2d(2, 4, 3), nn.Conv2d(1, 9, 2)]
)
def test_a_mask_is_a_cut(dense, product):
    layer = maestro.factorize(copy.deepcopy(dense)).double()
    layer.product_is_cheaper = lambda positions: product
    x = torch.randn(3, 5 if dense.weight.shape[1] == 5 else 6).double()
    if isinstance(dense, nn.Conv2d):
        x = torch.randn(3, dense.in_channels, 5, 6).double()
    found = []
    for columns in (2, (torch.arange(layer.rank) < 2).double()):
        layer.columns = columns
        layer.zero_grad()
        out = layer(x)
        out.square().sum().backward()
        assert (layer.U.grad[:, 2:] == 0).all() and (layer.V.grad[:, 2:] == 0).all()
        assert layer.U.grad.stride() == layer.U.stride()
        found.append((out, layer.U.grad, layer.V.grad, layer.weight))
    for cut, masked in zip(*found, strict=True):
        torch.testing.assert_close(masked, cut, rtol=1e-12, atol=1e-12)
    assert layer.width == layer.rank


@pytest.mark.parametrize("mode", maestro.lowrank.MODES)
def test_what_is_sent_is_in_force(mode):
    net = maestro.factorize(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 5)))
    maestro.truncate(net, {"1": 0})
    net[0].columns = 2  # masked for good, as the authors' code shrinks
    sampler = RankSampler(net, mode)
    masks = Masks(sampler.layers)
    for _ in range(5):
        cut = sampler.draw()
        masks.send(cut)
        with masks.in_force():
            ones = {n: int(m.columns.sum()) for n, m in low_rank_layers(net).items()}
        assert ones == {"0": cut.get("0", 2), "1": 0}
    assert [layer.columns for layer in net] == [2, None]


# ------------------------------------------------------------------ a step, replayed


def test_each_shape_is_recorded_once_after_it_was_tried(recorder):
    weight = torch.ones(())

    def step(batch):
        (x, y), told = batch
        weight.add_(1)
        return (x.sum() + y.sum()) * weight

    replay, expected = Replay(step, recorder), 1
    for i in range(2 * TRIES + 6):
        x, y = torch.randn(2 + i % 2, 3), torch.arange(4)
        expected += 1
        total = (x.sum() + y.sum()) * expected
        assert replay(((x, y), f"told {i}")) == pytest.approx(total.item(), rel=1e-5)
    assert (recorder.run_as_is, recorder.recorded) == (2 * TRIES, 2)
    replay.forget()
    for _ in range(TRIES + 3):
        replay(((x, y), "told"))
    assert (recorder.run_as_is, recorder.recorded) == (3 * TRIES, 3)


def test_results_are_not_written_over(recorder):
    replay = Replay(lambda x: 2 * x, recorder)
    results = [replay(torch.tensor(float(i))) for i in range(5)]
    assert [result.item() for result in results] == [0, 2, 4, 6, 8]


def test_a_batch_keeps_its_layout():
    x = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    (copy_of_x, same), told = copied([(x, x), 3])
    assert copy_of_x.stride() == x.stride() and told == 3
    assert torch.equal(same, x) and same.data_ptr() != x.data_ptr()


# -------------------------------------------------------------- a training, replayed


def trained(config, task, recorder=None, epochs=None):
    run = loop.Training(config, task=task, recorder=recorder)
    while not run.finished and run.epoch != epochs:
        run.run_epoch()
    return run


def same_course(replayed, plain):
    """Of some twenty steps in double precision, masked in one and cut in the other.

    Each rounds its sums of up to a thousand terms in its own order, by 1e-13 at most.
    """
    assert replayed.history.ranks == plain.history.ranks
    assert len(plain.history.lines) > 0
    for line, other in zip(replayed.history.lines, plain.history.lines, strict=True):
        for name in line.keys() - set(records.MEASURED):
            assert line[name] == pytest.approx(other[name], rel=1e-9), name
    weights, others = replayed.model.state_dict(), plain.model.state_dict()
    for name, weight in weights.items():
        torch.testing.assert_close(weight, others[name], rtol=1e-9, atol=1e-9)


def run_of(method, **options):
    """LeNet in batches of 16: five of one shape and the rest; three epochs."""
    if method not in ("dense", "pufferfish"):
        options = {"lambda_gl": 2e-3, "eps_ps": 0.3} | options
    recipe = Recipe(3, 16, 0.02, weight_decay=1e-3, milestones=(2,))
    return methods.resolve(RunConfig("pictures", "lenet", method, recipe, options))


RECORDED = {"maestro": 3, "proximal": 3, "pufferfish": 3}


@pytest.mark.course
@pytest.mark.parametrize(
    "method, options",
    [
        ("dense", {}),
        ("maestro", {}),
        ("maestro", {"sampler": "independent"}),
        ("masked", {}),
        ("proximal", {"eps_ps": 0.0, "lambda_gl": 0.1}),
        ("pufferfish", {"warm_up": 1}),
    ],
)
def test_a_replayed_training_is_the_training(method, options, recorder):
    config, task = run_of(method, **options), Pictures(1, 28, 28)
    plain, replayed = trained(config, task), trained(config, task, recorder)
    same_course(replayed, plain)
    cuts = {"dense": 0, "pufferfish": 1}.get(method, 2)
    assert len(plain.history.ranks) > cuts
    # of both shapes; for other ranks anew, but the rest of a pass was only tried then.
    # Masked columns stay in the weights, whose shapes are the same
    assert recorder.recorded == RECORDED.get(method, 2)
    assert record_of(replayed)["ran_on"]["replayed"]


@pytest.mark.course
@pytest.mark.parametrize("name", EVERY_METHOD)
def test_a_step_of_every_method_can_be_replayed_unless_it_says_not(
    name, recorder, monkeypatch
):
    """No step asks the device for a number, in any phase, and the course is the same.

    Phases that are over have parameters of their own: each is recorded anew.
    """
    if name == "depgraph":
        pytest.importorskip("torch_pruning")
        monkeypatch.setattr(methods.depgraph, "STEPS", 4)
    config, task = run_of_pictures(name, 30, **EVERY_METHOD[name]), Pictures(3, 8, 8)
    if methods.make(config).replayable:
        plain, replayed = trained(config, task), trained(config, task, recorder)
        same_course(replayed, plain)
        assert recorder.recorded >= len(record_of(plain)["phases"])


@pytest.mark.course
@pytest.mark.parametrize("where", [(True, True), (True, False), (False, True)])
def test_it_can_stop_and_go_on(where, recorder):
    """With a recorder or without one, and in the other way than it was begun."""
    first, then = (recorder if there else None for there in where)
    config, task = run_of("maestro", sampler="shuffled"), Pictures(1, 28, 28)
    half = trained(config, task, first, epochs=2)
    rest = loop.Training(config, task=task, recorder=then)
    rest.load_state_dict(half.state_dict())
    rest.run_epoch()
    same_course(rest, trained(config, task))


@pytest.mark.course
def test_batch_norm_goes_on_counting_under_a_recording(recorder):
    recipe = Recipe(3, 16, 0.05, weight_decay=1e-3, decay_vectors=False)
    options = {"lambda_gl": 1e-4, "eps_ps": 0.1}
    size = {"width": 4}
    run = RunConfig("pictures", "resnet18", "maestro", recipe, options, size=size)
    config = methods.resolve(run)
    task = Pictures(3, 8, 8)
    plain, replayed = trained(config, task), trained(config, task, recorder)
    same_course(replayed, plain)
    assert replayed.model.bn1.num_batches_tracked.item() > 0


def test_a_step_that_asks_for_a_number_is_told_a_way_out(recorder):
    replay = Replay(lambda x: x * x.sum().item(), recorder)
    replay(torch.ones(2))
    with pytest.raises(RuntimeError, match="waits .*eager=True"):
        replay(torch.ones(2))
    assert gc.isenabled()


@pytest.mark.parametrize("eager", [False, True])
def test_fit_replays_on_a_gpu_unless_told_not_to(
    eager, monkeypatch, card, few_digits, digits_config
):
    """As far as it goes without one."""
    given = []

    def make(*args):
        given.extend(type(arg) for arg in args if isinstance(arg, CudaRecorder))
        raise InterruptedError

    monkeypatch.setattr(fit, "pick_device", torch.device)
    monkeypatch.setattr(fit, "Training", make)
    with pytest.raises(InterruptedError):
        fit.fit(digits_config(), "cuda", few_digits, eager=eager)
    assert given == ([] if eager else [CudaRecorder])
