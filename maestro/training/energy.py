"""The time that an epoch took, and the energy, where the device reports it.

NVIDIA cards count the energy of the whole card (NVML), Intel and AMD processors that of
the package (Linux's powercap, which many systems let only root read). Runs that share a
device see each other's share.
"""

import ctypes
import time
from functools import cache
from pathlib import Path

import torch

POWERCAP = Path("/sys/class/powercap")


class Meter:
    """Seconds and joules of one epoch; training and evaluation apart.

    What lies between a reading and the next `start`, such as writing a checkpoint, is
    in neither.
    """

    def __init__(self, device):
        self.device = device
        self.seconds = {"training": 0.0, "evaluation": 0.0}
        self.joules, self.last = 0.0, None  # the counter as last read, None without one

    def start(self):
        """Start the clock."""
        self.started = time.perf_counter()
        if self.last is None:
            self.last = joules(self.device)

    def read(self, part):
        """Add the time since `start` or the last reading to ``part``."""
        now = time.perf_counter()
        self.seconds[part] += now - self.started
        self.started = now

    def read_energy(self):
        """Add the energy since the last reading."""
        now = joules(self.device)
        if None not in (now, self.last):
            self.joules += max(0.0, now - self.last)  # a counter may start anew
        self.last = now

    def figures(self):
        """The epoch's columns of the history."""
        self.read_energy()
        figures = {
            "seconds": round(self.seconds["training"], 3),
            "evaluation_seconds": round(self.seconds["evaluation"], 3),
        }
        if self.last is not None:
            figures["joules"] = round(self.joules, 1)
        return figures

    def state_dict(self):
        self.read_energy()
        return {"seconds": dict(self.seconds), "joules": self.joules}

    def load_state_dict(self, state):
        self.seconds, self.joules = dict(state["seconds"]), state["joules"]


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
