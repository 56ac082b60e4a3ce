"""The paper's networks in plain PyTorch; they know nothing of the method.

Each takes ``classes`` (the vocabulary, for the Transformer) and numbers for its size.
"""

from .compact import Compact
from .lenet import LeNet
from .resnet import resnet18, resnet50
from .transformer import Transformer
from .vgg import vgg19

MODELS = {
    "compact": Compact,
    "lenet": LeNet,
    "resnet18": resnet18,
    "resnet50": resnet50,
    "transformer": Transformer,
    "vgg19": vgg19,
}
