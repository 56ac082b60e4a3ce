"""The systems of the paper, one file each, behind the same few hooks.

The loop in training/loop.py calls the hooks and knows no method by name. A new system
is a new file here and rows in campaign/baselines.py.
"""

import inspect
from dataclasses import replace

from .budgeted import Budgeted
from .cuttlefish import Cuttlefish
from .dense import Dense
from .dense_start import Pretrained
from .depgraph import DepGraph
from .dlrt import DLRT
from .dlrt_augmented import AugmentedDLRT
from .full_pass import FullPass
from .imp import IMP
from .maestro import Maestro
from .masked import Masked
from .method import Change, Method, Phase, Size
from .proximal import Proximal
from .pufferfish import Pufferfish
from .raregems import RareGems
from .spectral import Spectral
from .spectral_decay import SpectralDecay
from .svd import SVD
from .tangent import Tangent
from .tangent_cut import TangentCut
from .unshrunken import Unshrunken
from .xnor import XNOR

__all__ = [
    "DLRT",
    "IMP",
    "METHODS",
    "SVD",
    "XNOR",
    "AugmentedDLRT",
    "Budgeted",
    "Change",
    "Cuttlefish",
    "Dense",
    "DepGraph",
    "FullPass",
    "Maestro",
    "Masked",
    "Method",
    "Phase",
    "Pretrained",
    "Proximal",
    "Pufferfish",
    "RareGems",
    "Size",
    "Spectral",
    "SpectralDecay",
    "Tangent",
    "TangentCut",
    "Unshrunken",
    "epochs",
    "make",
    "resolve",
]

METHODS = {
    "dense": Dense,
    "maestro": Maestro,
    "masked": Masked,
    "proximal": Proximal,
    "budgeted": Budgeted,
    "tangent": Tangent,
    "tangent_cut": TangentCut,
    "pretrained": Pretrained,
    "unshrunken": Unshrunken,
    "full_pass": FullPass,
    "pufferfish": Pufferfish,
    "cuttlefish": Cuttlefish,
    "spectral": Spectral,
    "svd": SVD,
    "spectral_decay": SpectralDecay,
    "dlrt": DLRT,
    "dlrt_augmented": AugmentedDLRT,
    "imp": IMP,
    "raregems": RareGems,
    "depgraph": DepGraph,
    "xnor": XNOR,
}


def resolve(config):
    """``config`` with all options of its method, those not given at their defaults.

    The values are then part of the configuration and of its id: a later change of a
    default changes neither. Raises ValueError on an unknown method or option.
    """
    return replace(config, options=_defaults(config) | config.options)


def make(config):
    """The method object for a `RunConfig` with all of its method's options.

    Raises ValueError, naming what would be right, on an unknown method or option, and
    on options that are missing.
    """
    missing = [name for name in _defaults(config) if name not in config.options]
    if missing:
        raise ValueError(
            f"options={config.options!r}: {config.method} also takes "
            f"{', '.join(missing)}; methods.resolve(config) adds the defaults"
        )
    return METHODS[config.method](**config.options)


def epochs(config):
    """How many epochs the phases of ``config``'s method train together."""
    return sum(phase.epochs for phase in make(config).phases(config.recipe))


def _defaults(config):
    """{option: default} of the config's method, whose every option has one."""
    if config.method not in METHODS:
        raise ValueError(f"method={config.method!r}; it is one of {', '.join(METHODS)}")
    known = inspect.signature(METHODS[config.method]).parameters
    for name in config.options:
        if name not in known:
            raise ValueError(
                f"{config.method} has no option {name!r}; it takes: "
                + (", ".join(known) or "none")
            )
    return {name: parameter.default for name, parameter in known.items()}
