"""Measured times as shares of the dense network's, each in its own setting."""

import json

import pytest

from maestro import figures
from maestro.paths import ROOT
from maestro.results import times


@pytest.fixture
def measured(tmp_path):
    """Two settings."""
    rows = []
    for batch, ms in ((1, 1.5), (64, 15.0)):
        where = {"runtime": "PyTorch", "threads": 1, "batch": batch}
        cut = {"ranks": "as they are", "share": 0.5, "macs": 50, "dense_macs": 100}
        rows.append(where | cut | {"ms": ms, "ratio": 0.75})
    content = json.dumps(
        {
            "ran_on": {"processor": "a CPU", "torch": "2"},
            "networks": {"LeNet": {"rows": rows}},
        }
    )
    (tmp_path / "latency.json").write_text(content)
    return tmp_path


def test_shares_are_of_the_dense_network_in_the_same_setting(measured):
    rows = times.load(measured)
    assert list(rows.time_share) == [0.75, 0.75] and list(rows.macs_share) == [0.5, 0.5]
    assert times.ran_on(measured) == "a CPU, PyTorch 2"
    panels = times.panels(rows, "LeNet")
    assert list(panels) == ["PyTorch,\n1 image", "PyTorch,\n64 images"]
    assert panels["PyTorch,\n1 image"] == [("as they are", [0.5], [0.75])]
    table = times.ranges(rows, ["LeNet"])
    assert list(table.index) == [("LeNet", "PyTorch", 1)]
    assert list(table["as they are"]) == ["0.75 to 0.75"]
    assert figures.time_against_macs(panels).axes


def test_what_was_not_measured_is_said(tmp_path):
    rows = times.load(tmp_path)
    assert times.ran_on(tmp_path) == "not measured yet"
    assert rows is None and times.panels(rows, "LeNet") == {}
    assert times.ranges(rows, ["LeNet"]) == "not measured yet"
    fig = figures.time_against_macs({})
    assert "not measured yet" in [text.get_text() for text in fig.axes[0].texts]


def test_curves_of_cuts_are_drawn_as_errors():
    x, accuracy = [100, 50], [99.0, 97.0]
    series = [("a", x, accuracy, [0.1, 0.2], False), ("b", x, accuracy, [0, 0], True)]
    fig = figures.cut_curves(series, "MACs", reference=(100, 99.1))
    lines = [line for line in fig.axes[0].lines if len(line.get_xdata()) == 2]
    assert [3.0, 1.0] in [list(line.get_ydata()) for line in lines]
    empty = figures.cut_curves([("a", [], [], [], False)], "MACs")
    assert "not run yet" in [text.get_text() for text in empty.axes[0].texts]


def test_what_the_benchmark_writes_is_read(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import latency

    monkeypatch.setattr(latency, "SHARES", (0.25,))
    monkeypatch.setattr(latency, "cores", lambda: 1)
    argv = ["latency.py", "--only", "lenet", "--rounds", "2", "--out"]
    monkeypatch.setattr("sys.argv", [*argv, str(tmp_path / "latency.json")])
    latency.main()
    rows = times.load(tmp_path)
    assert len(rows) == len(latency.KINDS) * 2 * 2 and set(rows.share) == {0.25}
    assert (rows.low <= rows.time_share).all() and (rows.time_share <= rows.high).all()
    assert (rows.macs_share[rows.ranks == "as they are"] < 0.5).all()
    table = times.ranges(rows, ["LeNet"])
    assert list(table.columns) == list(latency.KINDS)
