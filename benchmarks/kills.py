"""Kill trainings, campaigns and writers of records at random moments; count the losses.

A few small runs on scikit-learn's digits are trained once, undisturbed. Then campaigns
of two of these runs are started, killed (SIGKILL) and started again until both runs
have records. After each kill, all earlier records must be there, whole and unchanged.
In the end each record must equal that of the undisturbed run in all but seconds.
"""

import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from maestro import methods
from maestro.campaign import describe
from maestro.config import Recipe, RunConfig
from maestro.paths import ROOT
from maestro.results import records

DRIVER = Path(__file__).with_name("killed.py")
RECIPE = Recipe(epochs=5, batch_size=128, lr=0.05)
LASSO = {"lambda_gl": 3e-3, "eps_ps": 0.1}
OPTIONS = {"dense": {}, "maestro": LASSO, "masked": LASSO, "proximal": LASSO}
RUNS = [
    methods.resolve(RunConfig("digits", "lenet", method, RECIPE, options))
    for method, options in OPTIONS.items()
]
KINDS = ("training", "campaign", "writing")  # one process, all of them, a writer
WORKERS = 2
TIMED = ("seconds", "evaluation_seconds", "joules")  # of the history
COMPARED = ("config", "status", "dense", "maps", "ranks", "final", "best", "data")


class Broken(AssertionError):
    """A campaign did what no kill excuses; the message says what."""


def kill_all(folder, count, seed=0, runs=RUNS):
    """``count`` kills, a third of each of KINDS, in ``folder``; returns the counts.

    {kills: {kind: number}, records_lost, runs, equal, resumed}: of the runs of all
    killed campaigns, how many equal the undisturbed one, and how many were resumed from
    a checkpoint.
    """
    draw, bar = random.Random(seed), tqdm(total=count, desc="kills")
    kinds = [KINDS[i % len(KINDS)] for i in range(count)]
    counts = {"kills": dict.fromkeys(KINDS, 0)}
    counts |= dict.fromkeys(("records_lost", "runs", "equal", "resumed"), 0)
    undisturbed = Campaign(folder / "undisturbed", runs)
    undisturbed.finish()
    longest = max(seconds for _, _, seconds in undisturbed.log())  # of one training
    expected = undisturbed.records()

    def note(kind, lost):
        counts["kills"][kind] += 1
        counts["records_lost"] += lost
        bar.update()

    paths = [records.path_of(name, undisturbed.runs_folder) for name in expected]
    for _ in range(kinds.count("writing")):
        note("writing", kill_writer(folder / "writing", paths, draw))
    left = [kind for kind in kinds if kind != "writing"]
    while left:
        some = draw.sample(runs, min(WORKERS, len(runs)))
        campaign = Campaign(folder / "campaign", some)
        while campaign.unfinished():
            if not left:
                campaign.finish()
            elif campaign.kill(left[-1], draw.uniform(0, longest)):
                note(left.pop(), campaign.lost())
        for name, record in campaign.records().items():
            counts["runs"] += 1
            counts["equal"] += same(record, expected[name])
            counts["resumed"] += name in campaign.resumed
        shutil.rmtree(campaign.folder)
    bar.close()
    return counts


class Campaign:
    """Runs in a folder of their own, trained by processes that can be killed.

    resumed: ids of the runs that had a checkpoint when they were killed.
    """

    def __init__(self, folder, runs):
        self.folder, self.runs_folder = folder, folder / "runs"
        self.runs, self.known, self.resumed = runs, {}, set()
        folder.mkdir(parents=True)

    def start(self):
        words = [json.dumps(run.to_dict()) for run in self.runs]
        return start(self.folder, "campaign", WORKERS, *words)

    def begin(self):
        """Start it; returns (process, lines of the log before) after a checkpoint."""
        before, process = len(self.log()), self.start()
        while len(self.log()) == before and process.poll() is None:
            time.sleep(0.01)
        return process, before

    def finish(self):
        """Train what is left, undisturbed."""
        process = self.start()
        _, err = process.communicate()
        if process.returncode:
            raise Broken(f"a campaign that nobody killed failed: {err}")

    def kill(self, kind, seconds):
        """Start the campaign, kill it after ``seconds``; was a run under way then?"""
        process, before = self.begin()
        time.sleep(seconds)
        victims = self.under_way(before)
        if kind == "training":
            victims = dict(list(victims.items())[:1])
        with suppress(ProcessLookupError):
            if kind == "campaign":
                os.killpg(process.pid, signal.SIGKILL)
            for pid in victims.values():
                os.kill(pid, signal.SIGKILL)
        _, err = process.communicate()
        cache = self.folder / "cache"
        for run in self.runs:
            wait_until_free(cache / "locks" / run.id)
        # a run that had its record already, and was about to end, was not hit
        hit = [run for run in self.runs if run.id in victims and not self.has(run.id)]
        for run in hit:
            if kind == "training" and f"{describe(run)}: killed (SIGKILL)" not in err:
                raise Broken(f"the campaign does not name the killed run: {err}")
            if (cache / "checkpoints" / f"{run.id}.pt").is_file():
                self.resumed.add(run.id)
        return bool(hit)

    def log(self):
        """[(run, process, seconds), ...]: lines of killed.py's `noted`."""
        path = self.folder / "log"
        text = path.read_text() if path.is_file() else ""
        lines = [line.split() for line in text.split("\n")[:-1]]  # whole ones
        return [(run, int(pid), float(seconds)) for run, pid, seconds in lines]

    def under_way(self, before):
        """{run: process} of the trainings after line ``before`` that have no record."""
        return {
            name: pid
            for name, pid, _ in self.log()[before:]
            if alive(pid) and not self.has(name)
        }

    def has(self, name):
        """Whether the run has its record."""
        return records.path_of(name, self.runs_folder).is_file()

    def records(self):
        """{run: record}. Raises Broken if a record is not whole."""
        good, bad = records.read_all(self.runs_folder)
        if bad:
            raise Broken(f"not whole after a kill: {bad}")
        return good

    def lost(self):
        """How many of the records of the last call are gone or changed now."""
        before, self.known = self.known, self.records()
        return sum(self.known.get(name) != record for name, record in before.items())

    def unfinished(self):
        return len(self.records()) < len(self.runs)


def kill_writer(folder, paths, draw):
    """Kill a process that writes the records ``paths`` without end; count the losses.

    A record is lost if it is not whole, or older than its writer knew to be safe.
    """
    folder.mkdir(parents=True)
    process = start(folder, "records", *paths)
    first = process.stdout.readline()
    time.sleep(draw.uniform(0, 0.3))
    process.kill()
    rest, err = process.communicate()
    if not first:
        raise Broken(f"the writer wrote nothing: {err}")
    lines = (first + rest).rpartition("\n")[0].splitlines()
    safe = {line.split()[0]: int(line.split()[1]) for line in lines}
    good, _ = records.read_all(folder / "runs")
    shutil.rmtree(folder)
    return sum(
        name not in good or good[name]["ran_on"]["wall_seconds"] < count
        for name, count in safe.items()
    )


def same(one, other):
    """Whether two records are equal in all but what the clock says."""
    histories = [
        {name: column for name, column in r["history"].items() if name not in TIMED}
        for r in (one, other)
    ]
    fields = all(one[name] == other[name] for name in COMPARED)
    return fields and histories[0] == histories[1]


def start(folder, *words):
    """killed.py in ``folder``, the leader of a group of processes."""
    env = os.environ | {"STRESS_FOLDER": str(folder), "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, str(DRIVER), *map(str, words)]
    return subprocess.Popen(command, env=env, start_new_session=True, **pipes)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until_free(lock):
    """Wait until the process that claims a run has ended, as the system knows it."""
    if lock.is_file():
        with open(lock) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
