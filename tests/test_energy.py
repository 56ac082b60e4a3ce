"""Energy as the device tells it, and nothing where it does not."""

import sys
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
    """One card, at 12.5 kJ, as nvidia-ml-py shows it."""

    class NVMLError(Exception):
        pass

    library = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID={"GPU-1234-ab": "card"}.__getitem__,
        nvmlDeviceGetTotalEnergyConsumption={"card": 12_500_000}.__getitem__,
    )
    one = SimpleNamespace(uuid="1234-ab")
    monkeypatch.setitem(sys.modules, "pynvml", library)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: one)
    return library


def test_a_card_is_asked_by_its_identity(card):
    assert energy.joules(CUDA) == 12_500


def test_a_card_that_does_not_count_gives_none(card):
    def unsupported(handle):
        raise card.NVMLError("Not Supported")

    card.nvmlDeviceGetTotalEnergyConsumption = unsupported
    assert energy.joules(CUDA) is None


def test_a_machine_without_the_library_gives_none(card, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)  # importing it fails
    assert energy.joules(CUDA) is None


def test_the_meter_keeps_training_evaluation_and_the_rest_apart(monkeypatch):
    clock, counter = iter([0, 2, 7, 10, 11.0]), iter([5.0, 8.0, 9.0, 1.0])
    monkeypatch.setattr(energy.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(energy, "joules", lambda device: next(counter))
    meter = energy.Meter(torch.device("cpu"))
    meter.start()
    meter.read("training")  # 2 s, then a checkpoint is written for 5 s
    state = meter.state_dict()  # 3 J
    meter.start()
    meter.read("training")
    meter.read("evaluation")
    assert meter.figures() == {"seconds": 5, "evaluation_seconds": 1, "joules": 4}
    resumed = energy.Meter(torch.device("cpu"))
    resumed.load_state_dict(state)
    assert resumed.seconds == {"training": 2, "evaluation": 0} and resumed.joules == 3


def test_a_counter_that_starts_anew_takes_nothing_away(monkeypatch):
    counter = iter([50.0, 2.0, 5.0])
    monkeypatch.setattr(energy, "joules", lambda device: next(counter))
    meter = energy.Meter(torch.device("cpu"))
    meter.start()
    meter.read_energy()
    meter.read_energy()
    assert meter.joules == 3
