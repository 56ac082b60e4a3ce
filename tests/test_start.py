"""The page Start: its code runs with the wheel, and what it promises is measured."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from maestro.paths import ROOT
from maestro.publish import start
from maestro.results import speed, times

PAGE = (ROOT / "book" / "start.md").read_text("utf-8")
CHECKS = """
import json
right = lambda net: (net.eval()(images).argmax(1) == labels).double().mean().item()
size = lambda net: maestro.footprint(net, images[:1], merged=True).params
nets = {"model": model, "small": small, "pretrained": pretrained, "tuned": tuned}
found = {name: [right(net), size(net)] for name, net in nets.items()}
advice = {name: advice.whole[name] for name in ("lambda_gl", "eps_ps")}
print(json.dumps([maestro.__file__, found, advice, str(fit)]))
"""


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """What the page's code left behind, run from top to bottom with the wheel."""
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("start")
    for name in ("maestro", "pyproject.toml", "README.md", "LICENSE"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wheel = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", "wheel", "."]
    subprocess.run([*pip, *wheel], cwd=folder, check=True)
    shutil.rmtree(folder / "maestro")
    [file] = (folder / "wheel").iterdir()
    install = ["install", "--no-deps", "--target", "there", str(file)]
    subprocess.run([*pip, *install], cwd=folder, check=True)
    code = "\n".join([*blocks("python"), CHECKS])
    env = os.environ | {"PYTHONPATH": str(folder / "there")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout, *json.loads(done.stdout.splitlines()[-1])


def test_the_code_runs_with_the_wheel_alone(ran):
    folder, out, file, *_ = ran
    assert file.startswith(str(folder / "there"))
    assert {path.name for path in folder.glob("net.*")} == {
        f"net.{ending}" for ending in ("safetensors", "onnx", "pt2")
    }
    assert out.count("Footprint(params=") == 2 and "break-even" in out


def test_the_networks_of_the_page_learn_and_shrink(ran):
    """Bounds with a wide margin: the figures themselves are those of a processor."""
    *_, found, advice, fit = ran
    assert found["small"][1] < 0.7 * found["model"][1]
    assert found["tuned"][1] < 0.7 * found["pretrained"][1]
    assert all(found[name][0] > 0.7 for name in ("small", "pretrained", "tuned"))
    assert advice["eps_ps"] == 1e-3 and 5e-3 < advice["lambda_gl"] < 2e-2
    assert fit.endswith("MACs")


def test_the_commands_of_the_page_are_there():
    make = (ROOT / "Makefile").read_text("utf-8")
    text = "\n".join(blocks("bash")) + PAGE
    targets = set(re.findall(r"(?:`|^)make ([a-z]+)", text, re.MULTILINE))
    assert targets == {"wheel", "book"}
    assert all(f"\n{target}: " in make for target in targets)
    assert "https://download.pytorch.org/whl/$(TORCH)" in make
    builds = set(re.findall(r"TORCH=(\w+)", text))
    indices = set(re.findall(r"https://download.pytorch.org/whl/(\w+)", text))
    assert builds <= indices == {"cpu", "cu130"}


def test_the_gains_are_those_of_the_measurement():
    measured = speed.load("cpu")
    table = start.gains_table(measured)
    half = next(x for x in table.splitlines() if x.startswith("| VGG-19, half"))
    rows = measured["models"]["vgg19"]["rows"]
    row = next(r for r in rows if (r["kind"], r["share"]) == ("lod", 0.5))
    ratio = row["inference 64"]["ratio"]
    assert half.split(" | ")[4] == f"{ratio:.2f}"
    assert table.count("\n| ") == 2 + 6


def test_the_readme_says_too_what_becomes_slower():
    said = " ".join((ROOT / "README.md").read_text("utf-8").split())
    assert start.losses(times.load()).strip() in said


def test_the_page_says_what_a_measurement_says():
    rows = times.load()
    assert "Small networks become slower" in start.losses(rows)
    rows.loc[rows.network == "LeNet", "time_share"] = 0.9
    assert "takes 0.9 to 0.9 times" in start.losses(rows)
    assert "latency.py" in start.losses(None)
    assert "make bench" in start.gains_table(None)
