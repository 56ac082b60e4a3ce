"""Which layers' weights the code around them reads."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import maestro
from maestro.lowrank.reads import weights_read


def apply(layer, x):
    return F.linear(x, layer.weight, layer.bias)


class Block(nn.Module):
    """Has layers a, b and c, and a list of two more; calls all of them."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(4, 4) for _ in range(3))
        self.more = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.init_weights()

    def init_weights(self):
        nn.init.normal_(self.c.weight)  # not in a forward pass

    def forward(self, x):
        for layer in (self.a, self.b, self.c, *self.more):
            x = layer(x)
        return x


class ByName(Block):
    def forward(self, x):
        return F.linear(super().forward(x), self.a.weight)


class InAMethod(Block):
    def forward(self, x):
        return self.attend(super().forward(x))

    def attend(self, x):
        return (lambda y: y @ self.a.weight)(x)


class ItsType(Block):
    def forward(self, x):
        return super().forward(x.to(self.a.weight.dtype))


class ItsBias(Block):
    def forward(self, x):
        return super().forward(x) + self.a.bias


class ItsSize(Block):
    def forward(self, x):
        return super().forward(x) / self.a.out_features


class FromAbove(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = Block()

    def forward(self, x):
        return self.block(x) @ self.block.a.weight


class Hidden(Block):
    def forward(self, x):
        return super().forward(x) @ getattr(self.a, "wei" + "ght")


class ByAFunction(Block):
    def forward(self, x):
        return apply(self.a, super().forward(x))


class OfAList(Block):
    def forward(self, x):
        return apply(self.more[0], x) @ self.more[1].weight


def names_read(net):
    read = weights_read(net)
    return {n for n, layer in maestro.low_rank_layers(net).items() if layer in read}


@pytest.mark.parametrize(
    "kind", [ByName, InAMethod, ItsType, ItsBias, ItsSize, FromAbove]
)
def test_a_network_that_has_not_run(kind):
    assert names_read(maestro.factorize(kind())) in ({"a"}, {"block.a"})


def test_calls_and_initialisation_are_no_reading():
    net = maestro.factorize(Block())
    assert net.a.weight is not None and names_read(net) == set()
    net(torch.randn(2, 4))
    assert names_read(net) == set()


@pytest.mark.parametrize("kind", [ByAFunction, OfAList])
def test_where_it_cannot_be_known_which_all_are_taken(kind):
    every = {"a", "b", "c", "more.0", "more.1"}
    assert names_read(maestro.factorize(kind())) == every


def test_a_reading_is_noted_when_it_happens():
    net = maestro.factorize(Hidden())
    assert names_read(net) == set()
    net(torch.randn(2, 4))
    assert names_read(net) == {"a"} == names_read(copy.deepcopy(net))


@pytest.mark.parametrize(
    "kind",
    [ByName, InAMethod, ItsType, ItsBias, ItsSize, FromAbove, ByAFunction, OfAList],
)
def test_merged_networks_still_read(kind):
    net, x = maestro.factorize(kind().double()), torch.randn(2, 4).double()
    maestro.truncate(net, dict.fromkeys(maestro.ranks(net), 1))
    expected = net(x)
    fresh = maestro.factorize(kind().double())
    fresh.load_state_dict(net.state_dict())
    merged = maestro.merge(fresh)
    assert (merged(x) - expected).abs().max() <= 1e-12
    assert maestro.ranks(merged) == {}


def test_a_padding_that_is_computed_from_the_layer_still_is():
    class Padded(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 4, 3, stride=2)
            self.other = nn.Conv2d(4, 4, 3)

        def forward(self, x):
            more = -x.shape[-1] % self.conv.stride[0]
            y = self.conv(F.pad(x, (0, more, 0, more)))
            return self.other(y.stride() and y)

    net, x = maestro.factorize(Padded().double()), torch.randn(2, 2, 9, 9).double()
    assert names_read(net) == {"conv"}
    maestro.truncate(net, {"conv": 1, "other": 1})
    expected = net(x)
    assert (maestro.merge(net)(x) - expected).abs().max() <= 1e-12
    assert isinstance(net.conv, nn.Conv2d) and isinstance(net.other, nn.Sequential)
