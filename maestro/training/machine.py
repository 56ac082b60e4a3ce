"""The machine as a record tells of it: device, versions, memory; never its name."""

import platform
import resource
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import torch

from ..paths import ROOT


def pick_device(device):
    """A torch.device; "auto" is CUDA, else Apple's GPU, else the CPU.

    Raises ValueError on what PyTorch does not know or this machine does not have.
    """
    wrong = ValueError(f"device={device!r}; it is auto, cpu, cuda, cuda:1 or mps")
    if not isinstance(device, str | torch.device):
        raise wrong
    if device == "auto":
        device = "cpu"
        if torch.backends.mps.is_available():
            device = "mps"
        if torch.cuda.is_available():
            device = "cuda"
    try:
        device = torch.device(device)
    except RuntimeError:
        raise wrong from None
    if device.type not in ("cpu", "cuda", "mps"):
        raise wrong
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("device=cuda, but PyTorch finds no CUDA device; use cpu")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("device=mps, but PyTorch finds no GPU of Apple's; use cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        there = torch.cuda.device_count()
        raise ValueError(f"device={str(device)}, but there are {there} CUDA devices")
    return device


def device_name(device):
    """'CPU', or the model of the GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return device.type.upper()


def processor():
    """The CPU's model and the instructions that PyTorch uses: 'AMD EPYC, AVX512'.

    bfloat16 instructions are named where the CPU has them, because they decide whether
    a lower precision pays.
    """
    try:
        info = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:  # not Linux
        info = ""
    fields = dict(line.split("\t", 1) for line in info.splitlines() if "\t" in line)
    fields = {name.strip(): value.strip("\t: ") for name, value in fields.items()}
    model = fields.get("model name") or platform.processor() or platform.machine()
    flags = set(fields.get("flags", "").split())
    used = [torch.backends.cpu.get_cpu_capability()]
    used += [name for name in ("avx512_bf16", "amx_bf16") if name in flags]
    return ", ".join([model, *used])


def ran_on(device, precision):
    """What a run ran on: device, torch, threads, commit, date, peak memory (bytes)."""
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "device": device_name(device),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "precision": precision,
        "torch": torch.__version__.split("+")[0],
        "commit": commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "peak_memory": peak,
    }


def commit():
    """The package's commit, with "+" if its files differ from it; None without git."""
    git = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, check=True
        ).stdout.decode()
        changed = subprocess.run(
            [*git, "status", "--porcelain", "maestro"], capture_output=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.strip() + ("+" if changed else "")
