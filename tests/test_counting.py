"""Parameters and MACs, exact: the paper's numbers, and formulas done by hand."""

import statistics
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.flop_counter import FlopCounterMode

import maestro
from maestro import Footprint, costs, footprint
from maestro.datasets.torchvision_repair import import_torchvision
from maestro.lowrank import expected_columns
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
    columns = expected_columns(maestro.ranks(net), "pair")
    expected = costs(net, IMAGE).footprint(columns).macs
    assert round(expected / 281_640, 3) == 1.134


def test_expected_resnet50_training_macs():
    net = maestro.factorize(without_storage("resnet50"))
    columns = expected_columns(maestro.ranks(net), "pair")
    expected = costs(net, torch.zeros(1, 3, 224, 224)).footprint(columns).macs
    assert round(expected / 4_089_184_256, 3) == 1.221


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
    expected = cost.footprint(expected_columns(now, "pair")).macs
    assert expected == pytest.approx(sum(pairs) / len(pairs), rel=1e-12)


@pytest.mark.parametrize("mode", maestro.MODES)
def test_expected_training_macs_are_the_mean_over_draws(mode):
    net = maestro.factorize(LeNet())
    maestro.truncate(net, {"fc1": 30, "fc2": 9, "fc3": 1, "conv2": 0})
    cost, now = costs(net, IMAGE), maestro.ranks(net)
    sampler = maestro.RankSampler(net, mode, torch.Generator().manual_seed(0))
    drawn = [cost.footprint(now | sampler.draw()).macs for _ in range(4000)]
    error = statistics.stdev(drawn) / len(drawn) ** 0.5
    expected = cost.footprint(expected_columns(now, mode)).macs
    if mode == "none":
        assert {expected} == set(drawn)
        return
    assert abs(statistics.mean(drawn) - expected) < 5 * error < 0.05 * expected


def test_training_macs_of_nothing_left():
    net = maestro.factorize(LeNet())
    ranks = maestro.truncate(net, dict.fromkeys(maestro.ranks(net), 0))
    for mode in maestro.MODES:
        assert costs(net, IMAGE).footprint(expected_columns(ranks, mode)).macs == 0
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
    attention, feed_forward, norms = 4 * 64, 2 * 8 * 16, 2 * 16
    if factorised:
        maestro.factorize(net)
        attention, feed_forward = 4 * 8 * (8 + 8), 2 * 8 * (8 + 16)
    params = attention + 4 * 8 + feed_forward + 16 + 8 + norms
    macs = 6 * (attention + feed_forward)
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


# other people's networks


def counted_by_torch(net, image):
    """MACs by PyTorch's own counter, without the products of two activations.

    In the networks below these are all batched products, and nothing else is one.
    """
    net, counter = net.to("meta").eval(), FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        net(image.to("meta"))
    flops = dict(counter.get_flop_counts()["Global"])
    flops.pop(torch.ops.aten.bmm, None)
    return sum(flops.values()) // 2


@pytest.mark.parametrize(
    "name", ["vit_b_16", "swin_t", "swin_v2_t", "convnext_tiny", "mobilenet_v3_small"]
)
def test_torchvision(name):
    """Class tokens, layer scales, tables of positions; weights read, never called."""
    net, image = without_storage(name), torch.zeros(1, 3, 64, 64)
    if name == "vit_b_16":
        image = torch.zeros(1, 3, 224, 224)
    macs = counted_by_torch(net, image)
    params = sum(p.numel() for p in net.parameters())
    assert footprint(net, image) == (params, macs)
    net = maestro.factorize(net)
    # where the factors are no smaller than the product, the same network
    assert footprint(net, image, merged=True) == (params, macs)
    cost = costs(net, image)
    assert not cost.uncounted and all(size.positions for size in cost.maps.values())


def test_vit():
    net, image = without_storage("vit_b_16"), torch.zeros(1, 3, 224, 224)
    tokens, width = 14 * 14 + 1, 768
    layer = tokens * (4 * width**2 + 2 * width * 4 * width)
    macs = 12 * layer + (tokens - 1) * 3 * 16 * 16 * width + width * 1000
    assert footprint(net, image) == (86_567_656, macs)


# weights that are read, not called


class Reads(nn.Module):
    """Uses its layers' weights without calling them."""

    def __init__(self, use):
        super().__init__()
        self.use = use
        self.a, self.b = nn.Linear(4, 6, bias=False), nn.Linear(4, 5, bias=False)

    def forward(self, x):
        return self.use(x, self.a, self.b)


@pytest.mark.parametrize(
    "use",
    [
        lambda x, a, b: (F.linear(x, a.weight), F.linear(x, b.weight)),
        lambda x, a, b: F.linear(x, torch.cat([a.weight, b.weight])),
        lambda x, a, b: (x @ a.weight.t().clone(), torch.einsum("bi,oi", x, b.weight)),
        lambda x, a, b: (a.weight @ x.t(), b(x)),
        lambda x, a, b: (
            torch.bmm(a.weight[None].expand(3, 6, 4), x[:, :, None]),
            b(x),
        ),
        lambda x, a, b: (F.linear(x, a.weight * torch.ones(6, 1)), b(x)),
    ],
)
@pytest.mark.parametrize("rank", [4, 2, 0])
def test_a_weight_that_is_read_counts_as_one_that_is_called(use, rank):
    x = torch.zeros(3, 4)
    assert footprint(Reads(use), x) == (44, 3 * 44)
    net = maestro.factorize(Reads(use))
    maestro.truncate(net, {"a": rank, "b": rank})
    assert footprint(net, x) == (rank * 19, 3 * rank * 19)
    assert costs(net, x).maps == {"a": (6, 4, 3), "b": (5, 4, 3)}


@pytest.mark.parametrize("positions", [1, 10**6])
def test_which_is_multiplied_first_changes_nothing(positions):
    """With many positions a low-rank layer makes U V^T, with few it uses two maps."""
    net = maestro.factorize(nn.Linear(64, 64, bias=False))
    maestro.truncate(net, {"": 48})
    assert net.product_is_cheaper(positions) == (positions > 1)
    x = torch.zeros(positions, 64, device="meta")
    assert footprint(net, x) == (48 * 128, 48 * 128 * positions)


@pytest.mark.parametrize(
    ("use", "named"),
    [
        (
            lambda x, a, b: F.linear(x, a.weight[:3]) + b(x)[:, :3],
            r"a \(parts of its weight",
        ),
        (
            lambda x, a, b: F.linear(x, b.weight.t() @ a.weight[:5]),
            "a .*, b .its weight",
        ),
        (lambda x, a, b: F.linear(x, a.weight[:5] + b.weight), "a .*, b .its weight"),
    ],
)
def test_low_rank_weights_in_parts_or_mixed_are_refused(use, named):
    net, x = Reads(use), torch.zeros(3, 4)
    assert footprint(net, x).params == 44
    with pytest.raises(ValueError, match=f"no MACs are known for {named}"):
        footprint(maestro.factorize(net), x)


def test_a_network_whose_layers_are_sampled_counts_whole():
    net = maestro.factorize(LeNet())
    with maestro.sample(net):
        assert footprint(net, IMAGE) == Footprint(66_274, 340_316)


# products with weights, and others


class Own(nn.Module):
    def __init__(self, use, *shape):
        super().__init__()
        self.use, self.table = use, nn.Parameter(torch.zeros(*shape))

    def forward(self, *inputs):
        return self.use(self.table, *inputs)


ROW, BATCH = torch.zeros(4), torch.zeros(2, 3, 4)


@pytest.mark.parametrize(
    ("use", "inputs", "macs"),
    [
        (lambda w, x: x @ w.t(), (BATCH,), 6 * 20),
        (lambda w, x: w @ x.mT, (BATCH,), 6 * 20),
        (lambda w, x: w @ x, (ROW,), 20),
        (lambda w, x: w[0] @ x, (ROW,), 4),
        (lambda w, x: torch.addmv(w[:, 0], w, x), (ROW,), 20),
        (lambda w, x: torch.baddbmm(x, x, w[:4].expand(2, 4, 4)), (BATCH,), 2 * 3 * 16),
        (
            lambda w, x: torch.einsum("bti,btoi->bto", x, w.expand(2, 3, 5, 4)),
            (BATCH,),
            120,
        ),
        # of several products each
        (lambda w, x: F.linear(F.linear(x, w), w.t()), (BATCH,), 2 * 6 * 20),
        (lambda w, x: F.linear(x, w + w @ w.t() @ w), (BATCH,), 2 * 100 + 6 * 20),
        # two activations, and no weight at all
        (lambda w, x: x @ x.mT, (BATCH,), 0),
        (lambda w, x: (w[:3] * x) @ (w[:3] + x).mT, (BATCH,), 0),
        (lambda w, x: F.scaled_dot_product_attention(x, x, x), (BATCH,), 0),
        (lambda w, x: x @ torch.ones(4, 9), (BATCH,), 0),
        (lambda w, x: w.softmax(0) * x[0, 0], (BATCH,), 0),
        (lambda w, i: F.embedding(i, w), (torch.zeros(7, dtype=torch.long),), 0),
        # learned queries: their map counts, attention does not
        (
            lambda w, x: F.scaled_dot_product_attention(
                F.linear(w, w[:4]).expand(2, 5, 4), F.linear(x, w[:4]), x
            ),
            (BATCH,),
            (5 + 6) * 16,
        ),
    ],
)
def test_products(use, inputs, macs):
    assert footprint(Own(use, 5, 4), inputs) == (20, macs)


def test_a_kernel_made_of_weights_by_the_input():
    """Conditionally parametrised convolutions: mix four kernels, then convolve."""

    def mixed(w, x):
        kernel = (x.mean((2, 3)) @ w.flatten(1)).view(6, 3, 3, 3)
        return F.conv2d(x, kernel)

    net, x = Own(mixed, 3, 6, 3, 3, 3), torch.zeros(1, 3, 5, 5)
    assert footprint(net, x).macs == 3 * 162 + 9 * 162


def test_bilinear():
    x, y = torch.zeros(2, 3), torch.zeros(2, 4)
    assert footprint(nn.Bilinear(3, 4, 5), (x, y)) == (65, 2 * 60)


@pytest.mark.parametrize("kind, gates", [(nn.LSTMCell, 4), (nn.GRUCell, 3)])
def test_recurrent_cells(kind, gates):
    weights = gates * 5 * (6 + 5)
    params = weights + 2 * gates * 5
    assert footprint(kind(6, 5), torch.zeros(3, 6)) == (params, 3 * weights)


@pytest.mark.parametrize(
    "norm", [nn.utils.weight_norm, parametrizations.weight_norm, None]
)
def test_weight_norm(norm):
    net = nn.Sequential(nn.Conv1d(4, 6, 3), nn.Linear(8, 5))
    for layer in net if norm else ():
        norm(layer)
    net(torch.zeros(1, 4, 10))  # then an attribute of the older one has a history
    gains = 6 + 5 if norm else 0
    macs = 8 * 72 + 6 * 40
    assert footprint(net, torch.zeros(1, 4, 10)) == (72 + 6 + 40 + 5 + gains, macs)


def test_inference_mode_within_the_network():
    def inner(w, x):
        with torch.inference_mode():
            return F.linear(x, w)

    assert footprint(Own(inner, 5, 4), BATCH).macs == 6 * 20


# what a network is called with


class Named(nn.Module):
    """In the manner of a language model: arguments by name, a dataclass out."""

    @dataclass
    class Output:
        logits: torch.Tensor

    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(9, 4), nn.Linear(4, 3)

    def forward(self, input_ids=None, attention_mask=None, scale=1.0):
        x = self.table(input_ids) * scale
        if attention_mask is not None and not attention_mask.all():
            x = x * attention_mask[..., None]
        return self.Output(self.head(x))


IDS = torch.ones(2, 5, dtype=torch.long)


@pytest.mark.parametrize("mask", [IDS, IDS - 1, IDS.bool(), None])
@pytest.mark.parametrize("factorised", [False, True])
def test_inputs_by_name(mask, factorised):
    net = maestro.factorize(Named()) if factorised else Named()
    expected = (36 + 15 + 9 * factorised, 10 * (21 if factorised else 12))
    assert footprint(net, input_ids=IDS, attention_mask=mask) == expected
    assert footprint(net, {"input_ids": IDS, "attention_mask": mask}) == expected
    assert footprint(net, IDS, attention_mask=mask, scale=2.0) == expected
    assert footprint(net, (IDS, mask)) == expected


def test_inputs_in_nested_containers():
    net = Own(lambda w, batch: F.linear(batch["views"][1], w), 5, 4)
    assert footprint(net, ({"views": [ROW, BATCH]},)).macs == 6 * 20


def test_integers_and_buffers_keep_their_values():
    class Looks(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 5)
            self.register_buffer("ready", torch.tensor(1.0))

        def forward(self, x, lengths):
            assert self.ready.item()
            return self.layer(x[:, : int(lengths.max())])

    lengths = torch.tensor([1, 2])
    assert footprint(Looks(), (BATCH, lengths)).macs == 4 * 20
    assert footprint(maestro.factorize(Looks()), (BATCH, lengths)).macs == 4 * 36


def test_constants_that_the_network_makes():
    """On the CPU, without asking where its input lies; written to, or moved back."""

    def forward(w, x):
        out = torch.zeros(2, 3, 5)
        for t in range(3):
            out[:, t] = F.linear(x[:, t] + torch.arange(4), w)
        return (out.to("cpu").mT @ out) @ w

    assert footprint(Own(forward, 5, 4), BATCH).macs == 6 * 20 + 10 * 20


def test_positions_that_the_network_looks_at():
    def forward(w, x):
        positions = torch.arange(x.shape[1], device=x.device)
        assert (positions.diff() == 1).all()
        return F.linear(x * positions[:, None], w)

    assert footprint(Own(forward, 5, 4), BATCH).macs == 6 * 20


# what is not known


def test_operators_of_others_are_named():
    @torch.library.custom_op("maestro_tests::secret", mutates_args=())
    def secret(
        x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor
    ) -> torch.Tensor:
        return (x @ weight.t()) * scale

    secret.register_fake(
        lambda x, weight, scale: x.new_empty(*x.shape[:-1], len(weight))
    )

    class Secret(nn.Linear):
        def forward(self, x):
            return torch.ops.maestro_tests.secret(x, self.weight, self.bias)

    net = nn.Sequential(nn.Linear(4, 4), Secret(4, 3))
    message = (
        "no MACs are known for 1.weight .used by maestro_tests.secret.; maestro.costs"
    )
    with pytest.raises(ValueError, match=message):
        footprint(net, ROW[None])
    counted = costs(net, ROW[None])
    assert len(counted.uncounted) == 1 and counted.fixed == (20 + 15, 16)


class Decides(nn.Module):
    def __init__(self, look):
        super().__init__()
        self.look = look

    def forward(self, x):
        return self.look(x)


@pytest.mark.parametrize(
    "look",
    [
        lambda x: x if x.sum() > 0 else -x,
        lambda x: x * x.max().item(),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x.tolist(),
        lambda x: x.numpy(),
    ],
)
def test_code_that_asks_for_values_is_refused(look):
    net = nn.Sequential(nn.Linear(4, 4), nn.Sequential(Decides(look)))
    message = "Sequential cannot run on shapes alone: .* values of a tensor, in 1.0 "
    with pytest.raises(ValueError, match=message):
        footprint(net, ROW[None])


def test_inputs_that_do_not_fit_are_the_networks_own_error():
    with pytest.raises(RuntimeError, match="must have same reduction dim"):
        footprint(nn.Linear(4, 3), torch.zeros(2, 5))
    with pytest.raises(TypeError, match="positional argument"):
        footprint(nn.Linear(4, 3))


def test_lazy_weights_have_no_shape():
    net = nn.Sequential(nn.Linear(4, 4), nn.LazyLinear(3))
    with pytest.raises(ValueError, match="first forward pass: 1.weight, 1.bias"):
        footprint(net, torch.zeros(1, 4))
