"""A layer that runs again in the backward pass uses the columns of its first run."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import maestro
from maestro.lowrank import columns_in_use

both_kinds = pytest.mark.parametrize("reentrant", [True, False])
with_and_without = pytest.mark.parametrize("masks", [True, False])


def network():
    layers = nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6)
    return maestro.factorize(nn.Sequential(*layers).double())


def drawn(net, masks=False):
    """The same draw every time: both layers with fewer columns."""
    return maestro.sample(net, torch.Generator().manual_seed(3), "independent", masks)


def inputs():
    return torch.randn(50, 6, dtype=torch.float64, requires_grad=True)


def gradients(loss, net):
    net.zero_grad()
    loss.backward(retain_graph=True)
    return [p.grad for p in net.parameters()]


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b)


@both_kinds
@with_and_without
def test_backward_inside_is_exact_with_checkpoints(reentrant, masks):
    net, x = network(), inputs()
    with drawn(net, masks) as cut:
        expected = gradients(net(x).square().sum(), net)
        out = checkpoint(net, x, use_reentrant=reentrant)
        assert_same(gradients(out.square().sum(), net), expected)
    assert all(b < 6 for b in cut.values())


@both_kinds
@with_and_without
def test_backward_after_the_draw_is_refused_with_checkpoints(reentrant, masks):
    """Silently wrong before: the second run was of full rank."""
    net, x = network(), inputs()
    with drawn(net, masks):
        loss = checkpoint(net, x, use_reentrant=reentrant).square().sum()
    refused = pytest.raises(RuntimeError, match="call backward inside `with maestro.s")
    with refused:
        loss.backward(retain_graph=True)
    with drawn(net, masks), refused:  # inside, but of another draw
        loss.backward()


@with_and_without
def test_backward_after_the_draw_is_exact_without_checkpoints(masks):
    net, x = network(), inputs()
    with drawn(net, masks):
        expected = gradients(net(x).square().sum(), net)
        loss = net(x).square().sum()
    assert_same(gradients(loss, net), expected)


@both_kinds
def test_a_full_pass_after_a_draw_may_be_checkpointed(reentrant):
    net, x = network(), inputs()
    with drawn(net):
        net(x).sum().backward()
    expected = gradients(net(x).square().sum(), net)
    out = checkpoint(net, x, use_reentrant=reentrant)
    assert_same(gradients(out.square().sum(), net), expected)


@pytest.mark.parametrize("outer", [True, False])
@pytest.mark.parametrize("inner", [True, False])
def test_checkpoints_in_one_another(outer, inner):
    net, x = network(), inputs()

    def first(x):
        return checkpoint(net, x, use_reentrant=inner)

    with drawn(net):
        expected = gradients(net(x).square().sum(), net)
        loss = checkpoint(first, x, use_reentrant=outer).square().sum()
        assert_same(gradients(loss, net), expected)
    with pytest.raises(RuntimeError, match="call backward inside"):
        gradients(loss, net)


@both_kinds
def test_a_draw_of_its_own_in_a_checkpoint_is_refused(reentrant):
    net, x = network(), inputs()

    def draws(x):
        with maestro.sample(net):
            return net(x)

    loss = checkpoint(draws, x, use_reentrant=reentrant).sum()
    with pytest.raises(RuntimeError, match="open it around the checkpoint"):
        loss.backward()


def test_another_network_may_be_checkpointed_over_a_draw():
    net, teacher, x = network(), network(), inputs()
    loss = checkpoint(teacher, x, use_reentrant=False).square().sum()
    with drawn(net):
        net(x).sum().backward()
        loss.backward()
    assert teacher[0].U.grad.all()


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))]
)
def test_a_copy_made_within_a_draw_runs_in_full(copied):
    """An average of the weights, say, that starts in the first step."""
    net, x = network(), inputs()
    net[2].columns = 5  # masked for good
    expected = net(x)
    with drawn(net):
        copies = copied(net)
    assert torch.equal(copies(x), expected)
    assert [copies[0].columns, copies[2].columns] == [None, 5]


def test_draws_in_one_another_end_as_they_began():
    net = network()
    net[2].columns = 5
    layers = maestro.low_rank_layers(net)
    with columns_in_use(layers, {"0": 3, "2": 4}):
        with columns_in_use(layers, {"2": 1}):
            assert [net[0].columns, net[2].columns] == [3, 1]
            assert copy.deepcopy(net)[2].columns == 5
        assert [net[0].columns, net[2].columns] == [3, 4]
        assert copy.deepcopy(net)[2].columns == 5
    assert [net[0].columns, net[2].columns] == [None, 5]
