"""The command line: exit status 0 if all is well, else one line that says why."""

import subprocess
import sys

import pytest

from maestro import datasets
from maestro.__main__ import main
from maestro.campaign import catalog, describe
from maestro.deploy import studies
from maestro.paths import ROOT
from maestro.publish import browser
from maestro.results import records
from maestro.training.distributed import ALONE

sys.path.insert(0, str(ROOT / "benchmarks"))
import wrong as wrong_inputs


@pytest.fixture(autouse=True)
def own_folders(folders, tmp_path, monkeypatch):
    """No command of these tests sees or changes the checkout's runs and data."""
    monkeypatch.setenv("MAESTRO_DATA", str(tmp_path))


@pytest.fixture
def wrong(capsys, monkeypatch):
    """Run a command that must fail, from the repository: wrong(*words) -> its line."""
    monkeypatch.chdir(ROOT)

    def run(*words):
        try:
            status = main(list(words))
        except SystemExit as error:  # of the parser
            status = error.code
        assert status == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1
        return err

    return run


@pytest.fixture
def recorded(few_digits, digits_config, folders):
    """A run that has its record."""
    from maestro.training.fit import fit

    config = digits_config(epochs=1, batch_size=150)
    return fit(config, task=few_digits)


def test_a_reader_that_has_seen_enough_is_no_error():
    command = f"{sys.executable} -m maestro campaign --list | head -1"
    found = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert found.stdout.count("\n") == 1 and found.stderr == ""


def test_records_lists_the_good(recorded, capsys):
    assert main(["records"]) == 0
    out, err = capsys.readouterr()
    line, count = out.splitlines()
    final = recorded["final"]
    words = describe(records.config_of(recorded))
    assert words.endswith("seed 0, 1 epochs, batch 150, lr 0.05")
    assert line == (
        f"{recorded['id']}  {words}: {final['test_accuracy']:.2f} %, "
        f"{final['params']:,} parameters, trained in float32"
    )
    assert count == "1 good records, 0 not readable" and err == ""


def test_records_names_the_damaged_and_fails(recorded, folders, capsys):
    (folders.runs / "0123456789ab.json").write_text("{")
    assert main(["records"]) == 1
    out, err = capsys.readouterr()
    assert out.endswith("1 good records, 1 not readable\n")
    assert err.startswith("not readable: 0123456789ab.json: not readable as JSON")
    assert err.count("\n") == 1


def test_campaign_lists_what_is_missing(capsys):
    assert main(["campaign", "--list", "--only", "dense"]) == 0
    *runs, count = capsys.readouterr().out.splitlines()
    assert (
        runs[0] == "ed9aaa228994 lenet/mnist dense seed 0, 20 epochs, batch 64, lr 0.01"
    )
    assert all(" dense seed " in run for run in runs)
    assert count == f"{len(runs)} of {len(runs)} runs have no record yet"


def test_campaign_trains_what_was_asked_for(monkeypatch, digits_config, capsys):
    given = []
    runs = [digits_config("dense"), digits_config("maestro")]
    monkeypatch.setattr(catalog, "every_run", lambda: runs)
    monkeypatch.setattr(
        studies, "train_and_study", lambda *a, **more: given.append((a, more))
    )
    words = ["campaign", "--only", "maestro", "--workers", "2", "--device", "cpu"]
    assert main([*words, "--budget-minutes", "9"]) == 0
    more = {"minutes": 9.0, "eager": False, "precision": "auto", "group": ALONE}
    assert given == [(([runs[1]], "cpu", 2), more)]


def test_a_part_of_an_experiments_name_is_answered_with_the_names(wrong):
    line = wrong("campaign", "--only", "table 14")
    assert "'table 14': no run's description has it; experiments that do: " in line
    assert "'table 14, short'" in line and "'table 14, paper'" in line
    assert wrong("campaign", "--only", "tabel").rstrip().endswith("has it; see --list")


def test_campaign_without_its_data_says_how_to_get_them(wrong):
    line = wrong("campaign", "--only", "lenet/mnist dense seed 0")
    assert line.startswith("error: ") and "python -m maestro data mnist" in line


@pytest.mark.parametrize("words", wrong_inputs.COMMANDS)
def test_a_wrong_word_is_one_line(words, wrong):
    """Which names the value and what would be right."""
    assert wrong(*words.split()).startswith(f"error: {wrong_inputs.COMMANDS[words]}")


@pytest.mark.parametrize("words", wrong_inputs.PARAMETERS)
def test_a_wrong_parameter_is_one_line(words, wrong):
    answer = f"error: {wrong_inputs.PARAMETERS[words]}"
    assert wrong("run", *words.split()).startswith(answer)


def test_what_is_not_installed_is_one_line(wrong, monkeypatch):
    monkeypatch.setitem(sys.modules, "papermill", None)
    line = wrong("run", "00_quickstart")
    assert "papermill" in line and line.endswith("installs what the book needs\n")


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        datasets.DataError("one line\nand another"),
        records.RecordError("damaged"),
    ],
)
def test_what_goes_wrong_is_one_line(error, wrong, monkeypatch):
    def fail():
        raise error

    monkeypatch.setitem(datasets.PREPARE, "mnist", fail)
    assert wrong("data", "mnist") == "error: " + str(error).replace("\n", " ") + "\n"


def test_an_interrupt_says_that_nothing_is_lost(monkeypatch, capsys):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setitem(datasets.PREPARE, "mnist", interrupt)
    assert main(["data", "mnist"]) == 130
    assert "run it again to go on" in capsys.readouterr().out


def test_data_says_where_they_are(monkeypatch, capsys):
    monkeypatch.setitem(datasets.PREPARE, "mnist", lambda: "folder/mnist.npz")
    assert main(["data", "mnist"]) == 0
    assert capsys.readouterr().out == "ready: folder/mnist.npz\n"


def test_doctor_says_what_there_is(recorded, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(browser, "find_browser", lambda: None)  # it takes seconds
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "to train: complete" in out
    assert f"data in {tmp_path}: none yet" in out
    assert "1 good, 0 damaged" in out


def test_the_exit_status_reaches_the_shell():
    command = [sys.executable, "-m", "maestro", "data", "nosuch"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    known = ", ".join(datasets.PREPARE)
    assert done.stderr == f"error: no data set 'nosuch'; there is: {known}\n"
