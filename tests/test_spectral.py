"""Spectral initialisation: the published size, the layout, Frobenius decay."""

import pytest
import torch
from torch import nn

from maestro.lowrank.choosing import choose
from maestro.methods import Spectral
from maestro.methods.spectral import factorised, ranks_for, unrolled
from maestro.models import MODELS

VGG_DENSE = ["features.0", "classifier"]


@pytest.mark.parametrize(
    ("share", "params"), [(0.02, 397_642), (0.05, 0.993e6), (0.1, 1.997e6)]
)
def test_vgg19_has_the_published_sizes(share, params):
    method = Spectral(params_share=share, skip=VGG_DENSE)
    net = method.prepare(MODELS["vgg19"](), torch.zeros(1, 3, 32, 32), None)
    assert method.size(net).params == pytest.approx(
        params, rel=1e-3 if share > 0.02 else 0
    )
    if share == 0.02:
        assert list(method.ranks(net).values()) == [2, 4, 4, *4 * [7], *8 * [14]]


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Linear(7, 5),
        lambda: nn.Conv2d(3, 6, 3, stride=2, padding=1),
        lambda: nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 0), (1, 2), bias=False),
        lambda: nn.Conv2d(5, 4, 1),
    ],
)
def test_at_full_rank_the_layer_is_the_same(make):
    layer = make().double()
    linear = isinstance(layer, nn.Linear)
    x = torch.randn(2, 7) if linear else torch.randn(2, layer.in_channels, 9, 8)
    pair = factorised(layer, min(unrolled(layer))).double()
    # the factors are stored in single precision, which rounds each by 6e-8 of itself
    torch.testing.assert_close(
        pair(x.double()), layer(x.double()), rtol=1e-5, atol=1e-5
    )


def test_ranks_are_the_largest_that_fit():
    net = nn.Sequential(nn.Linear(40, 30), nn.Linear(30, 20))
    layers, dense = choose(net, ())[0], sum(p.numel() for p in net.parameters())
    ranks = ranks_for(layers, dense, 0.5)
    left = 50 + sum(r * sum(unrolled(layers[name])) for name, r in ranks.items())
    assert 0.45 * dense < left <= 0.5 * dense
    with pytest.raises(ValueError, match="params_share=0.01: rank 1 in every layer"):
        ranks_for(layers, dense, 0.01)


def test_frobenius_decay_is_the_gradient_of_the_product():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 5))
    method = Spectral(params_share=0.9, frobenius_decay=0.3)
    net = method.prepare(net, torch.zeros(1, 3, 4, 4), None)
    conv, linear = net[0], net[2]
    V, U = conv[0].weight.flatten(1), conv[1].weight.transpose(1, 2).flatten(0, 1)
    product = (U[..., 0] @ V, linear[1].weight @ linear[0].weight)
    weights = [layer.weight for pair in (conv, linear) for layer in pair]
    expected = torch.autograd.grad(
        0.15 * sum(W.square().sum() for W in product), weights
    )
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    method.after_backward(net)
    for weight, grad in zip(weights, expected, strict=True):
        torch.testing.assert_close(weight.grad, grad)


def test_a_pair_that_is_no_smaller_is_counted_as_one_map():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(6, 16, 5), nn.Flatten(), nn.Linear(16, 4))
    method = Spectral(params_share=1.0)
    method.size(method.prepare(net, torch.zeros(1, 6, 5, 5), None))
    wide = {"0": factorised(nn.Conv2d(6, 16, 5), 24)}  # 2,640 numbers, not 2,400
    plain = nn.Sequential(nn.Conv2d(6, 16, 5))
    layers, example = {"0": plain[0]}, torch.zeros(1, 6, 5, 5)
    assert method._deployed(plain, layers, wide, example) == (2400 + 16, 2400)
    thin = {"0": factorised(nn.Conv2d(6, 16, 5), 10)}
    params, macs = method._deployed(plain, layers, thin, example)
    assert params == 1100 + 16 and macs == 10 * (30 * 5 + 80)
