"""Devices are found by name or refused in words; a record says what it ran on."""

import math

import pytest
import torch

from maestro.training import machine


def test_a_device_that_is_not_there_is_told():
    assert machine.pick_device("cpu").type == "cpu"
    with pytest.raises(ValueError, match="device='gpu'; it is auto, cpu, cuda, "):
        machine.pick_device("gpu")
    for wrong in (None, 0, True, 1.5, "", "meta", "xpu", "cuda:x", "cpu,cuda"):
        with pytest.raises(ValueError, match="device=.*; it is auto, cpu, cuda, "):
            machine.pick_device(wrong)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no CUDA device; use cpu"):
            machine.pick_device("cuda")


def test_a_record_says_what_it_ran_on():
    told = machine.ran_on(torch.device("cpu"), "float32")
    assert told["device"] == "CPU" and told["threads"] == 1
    assert torch.backends.cpu.get_cpu_capability() in told["processor"]
    assert told["torch"] == torch.__version__.split("+")[0]
    assert told["peak_memory"] > 10_000_000 and math.isfinite(told["peak_memory"])
