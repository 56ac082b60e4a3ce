"""Energy as the device tells it, and nothing where it does not."""

import ctypes
from types import SimpleNamespace

import pytest
import torch

from maestro.training import energy

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def powercap(tmp_path, monkeypatch):
    """Two packages, one with a part that is counted already."""
    for name, value in (("0", 5_000_000), ("0:0", 4_000_000), ("1", 2_500_000)):
        folder = tmp_path / f"intel-rapl:{name}"
        folder.mkdir()
        (folder / "energy_uj").write_text(f"{value}\n")
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    return tmp_path


def test_packages_of_a_processor_are_added(powercap):
    assert energy.joules(CPU) == 7.5


def test_without_a_counter_there_is_no_figure(powercap, monkeypatch):
    assert energy.joules(torch.device("mps")) is None
    monkeypatch.setattr(energy, "POWERCAP", powercap / "none")
    assert energy.joules(CPU) is None


def test_a_counter_that_may_not_be_read_is_none(powercap, monkeypatch):
    def refuse(path):
        raise PermissionError(path)

    monkeypatch.setattr("pathlib.Path.read_text", refuse)
    assert energy.joules(CPU) is None


@pytest.fixture
def card(monkeypatch):
    """A library that knows one card, at 12.5 kJ."""
    asked = SimpleNamespace(uuid=None)

    class Library:
        def nvmlDeviceGetHandleByUUID(self, name, handle):
            asked.uuid = name
            return 0

        def nvmlDeviceGetTotalEnergyConsumption(self, handle, value):
            ctypes.cast(value, ctypes.POINTER(ctypes.c_ulonglong))[0] = 12_500_000
            return 0

    one = SimpleNamespace(uuid="1234-ab")
    monkeypatch.setattr(energy, "_nvml", Library)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: one)
    return SimpleNamespace(library=Library, asked=asked)


def test_a_card_is_asked_by_its_identity(card):
    assert energy.joules(CUDA) == 12_500
    assert card.asked.uuid == b"GPU-1234-ab"


def test_a_card_that_does_not_count_gives_none(card, monkeypatch):
    def unsupported(library, handle, value):
        return 3

    monkeypatch.setattr(
        card.library, "nvmlDeviceGetTotalEnergyConsumption", unsupported
    )
    assert energy.joules(CUDA) is None


def test_a_machine_without_the_library_gives_none(card, monkeypatch):
    def missing():
        raise OSError("libnvidia-ml.so.1: cannot open shared object file")

    monkeypatch.setattr(energy, "_nvml", missing)
    assert energy.joules(CUDA) is None
