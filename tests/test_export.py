"""`export`: a file that runs without this package, smaller than the dense one."""

import subprocess
import sys

import pytest
import torch
from torch import nn

import maestro
from maestro.models import LeNet
from maestro.system import DiskError

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

MIXED = {"conv1": 0, "conv2": 5, "fc1": 9, "fc2": 20, "fc3": 10}
FULL = {}
EMPTY = dict.fromkeys(("conv1", "conv2", "fc1", "fc2", "fc3"), 0)
LOADERS = {
    ".pt2": """
out = torch.export.load(path).module()(x)
""",
    ".onnx": """
import onnxruntime
session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
out, = session.run(None, {session.get_inputs()[0].name: x.numpy()})
out = torch.from_numpy(out)
""",
}


def lenet(ranks):
    torch.manual_seed(0)
    net = maestro.factorize(LeNet())
    maestro.truncate(net, ranks)
    return net.eval()


def run_elsewhere(suffix, x, outputs, folder):
    """The files {path: outputs} in a process that has never heard of maestro."""
    torch.save((x, outputs), folder / "example.pt")
    run = "    ".join(LOADERS[suffix].splitlines(keepends=True))
    code = f"""
import sys, torch
x, outputs = torch.load({str(folder / "example.pt")!r})
for path, expected in outputs.items():
    {run}
    assert out.shape == expected.shape
    assert (out - expected).abs().max() <= 1e-5 * expected.abs().max()
assert "maestro" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("suffix", LOADERS)
def test_the_file_runs_elsewhere_at_any_batch_and_is_smaller(tmp_path, suffix):
    x, outputs, sizes = torch.randn(5, 1, 28, 28), {}, {}
    for name, ranks, aligned in (
        ("mixed", MIXED, False),
        ("aligned", {"conv2": 9, "fc1": 60, "fc2": 40}, True),
        ("full", FULL, False),
        ("empty", EMPTY, False),
    ):
        net, path = lenet(ranks), tmp_path / f"{name}{suffix}"
        before = maestro.ranks(net)
        done = maestro.export(net, path, x[:1], aligned=aligned)
        assert done.bytes == path.stat().st_size and done.difference <= 1e-5
        assert maestro.ranks(net) == before  # it was a copy
        with torch.no_grad():
            outputs[str(path)] = net(x)
        sizes[name] = done.bytes
    assert len(list(tmp_path.iterdir())) == 4  # one file each
    assert sizes["empty"] < sizes["mixed"] < sizes["full"] / 2
    assert sizes["aligned"] < sizes["full"]
    run_elsewhere(suffix, x, outputs, tmp_path)


def test_training_mode_and_random_numbers_are_left_alone(tmp_path):
    net = nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.BatchNorm1d(4))
    maestro.factorize(net).train()
    state = torch.get_rng_state()
    maestro.export(net, tmp_path / "net.pt2", torch.zeros(2, 4))
    assert all(module.training for module in net.modules())
    assert net[2].num_batches_tracked == 0
    assert torch.equal(state, torch.get_rng_state())


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 5), nn.Embedding(9, 5)

    def forward(self, x, tokens, scale=None):
        out = self.a(x) + self.b(tokens)
        return {"out": out if scale is None else out * scale, "double": 2 * out}


@pytest.mark.parametrize("suffix", LOADERS)
@pytest.mark.parametrize("named", [False, True])
def test_several_inputs_and_outputs(tmp_path, suffix, named):
    x, tokens = torch.randn(3, 6), torch.tensor([1, 2, 8])
    inputs = {"x": x, "tokens": tokens} if named else (x, tokens)
    net = maestro.factorize(TwoInputs()).eval()
    maestro.truncate(net, {"a": 2})
    assert maestro.export(net, tmp_path / f"net{suffix}", inputs).difference <= 1e-5


class FixedBatch(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        return self.fc(x).view(2, 2, 4) if len(x) == 4 else self.fc(x)


@pytest.mark.parametrize("suffix", LOADERS)
def test_a_batch_that_the_code_fixes(tmp_path, suffix):
    net, x = maestro.factorize(FixedBatch()).eval(), torch.randn(2, 4)
    with pytest.raises(ValueError, match="fixes the size.*dynamic_batch=False"):
        maestro.export(net, tmp_path / f"net{suffix}", x)
    assert not list(tmp_path.iterdir())
    x = torch.randn(4, 4)
    maestro.export(net, tmp_path / f"net{suffix}", x, dynamic_batch=False)


def test_eight_bits(tmp_path):
    """Of a layer of rank 0 the bias must not be lost, as at a scale of zero it is."""
    net, x = lenet(MIXED), torch.randn(64, 1, 28, 28)
    nn.init.normal_(net.conv1.bias)
    path = tmp_path / "net.onnx"
    floats = maestro.export(net, tmp_path / "float.onnx", x[:2])
    done = maestro.export(net, path, x[:2], calibration=[x[:32], x[32:]])
    assert done.bytes < 0.7 * floats.bytes
    assert floats.difference < done.difference < 0.1
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (out,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert out.shape == (64, 10)


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 16), nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, u, v):
        return self.c(torch.relu(self.a(u) + 0.001 * self.b(v)))


def test_calibration_takes_inputs_by_name(tmp_path):
    u, v = torch.rand(64, 8), 1000 * torch.rand(64, 8)
    example, other = {"u": u, "v": v}, {"v": v, "u": u}
    net = Two()
    done = maestro.export(net, tmp_path / "a.onnx", example, calibration=[other])
    assert done.difference < 0.1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_reduced_precision_has_a_tolerance_of_its_own(tmp_path, dtype):
    net, x = lenet(MIXED).to(dtype), torch.randn(4, 1, 28, 28, dtype=dtype)
    maestro.export(net, tmp_path / "net.pt2", x)


def test_a_wrapper_is_taken_off(tmp_path):
    net, x = lenet(MIXED), torch.randn(4, 1, 28, 28)
    for wrapped in (nn.DataParallel(net), torch.compile(net)):
        maestro.export(wrapped, tmp_path / "net.pt2", x)
        maestro.save(wrapped, tmp_path / "net.safetensors")
        found = maestro.load(tmp_path / "net.safetensors", into=lenet({}))
        torch.testing.assert_close(found.eval()(x), net.eval()(x))


# what goes wrong


def test_an_operation_that_onnxruntime_lacks_is_named(tmp_path):
    net, x = lenet({}).double(), torch.randn(2, 1, 28, 28).double()
    with pytest.raises(ValueError, match="onnxruntime cannot run .* net.float"):
        maestro.export(net, tmp_path / "net.onnx", x)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "more", "message"),
    [
        ("net.bin", {}, "it takes a name in .pt2 or .onnx"),
        ("net.pt2", {"calibration": [torch.randn(2, 1, 28, 28)]}, "for .onnx"),
        ("net.onnx", {"calibration": []}, "it takes a few batches"),
        ("net.onnx", {"calibration": torch.randn(2, 1, 28, 28)}, "a list of a few"),
        ("net.onnx", {"calibration": [(1, 2)]}, "2 inputs, but .* with 1 inputs"),
        ("net.pt2", {"by": "speed"}, "by='speed'"),
    ],
)
def test_wrong_arguments_write_nothing(tmp_path, name, more, message):
    with pytest.raises(ValueError, match=message):
        maestro.export(lenet({}), tmp_path / name, torch.randn(2, 1, 28, 28), **more)
    assert not list(tmp_path.iterdir())


def test_a_path_that_cannot_be_written_is_named_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="cannot be written"):
        maestro.export(lenet({}), tmp_path / "file" / "net.pt2", torch.randn(2, 3))


def test_other_outputs_are_refused(tmp_path):
    """A program that differs is not written: here the network counts its calls."""

    class Counts(nn.Linear):
        calls = 0

        def forward(self, x):
            Counts.calls += 1
            return super().forward(x) + Counts.calls

    with pytest.raises(ValueError, match="differ by .* nothing was written"):
        maestro.export(Counts(3, 3), tmp_path / "net.pt2", torch.randn(2, 3))
    assert not list(tmp_path.iterdir())


def test_without_onnx_the_error_says_what_to_install(tmp_path):
    code = """
import sys
for name in ("onnx", "onnxscript", "onnxruntime"):
    sys.modules[name] = None
import maestro, torch
try:
    maestro.export(torch.nn.Linear(2, 2), "net.onnx", torch.zeros(2, 2))
except ImportError as error:
    assert "pip install onnx" in str(error)
maestro.export(torch.nn.Linear(2, 2), "net.pt2", torch.zeros(2, 2))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
