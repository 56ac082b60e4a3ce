"""Devices are found by name or refused in words; a record says what it ran on."""

import pytest
import torch

from maestro.config import Recipe
from maestro.training import machine


def test_a_device_that_is_not_there_is_told():
    assert machine.pick_device("cpu").type == "cpu"
    with pytest.raises(ValueError, match="device='gpu'; it is auto, cpu, cuda or"):
        machine.pick_device("gpu")
    for wrong in (None, 0, True, 1.5, "", "meta", "xpu", "cuda:x", "cpu,cuda"):
        with pytest.raises(ValueError, match="device=.*; it is auto, cpu, cuda or"):
            machine.pick_device(wrong)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no CUDA device; use cpu"):
            machine.pick_device("cuda")


def test_a_record_says_what_it_ran_on():
    told = machine.ran_on(torch.device("cpu"), "float32")
    assert told["device"] == "CPU" and told["threads"] == torch.get_num_threads()
    assert torch.backends.cpu.get_cpu_capability() in told["processor"]
    assert told["torch"] == torch.__version__.split("+")[0]
    assert told.items() >= machine.made().items()


def test_the_precision_is_the_recipes_on_a_cpu_unless_one_is_asked_for(monkeypatch):
    monkeypatch.setattr(machine, "bfloat16_pays", lambda: True)
    always, where_it_pays = (
        Recipe(1, 1, 0.1, precision=p) for p in ("float32", "auto")
    )
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert machine.pick_precision(cpu, "auto", always) == "float32"
    assert machine.pick_precision(cpu, "auto", where_it_pays) == "bfloat16"
    assert machine.pick_precision(cuda, "auto", always) == "bfloat16"
    assert machine.pick_precision(cuda, "float32", where_it_pays) == "float32"
    assert machine.pick_precision(cpu, "bfloat16", always) == "bfloat16"
    monkeypatch.setattr(machine, "bfloat16_pays", lambda: False)
    assert machine.pick_precision(cpu, "auto", where_it_pays) == "float32"
    with pytest.raises(
        ValueError, match="precision='bf16'; it is one of auto, float32"
    ):
        machine.pick_precision(cpu, "bf16", always)


@pytest.mark.parametrize(
    ("flags", "tried", "pays"),
    [
        ({"avx512_bf16"}, (0.003, 1.9), True),
        ({"amx_bf16"}, (0.003, 2.9), True),
        ({"avx512_bf16"}, (0.003, 1.1), False),  # hardly quicker
        ({"avx512_bf16"}, (0.5, 1.9), False),  # wrong
        ({"avx2"}, None, False),  # no instructions: not even tried
    ],
)
def test_bfloat16_pays_where_it_is_right_and_quick(flags, tried, pays, monkeypatch):
    monkeypatch.setattr(machine, "_cpu_flags", lambda: flags)
    monkeypatch.setattr(machine, "_try_bfloat16", lambda: tried)
    assert machine.bfloat16_pays.__wrapped__() == pays


def test_trying_bfloat16_finds_its_rounding():
    """Where it is right; on some processors it is not, and that is found."""
    error, gain = machine._try_bfloat16(seconds=0)
    assert error > 1e-4 and gain > 0


def test_without_git_the_commit_is_that_of_the_variable(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "ROOT", tmp_path / "unpacked")
    monkeypatch.delenv("MAESTRO_COMMIT", raising=False)
    assert machine.commit() is None
    monkeypatch.setenv("MAESTRO_COMMIT", "0123456789")
    assert machine.commit() == "0123456789"
