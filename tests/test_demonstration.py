"""What the chapter does live is what it says, with a network and without one."""

import pytest
from torch import nn

import maestro
from maestro import datasets
from maestro.deploy import demonstration, stored
from maestro.deploy.subject import factorised
from maestro.training.fit import fit


@pytest.fixture
def models(few_digits, digits_config, folders, tmp_path, monkeypatch):
    """data/models with one network by LoD, of three epochs on digits."""
    monkeypatch.setattr(datasets, "load", lambda *_: few_digits)
    monkeypatch.setattr(stored, "MODELS", tmp_path)
    config = digits_config(epochs=3, lambda_gl=0.0, eps_ps=0.0)
    fit(config, task=few_digits)
    stored.store(config)
    monkeypatch.setitem(stored.IMAGES, "mnist", stored.Images(60, (0.1307, 0.3081)))
    stored.store_images("mnist", few_digits)
    return tmp_path


def test_the_search_is_checked_live(models):
    found = demonstration.searched(0.4)
    right = [key for key in found.statements if "images right" in key]
    assert all(holds for key, holds in found.statements.items() if key not in right)
    assert "whole network: 44,426 parameters" in str(found)


def test_a_cut_is_undone_and_a_file_is_smaller(models):
    cut = demonstration.reversible()
    assert cut.holds and "macs=1 cannot be met" in str(cut)
    assert demonstration.round_trip().holds


def test_without_a_network_the_chapter_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "MODELS", tmp_path / "none")
    for show in (demonstration.reversible, demonstration.round_trip):
        assert "python -m maestro.deploy.stored" in str(show())
    assert "no network is stored yet" in str(demonstration.searched(0.5))


def test_images_are_stored_as_they_are(models, few_digits):
    task = stored.some_mnist()
    assert (len(task), len(task.test[1])) == (60, 60)
    assert (task.train[0] == few_digits.train[0][:60]).all()


def test_the_stored_network_for_cifar_is_cut_without_data():
    assert demonstration.cut_without_data().holds


def test_layers_that_were_not_trained_stay_as_they_are():
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    net[0].weight.requires_grad_(False)
    assert list(maestro.ranks(factorised(net))) == ["2"]
    assert isinstance(net[0], nn.Linear)
