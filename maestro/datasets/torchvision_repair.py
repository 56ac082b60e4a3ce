"""torchvision beside any torch: the one place that imports it.

``pip install torch torchvision`` can give a CPU torch and a CUDA-built torchvision.
Its import then fails, because its compiled operators did not load. Networks, transforms
and data sets need none of them: it is enough that two operators are declared. Detection
operators and ``torchvision.io.decode_image`` stay out of use.
"""

import importlib
import sys

import torch

# "operator torchvision::nms does not exist", or the same of qnms
_OPERATORS = ("nms", "qnms")
_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"

repaired = False  # whether this process needed the repair
_library = None  # the declarations go when this object does


def import_torchvision():
    """The torchvision module, repaired if it was built for another torch.

    Raises whatever its import raises otherwise: ImportError where it is not installed.
    """
    global repaired
    # import first: to declare the operators where they exist aborts the process
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if not _is_the_mismatch(error):
            raise
    _forget_half_imported()
    _declare_operators()
    module = importlib.import_module("torchvision")
    repaired = True
    return module


def _is_the_mismatch(error):
    return str(error) in [
        f"operator torchvision::{name} does not exist" for name in _OPERATORS
    ]


def _forget_half_imported():
    for name in list(sys.modules):
        if name.partition(".")[0] == "torchvision":
            del sys.modules[name]


def _declare_operators():
    global _library
    _library = torch.library.Library("torchvision", "FRAGMENT")
    for name in _OPERATORS:
        _library.define(name + _SIGNATURE)
