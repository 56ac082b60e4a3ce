"""The peak memory of a run, and what the C library keeps between steps."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from maestro.training import memory


def test_memory_is_kept_where_the_c_library_is_glibc(monkeypatch):
    assert memory.keep_memory() == (platform.libc_ver()[0] == "glibc")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not memory.keep_memory()


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="no /proc here")
def test_a_process_that_is_started_by_a_large_one_has_its_own_peak():
    held = torch.ones(300_000_000, dtype=torch.uint8)
    ours = memory.peak_memory(torch.device("cpu"))
    assert ours > len(held)
    code = (
        "from maestro.training.memory import peak_memory\n"
        "import torch\n"
        "before = peak_memory(torch.device('cpu'))\n"
        "held = torch.ones(100_000_000, dtype=torch.uint8)\n"
        "print(before, peak_memory(torch.device('cpu')))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert before < ours
    assert after > before and after >= 100_000_000


def test_where_the_system_does_not_report_it_there_is_no_peak(monkeypatch):
    def refuse(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(memory.Path, "read_text", refuse)
    assert memory.peak_memory(torch.device("cpu")) is None
