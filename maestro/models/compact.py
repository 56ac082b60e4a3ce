"""A small network for CIFAR-10 that one core of a CPU can train.

That of airbench (Keller Jordan 2024), built anew from its description: a whitening
convolution that is not trained, three groups of two convolutions, one linear map. At
its full width 569,656 parameters and 54,223,904 MACs. What differs: the filters start
as PyTorch's do; as the identity they would have equal singular values, and the order of
their columns in a factorisation would mean nothing.
"""

import torch
from torch import nn
from torch.nn import functional as F

PATCHES_OF = 5_000  # images, the first ones
SMALLEST = 5e-4  # added to the variance of the patches along each direction


class Compact(nn.Module):
    """Images (B, 3, H, W), of 32 pixels -> logits (B, classes).

    width: channels of the first group; the other two have twice as many.
    """

    def __init__(self, classes=10, width=64):
        super().__init__()
        self.whiten = nn.Conv2d(3, 24, 2)  # both signs of 12 directions
        self.whiten.weight.requires_grad_(False)
        self.group1 = Group(24, width)
        self.group2 = Group(width, 2 * width)
        self.group3 = Group(2 * width, 2 * width)
        self.head = nn.Linear(2 * width, classes, bias=False)

    def start_from(self, task):
        """Take the whitening filters from the first training images of ``task``."""
        filters = whitening(task.first(PATCHES_OF))
        with torch.no_grad():
            self.whiten.weight.copy_(torch.cat((filters, -filters)))

    def forward(self, x):
        x = F.gelu(self.whiten(x))  # (B, 24, 31, 31)
        x = self.group3(self.group2(self.group1(x)))  # (B, 2 width, 3, 3)
        return self.head(F.max_pool2d(x, 3).flatten(1)) / 9


class Group(nn.Module):
    """Two 3x3 convolutions, half the resolution behind the first."""

    def __init__(self, inputs, width):
        super().__init__()
        self.conv1, self.norm1 = conv(inputs, width), norm(width)
        self.conv2, self.norm2 = conv(width, width), norm(width)

    def forward(self, x):
        x = F.gelu(self.norm1(F.max_pool2d(self.conv1(x), 2)))
        return F.gelu(self.norm2(self.conv2(x)))


def conv(inputs, outputs):
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


def norm(width):
    """Batch norm whose statistics move fast and whose scale stays 1."""
    layer = nn.BatchNorm2d(width, eps=1e-12, momentum=0.4)
    layer.weight.requires_grad_(False)
    return layer


def whitening(images):
    """Filters (12, 3, 2, 2) whose outputs on ``images`` (N, 3, H, W) are white.

    The eigenvectors of the patches' second moments, each divided by the root of its
    eigenvalue.
    """
    moments, count = torch.zeros(12, 12, dtype=torch.float64), 0
    for some in images.split(500):
        patches = (
            F.unfold(some, 2).movedim(1, -1).flatten(0, 1).cpu()
        )  # (positions, 12)
        moments += (patches.t() @ patches).double()
        count += len(patches)
    values, vectors = torch.linalg.eigh(moments / count)
    filters = vectors / (values + SMALLEST).sqrt()
    return filters.t().flip(0).reshape(12, 3, 2, 2).float()
