"""The paper's networks in plain PyTorch; they know nothing of the method."""

from .lenet import LeNet

MODELS = {"lenet": LeNet}
