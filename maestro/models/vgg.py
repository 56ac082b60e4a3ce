"""VGG-19 with batch norm and one classifier layer (App. D.2, Table 8).

Counts: 20,035,018 parameters (convolutions without bias, as batch norm follows) and
398,136,320 MACs at 32x32.
"""

import torch
from torch import nn

# convolutions of each stage, and their channels in multiples of the width
STAGES = ((2, 1), (2, 2), (4, 4), (4, 8), (4, 8))


class VGG(nn.Sequential):
    """Images (B, 3, 32, 32) -> logits (B, classes)."""

    def forward(self, x):
        # every layer keeps to it: on CPUs, too, thin convolutions are fastest so
        return super().forward(x.contiguous(memory_format=torch.channels_last))


def vgg19(classes=10, width=64, hidden=()):
    """VGG-19; ``width`` 64 is the paper's.

    hidden: features of further linear layers before the last one. (512, 512) is the
    head of Pufferfish, whose 20,560,330 parameters Table 16 prints.
    """
    layers, inputs = [], 3
    for count, multiple in STAGES:
        for _ in range(count):
            outputs = multiple * width
            layers += [
                nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
            inputs = outputs
        layers.append(nn.MaxPool2d(2))
    net = VGG()
    net.add_module("features", nn.Sequential(*layers))
    net.add_module("flatten", nn.Flatten())
    head = []
    for outputs in hidden:
        head += [nn.Linear(inputs, outputs), nn.ReLU(inplace=True)]
        inputs = outputs
    last = nn.Linear(inputs, classes)
    net.add_module("classifier", nn.Sequential(*head, last) if head else last)
    return net
