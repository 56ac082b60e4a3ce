"""What is killed by kills.py: a campaign, or a process that writes records.

    python benchmarks/killed.py campaign WORKERS RUN...
    python benchmarks/killed.py records FILE...

RUN is a configuration as JSON, FILE a record to write again and again. Everything goes
to the folder that the variable STRESS_FOLDER names. Workers import this file too.
Checkpoints are written after almost every step, so that a kill falls into the writing
of one as often as not.
"""

import itertools
import json
import os
import sys
from pathlib import Path

from maestro.campaign import process, workers
from maestro.config import RunConfig
from maestro.results import records
from maestro.training import checkpoints, loop

FOLDER = Path(os.environ["STRESS_FOLDER"])
records.RUNS = FOLDER / "runs"
checkpoints.CACHE = FOLDER / "cache"
loop.CHECKPOINT_SECONDS = 0.02
fit = process.fit


def noted(config, *rest, **named):
    """`fit`, after a line in the log: which run begins, and in which process."""
    with open(FOLDER / "log", "a") as log:
        log.write(f"{config.id} {os.getpid()}\n")
    return fit(config, *rest, **named)


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
