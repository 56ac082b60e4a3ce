"""The stress test counts what it says, and calls wrong what is wrong."""

import sys
import xml.etree.ElementTree as xml
from dataclasses import replace

import pytest

from maestro.paths import ROOT
from maestro.results import measured
from maestro.results import stress as counted

sys.path.insert(0, str(ROOT / "benchmarks"))
import inputs
import kills
import stress
import wrong

COUNTS = {
    "date": "2026-01-02",
    "commit": "abc",
    "processor": "Some CPU",
    "cores": 2,
    "minutes": 15.5,
    "kills": {
        "kills": {"training": 17, "campaign": 17, "writing": 16},
        "records_lost": 0,
        "runs": 20,
        "equal": 20,
        "resumed": 19,
    },
    "notebooks": {
        "repeats": 20,
        "settings": ["1 thread", "2 threads"],
        "times": {"00_quickstart": 4, "05_theorem": 20},
        "cells": 2000,
        "differences": [],
    },
    "inputs": {
        "kinds": {"commands": {"given": 30, "answered": 30}},
        "failures": [],
        "disks": "small and read-only file systems",
    },
}
SURROUNDINGS = ("date", "commit", "processor", "cores")


# ---------------------------------------------------------------- wrong inputs


@pytest.mark.parametrize("code", wrong.FUNCTIONS)
def test_a_wrong_argument_is_one_line(code, folders):
    """Which names the value and what would be right."""
    with pytest.raises(Exception) as caught:
        exec(wrong.PRELUDE + code, {})
    message = str(caught.value)
    assert message.startswith(wrong.FUNCTIONS[code]) and "\n" not in message


def test_there_are_more_than_a_hundred_inputs_and_none_twice():
    every, _ = inputs.every_input()
    assert len({given.words for given in every}) == len(every) > 100
    assert {given.kind for given in every} == set(counted.INPUTS)
    assert all(part for given in every for part in given.answer)


def given(code, *answer, **more):
    return inputs.Input("commands", "", [sys.executable, "-c", code], answer, **more)


SAY = "import sys; print('error: x=3: it takes 4', file=sys.stderr); sys.exit({})"


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (SAY.format(2), ""),
        (SAY.format(0), "exit status 0"),
        (SAY.format(2).replace("x=3", "x"), "'error: x: it takes 4' instead of 'x=3"),
        (SAY.format(2).replace("error", "a\\nb"), "2 lines, exit status 2: a / b: x=3"),
        ("raise SystemExit(2)", "0 lines, exit status 2"),
        ("open('new', 'w');" + SAY.format(2), "new is new, gone or changed"),
        ("open('file', 'w');" + SAY.format(2), "file is new, gone or changed"),
    ],
)
def test_an_answer_is_judged(code, problem, tmp_path):
    (tmp_path / "file").write_text("content")
    found = inputs.judge(given(code, "x=3", "it takes 4"), tmp_path)
    assert found.startswith(problem) and bool(found) == bool(problem)


def test_a_damaged_file_is_whole_again_afterwards(tmp_path):
    path = tmp_path / "runs" / "a.json"
    path.parent.mkdir()
    path.write_text("content")
    code = "import sys; sys.exit('error: ' + open('runs/a.json').read())"
    damage = ("runs/*.json", lambda content: content[:3])
    assert inputs.judge(given(code, "error: con", damage=damage), tmp_path) == ""
    assert path.read_text() == "content"


def test_a_full_disk_is_met(tmp_path):
    """In a real process, on a real disk, or where every file has its limit."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "_build").mkdir()
    write = "from maestro.system import require_writable as r; r('runs')"
    write = [sys.executable, "-c", inputs.CALL, write]
    if inputs.can_mount():
        option, answer = inputs.DISKS["full"]
        write = [
            "unshare",
            "-rm",
            "sh",
            "-c",
            inputs.MOUNT,
            "sh",
            option,
            "runs",
            *write,
        ]
        full = inputs.Input("disks", "", write, ("runs cannot be written: ", answer))
    else:
        full = inputs.Input("disks", "", write, (inputs.LIMITED,), limited=True)
    env = inputs.environment(tmp_path) | {"PYTHONPATH": str(ROOT)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "environment", lambda project: env)
        assert inputs.judge(full, tmp_path) == ""


# ---------------------------------------------------------------- kills


def test_nothing_is_lost_by_a_kill_of_each_kind(tmp_path):
    run = replace(kills.RUNS[0], recipe=replace(kills.RECIPE, epochs=3))
    counts = kills.kill_all(tmp_path, 3, runs=[run])
    assert counts["kills"] == {"training": 1, "campaign": 1, "writing": 1}
    assert counts["records_lost"] == 0
    assert counts["runs"] == counts["equal"] >= counts["resumed"] >= 1


def test_records_are_compared_in_all_but_the_clock():
    history = {"train_loss": [1.0], "seconds": [2.0]}
    one = dict.fromkeys(kills.COMPARED, 0) | {"history": history, "ran_on": {"date": 1}}
    later = one | {"history": history | {"seconds": [3.0]}, "ran_on": {"date": 2}}
    assert kills.same(one, later)
    assert not kills.same(one, one | {"history": history | {"train_loss": [1.1]}})
    for name in kills.COMPARED:
        assert not kills.same(one, one | {name: 1})


# ---------------------------------------------------------------- repeats and counts


def test_a_cell_that_prints_something_else_is_named(monkeypatch):
    asked = []

    def nbval(names, env, report):
        asked.append((len(names), env))
        cells = "<testcase classname='a' name='1'/>"
        if len(asked) == 2:
            cells += "<testcase classname='a' name='2'><failure/></testcase>"
        return xml.fromstring(f"<all>{cells}</all>").iter("testcase")

    monkeypatch.setattr(stress, "nbval", nbval)
    counts = stress.repeat_notebooks(6, None)
    assert counts["cells"] == 7 and counts["differences"] == ["a, 2, 2 threads"]
    every = len(stress.parameters.notebooks())
    some = every - len(stress.SLOW)
    assert [count for count, _ in asked] == [every, some, some, some, some, every]
    assert counts["times"]["00_quickstart"] == 2
    assert counts["times"]["10_lenet_mnist"] == 6
    settings = list(stress.SETTINGS.values())
    assert [env for _, env in asked] == [*settings, *settings[:2]]


@pytest.mark.parametrize("failure", [False, True])
def test_the_counts_are_written_whole_and_failures_are_told(
    failure, tmp_path, monkeypatch, capsys
):
    inputs = COUNTS["inputs"] | {"failures": ["book: exit status 0"] * failure}
    for name, part in (
        (
            "surroundings",
            {key: COUNTS[key] for key in SURROUNDINGS},
        ),
        ("kill_all", COUNTS["kills"]),
        ("repeat_notebooks", COUNTS["notebooks"]),
        ("give_inputs", inputs),
    ):
        monkeypatch.setattr(stress, name, lambda *_, part=part: part)
    assert stress.main(["--out", str(tmp_path / "stress.json")]) == failure
    _, err = capsys.readouterr()
    assert err == "wrong input: book: exit status 0\n" * failure
    assert measured.load("stress", tmp_path) == COUNTS | {
        "inputs": inputs,
        "minutes": 0.0,
    }
    assert [path.name for path in tmp_path.iterdir()] == ["stress.json"]


def test_what_went_wrong_is_said():
    kills = COUNTS["kills"] | {"records_lost": 1, "equal": 18}
    books = COUNTS["notebooks"] | {"differences": ["here"]}
    assert counted.failures(COUNTS) == []
    assert counted.failures(COUNTS | {"kills": kills, "notebooks": books}) == [
        "1 records were lost",
        "2 runs differ from the undisturbed one",
        "a notebook printed something else: here",
    ]


def test_the_table_and_its_conditions():
    rows = counted.rows(COUNTS)
    assert ("all kills", 50, "0 lost") in rows
    equal = "20 equal to the undisturbed run"
    assert ("runs of the killed campaigns", 20, equal) in rows
    assert ("repeats of the notebooks", 20, "0 differences in 2,000 cells") in rows
    assert rows[-1] == (counted.INPUTS["commands"], 30, "30 answered in one line")
    words = counted.conditions(COUNTS)
    assert "took 15.5 minutes on 2 cores of Some CPU" in words
    assert "took part less often (00_quickstart 4 times)" in words
