"""XNOR-Net: binary weights, gradients through the sign, and its size in bits."""

import pytest
import torch
from torch import nn

from maestro.methods import XNOR
from maestro.methods.xnor import BinaryConv2d, Sign


def network():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.Conv2d(4, 6, 3),
        nn.Conv2d(6, 5, 3),
        nn.Flatten(),
        nn.Linear(20, 3),
    )


def test_the_gradient_passes_the_sign_where_its_input_is_small():
    # clamped weights are at 1 itself, and must not stay there
    x = torch.tensor([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0], requires_grad=True)
    signs = Sign.apply(x)
    assert signs.tolist() == [-1, -1, -1, 1, 1, 1, 1]
    signs.sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 1, 1, 0]


def test_a_filter_is_its_signs_times_its_mean_size():
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 5, 3)
    W = BinaryConv2d(conv).weight()
    for binary, filter in zip(W, conv.weight, strict=True):
        torch.testing.assert_close(binary, filter.abs().mean() * filter.sign())


def test_the_weights_gradient_is_that_of_the_paper():
    """alpha 1{|W| < 1} G + sign(W) (1/n) sum_j sign(W_j) G_j, for each filter."""
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 3, 2).double()
    with torch.no_grad():
        conv.weight.mul_(3)  # of which some are larger than 1
    G = torch.randn_like(conv.weight)
    BinaryConv2d(conv).weight().backward(G)
    W, n = conv.weight.detach(), conv.weight[0].numel()
    alpha = W.abs().mean((1, 2, 3), keepdim=True)
    mean = (W.sign() * G).sum((1, 2, 3), keepdim=True) / n
    expected = alpha * (W.abs() < 1) * G + W.sign() * mean
    assert (W.abs() > 1).any()
    torch.testing.assert_close(conv.weight.grad, expected)


def test_all_but_the_first_and_last_convolution_are_binary():
    method = XNOR()
    net = method.prepare(network(), torch.zeros(1, 1, 8, 8), None)
    kinds = [type(m) for m in net]
    assert kinds == [nn.Conv2d, BinaryConv2d, nn.Conv2d, nn.Flatten, nn.Linear]
    method.after_step(net, None)
    W = net[1].conv.weight
    torch.testing.assert_close(W.mean(1), torch.zeros_like(W[:, 0]))
    assert W.abs().max() <= 1
    size = method.size(net)
    numbers = sum(p.numel() for p in net.parameters())
    assert size.params == numbers
    assert size.bits == 32 * (numbers - 216 + 6) + 216
    with pytest.raises(ValueError, match="has 0 convolutions"):
        XNOR().prepare(nn.Sequential(nn.Linear(3, 2)), torch.zeros(1, 3), None)


def test_macs_are_those_of_the_dense_network():
    dense = 6 * 6 * 4 * 9 + 4 * 4 * 6 * 36 + 2 * 2 * 5 * 54 + 60
    method = XNOR()
    net = method.prepare(network(), torch.zeros(1, 1, 8, 8), None)
    assert method.size(net).macs == dense
    assert method.size(net).binary_macs == 4 * 4 * 6 * 36
    assert net.training


def test_weights_are_centred_before_the_first_step_too():
    net = XNOR().prepare(network(), torch.zeros(1, 1, 8, 8), None)
    [layer] = [m for m in net.modules() if isinstance(m, BinaryConv2d)]
    assert layer.conv.weight.mean(1).abs().max() < 1e-6
