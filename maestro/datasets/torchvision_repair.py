"""The import of torchvision, repaired if torchvision was built for another torch.

``pip install torch torchvision`` can install a torch for the CPU and a torchvision
built for CUDA. The import of torchvision then fails, because its compiled operators do
not load. Networks, transforms and data sets need none of these operators, so declaring
two of them is enough. Detection operators and ``torchvision.io.decode_image`` do not
work after the repair.
"""

import importlib
import sys

import torch

# "operator torchvision::nms does not exist", or qnms in place of nms
_OPERATORS = ("nms", "qnms")
_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"

repaired = False  # whether this process needed the repair
_library = None  # keeps the declarations alive


def import_torchvision():
    """The torchvision module, repaired if it was built for another torch.

    Raises ImportError if torchvision is not installed, and any other error of the
    import.
    """
    global repaired
    # import first: declaring operators that exist would abort the process
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
