"""Count what survives: kills, repeats of the notebooks, wrong inputs.

    python benchmarks/stress.py [--kills 50] [--repeats 20] [--inputs 1000] [--out FILE]

Processes are killed at random moments (kills.py). The notebooks run again and again,
and nbval compares their output with the stored one. Each wrong input of wrong.py goes
to a process of its own (inputs.py). All of it takes about a quarter of an hour on two
cores that do nothing else. The result is data/bench/stress.json, written whole at the
end. The exit status is 1 if anything went wrong; stderr has a line for each.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as xml
from datetime import UTC, datetime
from pathlib import Path

from inputs import answers, every_input
from kills import kill_all
from tqdm import tqdm

from maestro.paths import ROOT
from maestro.publish import parameters
from maestro.results import measured, stress
from maestro.system import cores, require_writable, write_whole
from maestro.training.machine import commit, processor

SLOW = ("00_quickstart", "01_svd_recovery", "05_theorem")  # in one repeat of five
SETTINGS = {  # in turn, so that a repeat sees another processor than the last one
    "1 thread": {"OMP_NUM_THREADS": "1"},
    "2 threads": {"OMP_NUM_THREADS": "2"},
    "AVX2 instructions": {"ATEN_CPU_CAPABILITY": "avx2"},
    "no vector instructions": {"ATEN_CPU_CAPABILITY": "default"},
}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--inputs", type=int, default=1000, help="at most so many")
    parser.add_argument("--out", type=Path, default=measured.FOLDER / "stress.json")
    args = parser.parse_args(argv)
    require_writable(args.out.parent)
    began, counts = time.monotonic(), surroundings()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        counts["kills"] = kill_all(folder / "kills", args.kills)
        counts["notebooks"] = repeat_notebooks(args.repeats, folder / "junit.xml")
        counts["inputs"] = give_inputs(args.inputs, folder / "inputs")
    counts["minutes"] = round((time.monotonic() - began) / 60, 1)
    write_whole(args.out, json.dumps(counts, indent=1) + "\n")
    for what, times, result in stress.rows(counts):
        print(f"{what:>45}: {times:>5}  {result}")
    failures = stress.failures(counts)
    for line in failures:
        print(line, file=sys.stderr)
    return int(bool(failures))


def surroundings():
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "processor": processor(),
        "cores": cores(),
    }


def repeat_notebooks(repeats, report):
    """Run the notebooks ``repeats`` times by nbval; returns counts and differences.

    times: {notebook: how often}; differences: the cells, each with the setting.
    """
    names, settings = parameters.notebooks(), list(SETTINGS.items())
    quick = [name for name in names if name not in SLOW]
    times, cells, differences = dict.fromkeys(names, 0), 0, []
    for number in tqdm(range(repeats), desc="repeats"):
        setting, env = settings[number % len(settings)]
        some = names if number % 5 == 0 else quick
        for case in nbval(some, env, report):
            cells += 1
            if case.find("failure") is not None or case.find("error") is not None:
                where = f"{case.get('classname')}, {case.get('name')}, {setting}"
                differences.append(where)
        for name in some:
            times[name] += 1
    return {
        "repeats": repeats,
        "settings": list(SETTINGS),
        "times": times,
        "cells": cells,
        "differences": differences,
    }


def nbval(names, env, report):
    """One run of the notebooks ``names``; returns JUnit's test cases, one a cell."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["--nbval-lax", "--nbval-current-env", "-n", "2", "--dist", "loadscope"]
    command += [f"--junitxml={report}", *(f"notebooks/{name}.ipynb" for name in names)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | env, capture_output=True, text=True
    )
    if done.returncode not in (0, 1):  # all passed, some failed
        raise RuntimeError(f"nbval did not run: {(done.stdout + done.stderr)[-2000:]}")
    return xml.parse(report).getroot().iter("testcase")


def give_inputs(count, folder):
    """Every wrong input, at most ``count``; returns how many got the right answer."""
    every, disks = every_input()
    every = every[:: -(-len(every) // count)]
    kinds, failures = {}, []
    for given, wrong in tqdm(answers(folder, every), total=len(every), desc="inputs"):
        kind = kinds.setdefault(given.kind, {"given": 0, "answered": 0})
        kind["given"] += 1
        kind["answered"] += not wrong
        if wrong:
            failures.append(f"{given.words}: {wrong}")
    return {"kinds": kinds, "failures": failures, "disks": disks}


if __name__ == "__main__":
    sys.exit(main())
