"""Run records: one JSON file for each run in data/runs, written whole or not at all.

A record holds the configuration, the history of the training by epoch, and the machine
of the run (``ran_on``). The book's numbers come from records. A record holds no
weights: figures that are computed from the trained weights are in ``studies``, {study:
{point: figures}}, each point with its ``parameters`` and the ``commit`` and ``date`` of
the study.

``phases`` lists the number of epochs of each phase. In the history, ``seconds`` is the
time of training alone and ``evaluation_seconds`` the time of evaluation; neither
includes writing checkpoints. Older records have ``epoch_seconds`` instead, which
includes all three.
"""

import json
import math
import os
import warnings
from pathlib import Path

from ..config import RunConfig
from ..paths import RUNS
from ..system import write_whole

SCHEMA = 2
FIELDS = ("schema", "id", "config", "status", "phases", "dense", "fixed", "maps")
FIELDS += ("history", "ranks", "final", "best", "ran_on", "data", "studies")
MEASURED = ("seconds", "evaluation_seconds", "epoch_seconds", "joules")
NOT_FINAL = ("lr", *MEASURED)  # columns of the history: no final figures
STATUSES = ("finished", "diverged")
SEARCHES = {"greedy": 1, "beam 5": 5}  # {search of the study "bleu": its beam}


class RecordError(ValueError):
    """A file is not a complete, consistent record; the message says why."""


class NewerRecordError(RecordError):
    """A record has a newer schema than this version of the package knows."""


def path_of(run_id, folder=None):
    return folder_of(folder) / f"{run_id}.json"


def folder_of(given=None):
    """The folder of the records, data/runs if None; ValueError if it is no path."""
    if given is None:
        return RUNS
    if not isinstance(given, str | os.PathLike) or not os.fspath(given):
        raise ValueError(f"folder={given!r}: it takes a path")
    return Path(given)


def save(record, folder=None):
    """Write ``record`` (a dict) to the file of its id, whole or not at all.

    Args:
        record: the record.
        folder: the folder of the records; data/runs if None.

    What stands in the file's place and is no record is renamed, not lost.

    Returns:
        The path of the file.

    Raises:
        RecordError: `read` would refuse the record.
        DiskError: the file cannot be written.
    """
    path = path_of(record.get("id"), folder)
    _verify(record, path)
    _set_aside(path)
    try:
        lines = [f'"{k}": {json.dumps(v, allow_nan=False)}' for k, v in record.items()]
    except (TypeError, ValueError) as error:
        raise RecordError(f"{path.name}: {error}") from None
    write_whole(path, "{\n " + ",\n ".join(lines) + "\n}\n")  # a line a field
    return path


def _set_aside(path):
    """Rename a damaged file at ``path`` to ``<name>.damaged``."""
    try:
        read(path)
    except NewerRecordError:
        raise
    except RecordError:
        if path.is_file():
            path.replace(path.with_name(f"{path.name}.damaged"))


def read(path):
    """The record in ``path``.

    Raises RecordError if the file is not a record, and OSError if it cannot be read at
    the moment: it may be a good record then.
    """
    path = Path(path)
    if not path.is_file():
        raise RecordError(f"{path.name}: there is no such record in {path.parent.name}")
    try:
        record = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path.name}: not readable as JSON: {error}") from None
    _verify(record, path)
    return record


def read_all(folder=None):
    """({id: record}, {file name: error}) of all files in ``folder`` (data/runs)."""
    good, bad = {}, {}
    for path in sorted(folder_of(folder).glob("*.json")):
        try:
            record = read(path)
            good[record["id"]] = record
        except (OSError, RecordError) as error:
            bad[path.name] = str(error)
    return good, bad


def find(configs, folder=None):
    """{id: record} of the ``configs`` that have a record.

    A damaged record is left out with a warning. Raises NewerRecordError for a record of
    a newer version, and OSError for a record that cannot be read at the moment, because
    the run would be trained again.
    """
    good = {}
    for config in configs:
        path = path_of(config.id, folder)
        if path.is_file():
            try:
                good[config.id] = read(path)
            except NewerRecordError:
                raise
            except RecordError as error:
                warnings.warn(f"left out: {error}", stacklevel=2)
    return good


def final_ranks(record):
    """{layer: rank} at the end of a run."""
    return record["ranks"][-1][1]


def epoch_seconds(history):
    """The seconds of each epoch of a record's history, training and evaluation."""
    if "epoch_seconds" in history:
        return history["epoch_seconds"]
    pairs = zip(history["seconds"], history["evaluation_seconds"], strict=True)
    return [sum(pair) for pair in pairs]


def compare(one, other):
    """The fields in which two records differ: [(name, in one, in other), ...].

    The configuration comes first, then the final figures, then ran_on. The value is
    None in a record that lacks the field. Raises RecordError if one is no record.
    """
    parts = ("config", "status", "dense", "final", "ran_on", "data")
    for name, record in (("one", one), ("other", other)):
        if not isinstance(record, dict):
            raise RecordError(f"{name}={record!r}: it takes a record")
        missing = [part for part in parts if part not in record]
        if missing:
            raise RecordError(f"{name} is no record: without {', '.join(missing)}")
    left, right = (flat({k: r[k] for k in parts}) for r in (one, other))
    names = [*left, *(name for name in right if name not in left)]
    pairs = [(name, left.get(name), right.get(name)) for name in names]
    return [(name, a, b) for name, a, b in pairs if a != b]


def flat(values, prefix=""):
    """{"a": {"b": 1}} as {"a.b": 1}."""
    fields = {}
    for name, value in values.items():
        if isinstance(value, dict):
            fields |= flat(value, f"{prefix}{name}.")
        else:
            fields[prefix + name] = value
    return fields


def config_of(record):
    """The RunConfig of a record. Raises ValueError if it is none."""
    return RunConfig.from_dict(record["config"])


def row(record):
    """A record as one flat row: configuration, final figures, ran_on.

    Raises ValueError if an option has the name of another column.
    """
    config = config_of(record)
    names = ("task", "model", "method", "scale", "seed")
    columns = {
        "id": record["id"],
        **{name: getattr(config, name) for name in names},
        "epochs": config.recipe.epochs,
        "batch_size": config.recipe.batch_size,
        "status": record["status"],
        **record["final"],
        "dense_params": record["dense"]["params"],
        "dense_macs": record["dense"]["macs"],
        **record["ran_on"],
    }
    taken = columns.keys() & config.options.keys()
    if taken:
        raise ValueError(f"option {', '.join(sorted(taken))}: a column of every record")
    return columns | config.options


def _verify(record, path):
    """Raise RecordError unless ``record`` is complete and consistent."""
    schema = record.get("schema") if isinstance(record, dict) else None
    if type(schema) is int and schema > SCHEMA:
        raise NewerRecordError(
            f"{path.name}: schema {schema}, written by a newer version of the package; "
            f"this version reads schema {SCHEMA}"
        )
    try:
        why = _what_is_wrong(record, path)
    except (TypeError, KeyError, IndexError, AttributeError) as error:
        why = f"not built as a record is: {error!r}"
    except ValueError as error:  # of its configuration
        why = str(error)
    if why:
        raise RecordError(f"{path.name}: {why}")


def _what_is_wrong(record, path):
    """The first defect in words, or None; any exception is a defect of structure."""
    if not isinstance(record, dict) or type(record.get("schema")) is not int:
        return "no run record: it has no schema"
    if record["schema"] < SCHEMA:
        return (
            f"schema {record['schema']}, written by an older version of the package; "
            f"this version reads schema {SCHEMA}"
        )
    missing = [name for name in FIELDS if name not in record]
    if missing:
        return f"without {', '.join(missing)}"
    config = config_of(record)
    if not record["id"] == config.id == path.stem:
        return f"id {record['id']} but its configuration is {config.id}"
    if record["status"] not in STATUSES:
        return f"status {record['status']!r}"
    history, final = record["history"], record["final"]
    lengths = {len(column) for column in history.values()}
    if len(lengths) != 1:
        return "its history's columns differ in length"
    alone = record["status"] == "finished" and len(record["phases"]) == 1
    if alone and lengths != {config.recipe.epochs}:
        return f"{lengths.pop()} epochs of {config.recipe.epochs}"
    in_phases = sum(phase["epochs"] for phase in record["phases"])
    if lengths != {in_phases}:
        return f"{lengths.pop()} epochs, but {in_phases} in its phases"
    for name in history.keys() - set(NOT_FINAL):
        value, last = final[name], history[name][-1]
        if not _same(value, last):
            return f"final {name} {value} is not the last epoch's {last}"
    accuracies = [a for a in history["test_accuracy"] if a is not None]
    best, highest = record["best"]["test_accuracy"], max(accuracies, default=None)
    if not _same(best, highest):
        return f"best test_accuracy {best} is not the history's {highest}"
    for name, points in record["studies"].items():
        for key, point in points.items():
            missing = {"parameters", "commit", "date"} - point.keys()
            if missing:
                return f"study {name}, {key}: without {', '.join(sorted(missing))}"
    row(record)


def _same(a, b):
    return a == b or math.isclose(a, b, rel_tol=1e-12)
