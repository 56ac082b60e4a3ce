"""What is killed by kills.py: a campaign, or a process that writes records.

    python benchmarks/killed.py campaign WORKERS RUN...
    python benchmarks/killed.py records FILE...

RUN is a configuration as JSON, FILE a record to write again and again. Everything goes
to the folder that the variable STRESS_FOLDER names. Workers import this file too.
A checkpoint is written after every step, so that many kills fall into the writing of
one.
"""

import importlib
import itertools
import json
import os
import sys
import time
from pathlib import Path

from maestro.campaign import process, workers
from maestro.config import RunConfig
from maestro.results import records
from maestro.training import checkpoints

FOLDER = Path(os.environ["STRESS_FOLDER"])
records.RUNS = FOLDER / "runs"
checkpoints.CACHE = FOLDER / "cache"
fit = process.fit
module = importlib.import_module(fit.__module__)
if not hasattr(module, "CHECKPOINT_SECONDS"):
    raise AttributeError(f"{module.__name__} has no CHECKPOINT_SECONDS to set")
module.CHECKPOINT_SECONDS = -1  # a checkpoint after every step


def noted(config, *rest, stop, **named):
    """`fit`, with a line in the log after the first checkpoint, and one at the end.

    Each line has the run, its process, and the seconds since the first checkpoint.
    """
    asked, began = 0, None

    def note():
        with open(FOLDER / "log", "a") as log:
            log.write(f"{config.id} {os.getpid()} {time.monotonic() - began}\n")

    def stop_or_note():  # asked after a step, before its checkpoint
        nonlocal asked, began
        asked += 1
        if asked == 2:
            began = time.monotonic()
            note()
        return stop()

    record = fit(config, *rest, stop=stop_or_note, **named)
    if began is not None:  # else it was killed at its last step before
        note()
    return record


process.fit = noted


def campaign(at_once, *configs):
    workers.run(
        [RunConfig.from_dict(json.loads(config)) for config in configs],
        "cpu",
        int(at_once),
        progress=False,
    )


def write(*paths):
    """Write records for ever, counting up; say which count is safe once it is."""
    known = [records.read(path) for path in paths]
    for count in itertools.count():
        for record in known:
            record["ran_on"]["wall_seconds"] = count
            records.save(record)
            print(record["id"], count, flush=True)


if __name__ == "__main__":
    command, *words = sys.argv[1:]
    {"campaign": campaign, "records": write}[command](*words)
