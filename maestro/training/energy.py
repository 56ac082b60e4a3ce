"""The time that an epoch took, and the energy, where the device reports it.

NVIDIA cards count the energy of the whole card (NVML), Intel and AMD processors that of
the package (Linux's powercap, which many systems let only root read). Runs that share a
device see each other's share.
"""

import time
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

    Only the difference of two readings means something. None where the device has no
    counter, or the system does not let this process read it.
    """
    if device.type == "cuda":
        return _card(device)
    try:
        return _processor(device)
    except OSError:  # no permission
        return None


def _card(device):
    try:
        import pynvml
    except ImportError:  # nvidia-ml-py is not a dependency: training does without
        return None
    # by its identity: CUDA and NVML number the cards differently
    identity = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    try:
        pynvml.nvmlInit()
        card = pynvml.nvmlDeviceGetHandleByUUID(identity)
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(card) / 1e3
    except pynvml.NVMLError:  # no library, or a card that does not count
        return None


def _processor(device):
    if device.type != "cpu":
        return None
    packages = sorted(POWERCAP.glob("intel-rapl:[0-9]*/energy_uj"))
    # "intel-rapl:0:1" is a part of package 0, counted there
    whole = [path for path in packages if path.parent.name.count(":") == 1]
    readings = [int(path.read_text()) for path in whole]
    return sum(readings) / 1e6 if readings else None
