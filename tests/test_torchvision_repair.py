"""The repair of a torchvision that was built for another torch, and only of that."""

import importlib
import os
import subprocess
import sys
import types

import pytest

from maestro.datasets import torchvision_repair
from maestro.datasets.torchvision_repair import import_torchvision

FRESH = """
import sys
from maestro.datasets import torchvision_repair
assert "torchvision" not in sys.modules and torchvision_repair.repaired is False
module = torchvision_repair.import_torchvision()
assert module is sys.modules["torchvision"]
assert module is torchvision_repair.import_torchvision()
print("repaired" if torchvision_repair.repaired else "as it is")
"""

USE = """
import torch
from torchvision import datasets, models
from torchvision.transforms import v2
state = "repaired" if torchvision_repair.repaired else "as it is"
size = v2.CenterCrop(2)(torch.ones(3, 4, 4)).shape[-1]
print(f"{state}: {models.ResNet.__name__} {size}")
"""


def run(code, **environment):
    """The last line that a fresh Python prints; it must end well."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=900,  # hangs, however busy the machine
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[-2]


def test_what_is_installed_here_works():
    """Repaired where, and only where, the plain import fails."""
    code = "import torch\ntry: import torchvision\nexcept RuntimeError as e: print(e)\n"
    plain = run(code + "else: print('as it is')")
    assert plain in ("as it is", "operator torchvision::nms does not exist")
    state, parts = run(FRESH + USE).split(": ")
    assert (state == "as it is") == (plain == "as it is")
    assert parts == "ResNet 2"


def package(folder, source):
    """A package of that name which is found before the real one."""
    (folder / "torchvision").mkdir()
    (folder / "torchvision" / "__init__.py").write_text(source)
    return {"PYTHONPATH": str(folder)}


def test_a_matched_pair_is_left_alone(tmp_path):
    """It has its operators: to declare them again would be an error."""
    source = "import torch\n"
    for name in ("nms", "qnms"):
        source += (
            f'torch.library.define("torchvision::{name}", "(Tensor x) -> Tensor")\n'
        )
    assert run(FRESH, **package(tmp_path, source)) == "as it is"


def test_a_mismatched_pair_is_repaired(tmp_path):
    source = "import torch\n"
    for name in ("nms", "qnms"):
        source += f'torch.library.register_fake("torchvision::{name}")(lambda *a: 0)\n'
    environment = package(tmp_path, "from . import part\n" + source)
    # a part that was imported before the failure is imported again
    part = "import torch\ntorch.loads = getattr(torch, 'loads', 0) + 1\n"
    (tmp_path / "torchvision" / "part.py").write_text(part)
    # the declarations are kept alive
    use = "import gc, torch; gc.collect(); print(torch.ops.torchvision.qnms.default, "
    use += "torchvision_repair.repaired, torch.loads)"
    assert run(FRESH + use, **environment) == "torchvision.qnms.default True 2"


@pytest.fixture
def failing(monkeypatch):
    """Make the import fail with one's own error; what was loaded stays loaded."""
    monkeypatch.setattr(torchvision_repair, "repaired", False)
    here = types.ModuleType("torchvision")
    monkeypatch.setitem(sys.modules, "torchvision", here)
    monkeypatch.setattr(
        torchvision_repair, "_declare_operators", lambda: pytest.fail("declared")
    )

    def fail_with(error):
        def import_module(name):
            assert name == "torchvision"
            raise error

        monkeypatch.setattr(importlib, "import_module", import_module)

    yield fail_with
    assert sys.modules["torchvision"] is here and not torchvision_repair.repaired


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("operator torchvision::roi_align does not exist"),
        RuntimeError("CUDA error; operator torchvision::nms does not exist?"),
        RuntimeError(""),
        ModuleNotFoundError("No module named 'torchvision'"),
        ImportError("libjpeg.so.8"),
        ValueError("operator torchvision::nms does not exist"),
    ],
    ids=repr,
)
def test_any_other_error_is_passed_on(failing, error):
    failing(error)
    with pytest.raises(type(error)) as caught:
        import_torchvision()
    assert caught.value is error


def test_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ImportError):
        import_torchvision()
