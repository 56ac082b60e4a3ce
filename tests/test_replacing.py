"""Layers that a network keeps outside of its modules as well are refused by name."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import maestro


class Net(nn.Module):
    """Calls what it keeps in a plain attribute, not its modules."""

    def __init__(self, keep):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        object.__setattr__(self, "kept", keep(self.body[1]))


WAYS = {
    "a list": lambda layer: [layer],
    "a tuple in a dict": lambda layer: {"all": (None, layer)},
    "a set": lambda layer: {layer},
    "itself": lambda layer: layer,
    "its method": lambda layer: layer.forward,
    "a partial": lambda layer: partial(layer, 1),
    "a closure": lambda layer: lambda x: layer(x),
    "a default": lambda layer: lambda x, to=layer: to(x),
    "an object": lambda layer: SimpleNamespace(of=[layer]),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_layer_that_is_kept_elsewhere_too_is_refused(way):
    net = nn.Sequential(Net(WAYS[way]))
    layer = net[0].body[1]
    with pytest.raises(
        ValueError, match="^0.kept .* holds the layer '0.body.1' as well"
    ):
        maestro.factorize(net)
    assert maestro.ranks(net) == {} and net[0].body[1] is layer
    maestro.factorize(net, skip="0.body.1")
    assert maestro.ranks(net) == {"0.body.0": 4}


@pytest.mark.parametrize("way", WAYS)
def test_merge_refuses_it_too(way):
    net = Net(lambda layer: None)
    maestro.factorize(net)
    object.__setattr__(net, "kept", WAYS[way](net.body[1]))
    with pytest.raises(ValueError, match="^kept .* holds the layer 'body.1' as well"):
        maestro.merge(net)
    assert set(maestro.ranks(net)) == {"body.0", "body.1"}


def test_a_weight_that_is_kept_elsewhere_is_refused_too():
    net = Net(lambda layer: [layer.weight])
    with pytest.raises(ValueError, match="^kept .* holds the weight of 'body.1' as"):
        maestro.factorize(net)
    assert set(maestro.ranks(maestro.factorize(net, skip="body.1"))) == {"body.0"}


def test_an_optimiser_may_be_kept_and_is_stopped_if_it_goes_on():
    net = Net(lambda layer: torch.optim.SGD([layer.weight], 0.1))
    maestro.factorize(net)
    with pytest.raises(RuntimeError, match="factorize"):
        net.kept.step()


def test_containers_and_parents_may_be_kept():
    net = Net(lambda layer: [])
    object.__setattr__(net, "kept", [net.body, 3, "text", torch.ones(2), {"a": None}])
    assert maestro.ranks(maestro.factorize(net)) == {"body.0": 4, "body.1": 4}


def test_a_list_that_holds_itself_is_no_trap():
    net = Net(lambda layer: [])
    net.kept.append(net.kept)
    assert len(maestro.ranks(maestro.factorize(net))) == 2
