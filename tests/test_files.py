"""`save` and `load`: outputs equal to the bit, from a file that says what it holds."""

import copy
import json
import subprocess
import sys

import pytest
import torch
from torch import nn

import maestro
from maestro.models import LeNet
from maestro.system import DiskError

safetensors = pytest.importorskip("safetensors.torch")

RANKS = [
    {},
    {"conv1": 2, "conv2": 5, "fc1": 9, "fc2": 3, "fc3": 1},
    {"conv1": 0, "fc1": 60, "fc2": 0},
    dict.fromkeys(("conv1", "conv2", "fc1", "fc2", "fc3"), 0),
]
FORMS = {
    "factors": lambda net: net,
    "merged": maestro.merge,
    "aligned": lambda net: maestro.merge(net, aligned=True),
    "dense": lambda net: LeNet(),
}


def lenet(ranks):
    net = maestro.factorize(LeNet())
    maestro.truncate(net, ranks)
    return net


def tensors_of(path):
    return safetensors.load_file(path)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("ranks", RANKS)
def test_outputs_are_equal_to_the_bit(tmp_path, ranks, form):
    net, path = FORMS[form](lenet(ranks)), tmp_path / "net.safetensors"
    written = maestro.save(net, path)
    assert path.stat().st_size == written
    into, x = LeNet(), torch.randn(3, 1, 28, 28)
    loaded = maestro.load(path, into)
    assert loaded is into and torch.equal(loaded(x), net(x))
    assert maestro.ranks(loaded) == maestro.ranks(net)
    kinds = [type(m).__name__ for m in net.modules()]
    assert kinds == [type(m).__name__ for m in loaded.modules()]
    assert all(p.requires_grad for p in loaded.parameters())


def everything():
    """All that a plain network can be made of."""
    shared = nn.Linear(8, 8)
    net = nn.ModuleDict(
        {
            "attention": nn.MultiheadAttention(8, 2, kdim=5, add_bias_kv=True),
            "lstm": nn.LSTM(8, 6, 2, bidirectional=True),
            "one": shared,
            "two": shared,
            "groups": nn.Conv1d(8, 12, 3, groups=2),
            "up": nn.ConvTranspose2d(8, 4, 3, 2),
            "norm": nn.BatchNorm2d(4),
            "embed": nn.Embedding(9, 8),
            "head": nn.Linear(8, 9, bias=False),
        }
    )
    net["head"].weight = net["embed"].weight
    return net


@pytest.mark.parametrize("form", [lambda net: net, maestro.merge])
def test_every_kind_of_layer(tmp_path, form):
    net = maestro.factorize(everything())
    halves = {name: r // 2 for name, r in maestro.ranks(net).items()}
    maestro.truncate(net, halves)
    net["one"].columns = 2
    net = form(net)
    path = tmp_path / "net.safetensors"
    maestro.save(net, path)
    loaded = maestro.load(path, everything())
    assert loaded["one"] is loaded["two"]
    assert loaded["head"].weight is loaded["embed"].weight
    states = [one.state_dict() for one in (net, loaded)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    plain = isinstance(net["lstm"].weight_hh_l0, nn.Parameter)
    assert isinstance(loaded["lstm"].weight_hh_l0, nn.Parameter) == plain
    x = torch.randn(5, 2, 8)
    for name, inputs in {
        "attention": (x, x[..., :5], x),
        "lstm": (x,),
        "groups": (x.permute(1, 2, 0),),
        "up": (x[None].transpose(1, 3),),
    }.items():
        out, expected = loaded[name](*inputs), net[name](*inputs)
        assert torch.equal(
            *(t if torch.is_tensor(t) else t[0] for t in (out, expected))
        )


def test_a_loaded_network_is_cut_and_trained(tmp_path):
    path = tmp_path / "net.safetensors"
    maestro.save(lenet(RANKS[1]), path)
    net = maestro.load(path, LeNet())
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    with maestro.sample(net):
        net(torch.randn(2, 1, 28, 28)).square().mean().backward()
    optimizer.step()
    maestro.truncate(net, {"conv2": 2}, optimizer)
    optimizer.step()


def test_an_optimiser_made_too_early_is_stopped(tmp_path):
    path, into = tmp_path / "net.safetensors", LeNet()
    optimizer = torch.optim.SGD(into.parameters(), 0.1)
    maestro.save(lenet({}), path)
    maestro.load(path, into)
    with pytest.raises(RuntimeError, match="make it afterwards"):
        optimizer.step()


def test_a_square_conv1d_of_gpt2_is_not_taken_for_a_linear(tmp_path):
    conv1d = pytest.importorskip("transformers.pytorch_utils").Conv1D
    for form in (lambda net: net, maestro.merge):
        net = form(maestro.factorize(nn.Sequential(conv1d(6, 6))))
        maestro.save(net, tmp_path / "net.safetensors")
        loaded = maestro.load(tmp_path / "net.safetensors", nn.Sequential(conv1d(6, 6)))
        x = torch.randn(2, 6)
        assert torch.equal(loaded(x), net(x))


def test_the_layer_may_be_the_whole_network(tmp_path):
    for form in FORMS.values():
        layer = maestro.factorize(nn.Conv2d(3, 20, 3))
        maestro.truncate(layer, {"": 8})
        net = form(layer)
        if isinstance(net, LeNet):
            continue
        maestro.save(net, tmp_path / "net.safetensors")
        loaded = maestro.load(tmp_path / "net.safetensors", nn.Conv2d(3, 20, 3))
        x = torch.randn(2, 3, 5, 5)
        assert (
            torch.equal(loaded(x), net(x))
            and type(loaded) is type(net)
            or (type(loaded).__name__ == "Aligned")
        )


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions(tmp_path, dtype):
    net, path = lenet(RANKS[1]).to(dtype), tmp_path / "net.safetensors"
    maestro.save(net, path)
    x = torch.randn(2, 1, 28, 28, dtype=dtype)
    assert torch.equal(maestro.load(path, LeNet().to(dtype))(x), net(x))
    with pytest.raises(ValueError, match="float.* in the network|the network in"):
        maestro.load(path, LeNet())


def test_channels_last_and_views_are_written(tmp_path):
    net = LeNet().to(memory_format=torch.channels_last)
    net.register_buffer("part", torch.arange(10.0)[::2])
    maestro.save(net, tmp_path / "net.safetensors")
    into = LeNet()
    into.register_buffer("part", torch.zeros(5))
    assert torch.equal(maestro.load(tmp_path / "net.safetensors", into).part, net.part)


def test_smaller_than_dense(tmp_path):
    sizes = {}
    for name, net in {"dense": LeNet(), "cut": lenet(RANKS[1])}.items():
        sizes[name] = maestro.save(net, tmp_path / name)
        assert sizes[name] < 4 * sum(p.numel() for p in net.parameters()) + 2500
    assert sizes["cut"] < sizes["dense"] / 3


# the manifest


def test_what_the_file_says_of_itself(tmp_path):
    path = tmp_path / "net.safetensors"
    about = {"accuracy": 98.5, "task": "mnist", "seeds": [1, 2]}
    maestro.save(lenet(RANKS[1]), path, about)
    said = maestro.manifest(path)
    assert said["ranks"] == RANKS[1] and said["about"] == about
    assert said["kinds"]["fc1"] == "LowRankLinear"
    with safetensors.safe_open(path, "pt") as file:  # one text, as JSON
        assert json.loads(file.metadata()["maestro"]) == said


@pytest.mark.parametrize("about", [{"net": LeNet}, {"loss": float("nan")}, {1, 2}])
def test_what_is_not_for_json_is_refused(tmp_path, about):
    with pytest.raises(ValueError, match="about: it takes what JSON has"):
        maestro.save(LeNet(), tmp_path / "net.safetensors", about)
    assert not list(tmp_path.iterdir())


# what goes wrong


def test_nothing_half_written_is_left(tmp_path):
    path = tmp_path / "net.safetensors"
    maestro.save(LeNet(), path)
    before = path.read_bytes()
    maestro.save(LeNet(), path)
    assert path.read_bytes() != before and list(tmp_path.iterdir()) == [path]
    with pytest.raises(DiskError, match="cannot be written"):
        maestro.save(LeNet(), path / "inside")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DiskError, match="cannot be written"):
        maestro.save(LeNet(), tmp_path / "folder")


@pytest.mark.parametrize("damage", ["cut", "header", "flipped", "empty", "text"])
def test_a_damaged_file_is_named_and_changes_nothing(tmp_path, damage):
    path = tmp_path / "net.safetensors"
    maestro.save(lenet(RANKS[1]), path)
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[:-100]
    elif damage == "header":
        data[2:60] = b"?" * 58
    elif damage == "flipped":
        data[-50] ^= 1
    else:
        data = b"" if damage == "empty" else b"not at all a network" * 9
    path.write_bytes(data)
    into = LeNet()
    before = copy.deepcopy(into.state_dict())
    with pytest.raises(ValueError, match="net.safetensors is damaged"):
        maestro.load(path, into)
    assert all(torch.equal(into.state_dict()[k], v) for k, v in before.items())


def test_files_of_others(tmp_path):
    path = tmp_path / "other.safetensors"
    safetensors.save_file({"a": torch.ones(2)}, path)
    for read in (lambda: maestro.load(path, LeNet()), lambda: maestro.manifest(path)):
        with pytest.raises(ValueError, match="was not written by maestro.save"):
            read()
    safetensors.save_file({"a": torch.ones(2)}, path, {"maestro": "[1"})
    with pytest.raises(ValueError, match="its manifest cannot be read"):
        maestro.load(path, LeNet())
    safetensors.save_file({"a": torch.ones(2)}, path, {"maestro": '{"schema": 99}'})
    with pytest.raises(ValueError, match="schema 99; this version reads 1"):
        maestro.load(path, LeNet())
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        maestro.load(tmp_path / "none.safetensors", LeNet())


class Wider(LeNet):
    def __init__(self):
        super().__init__()
        self.fc2 = nn.Linear(120, 90)


class Longer(LeNet):
    def __init__(self):
        super().__init__()
        self.fc4 = nn.Linear(3, 3)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Longer, "does not fit this Longer: it lacks fc4.weight, fc4.bias"),
        (
            lambda: nn.Sequential(nn.Linear(3, 3)),
            "the network has no conv.* more",
        ),
        (Wider, r"fc2.* is \(84.* there and \(90.* in the network"),
        (lambda: LeNet().double(), "fc.* or outputs would differ|first, or outputs"),
        (lambda: LeNet().to("meta"), "has no storage"),
    ],
)
@pytest.mark.parametrize("form", ["factors", "merged", "dense"])
def test_another_architecture_is_refused_and_stays(tmp_path, other, message, form):
    path, into = tmp_path / "net.safetensors", other()
    maestro.save(FORMS[form](lenet(RANKS[1])), path)
    modules = list(into.modules())
    with pytest.raises(ValueError, match=message):
        maestro.load(path, into)
    assert all(a is b for a, b in zip(modules, into.modules(), strict=True))


def test_what_cannot_be_saved():
    with pytest.raises(ValueError, match="net is .*: it takes a network"):
        maestro.save({"a": 1}, "x")
    with pytest.raises(ValueError, match="without numbers"):
        maestro.save(LeNet().to("meta"), "x")

    class Odd(nn.Linear):
        def get_extra_state(self):
            return {"a": 1}

    with pytest.raises(ValueError, match="'_extra_state' is dict"):
        maestro.save(Odd(2, 2), "x")


def test_without_safetensors_the_error_says_what_to_install(tmp_path):
    code = """
import sys
sys.modules["safetensors"] = None
sys.modules["safetensors.torch"] = None
import maestro
from maestro.models import LeNet
for call in (lambda: maestro.save(LeNet(), "x"), lambda: maestro.load("x", LeNet())):
    try:
        call()
    except ImportError as error:
        assert "pip install safetensors" in str(error)
    else:
        raise SystemExit("no error")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
