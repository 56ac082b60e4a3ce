"""The memory of a run: its peak, and what the C library keeps between steps."""

import ctypes
import itertools
import platform
from pathlib import Path

import torch

_runs = itertools.count()  # of this process


class Peak:
    """The peak memory of one run in bytes, 0 where it is unknown.

    On a CPU the system reports the peak of a process, so only the first run of a
    process has a peak of its own. A GPU can reset its peak.
    """

    def __init__(self, device):
        self.device, self.bytes = device, 0
        self.known = next(_runs) == 0 or device.type == "cuda"
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def read(self):
        """The largest peak so far, that of the resumed run's earlier processes too."""
        if self.known:
            self.bytes = max(self.bytes, peak_memory(self.device) or 0)
        return self.bytes


def peak_memory(device):
    """The peak memory in bytes; None on systems without /proc.

    On a GPU this is the peak of allocated memory since the last reset, elsewhere the
    peak of this process since its start.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:  # not getrusage, whose peak includes the parent process
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return int(fields["VmHWM"].split()[0]) * 1024


def keep_memory():
    """Let the C library keep freed memory for the next training step.

    By default glibc returns large blocks to the system at once, and the next step
    faults them in again page by page. Other C libraries are left as they are. A process
    cannot return to glibc's own settings.

    Returns whether glibc took the settings.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    options = (-3, -1, -2)  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD
    sizes = (1 << 30, 2**31 - 1, 1 << 26)
    taken = [mallopt(*pair) for pair in zip(options, sizes, strict=True)]
    return all(taken)
