"""The study of cuts: every search at every budget, reported as it is."""

import copy
import math

import pytest
import torch

import maestro
from maestro.deploy import cuts, studies
from maestro.deploy.cuts import SEARCHES, Cut, Paths
from maestro.deploy.subject import Subject
from maestro.results import records
from maestro.training.loop import Training


@pytest.fixture
def runs(studied, monkeypatch):
    """The runs of `studied`, with few cuts to study."""
    monkeypatch.setattr(cuts, "SHARES", {"macs": (0.6,), "params": (1 / 3, 0.01)})
    small = cuts.Extent(images=40)
    monkeypatch.setattr(cuts, "ON_CPU", cuts.ON_CPU | {1e6: small})
    return studied


def test_dense_runs_and_those_without_a_lasso_are_cut(runs):
    found = records.find(runs)
    assert [cuts.can_be_cut(Subject(c, found)) for c in runs] == [True, True, False]
    assert list(cuts.sources(Subject(runs[0], found))) == ["SVD", "SVD, data-aware"]
    assert list(cuts.sources(Subject(runs[1], found))) == ["LoD", "LoD, data-aware"]


@pytest.mark.parametrize(
    "most, searches",
    [
        (281_640, {"loss per mac", "share of energy"}),
        (281_639, {"share of energy"}),
    ],
)
def test_a_cpu_cuts_a_large_network_by_few_searches(runs, monkeypatch, most, searches):
    _, *others = cuts.ON_CPU.values()
    limits = dict(zip((most, math.inf), others, strict=True))
    monkeypatch.setattr(cuts, "ON_CPU", limits)
    points = dict(cuts.cuts(Subject(runs[0], records.find(runs), "cpu")))
    made = {
        (p["parameters"]["search"], p["parameters"]["unit"]) for p in points.values()
    }
    assert made == {(search, "macs") for search in searches}


def test_the_points_are_those_of_truncated_networks(runs, few_digits):
    dense, lod, _ = runs
    studies.study([dense, lod])
    for config, source in ((dense, "SVD"), (lod, "LoD")):
        points = records.find([config])[config.id]["studies"]["cuts"]
        # of the two sources, at 0.6 of the MACs and a third of the parameters; no
        # network has a hundredth
        assert len(points) == 2 * 2 * len(SEARCHES)
        subject = Subject(config, records.find([config]))
        network = cuts.sources(subject)[source]
        data = cuts.batch(subject, 40)
        paths = Paths(network, data, few_digits.example)
        for search in ("loss per parameter", "plan", "thresholds"):
            cut = Cut(source, search, "params", 1 / 3)
            point, small = points[str(cut)], copy.deepcopy(network)
            assert point["parameters"] == cut._asdict() | {"lazy": False, "images": 40}
            maestro.truncate(small, paths.ranks(cut))
            counted = maestro.footprint(small, few_digits.example, merged=True)
            assert (point["params"], point["macs"]) == counted
            assert point["params"] <= 44_426 / 3
            figures = few_digits.evaluate(small.eval())
            assert point["test_loss"] == pytest.approx(figures["test_loss"], rel=1e-5)
    assert studies.study([dense, lod]) == 0  # nothing is made twice


def test_batch_norm_is_estimated_anew_for_every_cut(runs, monkeypatch):
    seen = []
    monkeypatch.setattr(
        Training, "_recalibrate", lambda training, *a: seen.append(training.model)
    )
    subject = Subject(runs[0], records.find(runs))
    points = dict(cuts.cuts(subject, known=()))
    assert 0 < len(seen) <= len(points)
    assert not any(net is subject.training.model for net in seen)


def test_every_cut_has_a_name_of_its_own():
    names = [str(cut) for cut in cuts.every_cut("SVD", cuts.Extent())]
    assert len(set(names)) == len(names)


def test_the_network_of_a_run_stays_as_it_is(runs):
    subject = Subject(runs[1], records.find(runs))
    before = copy.deepcopy(subject.training.model.state_dict())
    list(cuts.cuts(subject, known=()))
    for name, value in subject.training.model.state_dict().items():
        assert torch.equal(value, before[name])
    assert isinstance(subject.training, Training)
