"""The benchmark measures what it says, and writes what maestro.measured reads."""

import json
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import maestro
from maestro import methods
from maestro.paths import ROOT
from maestro.results import speed

sys.path.insert(0, str(ROOT / "benchmarks"))
import bench
import timing
import ways
from settings import SETTINGS

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def lenet():
    torch.manual_seed(0)
    return bench.bench("lenet", CPU, rounds=2)


def test_what_is_written_is_what_is_read(lenet, tmp_path, capsys):
    path = tmp_path / "cpu.json"
    bench.write(path, "lenet", dict(lenet), CPU)
    bench.show("lenet", lenet)
    shown = capsys.readouterr().out
    assert "lod       25% of ranks" in shown and "page faults a step" in shown
    assert "lod 0.25, bfloat16, memory kept" in shown
    read = speed.load("cpu", tmp_path)
    assert speed.ran_on(read).startswith("CPU, ")
    rows = speed.rows(read)
    assert list(rows.kind) == ["dense", "lod", "lod", "lod", "lod"]
    assert rows.step[0] == rows.macs[0] == rows.memory[0] == 1
    assert (rows.macs[1:].diff()[1:] < 0).all() and (rows.step > 0).all()
    assert len(speed.training_table(read, "lenet", 64)) == 4
    assert set(speed.parts(read, "lenet").columns[1:]) == {
        f"LoD, {share}" for share in speed.SHARES.values()
    }
    assert (speed.lassos(read).loc["LeNet"] > 0).all()
    assert speed.ways(read).loc["LeNet", "cases"] == 5 * len(ways.SHARES)


def test_the_settings_are_timed_against_the_dense_step_in_float32(lenet):
    settings = lenet["settings"]
    assert list(settings) == ["dense", "lod 0.25"]
    assert settings["dense"]["float32"]["ratio"] == 1
    for each in settings.values():
        assert list(each) == list(SETTINGS)
        assert all(took["ms"] > 0 for took in each.values())
    table = speed.settings({"models": {"lenet": lenet}})
    assert list(table.index) == [("LeNet", name) for name in SETTINGS]
    assert table.loc[("LeNet", "float32"), "dense"] == "1.00"
    without = {"models": {"lenet": {"rows": []}}}
    assert speed.settings(without).empty


def test_the_compact_network_is_measured_as_it_is_trained():
    nets, fields, _ = bench.networks("compact", CPU)
    layers = maestro.low_rank_layers(nets["lod 0.25"])
    assert "whiten" not in layers and len(layers) == 7
    assert {row["width"] for row in fields.values() if "width" in row} < set(range(65))


def test_a_gpus_steps_are_replayed_and_launched(recorder):
    """As far as it goes without one."""
    told = bench.bench("lenet", CPU, 2, recorder)
    assert all(
        row["launched"]["ms"] > 0 and row["step"]["ms"] > 0 for row in told["rows"]
    )
    assert recorder.recorded > 5  # the steps, and both ways of every layer
    rows = speed.rows({"models": {"lenet": told}})
    assert (rows.launched > 0).all()


def test_other_networks_stay_if_they_are_of_the_same_machine(lenet, tmp_path):
    path = tmp_path / "cpu.json"
    bench.write(path, "lenet", dict(lenet), CPU)
    bench.write(path, "vgg19", dict(lenet), CPU)
    content = json.loads(path.read_text())
    assert list(content["models"]) == ["vgg19", "lenet"]  # always in one order
    content["ran_on"]["threads"] += 1
    path.write_text(json.dumps(content))
    bench.write(path, "lenet", dict(lenet), CPU)
    assert list(json.loads(path.read_text())["models"]) == ["lenet"]


def test_nothing_tells_of_the_machine_but_its_kind(lenet, tmp_path):
    bench.write(tmp_path / "cpu.json", "lenet", dict(lenet), CPU)
    told = json.loads((tmp_path / "cpu.json").read_text())["ran_on"]
    assert set(told) == {"device", "processor", "threads", "precision", "torch"}


def test_a_step_is_lods_only_if_the_network_is_factorised():
    subject = bench.SUBJECTS["lenet"]
    data = subject.data(4, CPU)
    dense = bench.build("lenet")
    step = bench.Step(dense, subject, data)
    assert type(step.method) is methods.Dense
    before = [p.detach().clone() for p in dense.parameters()]
    step()
    assert not any(map(torch.equal, before, dense.parameters()))
    assert all(p.grad is None for p in dense.parameters())
    step = bench.Step(maestro.factorize(dense), subject, data)
    step()
    assert step.parts()["lasso"] > 0


def test_memory_counts_weights_three_times_and_what_is_kept():
    net = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 5)).double()
    data = (torch.randn(8, 10).double(),), torch.randint(5, (8,))
    step = bench.Step(net, bench.SUBJECTS["lenet"], data)
    step()  # for the optimiser's state
    weights = sum(p.numel() for p in net.parameters())
    # input, hidden values before or after ReLU, log-probabilities, labels
    kept = 8 * (8 * 10 + 8 * 20 + 8 * 5 + 8)
    assert 3 * 8 * weights + kept <= step.memory() <= 3 * 8 * weights + 1.2 * kept + 64


def test_the_narrow_network_has_as_many_macs():
    dense = maestro.footprint(bench.build("vgg19"), bench.example("vgg19")).macs
    assert bench.narrow("vgg19", dense) == 64
    width = bench.narrow("vgg19", dense / 4)
    net = bench.build("vgg19", width)
    found = maestro.footprint(net, bench.example("vgg19")).macs
    assert found == pytest.approx(dense / 4, rel=0.05)


def test_work_is_that_of_the_ways_that_are_taken():
    net = maestro.factorize(nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 16)))
    few, many = torch.randn(2, 32), torch.randn(500, 32)
    assert ways.work(net, (few,)) == 2 * (32 * 64 + 16 * 48)
    assert ways.work(net, (many,)) == 532 * 32 * 32 + 516 * 32 * 16


def test_outputs_are_made_sixteen_at_a_time():
    net = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.Flatten(), nn.Linear(96, 17))
    assert ways.made(net, (torch.randn(1, 3, 4, 4),)) == 16 * 27 * 16 + 96 * 32


def test_both_ways_are_timed():
    net = maestro.factorize(nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 32)))
    cases = ways.check(net, (torch.randn(500, 32),), 2, CPU)
    assert [case["rank"] for case in cases] == [32, 24, 16, 8]  # one shape, once
    assert [case["product"] for case in cases] == [True, True, False, False]
    assert all(case["product_ms"] > 0 and case["two_ms"] > 0 for case in cases)


def test_ratios_are_of_the_same_round():
    times = {"dense": [1.0, 2.0, 4.0], "lod": [0.5, 1.0, 8.0]}
    assert bench.summary(times)["lod"]["ratio"] == 0.5
    assert bench.summary(times)["dense"]["ratio"] == 1


def test_one_round_has_a_ratio_and_no_spread():
    row = bench.summary({"dense": [2.0], "lod": [1.0]})["lod"]
    assert (row["low"], row["ratio"], row["high"]) == (0.5, 0.5, 0.5)


def test_short_calls_are_repeated(monkeypatch):
    """By a clock on which a call takes a millisecond, and nothing else any time."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("time.perf_counter", lambda: clock.now)

    def call():
        clock.now += 1e-3

    times = timing.race({"one": call}, 3, CPU)
    assert times["one"] == pytest.approx(3 * [1e-3])
    calls = round(clock.now / 1e-3)
    assert calls == 2 + 1 + 3 * (1 + int(timing.SLICE / 1e-3))
