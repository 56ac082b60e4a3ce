"""ResNet-18 and ResNet-50 (App. D.2, Table 7; He et al. 2016).

Counts: ResNet-18 with the CIFAR stem 11,173,962 parameters, 555,422,720 MACs at 32x32;
ResNet-50 25,557,032 and 4,089,184,256 at 224x224. Table 7 prints padding 1 for the
7x7 stem (it is 3) and a 20-way last layer (it is 1000).
"""

import torch
from torch import nn
from torch.nn import functional as F


def conv(inputs, outputs, size, stride=1):
    """A convolution that keeps the resolution (up to its stride), without bias."""
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    expansion = 1

    def __init__(self, inputs, width, stride):
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3), nn.BatchNorm2d(width)
        self.shortcut = shortcut(inputs, width, stride)

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class Bottleneck(nn.Module):
    """1x1, 3x3 (which carries the stride) and 1x1 convolutions around a shortcut."""

    expansion = 4

    def __init__(self, inputs, width, stride):
        super().__init__()
        outputs = 4 * width
        self.conv1, self.bn1 = conv(inputs, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, outputs, 1), nn.BatchNorm2d(outputs)
        self.shortcut = shortcut(inputs, outputs, stride)

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        return F.relu(self.bn3(self.conv3(out)) + self.shortcut(x))


def shortcut(inputs, outputs, stride):
    """The identity, or a 1x1 convolution where the shape changes."""
    if stride == 1 and inputs == outputs:
        return nn.Sequential()
    return nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    """Images (B, 3, H, W) -> logits (B, classes).

    blocks: how many in each of the four stages. width: channels of the first stage.
    stem: "cifar", one 3x3 convolution, or "imagenet", 7x7 of stride 2 and a pooling.
    """

    def __init__(self, block, blocks, width, stem, classes):
        super().__init__()
        imagenet = stem == "imagenet"
        self.conv1 = conv(3, width, 7 if imagenet else 3, 2 if imagenet else 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(3, 2, 1) if imagenet else nn.Identity()
        inputs = width
        for stage, count in enumerate(blocks):
            outputs, layers = width * 2**stage, []
            for i in range(count):
                stride = 2 if i == 0 and stage > 0 else 1
                layers.append(block(inputs, outputs, stride))
                inputs = outputs * block.expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.fc = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x):
        # every layer keeps to it: on CPUs, too, thin convolutions are fastest so
        x = x.contiguous(memory_format=torch.channels_last)
        x = self.pool(F.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


def resnet18(classes=10, width=64):
    """ResNet-18 with the CIFAR stem; ``width`` 64 is the paper's."""
    return ResNet(BasicBlock, (2, 2, 2, 2), width, "cifar", classes)


def resnet50(classes=1000, width=64, stem="imagenet"):
    """ResNet-50; ``width`` 64 and the ImageNet stem are the paper's."""
    return ResNet(Bottleneck, (3, 4, 6, 3), width, stem, classes)
