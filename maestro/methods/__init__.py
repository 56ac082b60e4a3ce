"""The systems of the paper, one file each, behind the same few hooks.

The loop in training/loop.py calls the hooks and knows no method by name. A new system
is a new file here and rows in campaign/experiments.py.
"""

import inspect

from .dense import Dense
from .maestro import Maestro
from .masked import Masked
from .method import Change, Method, Phase, Size
from .proximal import Proximal
from .pufferfish import Pufferfish

__all__ = [
    "METHODS",
    "Change",
    "Dense",
    "Maestro",
    "Masked",
    "Method",
    "Phase",
    "Proximal",
    "Pufferfish",
    "Size",
    "make",
]

METHODS = {
    "dense": Dense,
    "maestro": Maestro,
    "masked": Masked,
    "proximal": Proximal,
    "pufferfish": Pufferfish,
}


def make(config):
    """The method object for a `RunConfig`.

    Raises ValueError, naming what would be right, on an unknown method or option.
    """
    if config.method not in METHODS:
        raise ValueError(f"method={config.method!r}; it is one of {', '.join(METHODS)}")
    method = METHODS[config.method]
    known = inspect.signature(method).parameters
    for name in config.options:
        if name not in known:
            raise ValueError(
                f"{config.method} has no option {name!r}; it takes: "
                + (", ".join(known) or "none")
            )
    return method(**config.options)
