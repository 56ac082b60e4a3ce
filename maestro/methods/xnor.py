"""XNOR-Net (Rastegari et al. 2016): weights and activations of one bit.

Every convolution but the first and the last becomes: batch norm of its input, the sign
of that, a convolution with weights alpha_f sign(W_f), where alpha_f is the mean size of
filter f. The weights W are trained: the sign passes gradients where its argument is
within [-1, 1]. As in the released code, W loses its mean over input channels and is
clamped to [-1, 1] at each step, and activations are not scaled. That code also
multiplies each layer's gradient by n (1 - 1/in), n the numbers of a filter, which its
Adam cancels; here SGD trains, without the factor. The first and last convolution and
the linear layers stay as they are.
"""

import torch
from torch import nn
from torch.nn import functional as F

from ..lowrank.replacing import replace
from .method import BITS, Method, Size, require_zero_padding


class Sign(torch.autograd.Function):
    """The sign, -1 or 1; its gradient passes where the input is within [-1, 1]."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * (x.abs() <= 1)


class BinaryConv2d(nn.Module):
    """A convolution of signs with alpha_f sign(W_f), for the layer ``conv``."""

    def __init__(self, conv):
        super().__init__()
        self.norm = nn.BatchNorm2d(conv.in_channels, eps=1e-4)
        self.conv = conv

    def weight(self):
        """alpha_f sign(W_f) (out, in, kh, kw)."""
        W = self.conv.weight
        alpha = W.abs().mean((1, 2, 3), keepdim=True)
        return alpha * Sign.apply(W)

    def forward(self, x):
        conv = self.conv
        geometry = conv.stride, conv.padding, conv.dilation, conv.groups
        return F.conv2d(Sign.apply(self.norm(x)), self.weight(), conv.bias, *geometry)


class XNOR(Method):
    """Binary weights and activations in all but the first and last convolution."""

    def prepare(self, model, example_inputs, generator):
        convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
        if len(convs) < 3:
            raise ValueError(
                f"{type(model).__name__} has {len(convs)} convolutions: xnor leaves "
                "the first and the last as they are, and takes at least 3"
            )
        require_zero_padding(convs, "xnor")
        replace(model, {conv: BinaryConv2d(conv) for conv in convs[1:-1]})
        self.binary_macs = binary_macs(model, example_inputs)
        self._centre(model)
        return super().prepare(model, example_inputs, generator)

    def after_step(self, model, optimizer):
        self._centre(model)

    @torch.no_grad()
    def _centre(self, model):
        """Centre the trained weights over input channels and keep them in [-1, 1]."""
        for layer in _binary(model):
            W = layer.conv.weight
            W.sub_(W.mean(1, keepdim=True)).clamp_(-1, 1)

    def size(self, model):
        """All numbers; a bit for a binary weight, and alpha_f for its filter."""
        params, macs = self.costs.fixed
        weights = [layer.conv.weight for layer in _binary(model)]
        binary, filters = sum(w.numel() for w in weights), sum(map(len, weights))
        bits = (params - binary + filters) * BITS + binary
        return Size(params, macs, bits, self.binary_macs)


@torch.no_grad()
def binary_macs(model, example_inputs):
    """The MACs of one forward pass in which both factors are signs."""
    counts, training = [], model.training

    def count(layer, inputs, out):
        counts.append(out.numel() * layer.conv.weight[0].numel())

    handles = [layer.register_forward_hook(count) for layer in _binary(model)]
    many = isinstance(example_inputs, tuple | list)
    model.eval()(*(example_inputs if many else (example_inputs,)))
    for handle in handles:
        handle.remove()
    model.train(training)
    return sum(counts)


def _binary(model):
    return [layer for layer in model.modules() if isinstance(layer, BinaryConv2d)]
