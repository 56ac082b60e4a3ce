"""What would go wrong silently in a user's loop is an error that says what to do."""

import copy
import json

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD, Adam

import maestro
from maestro.lowrank import watching

OPTIMIZERS = {
    "momentum": lambda p: SGD(p, 0.1, momentum=0.9),
    "momentum fused": lambda p: SGD(p, 0.1, momentum=0.9, fused=True),
    "adam": lambda p: Adam(p, 0.1),
    "adam foreach": lambda p: Adam(p, 0.1, foreach=True),
    "adam fused": lambda p: Adam(p, 0.1, fused=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, 0.1),
    "adafactor": lambda p: torch.optim.Adafactor(p, 0.1),
    "muon": lambda p: torch.optim.Muon([q for q in p if q.ndim == 2], 0.1),
}
every_optimizer = pytest.mark.parametrize("kind", OPTIMIZERS)


def network():
    net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4))
    return maestro.factorize(net)


def step(net, optimizer):
    optimizer.zero_grad()
    net(torch.ones(2, 6)).square().sum().backward()
    optimizer.step()


def numbers(net):
    return torch.cat([p.detach().flatten().clone() for p in net.parameters()])


def settled(optimizer):
    """Whether the optimiser's steps have nothing to look for any more."""
    return watching._checked.get(optimizer) == watching._changes[0]


# state of other shapes


@every_optimizer
@pytest.mark.parametrize("ranks", [{"0": 2}, {"2": 1}, {"0": 0}, {"0": 4, "2": 0}])
def test_an_optimizer_that_was_not_told_of_a_cut_is_stopped(kind, ranks):
    """Fused ones trained on with momenta of other weights."""
    net = network()
    optimizer = OPTIMIZERS[kind](net.parameters())
    step(net, optimizer)
    maestro.truncate(net, ranks)
    before = numbers(net)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="as in maestro.shrink.net, optimizer."):
            step(net, optimizer)
    assert torch.equal(numbers(net), before)
    maestro.shrink(net, optimizer, 0.0)
    step(net, optimizer)
    assert settled(optimizer)


@every_optimizer
def test_an_optimizer_that_was_not_told_of_a_loading_is_stopped(kind):
    net, other = network(), network()
    maestro.truncate(other, {"0": 2, "2": 3})
    optimizer, its = (OPTIMIZERS[kind](n.parameters()) for n in (net, other))
    step(net, optimizer)
    step(other, its)
    net.load_state_dict(other.state_dict())
    with pytest.raises(RuntimeError, match="load the optimiser's state as well"):
        step(net, optimizer)
    optimizer.load_state_dict(copy.deepcopy(its.state_dict()))
    for one in ((net, optimizer), (other, its)):
        step(*one)
    assert torch.equal(numbers(net), numbers(other))


@every_optimizer
def test_an_optimizer_made_anew_goes_on(kind):
    net = network()
    optimizer = OPTIMIZERS[kind](net.parameters())
    step(net, optimizer)
    maestro.truncate(net, {"0": 2})
    optimizer = OPTIMIZERS[kind](net.parameters())
    for _ in range(2):
        step(net, optimizer)
    assert settled(optimizer)


def test_without_state_there_is_nothing_to_tell():
    """Parameters stay the same objects, so plain SGD trains on as if it knew."""
    told = network()
    optimizer = SGD(told.parameters(), 0.1)
    step(told, optimizer)
    forgotten, its = copy.deepcopy((told, optimizer))
    maestro.truncate(told, {"0": 2, "2": 1}, optimizer)
    maestro.truncate(forgotten, {"0": 2, "2": 1})
    before = numbers(forgotten)
    step(told, optimizer)
    step(forgotten, its)
    assert torch.equal(numbers(told), numbers(forgotten))
    assert not torch.equal(numbers(forgotten), before)


def test_another_optimizer_is_not_bothered():
    net, other = network(), network()
    optimizer = OPTIMIZERS["adam"](other.parameters())
    step(other, optimizer)
    maestro.truncate(net, {"0": 2})
    assert not settled(optimizer)
    step(other, optimizer)
    assert settled(optimizer)


@every_optimizer
def test_each_optimizer_is_to_be_told(kind):
    """One that was not given is stopped, whatever another was told before."""
    net = network()
    told, forgotten = (OPTIMIZERS[kind](net.parameters()) for _ in range(2))
    for optimizer in (told, forgotten):
        step(net, optimizer)
    maestro.truncate(net, {"0": 2}, told)
    step(net, told)
    with pytest.raises(RuntimeError, match="as in maestro.shrink.net, optimizer."):
        step(net, forgotten)
    maestro.truncate(net, {"2": 3}, [told, forgotten])
    for optimizer in (told, forgotten):
        step(net, optimizer)


# weights of layers that were replaced


def replaced(holder):
    return pytest.raises(
        RuntimeError, match=f"{holder} holds weights of layers that `f"
    )


def test_an_optimizer_made_before_factorize_is_stopped():
    """Silent before: it trained weights that nothing used."""
    net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4))
    optimizer = SGD(net.parameters(), 0.1)
    step(net, optimizer)
    maestro.factorize(net)
    for _ in range(2):
        with replaced("SGD"):
            step(net, optimizer)
    step(net, SGD(net.parameters(), 0.1))


@pytest.mark.parametrize("zeroed", [True, False])
def test_gradients_from_before_factorize_hide_nothing(zeroed):
    net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4))
    optimizer = SGD(net.parameters(), 0.1)
    step(net, optimizer)
    maestro.factorize(net)
    if zeroed:
        optimizer.zero_grad(set_to_none=False)
    net(torch.ones(2, 6)).sum().backward()
    with replaced("SGD"):
        optimizer.step()


def test_an_optimizer_made_before_merging_is_stopped():
    net = network()
    optimizer = Adam(net.parameters(), 0.1)
    step(net, optimizer)
    maestro.merge(net)
    with replaced("Adam"):
        step(net, optimizer)


def test_a_layer_that_another_network_trains_as_well_goes_on():
    shared = nn.Linear(6, 6)
    kept, net = nn.Sequential(shared), nn.Sequential(shared, nn.Linear(6, 4))
    optimizer = SGD(kept.parameters(), 0.1)
    maestro.factorize(net)
    before = numbers(kept)
    step(kept, optimizer)
    assert not torch.equal(numbers(kept), before)


# data parallelism


@pytest.fixture
def group(tmp_path):
    """A group of one process, this one."""
    file = f"file://{tmp_path / 'group'}"
    torch.distributed.init_process_group("gloo", file, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


stale = pytest.raises(RuntimeError, match="wrap the network again")


def restore(net):
    net.load_state_dict(network().state_dict())


@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize(
    "change", [lambda net: maestro.truncate(net, {"2": 1}), restore]
)
def test_a_wrapper_made_before_a_change_of_ranks_is_stopped(group, seen, change):
    net = network()
    if change is restore:
        maestro.truncate(net, {"0": 2})
    wrapped = DistributedDataParallel(net)
    if seen:
        for _ in range(3):
            step(wrapped, SGD(net.parameters(), 0.1))
    change(net)
    for _ in range(2):
        with stale:
            wrapped(torch.ones(2, 6))
    wrapped.eval()(torch.ones(2, 6))


def test_a_wrapper_that_fits_goes_on(group):
    net, other = network(), network()
    maestro.truncate(net, {"0": 2, "2": 0})
    wrapped = DistributedDataParallel(net)
    optimizer = SGD(net.parameters(), 0.1, momentum=0.9)
    for rank in (4, 3):
        maestro.truncate(other, {"0": rank})  # not its business
        step(wrapped, optimizer)
    maestro.shrink(net, optimizer, 0.0)
    net[0].requires_grad_(False)
    wrapped(torch.ones(2, 6))


def test_parameters_frozen_while_it_was_wrapped(group):
    net = network()
    net[0].U.requires_grad_(False)
    wrapped = DistributedDataParallel(net)
    net[0].U.requires_grad_(True)
    wrapped(torch.ones(2, 6)).sum().backward()
    maestro.truncate(net, {"0": 3})
    with stale:
        wrapped(torch.ones(2, 6))


def test_the_wrapper_itself_is_not_cut(group):
    wrapped = DistributedDataParallel(network())
    match = "cut net.module, then wrap it again"
    for call in (maestro.shrink, lambda net: maestro.truncate(net, {"module.0": 1})):
        with pytest.raises(ValueError, match=match):
            call(wrapped)
    assert maestro.ranks(wrapped) == {"module.0": 5, "module.2": 4}


TWO = """
import sys, torch, maestro
from torch import nn
from torch.nn.parallel import DistributedDataParallel
file, rank = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo", file, rank=rank, world_size=2)
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)).double()
net = maestro.factorize(net)
x = torch.randn(8, 6, dtype=torch.float64)[4 * rank : 4 * rank + 4]
optimizer = torch.optim.Adam(net.parameters(), 0.01)
wrapped = DistributedDataParallel(net)
for ranks in ({"0": 4}, {"0": 2, "2": 1}, None):
    for _ in range(3):
        optimizer.zero_grad()
        wrapped(x).square().mean().backward()
        optimizer.step()
    if ranks:
        maestro.truncate(net, ranks, optimizer)
        try:
            wrapped(x)
        except RuntimeError as error:
            print(error)
        wrapped = DistributedDataParallel(net)
print([p.tolist() for p in net.parameters()])
"""


def test_two_processes_wrap_again_after_a_cut(house, tmp_path):
    (tmp_path / "two.py").write_text(TWO)
    file = f"file://{tmp_path / 'group'}"
    both = [house.start(tmp_path / "two.py", file, rank) for rank in range(2)]
    outs = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], outs[0][1]
    *errors, weights = outs[0][0].splitlines()
    assert outs[1][0] == outs[0][0]
    assert len(errors) == 2 and all("wrap the network again" in e for e in errors)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)).double()
    net = maestro.factorize(net)
    x = torch.randn(8, 6, dtype=torch.float64)
    optimizer = Adam(net.parameters(), 0.01)
    for ranks in ({"0": 4}, {"0": 2, "2": 1}, {}):
        for _ in range(3):
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
        maestro.truncate(net, ranks, optimizer)
    for p, got in zip(net.parameters(), json.loads(weights), strict=True):
        torch.testing.assert_close(p, torch.tensor(got, dtype=torch.float64))
