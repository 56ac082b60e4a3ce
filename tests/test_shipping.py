"""From a run's id to a file that meets its budget; every mistake is one line."""

import pytest
import torch

import maestro
from maestro import datasets
from maestro.__main__ import main
from maestro.deploy import shipping, stored
from maestro.lowrank import low_rank_layers
from maestro.models import LeNet
from maestro.training.fit import fit


@pytest.fixture
def run(few_digits, digits_config, folders, tmp_path, monkeypatch):
    """A run by LoD of one epoch, with its weights; data/models is another folder."""
    monkeypatch.setattr(datasets, "load", lambda *_: few_digits)
    monkeypatch.setattr(stored, "MODELS", tmp_path / "models")
    monkeypatch.setattr(shipping, "BATCH", 40)
    config = digits_config(epochs=1, lambda_gl=0.0, eps_ps=0.0)
    fit(config, task=few_digits)
    return config


def deploy(capsys, *words):
    """(exit status, what was printed, the error) of the command."""
    try:
        status = main(["deploy", *map(str, words)])
    except SystemExit as error:
        status = error.code
    return status, *capsys.readouterr()


def test_a_run_becomes_a_plain_network_within_its_budget(run, tmp_path, capsys):
    out = tmp_path / "small.safetensors"
    status, said, wrong = deploy(capsys, run.id, "--macs", "0.5x", "--out", out)
    assert (status, wrong) == (0, "")
    assert "by the greedy search on 40 training images" in said
    assert f"run {run.id}" in said and "accuracy: " in said and "written: " in said
    net = maestro.load(out, LeNet()).eval()
    assert not low_rank_layers(net)
    assert maestro.footprint(net, torch.zeros(1, 1, 28, 28)).macs <= 140_820
    assert maestro.manifest(out)["about"] == {"record": run.id}


def test_a_stored_network_is_read_by_id_and_by_file(run, few_digits, tmp_path, capsys):
    path = stored.store(run)
    assert stored.networks() == {run.id: run}
    before = datasets.load("digits").evaluate(stored.read(run.id)[0])
    net, example, config = stored.read(path)
    assert config == run and example.shape == (1, 1, 28, 28) and not net.training
    assert datasets.load("digits").evaluate(net) == before
    out = tmp_path / "again.safetensors"
    assert deploy(capsys, path, "--params", 9000, "--out", out)[0] == 0
    net = maestro.load(out, LeNet())
    assert maestro.footprint(net, example).params <= 9000


def test_without_data_importances_decide_and_the_line_says_so(
    run, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(datasets, "available", lambda task: False)
    out = tmp_path / "small.pt2"
    status, said, _ = deploy(capsys, run.id, "--mb", "0.5x", "--out", out)
    assert status == 0 and "no data at hand" in said and "accuracy" not in said
    program = torch.export.load(out).module()
    assert program(torch.zeros(3, 1, 28, 28)).shape == (3, 10)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["RUN", "--macs", "10", "--out", "n.pt2"], "macs=10 cannot be met: "),
        (["RUN", "--macs", "half", "--out", "n.pt2"], "macs='half': it takes"),
        (["RUN", "--macs", "-1", "--out", "n.pt2"], "macs=-1.0: it takes"),
        (["RUN", "--macs", "1x", "--by", "luck", "--out", "n.pt2"], "by='luck': it"),
        (["RUN", "--macs", "1x", "--out", "n.zip"], "--out n.zip: it takes a name"),
        (["RUN", "--macs", "1x"], "the following arguments are required: --out"),
        (["0123456789ab", "--out", "n.pt2"], "no run '0123456789ab': "),
        (["none.safetensors", "--out", "n.pt2"], "none.safetensors: there is no such"),
        (["RUN", "--macs", "1x", "--out", "file/n.pt2"], "file"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(
    words, said, run, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way of a folder")
    status, out, error = deploy(capsys, *[w.replace("RUN", run.id) for w in words])
    assert status == 2 and out == ""
    assert error.startswith(f"error: {said}") and error.count("\n") == 1
    assert not (tmp_path / "n.pt2").exists()


def test_a_file_that_names_no_run_says_what_to_do(run, tmp_path, capsys):
    maestro.save(LeNet(), tmp_path / "own.safetensors")
    words = tmp_path / "own.safetensors", "--out", tmp_path / "n.pt2"
    error = deploy(capsys, *words)[2]
    assert "does not say which run it is of" in error and "fit_budget" in error


def test_a_run_whose_weights_are_gone_says_so(run, folders, tmp_path, capsys):
    for path in (folders.cache / "weights").iterdir():
        path.unlink()
    error = deploy(capsys, run.id, "--out", tmp_path / "n.pt2")[2]
    assert f"run {run.id} has a record but no weights" in error
