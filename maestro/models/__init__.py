"""The paper's networks in plain PyTorch; they know nothing of the method.

Each takes ``classes`` (the vocabulary, for the Transformer) and numbers for its size.
"""

import inspect

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


def make(name, classes, size):
    """The network called ``name`` with ``classes`` outputs; size: {keyword: value}.

    Raises ValueError, naming what would be right, on an unknown name, or a size that
    the network does not have or cannot be built with.
    """
    if name not in MODELS:
        raise ValueError(f"model={name!r}; it is one of {', '.join(MODELS)}")
    known = [key for key in inspect.signature(MODELS[name]).parameters]
    known.remove("classes")
    for key, value in size.items():
        if key not in known:
            raise ValueError(
                f"size={size!r}: {name} takes {', '.join(known) or 'no size'}"
            )
        if type(value) is int and value < 1:
            raise ValueError(f"size={size!r}: {key} is an integer >= 1")
    try:
        return MODELS[name](classes=classes, **size)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise ValueError(f"size={size!r} of {name}: {error}") from None
