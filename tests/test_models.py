"""The networks have exactly the paper's sizes, and compute what they should."""

import re

import pytest
import torch

import maestro
from maestro.lowrank.counting import costs, footprint
from maestro.models import MODELS, compact, make
from maestro.models.transformer import PAD

COUNTS = [  # name, options, image size, dense (params, MACs), factorised (both)
    ("lenet", {}, (1, 28), (44_426, 281_640), (66_274, 340_316)),
    ("resnet18", {}, (3, 32), (11_173_962, 555_422_720), (12_653_447, 626_423_908)),
    ("compact", {}, (3, 32), (569_656, 54_223_904), (643_628, 64_659_732)),
    ("vgg19", {}, (3, 32), (20_035_018, 398_136_320), (22_432_007, 449_214_564)),
    (
        "resnet50",
        {},
        (3, 224),
        (25_557_032, 4_089_184_256),
        (31_713_896, 5_040_718_400),
    ),
]


@pytest.mark.parametrize(("name", "options", "size", "dense", "full"), COUNTS)
def test_counts_of_the_paper(name, options, size, dense, full):
    channels, side = size
    with torch.device("meta"):  # sizes only: no weights, no SVD
        net = MODELS[name](**options)
    image = torch.zeros(1, channels, side, side)
    assert footprint(net, image) == dense
    counted = {}
    for layer in net.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            m, n = layer.weight.flatten(1).shape
            counted[layer] = min(m, n) * (m + n) - m * n
    assert dense[0] + sum(counted.values()) == full[0]


def test_counts_of_a_factorised_network():
    net = maestro.factorize(MODELS["resnet18"](width=8))
    whole = costs(net, torch.zeros(1, 3, 32, 32))
    assert len(whole.maps) == 21
    now = maestro.ranks(net)
    assert whole.footprint(now).params == sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(("tied", "params"), [(True, 48_978_432), (False, 53_899_569)])
def test_transformer_counts(tied, params):
    with torch.device("meta"):
        net = MODELS["transformer"](tied=tied)
        symbols = torch.full((1, 28), 5)
    assert footprint(net, (symbols, symbols)) == (params, 1_369_618_432)


def small_transformer():
    torch.manual_seed(0)
    sizes = {"width": 16, "layers": 2, "heads": 4, "inner": 32}
    return MODELS["transformer"](classes=50, **sizes).double().eval()


def test_transformer_does_not_look_ahead_nor_at_padding():
    net = small_transformer()
    source, target = torch.randint(4, 50, (2, 7)), torch.randint(4, 50, (2, 9))
    before = net(source, target)
    changed = target.clone()
    changed[:, 5:] = 4
    after = net(source, changed)
    assert torch.allclose(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:])
    padded = torch.cat((source, torch.full((2, 3), PAD)), 1)
    assert torch.allclose(before, net(padded, target))


def test_transformer_factorises_to_the_same_function():
    net = small_transformer()
    source, target = torch.randint(4, 50, (2, 7)), torch.randint(4, 50, (2, 9))
    before = net(source, target)
    maestro.factorize(net)
    assert (
        len(maestro.ranks(net)) == 2 * (6 + 10) + 1
    )  # q k v o, fc1, fc2; cross; output
    assert torch.allclose(before, net(source, target), atol=1e-10)


def test_tied_output_layer_is_left_alone():
    net = MODELS["transformer"](classes=50, width=16, layers=1, heads=2, tied=True)
    assert set(maestro.left_alone(net)) == {"embedding", "output"}


@pytest.mark.parametrize("name", ["resnet18", "vgg19", "resnet50"])
def test_image_networks_run_at_any_width(name):
    net = MODELS[name](classes=7, width=8).eval()
    assert net(
        torch.randn(2, 3, 64, 64) if name == "resnet50" else torch.randn(2, 3, 32, 32)
    ).shape == (2, 7)


@pytest.mark.course
def test_the_compact_network_whitens_its_patches():
    """Both signs of 12 outputs, uncorrelated and of variance one, but for 5e-4."""
    mixing = 2 * torch.eye(3) + 0.3 * torch.randn(3, 3)
    images = torch.einsum("ij,bjhw->bihw", mixing, torch.randn(600, 3, 6, 6))
    filters = compact.whitening(images)
    out = torch.nn.functional.conv2d(images, filters.double())
    out = out.movedim(1, -1).flatten(0, -2)
    moments = out.t() @ out / len(out)
    assert torch.allclose(moments, torch.eye(12), atol=1e-3)
    assert (moments - moments.diag().diag()).abs().max() < 1e-5  # of float32 filters


def test_the_compact_network_starts_from_its_data():
    class Task:
        def first(self, count):
            return torch.randn(min(count, 50), 3, 32, 32)

    net = MODELS["compact"](width=8)
    net.start_from(Task())
    weight = net.whiten.weight
    assert torch.equal(weight[:12], -weight[12:]) and not weight.requires_grad
    assert all(
        not layer.weight.requires_grad
        for layer in net.modules()
        if hasattr(layer, "running_mean")
    )
    maestro.factorize(net, skip="whiten")
    assert len(maestro.ranks(net)) == 7


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("lenet5", {}, "model='lenet5'; it is one of compact, lenet, resnet18"),
        (None, {}, "model=None; it is one of"),
        ("lenet", {"width": 8}, "size={'width': 8}: lenet takes no size"),
        ("vgg19", {"widht": 8}, "size={'widht': 8}: vgg19 takes width, hidden"),
        ("resnet18", {"width": 0}, "size={'width': 0}: width is an integer >= 1"),
        ("resnet18", {"width": "8"}, "size={'width': '8'} of resnet18: "),
        ("transformer", {"classes": 3}, "size={'classes': 3}: transformer takes width"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused_in_words(name, size, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        make(name, 10, size)


def test_a_network_is_built_in_its_size():
    net = make("resnet18", 7, {"width": 8})
    assert (net.conv1.out_channels, net.fc.out_features) == (8, 7)
