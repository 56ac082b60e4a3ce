"""The study of uniform cuts: all layers at one share of their ranks, in two orders."""

import copy

import pytest
import torch

import maestro
from maestro.deploy import studies, uniform
from maestro.deploy.subject import Subject
from maestro.lowrank import low_rank_layers, refactorize
from maestro.results import records
from maestro.results.sampling import BY_SVD, OWN


@pytest.fixture
def runs(studied, monkeypatch):
    """The runs of `studied`; their studies are those of uniform cuts alone."""
    monkeypatch.delitem(studies.STUDIES, "cuts")
    return studied


def test_whole_networks_are_cut(runs):
    found = records.find(runs)
    subjects = [Subject(config, found) for config in runs]
    assert [uniform.can_be_cut_evenly(s) for s in subjects] == [True, True, False]
    assert list(uniform.orders(subjects[0])) == [BY_SVD]
    assert list(uniform.orders(subjects[1])) == [OWN, BY_SVD]


def test_the_points_are_those_of_truncated_networks(runs):
    dense, lod, _ = runs
    studies.study([dense, lod])
    found = records.find([dense, lod])
    of_dense, of_lod = (found[c.id]["studies"]["uniform"] for c in (dense, lod))
    shares = [f"{share:g}" for share in uniform.SHARES]
    assert list(of_dense) == [f"SVD, {share}" for share in shares]
    assert list(of_lod)[: len(shares)] == [f"own order, {s}" for s in shares]
    subject = Subject(lod, found)
    cut = subject.network()
    full = maestro.ranks(cut)
    maestro.truncate(cut, {name: max(1, r // 2) for name, r in full.items()})
    point = of_lod["own order, 0.5"]
    assert point["parameters"] == {"order": "own order", "share": 0.5}
    assert point["test_accuracy"] == subject.evaluate(cut)["test_accuracy"]
    assert point["test_loss"] == pytest.approx(subject.evaluate(cut)["test_loss"])


def test_the_order_of_the_svd_keeps_the_function_and_the_best_columns(runs):
    subject = Subject(runs[1], records.find(runs))
    own = subject.network().double()
    svd = refactorize(copy.deepcopy(own))
    layers = low_rank_layers(svd)
    for name, layer in low_rank_layers(own).items():
        W, other = layer.matrix(), layers[name]
        torch.testing.assert_close(other.matrix(), W)
        cut = other.U[:, :2] @ other.V[:, :2].t()
        left = torch.linalg.svdvals(W)[2:].norm()
        torch.testing.assert_close((W - cut).norm(), left)
