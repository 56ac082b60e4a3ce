"""Run records: one JSON file per run in data/runs, whole or not there at all.

A record holds the configuration, the course of the training epoch by epoch, and what
it ran on. The book's numbers come from here. No weights are kept: what is computed from
the trained weights is in ``studies``, {study: {point: figures}}, each point with its
``parameters`` and the ``commit`` and ``date`` of the study.

``phases`` says how many epochs of the history each phase of the training has. In the
history ``seconds`` are of training alone and ``evaluation_seconds`` of evaluation;
checkpoint writing is in neither. Runs that were recorded before the two were measured
apart have ``epoch_seconds`` instead, checkpoint writing included.
"""

import json
import math
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
SEARCHES = {"greedy": 1, "beam 5": 5}  # of the study "bleu": hypotheses kept


class RecordError(ValueError):
    """A file that is not a whole, consistent record; says which and why."""


class NewerRecordError(RecordError):
    """A record of a schema that this version of the package does not know yet."""


def path_of(run_id, folder=None):
    return Path(folder or RUNS) / f"{run_id}.json"


def save(record, folder=None):
    """Write ``record`` (a dict) under its id: to a temporary name, synced, renamed.

    Raises RecordError if it is not a record that `read` would take, DiskError (nothing
    half-written left behind) if the disk does not.
    """
    path = path_of(record.get("id"), folder)
    _verify(record, path)
    try:
        lines = [f'"{k}": {json.dumps(v, allow_nan=False)}' for k, v in record.items()]
    except (TypeError, ValueError) as error:
        raise RecordError(f"{path.name}: {error}") from None
    write_whole(path, "{\n " + ",\n ".join(lines) + "\n}\n")  # a line a field
    return path


def read(path):
    """The record in ``path``. Raises RecordError, naming the file, if it is not one."""
    path = Path(path)
    if not path.is_file():
        raise RecordError(f"{path.name}: there is no such record in {path.parent.name}")
    try:
        record = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(f"{path.name}: not readable as JSON: {error}") from None
    _verify(record, path)
    return record


def read_all(folder=None):
    """All good records of ``folder`` (data/runs), by id; and {name: what is wrong}."""
    good, bad = {}, {}
    for path in sorted(Path(folder or RUNS).glob("*.json")):
        try:
            record = read(path)
            good[record["id"]] = record
        except RecordError as error:
            bad[path.name] = str(error)
    return good, bad


def find(configs, folder=None):
    """{id: record} of those ``configs`` that have one; a damaged one is as none.

    Raises NewerRecordError: a run that a newer version recorded is not to be trained,
    and written, again.
    """
    found = {}
    for config in configs:
        path = path_of(config.id, folder)
        if path.is_file():
            try:
                found[config.id] = read(path)
            except NewerRecordError:
                raise
            except RecordError as error:
                warnings.warn(f"left out: {error}", stacklevel=2)
    return found


def final_ranks(record):
    """{layer: r} at the end of a run."""
    return record["ranks"][-1][1]


def epoch_seconds(history):
    """The seconds of each epoch of a record's history, training and evaluation."""
    if "epoch_seconds" in history:
        return history["epoch_seconds"]
    pairs = zip(history["seconds"], history["evaluation_seconds"], strict=True)
    return [sum(pair) for pair in pairs]


def compare(one, other):
    """What differs between two records: [(name, in one, in other), ...].

    The configuration first, then the final figures, then what they ran on; fields of
    one record only stand beside None.
    """
    parts = ("config", "status", "dense", "final", "ran_on", "data")
    left, right = (flat({k: r[k] for k in parts}) for r in (one, other))
    names = [*left, *(name for name in right if name not in left)]
    pairs = [(name, left.get(name), right.get(name)) for name in names]
    return [(name, a, b) for name, a, b in pairs if a != b]


def flat(values, prefix=""):
    """{"a": {"b": 1}} as {"a.b": 1}."""
    found = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def row(record):
    """A record's one line: what was asked, what came of it, where it ran.

    Raises ValueError if an option has the name of another column.
    """
    config = RunConfig.from_dict(record["config"])
    asked = ("task", "model", "method", "scale", "seed")
    columns = {
        "id": record["id"],
        **{name: getattr(config, name) for name in asked},
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
    """Raise RecordError unless ``record`` is whole and agrees with itself."""
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
    """What is wrong, in words, or None; trips over what is not built as a record."""
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
    config = RunConfig.from_dict(record["config"])
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
    best, highest = record["best"]["test_accuracy"], max(history["test_accuracy"])
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
