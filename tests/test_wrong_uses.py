"""The most usual ways to get it wrong: each is an error at once that says what to do.

Each function here does what a user would do; the error comes out of its last line.
"""

import inspect

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD, Adam
from torch.utils.checkpoint import checkpoint

import maestro


def dense():
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4))


def train(net, optimizer, steps=2):
    for _ in range(steps):
        optimizer.zero_grad()
        with maestro.sample(net):
            loss = net(torch.ones(2, 6)).square().sum()
            loss = loss + 1e-3 * maestro.hierarchical_group_lasso(net)
            loss.backward()
        optimizer.step()


def forgetting_factorize():
    net = dense()
    train(net, SGD(net.parameters(), 0.1))


def shrinking_a_dense_network():
    net = dense()
    maestro.shrink(net, SGD(net.parameters(), 0.1))


def making_the_optimizer_first():
    net = dense()
    optimizer = SGD(net.parameters(), 0.1)
    net = maestro.factorize(net)
    train(net, optimizer)


def shrinking_with_the_optimizer_of_another_network():
    net = maestro.factorize(dense())
    maestro.shrink(net, Adam(maestro.factorize(dense()).parameters()))


def shrinking_without_the_optimizer():
    net = maestro.factorize(dense())
    optimizer = Adam(net.parameters())
    train(net, optimizer)
    maestro.shrink(net, eps_ps=1.0)
    train(net, optimizer)


def loading_a_network_without_its_optimizer():
    net, smaller = maestro.factorize(dense()), maestro.factorize(dense())
    optimizer = Adam(net.parameters())
    train(net, optimizer)
    maestro.truncate(smaller, {"0": 2})
    net.load_state_dict(smaller.state_dict())
    train(net, optimizer)


def merging_too_early():
    net = maestro.merge(maestro.factorize(dense()))
    maestro.shrink(net, SGD(net.parameters(), 0.1))


def backward_outside_of_sample_with_checkpoints():
    net = maestro.factorize(nn.Sequential(nn.Linear(6, 6)))
    with maestro.sample(net):
        loss = checkpoint(net, torch.ones(2, 6), use_reentrant=False).sum()
    loss.backward()


def keeping_layers_in_a_list():
    net = dense()
    net.blocks = [net[0], net[2]]
    maestro.factorize(net)


def going_on_with_the_old_wrapper():
    net = maestro.factorize(dense())
    wrapped = DistributedDataParallel(net)
    maestro.truncate(net, {"0": 2})
    wrapped(torch.ones(2, 6))


def shrinking_the_wrapper():
    net = DistributedDataParallel(maestro.factorize(dense()))
    maestro.shrink(net, SGD(net.parameters(), 0.1))


def the_threshold_in_place_of_the_optimizer():
    maestro.shrink(maestro.factorize(dense()), 1e-7)


def the_mode_in_place_of_the_generator():
    maestro.sample(maestro.factorize(dense()), "fraction")


WRONG = {
    forgetting_factorize: "no low-rank layers to sample; factorize it",
    shrinking_a_dense_network: "no low-rank layers to cut: factorize it",
    making_the_optimizer_first: "make it afterwards, from net.parameters",
    shrinking_with_the_optimizer_of_another_network: "make it after factorize, from",
    shrinking_without_the_optimizer: "give the optimiser when you cut",
    loading_a_network_without_its_optimizer: "load the optimiser's state as well",
    merging_too_early: "merge it last",
    backward_outside_of_sample_with_checkpoints: "call backward inside `with maestro.s",
    keeping_layers_in_a_list: "keep layers as modules only",
    going_on_with_the_old_wrapper: "wrap the network again",
    shrinking_the_wrapper: "cut net.module, then wrap it again",
    the_threshold_in_place_of_the_optimizer: "it takes a torch.optim.Optimizer",
    the_mode_in_place_of_the_generator: "it takes a torch.Generator of the CPU",
}


@pytest.fixture
def group(tmp_path):
    """A group of one process, this one, for DistributedDataParallel."""
    file = f"file://{tmp_path / 'group'}"
    torch.distributed.init_process_group("gloo", file, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("wrong", WRONG, ids=lambda use: use.__name__)
def test_it_says_what_to_do(wrong, group):
    with pytest.raises((ValueError, RuntimeError), match=WRONG[wrong]) as caught:
        wrong()
    last = wrong.__code__.co_firstlineno + len(inspect.getsourcelines(wrong)[0]) - 1
    raised = [t for t in caught.traceback if t.name == wrong.__name__]
    assert raised[0].lineno + 1 == last
    assert len(str(caught.value).splitlines()) == 1


def test_the_right_way_raises_nothing(group):
    net = maestro.factorize(dense())
    optimizer = Adam(net.parameters(), 0.01)
    for rank in (3, 1):
        wrapped = DistributedDataParallel(net)
        train(wrapped, optimizer)
        maestro.truncate(net, {"0": rank}, optimizer)
        maestro.shrink(net, optimizer)
        del wrapped
    train(net, optimizer)
    maestro.merge(net)
    net(torch.ones(2, 6))
