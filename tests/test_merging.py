"""`merge`: plain PyTorch layers of the same function and of no more parameters."""

import copy

import pytest
import torch
from torch import nn

import maestro
from maestro.datasets.torchvision_repair import import_torchvision
from maestro.lowrank import merging
from maestro.models import LeNet

RANKS = [
    {},
    {"conv1": 2, "conv2": 5, "fc1": 9, "fc2": 3, "fc3": 1},
    {"conv1": 0, "fc1": 60, "fc2": 0},
    {"conv1": 1, "conv2": 0, "fc1": 0, "fc2": 0, "fc3": 0},
]


def lenet(ranks):
    net = maestro.factorize(LeNet().double())
    maestro.truncate(net, ranks)
    return net


def kinds(net):
    return {type(module) for module in net.modules()} - {LeNet}


@pytest.mark.parametrize("ranks", RANKS)
def test_same_function_and_the_footprint_foretold(ranks):
    net, x = lenet(ranks), torch.randn(4, 1, 28, 28, dtype=torch.float64)
    expected, foretold = net(x), maestro.footprint(net, x[:1], merged=True)
    merged = maestro.merge(net)
    assert merged is net
    assert (merged(x) - expected).abs().max() <= 1e-10
    assert maestro.footprint(merged, x[:1]) == foretold
    assert sum(p.numel() for p in merged.parameters()) == foretold.params


@pytest.mark.parametrize("ranks", RANKS)
def test_nothing_but_plain_pytorch_is_left(ranks):
    merged = maestro.merge(lenet(ranks))
    assert maestro.ranks(merged) == {}
    assert kinds(merged) <= {nn.Linear, nn.Conv2d, nn.Sequential}
    assert not list(merged.buffers())
    names = {name.rpartition(".")[2] for name in merged.state_dict()}
    assert names == {"weight", "bias"}


@pytest.mark.parametrize(
    ("dense", "shape"),
    [
        (nn.Linear(6, 5), (3, 6)),
        (nn.Conv2d(2, 6, 3, stride=2, padding=1), (3, 2, 9, 8)),
    ],
)
def test_a_layer_of_rank_zero_becomes_one_of_a_column_of_zeros(dense, shape):
    layer = maestro.factorize(dense)
    maestro.truncate(layer, {"": 0})
    x, (m, n) = torch.randn(shape), layer.shape
    expected, merged = layer(x), maestro.merge(layer)
    assert torch.equal(merged(x), expected) and type(merged) is nn.Sequential
    assert sum(p.numel() for p in merged.parameters()) == m + n + m


@pytest.mark.parametrize("form", ["number", "row"])
@pytest.mark.parametrize("used", [0, 1, 3, 8])
@pytest.mark.parametrize(
    ("dense", "shape"), [(nn.Linear(8, 8), (3, 8)), (nn.Conv2d(2, 8, 3), (3, 2, 5, 5))]
)
def test_columns_that_are_not_in_use_are_left_out(dense, shape, used, form):
    layer = maestro.factorize(copy.deepcopy(dense).double())
    layer.columns = used if form == "number" else (torch.arange(8) < used).double()
    x = torch.randn(shape, dtype=torch.float64)
    expected, merged = layer(x), maestro.merge(layer)
    assert (merged(x) - expected).abs().max() <= 1e-12
    if used < 3:
        (m, n), r = layer.shape, max(used, 1)
        assert sum(p.numel() for p in merged.parameters()) == r * (m + n) + m


def test_a_draw_in_force_is_merged():
    net = maestro.factorize(nn.Sequential(nn.Linear(8, 8)).double())
    x = torch.randn(3, 8, dtype=torch.float64)
    with maestro.sample(net, torch.Generator().manual_seed(1)) as cut:
        expected = net(x)
        maestro.merge(net)
    assert cut["0"] < 8 and (net(x) - expected).abs().max() <= 1e-12


def test_all_layers_are_made_before_one_is_put_in_place(monkeypatch):
    net = lenet({"fc1": 9, "fc2": 5})
    layers = maestro.low_rank_layers(net)
    monkeypatch.setattr(layers["fc3"], "kernel", None)
    with pytest.raises(TypeError):
        maestro.merge(net)
    assert maestro.low_rank_layers(net) == layers


def test_the_smaller_form_is_taken():
    net = maestro.factorize(nn.Sequential(*(nn.Linear(6, 6) for _ in range(3))))
    maestro.truncate(net, {"0": 2, "1": 3})  # 24 and 36 numbers against 36
    merged = maestro.merge(net)
    assert [type(module) for module in merged] == [nn.Sequential, nn.Linear, nn.Linear]
    first, second = merged[0]
    assert (first.weight.shape, second.weight.shape) == ((2, 6), (6, 2))
    assert first.bias is None and second.bias is not None


@pytest.mark.parametrize("rank", [4, 1])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "geometry",
    [
        {"stride": 2, "padding": (2, 1)},
        {"padding": "same", "dilation": 2},
        {"padding": "valid", "stride": (2, 1)},
        {"padding": 1, "padding_mode": "reflect", "dilation": (1, 2)},
        {"padding": 2, "padding_mode": "circular"},
    ],
)
def test_geometry_goes_along(geometry, bias, rank):
    net = maestro.factorize(nn.Conv2d(3, 4, (3, 2), bias=bias, **geometry).double())
    maestro.truncate(net, {"": rank})
    x = torch.randn(2, 3, 9, 10, dtype=torch.float64)
    expected, merged = net(x), maestro.merge(net)
    assert type(merged) is (nn.Conv2d if rank == 4 else nn.Sequential)
    assert (merged(x) - expected).abs().max() <= 1e-10


def test_a_shared_layer_stays_one():
    shared = nn.Linear(8, 8)
    net = maestro.factorize(nn.Sequential(shared, nn.ReLU(), shared))
    maestro.truncate(net, {"0": 2})
    maestro.merge(net)
    assert net[0] is net[2] and sum(p.numel() for p in net.parameters()) == 2 * 16 + 8


@pytest.mark.parametrize("rank", [6, 1])
@pytest.mark.parametrize("grad_mode", [True, False])
def test_dtype_mode_and_what_is_trained_are_kept(rank, grad_mode):
    net = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6)).to(torch.bfloat16).eval()
    net[0].requires_grad_(False)
    maestro.factorize(net)
    maestro.truncate(net, {"0": rank, "1": rank})
    with torch.set_grad_enabled(grad_mode):
        maestro.merge(net)
    for module, trained in zip(net, (False, True), strict=True):
        for p in module.parameters():
            assert (p.dtype, p.requires_grad) == (torch.bfloat16, trained)
            assert p.is_leaf and p.device.type == "cpu" and p.is_contiguous()
        assert not any(m.training for m in module.modules())


def test_merging_draws_no_random_numbers():
    net, before = lenet({"fc1": 9}), torch.get_rng_state()
    maestro.merge(net)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_low_rank_network_is_not_touched_through_its_copy():
    net = lenet({"fc1": 9})
    merged = maestro.merge(copy.deepcopy(net))
    with torch.no_grad():
        for p in merged.parameters():
            p.zero_()
    assert all(p.any() for p in net.parameters())


def test_a_merged_network_trains_and_its_state_loads():
    ranks = {"conv2": 3, "fc1": 9, "fc2": 5}
    merged, x = maestro.merge(lenet(ranks)), torch.randn(4, 1, 28, 28).double()
    merged(x).square().mean().backward()
    assert all(p.grad.isfinite().all() for p in merged.parameters())
    other = maestro.merge(lenet(ranks))
    other.load_state_dict(merged.state_dict())
    assert torch.equal(other(x), merged(x))


# by the clock


def test_the_clock_decides(monkeypatch):
    """Each layer is timed in every form, on what it is given, and the least wins."""
    asked = []

    def seconds(ways, device):
        asked.append({name: way().shape for name, way in ways.items()})
        slow = {"dense": 1.0, "two maps": 2.0, "aligned": 3.0}
        if len(asked) % 2:
            slow = {"dense": 2.0, "two maps": 1.0, "aligned": 3.0}
        return {name: slow[name] for name in ways}

    monkeypatch.setattr(merging, "seconds", seconds)
    net = maestro.factorize(nn.Sequential(*(nn.Linear(6, 6) for _ in range(3))))
    maestro.truncate(net, {"0": 5, "1": 1, "2": 2})
    net[1].train()
    x = torch.randn(4, 6)
    expected = net(x)
    merged = maestro.merge(net, by="time", aligned=True, example_inputs=x)
    assert asked == 3 * [dict.fromkeys(("dense", "two maps", "aligned"), (4, 6))]
    assert [type(module) for module in merged] == [
        nn.Sequential,
        nn.Linear,
        nn.Sequential,
    ]
    torch.testing.assert_close(merged(x), expected)
    assert net.training and all(module.training for module in net.modules())


def test_a_layer_that_does_not_run_is_merged_by_size():
    class Part(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(8, 8), nn.Linear(8, 8)
            self.norm = nn.BatchNorm1d(8)

        def forward(self, x, scale=1.0):
            return self.norm(self.used(x)) * scale

    net = maestro.factorize(Part())
    maestro.truncate(net, {"unused": 2})
    merged = maestro.merge(net, by="time", x=torch.randn(4, 8), scale=2.0)
    assert type(merged.unused) is nn.Sequential and maestro.ranks(merged) == {}
    assert net.norm.num_batches_tracked == 0 and net.training


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"by": "speed"}, "by='speed': it is one of size, time"),
        ({"by": "time"}, "needs example_inputs"),
        ({"aligned": 1}, "aligned=1: it takes True or False"),
    ],
)
def test_wrong_arguments_change_nothing(arguments, message):
    net = lenet({"fc1": 9})
    with pytest.raises(ValueError, match=message):
        maestro.merge(net, **arguments)
    assert len(maestro.ranks(net)) == 5


def test_an_error_in_the_timed_run_changes_nothing():
    net = lenet({"fc1": 9})
    with pytest.raises(RuntimeError):
        maestro.merge(net, by="time", example_inputs=torch.randn(1, 3))
    assert len(maestro.ranks(net)) == 5 and net.training
    assert not any(r._forward_pre_hooks for r in maestro.low_rank_layers(net).values())


def test_hooks_go_on():
    net, seen = maestro.factorize(nn.Sequential(nn.Linear(8, 8))), []
    net[0].register_forward_hook(lambda *_: seen.append(1))
    maestro.truncate(net, {"0": 2})
    maestro.merge(net)(torch.randn(2, 8))
    assert seen == [1]


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("rank", [3, 8, 0])
def test_an_encoder_that_reads_its_layers_weights_can_still_read_them(rank):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    net = maestro.factorize(nn.TransformerEncoder(layer, 1).double()).eval()
    maestro.truncate(net, dict.fromkeys(maestro.ranks(net), rank))
    x = torch.randn(2, 3, 8, dtype=torch.float64)
    mask = torch.tensor([[False] * 3, [False, False, True]])
    with torch.no_grad():
        expected = net(x), net(x, src_key_padding_mask=mask)
        maestro.merge(net)
        got = net(x), net(x, src_key_padding_mask=mask)
    assert maestro.ranks(net) == {} and type(net.layers[0].linear1) is nn.Linear
    for one, other in zip(got, expected, strict=True):
        assert (one - other).abs().max() <= 1e-10


# other people's networks that read their layers' weights


def timm(name):
    made = pytest.importorskip("timm").create_model
    return made(name, num_classes=5, depth=1, embed_dim=48, num_heads=2, img_size=32)


def swin(block):
    models = import_torchvision().models.swin_transformer
    sizes = {"embed_dim": 12, "depths": [1, 1], "num_heads": [2, 2]}
    sizes |= {"patch_size": [2, 2], "window_size": [2, 2], "num_classes": 5}
    block = getattr(models, f"SwinTransformerBlock{block}")
    return models.SwinTransformer(**sizes, block=block)


def transformer(kind, tokens, **config):
    made = pytest.importorskip("transformers")
    net = getattr(made, f"{kind}Model")(getattr(made, f"{kind}Config")(**config))
    return Outputs(net, tokens)


class Outputs(nn.Module):
    """A network of transformers, called as the others are."""

    def __init__(self, net, tokens):
        super().__init__()
        self.net, self.tokens = net, tokens

    def forward(self, x):
        return self.net(**self.tokens(x), return_dict=True)[0]


def ids(x):
    return {"input_ids": x.flatten(1)[:, :6].abs().mul(20).long().clamp(max=50)}


def both_ids(x):
    return ids(x) | {"decoder_input_ids": ids(x)["input_ids"]}


READERS = {
    "swin": lambda: swin(""),
    "swin v2": lambda: swin("V2"),
    "beit": lambda: timm("beit_base_patch16_224"),
    "eva02": lambda: timm("eva02_tiny_patch14_224"),
    "t5": lambda: transformer(
        "T5",
        both_ids,
        vocab_size=51,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
    ),
    "clip": lambda: transformer(
        "CLIPVision",
        lambda x: {"pixel_values": x},
        hidden_size=16,
        image_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        patch_size=8,
    ),
    "mamba": lambda: transformer(
        "Mamba", ids, vocab_size=51, hidden_size=16, num_hidden_layers=1, state_size=4
    ),
}


@pytest.mark.parametrize("has_run", [True, False])
@pytest.mark.parametrize("name", READERS)
def test_networks_that_read_weights_are_merged(name, has_run):
    net = maestro.factorize(READERS[name]().eval().double())
    for layer_name, rank in maestro.ranks(net).items():
        maestro.truncate(net, {layer_name: max(1, rank // 4)})
    fresh, x = copy.deepcopy(net), torch.randn(2, 3, 32, 32, dtype=torch.float64)
    foretold = maestro.costs(net, x).footprint(maestro.ranks(net), merged=True)
    with torch.no_grad():
        expected = net(x)
        merged = maestro.merge(net if has_run else fresh)
        assert (merged(x) - expected).abs().max() <= 1e-10 * expected.abs().max()
    assert maestro.ranks(merged) == {}
    assert sum(p.numel() for p in merged.parameters()) == foretold.params
    # the others are still two layers each
    assert sum(p.numel() for p in merged.parameters()) < sum(
        p.numel() for p in READERS[name]().parameters()
    )
