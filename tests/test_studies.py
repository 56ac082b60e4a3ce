"""Studies of trained weights: right, kept in the record, and made once."""

import sys
import threading
import time
from dataclasses import replace

import pytest
import torch
from test_translation import language

from maestro import datasets, lowrank, methods
from maestro.campaign import RunsFailed, experiments
from maestro.config import Recipe, RunConfig
from maestro.datasets import TranslationTask
from maestro.datasets.images import six_views
from maestro.deploy import studies
from maestro.deploy.subject import Subject
from maestro.results import records
from maestro.training.checkpoints import weights_path
from maestro.training.fit import fit
from maestro.training.loop import Training
from maestro.training.machine import made


@pytest.fixture
def cut_runs(few_digits, digits_config, folders, monkeypatch):
    """Two finished runs on digits: one without a lasso, and the donor of its ranks."""
    monkeypatch.setattr(datasets, "load", lambda *_: few_digits)
    for name in ("cuts", "uniform"):  # which have tests of their own
        monkeypatch.delitem(studies.STUDIES, name)
    configs = [digits_config(epochs=2, lambda_gl=value) for value in (0.0, 3e-3)]
    for config in configs:
        fit(config, task=few_digits)
    return configs


def studies_of(config):
    return records.find([config])[config.id]["studies"]


def test_the_network_without_a_lasso_is_cut_to_the_others_ranks(cut_runs):
    whole, donor = cut_runs
    assert studies.study(cut_runs) == 1
    [(name, point)] = studies_of(whole)["ranks_of"].items()
    assert name == donor.id
    assert point["parameters"] == {"lambda_gl": 3e-3, "eps_ps": 0.1}
    assert point.items() >= made().items()
    assert studies_of(donor) == {}
    donors = records.find([donor])[donor.id]["final"]
    assert (point["params"], point["macs"]) == (donors["params"], donors["macs"])

    net = Training(whole)
    net.restore_network(torch.load(weights_path(whole), weights_only=True))
    lowrank.truncate(net.model, records.find([donor])[donor.id]["ranks"][-1][1])
    assert point["test_accuracy"] == net.evaluate()["test_accuracy"]


def test_after_the_deadline_no_point_is_begun(cut_runs):
    whole, _ = cut_runs
    assert studies.study(cut_runs, deadline=time.time() - 1) == 0
    assert studies_of(whole) == {}
    assert studies.study(cut_runs, deadline=time.time() + 600) == 1


def test_what_is_known_is_not_studied_again(cut_runs):
    whole, _ = cut_runs
    studies.study(cut_runs)
    before = studies_of(whole)
    assert studies.study(cut_runs) == 0
    assert studies_of(whole) == before


def test_runs_that_differ_in_more_than_the_lasso_give_no_ranks(
    cut_runs, digits_config, few_digits
):
    whole, _ = cut_runs
    other = digits_config(epochs=2, seed=1)
    fit(other, task=few_digits)
    assert studies.study([whole, other]) == 0


@pytest.mark.parametrize("lost", ["weights", "record"])
def test_runs_whose_weights_or_record_are_gone_are_left_alone(lost, cut_runs):
    whole, _ = cut_runs
    path = records.path_of(whole.id) if lost == "record" else weights_path(whole)
    path.unlink()
    assert studies.study(cut_runs) == 0


def always(subject):
    return True


def test_of_two_that_study_one_run_neither_undoes_the_other(cut_runs, monkeypatch):
    """The second waits until the first has written, and adds to that."""
    whole, seen = cut_runs[0], []

    def points(subject, known):
        seen.append(sorted(known))
        if len(seen) == 1:
            other.start()
            other.join(0.5)  # it does not end while this one is at work
            assert other.is_alive()
            yield "a", {"parameters": {}}
        else:
            yield "b", {"parameters": {}}

    monkeypatch.setattr(studies, "STUDIES", {"made up": (always, points)})
    other = threading.Thread(target=lambda: studies.study([whole]))
    assert studies.study([whole]) == 1
    other.join()
    assert set(studies_of(whole)["made up"]) == {"a", "b"}
    assert seen == [[], ["a"]]


def test_a_study_that_is_stopped_keeps_its_points(cut_runs, monkeypatch):
    def points(subject, known):
        for name in ("a", "b"):
            if name not in known:
                yield name, {"parameters": {}}
            if name == stop:
                raise KeyboardInterrupt

    stop, whole = "a", cut_runs[0]
    monkeypatch.setattr(studies, "STUDIES", {"made up": (always, points)})
    with pytest.raises(KeyboardInterrupt):
        studies.study([whole])
    assert list(studies_of(whole)["made up"]) == ["a"]
    stop = None
    assert studies.study([whole]) == 1
    assert list(studies_of(whole)["made up"]) == ["a", "b"]


def test_a_study_leaves_the_network_to_the_next_one_as_it_was(cut_runs, monkeypatch):
    def first(subject, known):
        network = subject.network()
        for parameter in network.parameters():
            parameter.data.zero_()
        yield "zero", {"parameters": {}, **subject.evaluate(network)}

    def second(subject, known):
        yield "whole", {"parameters": {}, **subject.evaluate(subject.network())}

    both = {"first": (always, first), "second": (always, second)}
    monkeypatch.setattr(studies, "STUDIES", both)
    whole = cut_runs[0]
    studies.study([whole])
    accuracy = studies_of(whole)["second"]["whole"]["test_accuracy"]
    assert accuracy == records.find([whole])[whole.id]["final"]["test_accuracy"]


def test_training_ends_with_the_studies(cut_runs, monkeypatch):
    whole, _ = cut_runs
    studies.train_and_study(cut_runs, "cpu")
    assert len(studies_of(whole)["ranks_of"]) == 1


def test_a_run_that_fails_keeps_no_other_from_its_studies(cut_runs, monkeypatch):
    def fail(*_, **__):
        raise RunsFailed("1 of 3 runs failed: one")

    monkeypatch.setattr(studies, "run", fail)
    with pytest.raises(RunsFailed, match="1 of 3"):
        studies.train_and_study(cut_runs, "cpu")
    assert len(studies_of(cut_runs[0])["ranks_of"]) == 1


def test_damaged_weights_are_named(cut_runs):
    path = weights_path(cut_runs[0])
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(RuntimeError, match=f"{path} is damaged .*: delete it to do"):
        studies.study(cut_runs)
    assert studies_of(cut_runs[0]) == {}


# ---------------------------------------------------------------- translations


@pytest.fixture
def translated(folders, monkeypatch):
    """A finished run on a made-up language, and its task."""
    task = TranslationTask(language((60, 10, 5), longest=12))
    monkeypatch.setattr(datasets, "load", lambda *_: task)
    options = {"lambda_gl": 0.01, "eps_ps": 0.1}
    size = {"layers": 1, "width": 8, "heads": 2, "inner": 16}
    recipe = Recipe(1, 20, 1e-3, optimizer="adam")
    run = RunConfig("multi30k", "transformer", "maestro", recipe, options, size=size)
    config = methods.resolve(run)
    fit(config, task=task)
    return config, task


def test_bleu_of_both_searches_with_the_signature(translated, monkeypatch):
    pytest.importorskip("sacrebleu")
    config, task = translated
    asked = []

    def perfect(model, beam):
        asked.append(beam)
        weights = torch.load(weights_path(config), weights_only=True)["model"]
        for name, value in model.state_dict().items():
            assert torch.equal(value, weights[name])
        return task.references if beam > 1 else ["w1"] * len(task.references)

    monkeypatch.setattr(task, "translate", perfect)
    assert studies.study([config]) == 2
    assert asked == [1, 5]
    found = studies_of(config)["bleu"]
    assert found["beam 5"]["score"] == pytest.approx(100)
    assert found["greedy"]["score"] < 100
    assert found["beam 5"]["parameters"] == {"beam": 5}
    for point in found.values():
        assert point.items() >= made().items()
        assert "tok:none" in point["signature"] and "version:" in point["signature"]
    assert studies.study([config]) == 0
    assert asked == [1, 5]


def test_the_real_search_gives_a_score(translated):
    pytest.importorskip("sacrebleu")
    config, _ = translated
    found = dict(studies.translated(Subject(config, {})))
    assert set(found) == {"greedy", "beam 5"}
    assert all(0 <= point["score"] <= 100 for point in found.values())


def test_without_sacrebleu_the_study_says_what_to_do(translated, monkeypatch):
    for name in ("sacrebleu", "sacrebleu.metrics"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(RuntimeError, match="pip install sacrebleu"):
        studies.study([translated[0]])
    assert studies_of(translated[0]) == {}


def test_a_diverged_run_is_not_translated(translated, monkeypatch):
    config, _ = translated
    record = records.find([config])[config.id] | {"status": "diverged"}
    records.save(record)
    assert studies.study([config]) == 0
    assert weights_path(config).is_file()


def test_the_compact_network_is_asked_with_six_views(folders, monkeypatch):
    arrays = {}
    for split, count in (("train", 64), ("test", 32)):
        pixels = torch.randint(256, (count, 32, 32, 3), dtype=torch.uint8)
        arrays[f"{split}_images"] = pixels.numpy()
        arrays[f"{split}_labels"] = (torch.arange(count) % 10).numpy()
    task = datasets.ImageTask(arrays, 0.5, 0.25, crop=2, frame="reflect")
    monkeypatch.setattr(datasets, "load", lambda *_: task)
    [config, *_] = experiments.compact_cifar10(seeds=(0,))
    recipe = replace(config.recipe, epochs=1, batch_size=32, precision="float32")
    config = replace(config, recipe=recipe, size={"width": 4})
    fit(config, task=task)
    studies.study([config])
    seen = studies_of(config)["views"]["six"]
    net = Training(config)
    net.restore_network(torch.load(weights_path(config), weights_only=True))
    assert seen.items() >= task.evaluate(six_views(net.model.eval())).items()
    assert seen["parameters"] == {"views": 6}
    assert studies.study([config]) == 0
