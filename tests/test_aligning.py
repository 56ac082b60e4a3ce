"""The aligned form: r rows of U are an identity, and the function stays."""

import copy
import io
import subprocess
import sys

import pytest
import torch
from torch import fx, nn

import maestro
from maestro.lowrank import aligning
from maestro.lowrank.forms import forms, smallest
from maestro.models import LeNet

LAYERS = [
    (lambda: nn.Linear(20, 30), (4, 20)),
    (lambda: nn.Linear(30, 20, bias=False), (2, 3, 30)),
    (lambda: nn.Conv1d(4, 24, 5, 2, 1), (2, 4, 13)),
    (lambda: nn.Conv2d(3, 24, 3, padding=1), (2, 3, 8, 9)),
    (lambda: nn.Conv2d(16, 32, 3, 2, groups=2, bias=False), (2, 16, 8, 9)),
    (lambda: nn.ConvTranspose2d(20, 4, 3, 2, bias=False), (2, 20, 4, 5)),
    (lambda: nn.ConvTranspose1d(36, 8, 4, groups=2), (2, 36, 5)),
    (lambda: nn.Conv3d(2, 18, 2, padding_mode="circular", padding=1), (1, 2, 4, 5, 6)),
]


def pair(made, rank, dtype=torch.float64):
    """A layer of this rank with numbers of its own, and the same one aligned."""
    layer = maestro.factorize(made().to(dtype))
    maestro.truncate(layer, {"": rank})
    for p in layer.parameters():
        nn.init.normal_(p)
    return layer, maestro.merge(copy.deepcopy(layer), aligned=True)


@pytest.mark.parametrize("rank", [9, 7])
@pytest.mark.parametrize("made, shape", LAYERS)
def test_the_function_and_the_numbers(made, shape, rank):
    layer, merged = pair(made, rank)
    x = torch.randn(shape, dtype=torch.float64)
    assert isinstance(merged, fx.GraphModule)
    expected = layer(x)
    assert (merged(x) - expected).abs().max() <= 1e-12 * expected.abs().max()
    (m, n), bias = layer.shape, 0 if layer.bias is None else len(layer.bias)
    numbers = layer.blocks * rank * (m + n - rank) + bias
    assert sum(p.numel() for p in merged.parameters()) == numbers
    foretold = maestro.footprint(layer, x, merged="aligned")
    assert maestro.footprint(merged, x) == foretold and foretold.params == numbers


@pytest.mark.parametrize("made, shape", LAYERS)
def test_single_precision_is_exact_to_its_rounding(made, shape):
    """Against the factors in double precision, relative to the largest output."""
    layer, merged = pair(made, 8, torch.float32)
    x = torch.randn(shape)
    exact = layer.double()(x.double())
    assert (merged(x) - exact).abs().max() <= 2e-6 * exact.abs().max()


@pytest.mark.parametrize("shape", [(64, 8), (300, 100), (5, 5), (7, 1)])
def test_no_number_of_the_ratio_is_large(shape):
    U = torch.randn(shape, dtype=torch.float64)
    U[: shape[1]] *= 1e-9  # the first rows are a bad choice
    chosen, others, A = aligning.rows(U)
    assert sorted([*chosen.tolist(), *others.tolist()]) == list(range(shape[0]))
    assert not A.numel() or A.abs().max() <= aligning.BOUND + 1e-9
    torch.testing.assert_close(A @ U[chosen], U[others], rtol=0, atol=1e-12)


@pytest.mark.parametrize("batch", [(), (0,), (3,), (2, 0), (2, 3, 4)])
def test_a_linear_layer_of_any_batch(batch):
    layer, merged = pair(LAYERS[0][0], 9)
    x = torch.randn(*batch, 20, dtype=torch.float64)
    torch.testing.assert_close(merged(x), layer(x), rtol=0, atol=1e-10)


def test_columns_that_are_zero_or_alike_do_no_harm():
    layer = maestro.factorize(nn.Linear(30, 40).double())
    maestro.truncate(layer, {"": 12})
    with torch.no_grad():
        layer.U[:, 3] = 0
        layer.U[:, 5] = layer.U[:, 6]
        layer.V[:, 9] = 0
    x = torch.randn(5, 30, dtype=torch.float64)
    expected = layer(x)
    merged = maestro.merge(layer, aligned=True)
    assert (merged(x) - expected).abs().max() <= 1e-12


def test_the_sizes_of_the_forms():
    assert [f.params for f in forms(30, 20, 6, aligned=True)] == [600, 300, 264]
    assert smallest(30, 20, 6, aligned=True).name == "aligned"  # and 30 in its index
    assert smallest(30, 20, 5, aligned=True).name == "two maps"
    assert smallest(30, 20, 17, aligned=True).name == "aligned"  # 561, and 30
    assert smallest(30, 20, 18, aligned=True).name == "dense"
    assert smallest(30, 20, 0, aligned=True).params == 50
    for r in range(31):
        aligned = forms(64, 32, r, aligned=True)[-1]
        assert aligned.params < 64 * 32


def test_a_network_and_who_reads_it():
    """Not every layer may be aligned; all of PyTorch goes on working."""
    net = maestro.factorize(LeNet().double())
    maestro.truncate(net, {"conv2": 9, "fc1": 30, "fc2": 40, "fc3": 0})
    x = torch.randn(4, 1, 28, 28, dtype=torch.float64)
    expected = net(x)
    foretold = maestro.footprint(net, x[:1], merged="aligned")
    smaller = maestro.footprint(net, x[:1], merged=True)
    assert foretold.params < smaller.params and foretold.macs < smaller.macs
    maestro.merge(net, aligned=True)
    kinds = {
        name: type(getattr(net, name)).__name__ for name, _ in net.named_children()
    }
    assert kinds["conv2"] == kinds["fc1"] == "Aligned" and kinds["conv1"] == "Conv2d"
    assert maestro.footprint(net, x[:1]) == foretold
    net(x).square().mean().backward()
    assert all(p.grad is not None for p in net.parameters())
    assert (copy.deepcopy(net)(x) - expected).abs().max() <= 1e-12
    assert isinstance(maestro.merge(net), LeNet)  # again, of nothing


def test_a_saved_module_loads_without_this_package(tmp_path):
    layer, merged = pair(LAYERS[3][0], 8)
    x = torch.randn(LAYERS[3][1], dtype=torch.float64)
    torch.save({"net": merged, "x": x, "y": merged(x)}, tmp_path / "net.pt")
    code = f"""
import sys, torch
saved = torch.load({str(tmp_path / "net.pt")!r}, weights_only=False)
assert torch.equal(saved["net"](saved["x"]), saved["y"])
assert "maestro" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_was_frozen_stays_frozen():
    for trained in (True, False):
        layer = maestro.factorize(nn.Linear(20, 30))
        layer.requires_grad_(trained)
        maestro.truncate(layer, {"": 9})
        merged = maestro.merge(layer, aligned=True)
        assert {p.requires_grad for p in merged.parameters()} == {trained}
        saved = io.BytesIO()
        torch.save(merged.state_dict(), saved)
        saved.seek(0)
        merged.load_state_dict(torch.load(saved))


def test_export():
    layer, merged = pair(LAYERS[3][0], 8, torch.float32)
    x = torch.randn(LAYERS[3][1])
    batch = {0: torch.export.Dim("batch")}
    program = torch.export.export(merged, (x,), dynamic_shapes=(batch,)).module()
    x = torch.cat([x, x, x])
    assert torch.equal(program(x), merged(x))
