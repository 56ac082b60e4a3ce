"""What an optimiser keeps for a factor is cut with the factor, or starts anew."""

import pytest
import torch
from torch import nn
from torch.optim import LBFGS, SGD, Adafactor, Adam

import maestro


def network():
    """Factors that are square, taller and wider: (4, 4), (9, 4) and (7, 3), (3, 3)."""
    net = nn.Sequential(nn.Linear(9, 4), nn.Tanh(), nn.Linear(3, 7))
    return maestro.factorize(net.double())


class Keeping(torch.optim.Optimizer):
    """Descends, and keeps what ``make(parameter)`` gives: {name: value}."""

    def __init__(self, net, make):
        super().__init__(net.parameters(), {"lr": 0.1})
        self.make = make

    @torch.no_grad()
    def step(self):
        for p in self.param_groups[0]["params"]:
            if p.grad is not None:
                p -= 0.1 * p.grad
                if not self.state[p]:
                    self.state[p].update(self.make(p))


def shampoo(p):
    """A preconditioner for each dimension: of a square factor as large as itself."""
    eyes = {f"precond_{d}": torch.eye(n) for d, n in enumerate(p.shape)}
    return {"step": 1, "momentum_buffer": torch.ones_like(p)} | eyes


def soap(p):
    """Moments in a rotated basis, and the basis in a list."""
    moments = {"exp_avg": torch.ones_like(p), "exp_avg_sq": torch.ones_like(p)}
    return {"step": torch.tensor(1.0), **moments, "Q": [torch.eye(n) for n in p.shape]}


def by_rows_and_columns(p):
    """Adafactor, as transformers has it: vectors."""
    if p.ndim < 2:
        return {"exp_avg_sq": torch.ones_like(p), "RMS": 0.5}
    row, column = (torch.arange(float(n)) for n in p.shape)
    return {"step": 1, "exp_avg_sq_row": row, "exp_avg_sq_col": column, "RMS": 0.5}


def trained(make):
    net = network()
    optimizer = Keeping(net, make)
    step(net, optimizer)
    return net, optimizer


def step(net, optimizer):
    optimizer.zero_grad()
    ys = net[0](torch.ones(2, 9).double()), net[2](torch.ones(2, 3).double())
    sum(y.square().sum() for y in ys).backward()
    optimizer.step()


@pytest.mark.parametrize("make", [shampoo, soap])
def test_preconditioners_start_anew(make):
    net, optimizer = trained(make)
    bias = optimizer.state[net[0].bias]
    maestro.truncate(net, {"0": 2}, optimizer)
    assert not optimizer.state.get(net[0].U) and not optimizer.state.get(net[0].V)
    assert optimizer.state[net[0].bias] is bias and bias["step"] == 1
    untouched = optimizer.state[net[2].U]
    assert all(a == b for a, b in zip(untouched, make(net[2].U), strict=True))
    step(net, optimizer)
    assert optimizer.state[net[0].U].keys() == make(net[0].U).keys()


def test_rows_and_columns_are_cut_where_it_is_clear_which_is_which():
    net, optimizer = trained(by_rows_and_columns)
    maestro.truncate(net, {"0": 2, "2": 1}, optimizer)
    for factor, columns in ((net[0].V, 2), (net[2].U, 1)):
        state = optimizer.state[factor]
        assert torch.equal(state["exp_avg_sq_row"], torch.arange(float(len(factor))))
        assert torch.equal(state["exp_avg_sq_col"], torch.arange(float(columns)))
        assert state["step"] == 1 and state["RMS"] == 0.5
    for square in (net[0].U, net[2].V):  # 4 rows or 4 columns?
        assert not optimizer.state.get(square)


def test_adafactor_of_pytorch():
    net = network()
    optimizer = Adafactor(net.parameters())
    step(net, optimizer)
    before = {p: dict(optimizer.state[p]) for p in net.parameters()}
    maestro.truncate(net, {"0": 2, "2": 1}, optimizer)
    for layer in (net[0], net[2]):
        for factor in (layer.U, layer.V):
            state, old = optimizer.state[factor], before[factor]
            assert torch.equal(state["row_var"], old["row_var"])
            assert torch.equal(state["col_var"], old["col_var"][:, : layer.rank])
            assert state["step"] is old["step"]
    step(net, optimizer)


def test_the_history_of_lbfgs_starts_anew():
    net = network()
    optimizer, x = LBFGS(net.parameters()), torch.ones(2, 9).double()

    def closure():
        optimizer.zero_grad()
        loss = net[0](x).square().sum() + net[2].weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    history = optimizer.state[net[0].U]
    maestro.truncate(net, maestro.ranks(net), optimizer)
    assert optimizer.state[net[0].U] is history  # nothing was cut
    maestro.truncate(net, {"2": 1}, optimizer)
    assert not optimizer.state
    optimizer.step(closure)


def test_a_cut_that_was_kept_from_the_optimizer_can_be_made_up_for():
    """As the error says that stops such an optimiser."""
    net = network()
    optimizer = Adam(net.parameters(), fused=True)
    step(net, optimizer)
    old = optimizer.state[net[0].U]["exp_avg"].clone()
    maestro.truncate(net, {"0": 3})
    maestro.truncate(net, {"0": 2})
    with pytest.raises(RuntimeError, match=r"state \(4, 4\) for .* is \(4, 2\) now"):
        step(net, optimizer)
    maestro.shrink(net, optimizer, 0.0)
    assert torch.equal(optimizer.state[net[0].U]["exp_avg"], old[:, :2])
    step(net, optimizer)


def test_state_of_fewer_columns_starts_anew():
    net = network()
    maestro.truncate(net, {"0": 2})
    optimizer = SGD(net.parameters(), 0.1, momentum=0.9)
    step(net, optimizer)
    net.load_state_dict(network().state_dict())
    with pytest.raises(RuntimeError, match="load the optimiser's state as well"):
        step(net, optimizer)
    maestro.shrink(net, optimizer, 0.0)
    assert not optimizer.state.get(net[0].U) and optimizer.state[net[2].U]
    step(net, optimizer)
