"""Records are whole or not there; damage is named, left out, and stops nothing."""

import errno
import json
import math
import os
from dataclasses import replace

import pytest

from maestro import methods
from maestro.config import RunConfig
from maestro.paths import ROOT
from maestro.results import records
from maestro.results.records import RecordError


def made_up(config, accuracies=(90.0, 95.0, 94.0)):
    """A record of ``config`` with these accuracies, as `Training.record` makes it."""
    epochs = len(accuracies)
    history = {
        "lr": [0.01] * epochs,
        "train_loss": [1.0 / (e + 1) for e in range(epochs)],
        "test_accuracy": list(accuracies),
        "params": [100 - e for e in range(epochs)],
        "seconds": [1.5] * epochs,
        "evaluation_seconds": [0.5] * epochs,
    }
    final = {name: history[name][-1] for name in ("train_loss", "test_accuracy")}
    return {
        "schema": records.SCHEMA,
        "id": config.id,
        "config": config.to_dict(),
        "status": "finished",
        "phases": [{"name": "training", "epochs": epochs}],
        "dense": {"params": 100, "macs": 1000},
        "fixed": {"params": 10, "macs": 0},
        "maps": {"fc": [4, 5, 1]},
        "history": history,
        "ranks": [[0, {"fc": 4}], [2, {"fc": 3}]],
        "final": final | {"params": history["params"][-1]},
        "best": {"test_accuracy": max(accuracies)},
        "ran_on": {"device": "CPU", "date": "2026-01-01", "wall_seconds": 6.0},
        "data": {"task": config.task, "fingerprint": "0" * 64},
        "studies": {},
    }


@pytest.fixture
def record(digits_config):
    return made_up(digits_config())


@pytest.fixture
def path(record, tmp_path):
    """Where ``record`` is saved."""
    return records.save(record, tmp_path)


def test_a_record_comes_back_as_it_was_saved(record, path, tmp_path):
    assert records.read(path) == record
    assert records.read_all(tmp_path) == ({record["id"]: record}, {})
    assert [p.name for p in tmp_path.iterdir()] == [f"{record['id']}.json"]


def test_a_record_has_a_line_for_each_field(record, path):
    lines = path.read_text().splitlines()
    assert len(lines) == len(record) + 2  # so that a change shows as a change


# ---------------------------------------------------------------- whole or not at all


def full_disk(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_what_was_there(call, record, path, tmp_path, monkeypatch):
    before = path.read_bytes()
    monkeypatch.setattr(os, call, full_disk)
    record["ran_on"]["device"] = "another"
    with pytest.raises(OSError, match="No space left"):
        records.save(record, tmp_path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_nothing_where_nothing_was(record, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        records.save(record, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_record_is_not_saved(record, tmp_path):
    record["history"]["train_loss"][-1] = math.nan
    with pytest.raises(RecordError, match="train_loss"):
        records.save(record, tmp_path)
    record["status"], record["final"]["train_loss"] = "diverged", math.nan
    record["history"]["train_loss"] = [1.0, 1.0, math.inf]
    record["final"]["train_loss"] = math.inf
    with pytest.raises(RecordError, match="not JSON compliant"):
        records.save(record, tmp_path)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- damage


def change(*keys, to):
    """A function that sets record[keys[0]][keys[1]]... to ``to``."""

    def apply(record):
        for key in keys[:-1]:
            record = record[key]
        record[keys[-1]] = to

    return apply


def drop(*keys):
    def apply(record):
        for key in keys[:-1]:
            record = record[key]
        del record[keys[-1]]

    return apply


DAMAGE = {
    "a newer schema": (
        change("schema", to=records.SCHEMA + 1),
        f"schema {records.SCHEMA + 1}, written by a newer version of the package",
    ),
    "an older schema": (
        change("schema", to=1),
        "schema 1, written by an older version of the package",
    ),
    "no schema": (drop("schema"), "no run record: it has no schema"),
    "a schema in words": (change("schema", to="two"), "no run record"),
    "another id": (change("id", to="0" * 12), "id 0+ but"),
    "another seed": (change("config", "seed", to=7), "but its configuration"),
    "an unknown field": (change("config", "colour", to="red"), "colour"),
    "a wrong recipe": (change("config", "recipe", "epochs", to=0), "epochs=0"),
    "no recipe": (change("config", "recipe", to=None), "configuration"),
    "an unknown status": (change("status", to="fine"), "fine"),
    **{
        f"no {name}": (drop(name), f"without {name}")
        for name in records.FIELDS
        if name != "schema"
    },
    "studies that are a list": (change("studies", to=[]), "built"),
    "a study without a date": (
        change("studies", to={"bleu": {"greedy": {"parameters": {}, "commit": "a"}}}),
        "study bleu, greedy: without date",
    ),
    "a phase too short": (
        change("phases", 0, "epochs", to=2),
        "3 epochs, but 2 in its phases",
    ),
    "a column of its own as an option": (
        change("config", "options", "seed", to=1),
        "seed is a field of every run",
    ),
    "an empty history": (change("history", to={}), "length"),
    "a history that is a list": (change("history", to=[1, 2]), "built"),
    "a column too short": (change("history", "params", to=[1, 2]), "length"),
    "a column that is a number": (change("history", "params", to=5), "built"),
    "no final figure": (drop("final", "params"), "params"),
    "an edited final figure": (change("final", "test_accuracy", to=99.9), "99.9"),
    "a final figure that is text": (change("final", "test_accuracy", to="9"), "built"),
    "an edited last epoch": (change("history", "params", 2, to=1), "final params"),
    "an edited best": (change("best", "test_accuracy", to=99.0), "best"),
    "no dense figures": (change("dense", to=None), "built"),
    "no machine": (change("ran_on", to=3), "built"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_record_that_disagrees_with_itself_is_named(name, record, path, tmp_path):
    damage, why = DAMAGE[name]
    damage(record)
    path.write_text(json.dumps(record))
    good, bad = records.read_all(tmp_path)
    assert good == {} and list(bad) == [path.name]
    with pytest.raises(RecordError, match=f"{path.name}: .*{why}"):
        records.read(path)


def test_an_option_may_not_overwrite_a_column(record, path, digits_config, tmp_path):
    options = record["config"]["options"] | {"device": "x", "params": 3}
    config = replace(digits_config(), options=options)
    record |= {"config": config.to_dict(), "id": config.id}
    why = "option device, params: a column of every record"
    with pytest.raises(RecordError, match=why):
        records.save(record, tmp_path)


def test_a_record_that_cannot_be_read_now_is_not_trained_again(
    record, path, tmp_path, digits_config, monkeypatch
):
    records.save(record, tmp_path)

    def failing(*args, **kwargs):
        raise OSError(5, "I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(type(path), "read_text", failing)
        with pytest.raises(OSError, match="I/O error"):
            records.find([digits_config()], tmp_path)
        good, bad = records.read_all(tmp_path)
        assert not good and "I/O error" in bad[path.name]
    assert records.read(path) == record


def test_what_is_no_record_is_set_aside_not_overwritten(record, path, tmp_path):
    path.write_text("{ half")
    assert records.save(record, tmp_path) == path and records.read(path) == record
    assert path.with_name(f"{path.name}.damaged").read_text() == "{ half"
    records.save(record, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_newer_record_is_not_trained_and_written_again(
    record, path, tmp_path, digits_config
):
    record["schema"] += 1
    path.write_text(json.dumps(record))
    good, bad = records.read_all(tmp_path)
    assert not good and "damaged" not in bad[path.name]
    with pytest.raises(records.NewerRecordError, match=f"{path.name}: schema"):
        records.find([digits_config()], tmp_path)


def test_a_run_that_ended_early_is_no_finished_run(record, path):
    for column in record["history"].values():
        column.pop()
    record["phases"][0]["epochs"] = 2
    record["final"] = {k: record["history"][k][-1] for k in record["final"]}
    path.write_text(json.dumps(record))
    with pytest.raises(RecordError, match="2 epochs of 3"):
        records.read(path)
    path.write_text(json.dumps(record | {"status": "diverged"}))
    assert records.read(path)["status"] == "diverged"


def test_files_that_are_no_json_are_named_and_the_others_still_read(
    record, path, tmp_path
):
    text = path.read_bytes()
    damaged = {
        "cut off": text[: len(text) // 2],
        "empty": b"",
        "binary": b"\xff\xfe\x00" * 50,
        "deep": b"[" * 100_000,
        "a list": b"[]",
        "null": b"null",
        "copied": text,  # a good record under another name
    }
    for name, content in damaged.items():
        (tmp_path / f"{name}.json").write_bytes(content)
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "notes.txt").write_text("not looked at")
    good, bad = records.read_all(tmp_path)
    assert list(good) == [record["id"]]
    assert set(bad) == {f"{name}.json" for name in [*damaged, "folder"]}


def test_a_missing_folder_holds_no_records(tmp_path):
    assert records.read_all(tmp_path / "none") == ({}, {})


def test_a_damaged_record_is_as_none_to_find(record, path, tmp_path, digits_config):
    config, other = digits_config(), digits_config(seed=1)
    assert records.find([config, other], tmp_path) == {config.id: record}
    path.write_text("{")
    with pytest.warns(UserWarning, match=f"left out: {path.name}"):
        assert records.find([config, other], tmp_path) == {}


# ---------------------------------------------------------------- columns


def test_a_row_says_what_was_asked_what_came_and_where(record):
    row = records.row(record)
    expected = {
        "id": record["id"],
        "task": "digits",
        "model": "lenet",
        "method": "maestro",
        "scale": "paper",
        "seed": 0,
        "lambda_gl": 3e-3,
        "eps_ps": 0.1,
        "epochs": 3,
        "status": "finished",
        "test_accuracy": 94.0,
        "params": 98,
        "dense_params": 100,
        "dense_macs": 1000,
        "device": "CPU",
        "wall_seconds": 6.0,
    }
    assert row.items() >= expected.items()
    assert not {"lr", *records.MEASURED} & row.keys()


def test_the_recorded_runs_of_the_book_are_all_good():
    assert records.read_all()[1] == {}


def test_the_recorded_runs_of_the_book_have_all_options_of_their_methods():
    for record in records.read_all()[0].values():
        config = RunConfig.from_dict(record["config"])
        assert methods.resolve(config) == config
        for donor in record["studies"].get("ranks_of", {}):
            assert records.path_of(donor).is_file()


def test_comparing_names_what_differs_and_nothing_else(digits_config):
    one, other = made_up(digits_config()), made_up(digits_config("dense"), (1.0,) * 3)
    told = {name: (a, b) for name, a, b in records.compare(one, other)}
    assert told["config.method"] == ("maestro", "dense")
    assert told["final.test_accuracy"] == (94.0, 1.0)
    assert told["config.options.lambda_gl"][1] is None
    assert "config.seed" not in told and records.compare(one, one) == []


def test_only_records_are_compared(digits_config):
    record = made_up(digits_config())
    with pytest.raises(records.RecordError, match="one is no record: without config"):
        records.compare({}, {})
    with pytest.raises(records.RecordError, match="other is no record: .* final, ran"):
        records.compare(record, {"config": {}, "status": "finished", "dense": {}})
    with pytest.raises(records.RecordError, match="other=3: it takes a record"):
        records.compare(record, 3)


@pytest.mark.parametrize("folder", [3, "", False])
def test_a_folder_that_is_no_path_is_refused(folder):
    with pytest.raises(ValueError, match=f"folder={folder!r}: it takes a path"):
        records.path_of("0123456789ab", folder)
    with pytest.raises(ValueError, match=f"folder={folder!r}: it takes a path"):
        records.read_all(folder)


def test_the_limitations_know_whether_a_gpu_has_run():
    good, _ = records.read_all(records.RUNS)
    on_a_gpu = [r for r in good.values() if r["ran_on"]["device"] != "CPU"]
    told = (ROOT / "book" / "limitations.md").read_text("utf-8")
    assert ("No run used a GPU yet" in told) == (not on_a_gpu)
