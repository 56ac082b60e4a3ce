"""Device and precision of a run, and their description in its record.

A record never holds the name of the machine.
"""

import functools
import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import torch

from ..paths import ROOT

PRECISIONS = ("auto", "float32", "bfloat16")
GAIN = 1.2  # how many times quicker bfloat16 must be than float32
ERROR = 0.01  # the largest relative error of bfloat16's results


def pick_device(device):
    """The torch.device that ``device`` names.

    "auto" is CUDA if there is a CUDA device, else the CPU. Apple's GPU has no double
    precision, in which losses are summed and factors computed. Raises ValueError on
    another name or a device that is missing.
    """
    wrong = ValueError(f"device={device!r}; it is auto, cpu, cuda or cuda:1")
    if not isinstance(device, str | torch.device):
        raise wrong
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(device)
    except RuntimeError:
        raise wrong from None
    if device.type not in ("cpu", "cuda"):
        raise wrong
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("device=cuda, but PyTorch finds no CUDA device; use cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise ValueError(f"device={str(device)}, but there are {count} CUDA devices")
    return device


def check_precision(asked):
    """``asked`` if it is one of PRECISIONS; raises ValueError otherwise."""
    if asked not in PRECISIONS:
        raise ValueError(f"precision={asked!r}; it is one of {', '.join(PRECISIONS)}")
    return asked


def pick_precision(device, asked, recipe):
    """The precision of a network's maps on ``device``.

    Args:
        device: a torch.device.
        asked: one of PRECISIONS. "auto" is bfloat16 on a GPU; on a CPU the recipe
            decides.
        recipe: the Recipe. Its precision "auto" is bfloat16 where `bfloat16_pays`.

    Returns:
        "float32" or "bfloat16".

    Raises:
        ValueError: ``asked`` is not one of PRECISIONS.
    """
    if check_precision(asked) != "auto":
        return asked
    on_cpu = device.type == "cpu" and recipe.precision == "auto" and bfloat16_pays()
    return "bfloat16" if on_cpu or device.type == "cuda" else "float32"


@functools.cache
def bfloat16_pays():
    """Whether this CPU has bfloat16 instructions that are correct and fast.

    In some releases of PyTorch, convolutions in bfloat16 were wrong or many times
    slower on some processors. A convolution is therefore tried for a second, forward
    and backward.
    """
    if not {"avx512_bf16", "amx_bf16"} & _cpu_flags():
        return False
    error, gain = _try_bfloat16()
    return error <= ERROR and gain >= GAIN


def _try_bfloat16(seconds=1.0):
    """(largest relative error, speed-up over float32) of a bfloat16 convolution."""
    generator = torch.Generator().manual_seed(0)
    x, weight, gradient = (
        torch.randn(*shape, generator=generator).to(memory_format=torch.channels_last)
        for shape in ((64, 64, 16, 16), (64, 64, 3, 3), (64, 64, 16, 16))
    )

    def run(kind):
        args = [t.to(kind).requires_grad_() for t in (x, weight)]
        start = time.perf_counter()
        out = torch.nn.functional.conv2d(*args, padding=1)
        grads = torch.autograd.grad(out, args, gradient.to(kind))
        elapsed = time.perf_counter() - start
        return elapsed, [t.detach().float() for t in (out, *grads)]

    (_, exact), (_, rounded) = run(torch.float32), run(torch.bfloat16)
    error = max(
        ((a - b).norm() / a.norm()).item() for a, b in zip(exact, rounded, strict=True)
    )
    times, end = ([], []), time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 3:
        for column, kind in zip(times, (torch.float32, torch.bfloat16), strict=True):
            column.append(run(kind)[0])
    # the minimum, because other processes can only add time
    return error, min(times[0]) / min(times[1])


def device_name(device):
    """'CPU', or the model of the GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return device.type.upper()


def processor():
    """The CPU's model and the instructions that PyTorch uses: 'AMD EPYC, AVX512'.

    The bfloat16 instructions of the CPU are added, because `bfloat16_pays` needs them.
    """
    model = _cpu_info().get("model name") or platform.processor() or platform.machine()
    used = [torch.backends.cpu.get_cpu_capability()]
    used += [name for name in ("avx512_bf16", "amx_bf16") if name in _cpu_flags()]
    return ", ".join([model, *used])


def _cpu_flags():
    return set(_cpu_info().get("flags", "").split())


def _cpu_info():
    """Linux's description of the first core, {name: value}; empty on other systems."""
    try:
        info = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return {}
    fields = dict(line.split("\t", 1) for line in info.splitlines() if "\t" in line)
    return {name.strip(): value.strip("\t: ") for name, value in fields.items()}


def ran_on(device, precision):
    """The record's field ran_on: device, processor, threads, precision, versions."""
    return {
        "device": device_name(device),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "precision": precision,
        "torch": torch.__version__.split("+")[0],
        **made(),
    }


def made():
    """The current commit and date, for a record."""
    return {"commit": commit(), "date": datetime.now(UTC).date().isoformat()}


def commit():
    """The package's commit, with "+" for uncommitted changes.

    Without git it is that of the variable MAESTRO_COMMIT, or None.
    """
    git = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, check=True
        ).stdout.decode()
        changed = subprocess.run(
            [*git, "status", "--porcelain", "maestro"], capture_output=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("MAESTRO_COMMIT")
    return head.strip() + ("+" if changed else "")
