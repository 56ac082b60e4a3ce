"""Parameters and MACs, exact: the paper's numbers, and formulas done by hand."""

import pytest
import torch
from torch import nn

import maestro
from maestro import Footprint, footprint
from maestro.datasets.torchvision_repair import import_torchvision
from maestro.lowrank.counting import costs
from maestro.models import LeNet

IMAGE = torch.zeros(1, 1, 28, 28)


def without_storage(name):
    """One of torchvision's networks: shapes, no numbers."""
    with torch.device("meta"):
        return getattr(import_torchvision().models, name)(weights=None)


# the paper's numbers


def test_lenet():
    assert footprint(LeNet(), IMAGE) == Footprint(44_426, 281_640)


def test_lenet_factorised():
    net = maestro.factorize(LeNet())
    assert footprint(net, IMAGE) == Footprint(66_274, 340_316)
    # at full rank no factors are smaller than the product
    assert footprint(net, IMAGE, merged=True) == Footprint(44_426, 281_640)


@pytest.mark.parametrize(
    "name, size, dense, factorised",
    [
        ("resnet50", 224, (25_557_032, 4_089_184_256), (31_713_896, 5_040_718_400)),
        ("resnet18", 32, (11_689_512, 37_523_456), None),
    ],
)
def test_resnets(name, size, dense, factorised):
    net, image = without_storage(name), torch.zeros(1, 3, size, size)
    assert footprint(net, image) == dense
    net = maestro.factorize(net)
    assert footprint(net, image, merged=True) == dense
    if factorised:
        assert footprint(net, image) == factorised


def test_expected_training_macs():
    """Relative training MACs of the rows lambda = 0: 1.134 for LeNet."""
    net = maestro.factorize(LeNet())
    expected = costs(net, IMAGE).training_macs(maestro.ranks(net))
    assert round(expected / 281_640, 3) == 1.134


def test_expected_resnet50_training_macs():
    net = maestro.factorize(without_storage("resnet50"))
    expected = costs(net, torch.zeros(1, 3, 224, 224))
    ratio = expected.training_macs(maestro.ranks(net)) / 4_089_184_256
    assert round(ratio, 3) == 1.221


@pytest.mark.parametrize("ranks", [{}, {"conv1": 1, "fc1": 6}, {"conv2": 0, "fc2": 2}])
def test_expected_training_macs_are_the_mean_over_all_pairs(ranks):
    net = maestro.factorize(LeNet())
    maestro.truncate(net, {"fc1": 8, "fc2": 5} | ranks)
    cost, now = costs(net, IMAGE), maestro.ranks(net)
    pairs = [
        cost.footprint(now | {name: b}).macs
        for name, r in now.items()
        for b in range(1, r + 1)
    ]
    assert cost.training_macs(now) == pytest.approx(sum(pairs) / len(pairs), rel=1e-12)


def test_training_macs_of_nothing_left():
    net = maestro.factorize(LeNet())
    ranks = maestro.truncate(net, dict.fromkeys(maestro.ranks(net), 0))
    assert costs(net, IMAGE).training_macs(ranks) == 0
    assert footprint(net, IMAGE) == (6 + 16 + 120 + 84 + 10, 0)


# any ranks


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize(
    "ranks", [{"conv1": 2}, {"fc1": 80, "fc2": 0, "conv2": 3}, {"fc1": 1, "fc3": 9}]
)
def test_arithmetic_agrees_with_the_network_at_those_ranks(ranks, merged):
    net = maestro.factorize(LeNet())
    full, ranks = costs(net, IMAGE), maestro.ranks(net) | ranks
    maestro.truncate(net, ranks)
    assert footprint(net, IMAGE, merged) == full.footprint(ranks, merged)
    assert costs(net, IMAGE) == full


def test_one_layer_by_hand():
    net = maestro.factorize(nn.Sequential(nn.Conv2d(3, 8, 5, stride=2, padding=2)))
    maestro.truncate(net, {"0": 4})
    x = torch.zeros(2, 3, 16, 16)
    assert footprint(net, x) == (4 * (8 + 75) + 8, 4 * (8 + 75) * 2 * 8 * 8)
    assert footprint(net, x, merged=True) == footprint(net, x)
    maestro.truncate(net, {"0": 0})
    assert footprint(net, x) == (8, 0)


def test_merged_takes_the_dense_matrix_where_it_is_no_larger():
    net = maestro.factorize(nn.Linear(6, 6, bias=False))
    x = torch.zeros(1, 6)
    for rank, dense in ((6, True), (3, True), (2, False)):
        maestro.truncate(net, {"": rank})
        expected = 36 if dense else 12 * rank
        assert footprint(net, x, merged=True) == (expected, expected)
        assert footprint(net, x) == (12 * rank, 12 * rank)


# modules by hand


class Attend(nn.Module):
    """Queries of a length, keys and values of another; arguments by name or not."""

    def __init__(self, by_name, **options):
        super().__init__()
        self.by_name = by_name
        self.attention = nn.MultiheadAttention(8, 2, **options)

    def forward(self, q, k, v):
        if self.by_name:
            return self.attention(value=v, key=k, query=q)[0]
        return self.attention(q, k, v)[0]


@pytest.mark.parametrize("by_name", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_attention(by_name, batch_first):
    inputs = torch.zeros(5, 3, 8), torch.zeros(7, 3, 8), torch.zeros(7, 3, 8)
    if batch_first:
        inputs = [x.transpose(0, 1) for x in inputs]
    net = Attend(by_name, batch_first=batch_first)
    # q and the output over 15 tokens, k and v over 21
    assert footprint(net, inputs) == (4 * (64 + 8), 2 * 64 * (15 + 21))


def test_attention_with_widths_of_its_own():
    net = Attend(False, kdim=5, vdim=6, bias=False)
    inputs = torch.zeros(4, 1, 8), torch.zeros(9, 1, 5), torch.zeros(9, 1, 6)
    weights = (64, 8 * 5, 8 * 6, 64)
    macs = 4 * weights[0] + 9 * weights[1] + 9 * weights[2] + 4 * weights[3]
    assert footprint(net, inputs) == (sum(weights), macs)


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("kind, gates", [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrent(kind, gates, directions):
    net = kind(6, 5, num_layers=2, bidirectional=directions == 2)
    first = gates * 5 * (6 + 5) * directions
    second = gates * 5 * (5 * directions + 5) * directions
    biases = 2 * 2 * gates * 5 * directions
    macs = 7 * 3 * (first + second)
    assert footprint(net, torch.zeros(7, 3, 6)) == (first + second + biases, macs)


def test_lstm_with_a_projection():
    net = nn.LSTM(6, 5, proj_size=2, bias=False)
    weights = 4 * 5 * (6 + 2) + 2 * 5
    assert footprint(net, torch.zeros(7, 3, 6)) == (weights, 21 * weights)


def test_lstm_of_packed_sequences():
    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(6, 5, bias=False)

        def forward(self, x):
            packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([7, 4, 1]))
            return self.lstm(packed)[0].data

    weights = 4 * 5 * (6 + 5)
    assert footprint(Packed(), torch.zeros(7, 3, 6)) == (weights, 12 * weights)


@pytest.mark.parametrize("groups", [1, 2])
def test_convolutions(groups):
    x = torch.zeros(2, 4, 9, 9)
    conv = nn.Conv2d(4, 6, 3, stride=2, groups=groups, bias=False)
    weights = 6 * (4 // groups) * 9
    assert footprint(conv, x) == (weights, weights * 2 * 4 * 4)
    up = nn.ConvTranspose2d(4, 6, 3, stride=2, groups=groups, bias=False)
    # each input position spreads over one kernel
    assert footprint(up, x) == (weights, weights * 2 * 9 * 9)


def test_convolutions_of_other_dimensions():
    weights = 5 * 4 * 3
    assert footprint(nn.Conv1d(4, 5, 3), torch.zeros(1, 4, 10)) == (65, weights * 8)
    weights = 5 * 4 * 8
    x = torch.zeros(1, 4, 3, 3, 3)
    assert footprint(nn.Conv3d(4, 5, 2), x) == (weights + 5, weights * 8)


def test_linear_counts_every_position():
    x = torch.zeros(2, 3, 5, 4)
    assert footprint(nn.Linear(4, 6), x) == (30, 24 * 30)
    assert footprint(maestro.factorize(nn.Linear(4, 6)), x) == (46, 40 * 30)


def test_embedding_and_norms_are_free_of_macs():
    net = nn.Sequential(nn.Embedding(9, 4), nn.LayerNorm(4), nn.Linear(4, 3))
    tokens = torch.zeros(2, 5, dtype=torch.long)
    assert footprint(net, tokens) == (36 + 8 + 15, 12 * 10)


@pytest.mark.parametrize("factorised", [False, True])
def test_transformer_encoder_layer(factorised):
    net = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    feed_forward, norms = 2 * 8 * 16, 2 * 16
    if factorised:
        maestro.factorize(net)
        feed_forward = 2 * 8 * (8 + 16)
    params = 4 * (64 + 8) + feed_forward + 16 + 8 + norms
    macs = 6 * (4 * 64 + feed_forward)
    assert footprint(net, torch.zeros(2, 3, 8)) == (params, macs)


# shared and tied


@pytest.mark.parametrize("factorised", [False, True])
def test_a_shared_module_is_stored_once_and_counted_at_each_call(factorised):
    shared = nn.Linear(4, 4)
    inner = nn.Sequential(shared, nn.Tanh(), shared)
    net = nn.Sequential(shared, inner, inner, nn.Linear(4, 2))
    weights, last = 16, 8
    if factorised:
        maestro.factorize(net)
        weights, last = 4 * 8, 2 * 6
    params = weights + 4 + last + 2
    assert footprint(net, torch.zeros(3, 4)) == (params, 3 * (5 * weights + last))


def test_tied_parameters_are_counted_once():
    net = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9, bias=False))
    net[1].weight = net[0].weight
    tokens = torch.zeros(5, dtype=torch.long)
    assert footprint(net, tokens) == (36, 36 * 5)


def test_what_is_never_called_takes_no_macs():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.used(x)

    x = torch.zeros(1, 4)
    assert footprint(Half(), x) == (40, 16)
    assert footprint(maestro.factorize(Half()), x) == (72, 32)


# nothing is computed


def test_inputs_too_large_to_compute():
    huge = torch.zeros(1).expand(10**6, 1, 28, 28)  # stored once
    net = maestro.factorize(LeNet())
    assert footprint(net, huge) == (66_274, 340_316 * 10**6)
    wide = nn.Conv2d(3, 4, 1, bias=False)
    image = torch.zeros(1, 3, 10**6, 10**6, device="meta")
    assert footprint(wide, image) == (12, 12 * 10**12)


def test_the_network_is_left_as_it_was():
    net = maestro.factorize(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))).train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    footprint(net, torch.randn(3, 4))
    assert all(module.training for module in net.modules())
    assert not any(module._forward_hooks for module in net.modules())
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key]) and value.device.type == "cpu"


def test_inputs_that_are_no_tensors():
    class Scaled(nn.Linear):
        def forward(self, x, scale):
            return super().forward(x) * scale

    assert footprint(Scaled(4, 3), (torch.zeros(2, 4), 2.0)) == (15, 24)


# what is not known


def test_uncounted_modules_are_named():
    net = nn.Sequential(nn.Linear(4, 4), nn.ModuleList([nn.GRUCell(4, 4)])[0])
    x = torch.zeros(2, 4)
    with pytest.raises(ValueError, match="MACs are not known of: 1; `costs`"):
        footprint(net, x)
    counted = costs(net, x)
    assert counted.uncounted == ("1",) and counted.fixed.macs == 32


def test_an_uncounted_network_has_the_name_of_its_kind():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(torch.zeros(2, 3))

        def forward(self, x):
            return x @ self.table

    with pytest.raises(ValueError, match="MACs are not known of: Own;"):
        footprint(Own(), torch.zeros(1, 2))


def test_vit_holds_tables_of_its_own():
    net, image = without_storage("vit_b_16"), torch.zeros(1, 3, 224, 224)
    with pytest.raises(ValueError, match="not known of: VisionTransformer, encoder;"):
        footprint(net, image)
    tokens, width = 14 * 14 + 1, 768
    layer = tokens * (4 * width**2 + 2 * width * 4 * width)
    macs = 12 * layer + (tokens - 1) * 3 * 16 * 16 * width + width * 1000
    assert costs(net, image).fixed == (86_567_656, macs)


def test_lazy_weights_have_no_shape():
    net = nn.Sequential(nn.Linear(4, 4), nn.LazyLinear(3))
    with pytest.raises(ValueError, match="first forward pass: 1.weight, 1.bias"):
        footprint(net, torch.zeros(1, 4))
