"""What a device says that it has consumed, in joules, where it says so.

NVIDIA cards count the energy of the whole card (NVML), Intel and AMD processors that of
the package (Linux's powercap, which many systems let only root read). Runs that share a
device see each other's share.
"""

import ctypes
from functools import cache
from pathlib import Path

import torch

POWERCAP = Path("/sys/class/powercap")


def joules(device):
    """Joules that torch.device ``device`` has consumed since some moment, or None.

    Only a difference of two readings means something.
    """
    try:
        return _card(device) if device.type == "cuda" else _processor(device)
    except OSError:  # no library, no permission
        return None


def _card(device):
    handle, millijoules = ctypes.c_void_p(), ctypes.c_ulonglong()
    # by its identity: CUDA and NVML number the cards differently
    name = f"GPU-{torch.cuda.get_device_properties(device).uuid}".encode()
    failed = _nvml().nvmlDeviceGetHandleByUUID(name, ctypes.byref(handle))
    failed = failed or _nvml().nvmlDeviceGetTotalEnergyConsumption(
        handle, ctypes.byref(millijoules)
    )
    return None if failed else millijoules.value / 1e3


@cache
def _nvml():
    library = ctypes.CDLL("libnvidia-ml.so.1")
    if library.nvmlInit_v2():
        raise OSError("NVML does not start")
    return library


def _processor(device):
    if device.type != "cpu":
        return None
    packages = sorted(POWERCAP.glob("intel-rapl:[0-9]*/energy_uj"))
    # "intel-rapl:0:1" is a part of package 0, counted there
    whole = [path for path in packages if path.parent.name.count(":") == 1]
    readings = [int(path.read_text()) for path in whole]
    return sum(readings) / 1e6 if readings else None
