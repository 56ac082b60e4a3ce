"""`factorize` on any network: what it takes, what it leaves, the function unchanged."""

import copy

import pytest
import torch
from torch import nn

import maestro
from maestro.datasets.torchvision_repair import import_torchvision
from maestro.lowrank.factorize import svd_factors
from maestro.models import LeNet


def unchanged(model, *inputs, skip=()):
    """The factorised copy of ``model``, its function compared in float64."""
    dense = copy.deepcopy(model).double().eval()
    net = maestro.factorize(copy.deepcopy(dense), skip)
    inputs = [x.double() if x.is_floating_point() else x for x in inputs]
    assert (net(*inputs) - dense(*inputs)).abs().max() <= 1e-10
    return net


# the decomposition


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (6, 6), (1, 4), (4, 1)])
def test_the_start_is_the_svd(shape):
    W = torch.randn(shape, dtype=torch.float64)
    U, V = svd_factors(W)
    sigma = torch.linalg.svdvals(W)
    assert (U @ V.t() - W).abs().max() <= 1e-12
    for gram in (U.t() @ U, V.t() @ V):  # sqrt(Sigma) on both sides, by importance
        assert (gram - sigma.diag()).abs().max() <= 1e-10


def test_rank_deficient_weights():
    W = torch.randn(8, 3, dtype=torch.float64) @ torch.randn(3, 12).double()
    U, V = svd_factors(W)
    assert (U @ V.t() - W).abs().max() <= 1e-12
    assert (U[:, :3] @ V[:, :3].t() - W).abs().max() <= 1e-7
    assert U.isfinite().all() and V.isfinite().all()


@pytest.mark.parametrize(
    "kind, sizes", [(nn.Linear, (6, 4)), (nn.Linear, (4, 6)), (nn.Conv2d, (1, 4, 3))]
)
def test_weights_that_start_at_zero_can_be_trained(kind, sizes):
    dense = kind(*sizes)
    nn.init.zeros_(dense.weight)
    layer = maestro.factorize(dense)
    assert not layer.weight.any()
    x = torch.randn(8, 1, 3, 3) if kind is nn.Conv2d else torch.randn(8, sizes[0])
    target = torch.randn_like(layer(x))
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (layer(x) - target).square().mean()
        loss.backward()
        assert layer.U.grad.any() or layer.V.grad.any()
        optimizer.step()
        losses.append(loss.item())
    moved = layer.weight.detach().flatten(1)
    assert losses[-1] < losses[0] and torch.linalg.matrix_rank(moved) == 4


# what is taken


def test_lenet():
    net = unchanged(LeNet(), torch.randn(3, 1, 28, 28))
    assert maestro.ranks(net) == {
        "conv1": 6,
        "conv2": 16,
        "fc1": 120,
        "fc2": 84,
        "fc3": 10,
    }
    assert maestro.left_alone(net) == {}


def test_nested_modules():
    stem = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU())
    model = nn.Sequential(stem, nn.Flatten(), nn.ModuleList([nn.Linear(12, 5)])[0])
    net = unchanged(model, torch.randn(2, 1, 4, 4))
    assert list(maestro.low_rank_layers(net)) == ["0.0", "2"]


def test_containers_of_modules():
    model = nn.ModuleDict({"list": nn.ModuleList([nn.Linear(3, 2)]), "one": LeNet()})
    maestro.factorize(model)
    assert set(maestro.ranks(model)) == {"list.0"} | {
        f"one.{name}" for name in ("conv1", "conv2", "fc1", "fc2", "fc3")
    }


def test_a_module_in_two_places_stays_one():
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.ReLU(), nn.Sequential(shared, nn.Linear(4, 2)))
    net = unchanged(model, torch.randn(3, 4))
    assert net[0] is net[2][0]
    assert list(maestro.ranks(net)) == ["0", "2.1"]
    assert sum(p.numel() for p in net.parameters()) == 4 * 8 + 4 + 2 * 6 + 2


def test_a_layer_alone_is_returned():
    net = maestro.factorize(nn.Linear(4, 3))
    assert isinstance(net, maestro.LowRankLinear)
    assert maestro.ranks(net) == {"": 3}


def test_twice_is_once():
    net = maestro.factorize(nn.Sequential(nn.Linear(4, 3)))
    layer = net[0]
    assert maestro.factorize(net)[0] is layer


def test_a_plain_subclass_is_taken():
    class Named(nn.Linear):
        pass

    net = maestro.factorize(nn.Sequential(Named(4, 3)))
    assert maestro.ranks(net) == {"0": 3}


@pytest.mark.parametrize(
    "dtype, close",
    [
        (torch.float64, 1e-12),
        (torch.float32, 1e-5),
        (torch.float16, 1e-2),
        (torch.bfloat16, 5e-2),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_dtype_and_mode_are_kept(dtype, close, training):
    model = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 5, bias=False))
    model.to(dtype).train(training)
    net = maestro.factorize(copy.deepcopy(model))
    assert {p.dtype for p in net.parameters()} == {dtype}
    assert [layer.training for layer in net] == [training] * 2
    x = torch.randn(7, 6, dtype=dtype)
    assert (net(x) - model(x)).abs().max() <= close


def test_device_is_kept():
    net = maestro.factorize(nn.Conv2d(2, 3, 3, device="meta"))
    assert {p.device.type for p in net.parameters()} == {"meta"}


def test_frozen_weights_stay_frozen():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    model[0].requires_grad_(False)
    model[1].bias.requires_grad_(False)
    net = maestro.factorize(model)
    trained = {name for name, p in net.named_parameters() if p.requires_grad}
    assert trained == {"1.U", "1.V", "2.U", "2.V", "2.bias"}


def test_bias_is_kept_and_is_a_copy():
    dense = nn.Linear(3, 2)
    layer = maestro.factorize(dense)
    assert torch.equal(layer.bias, dense.bias) and layer.bias is not dense.bias


def test_hooks_go_on_and_can_be_removed():
    model, seen = nn.Sequential(nn.Linear(4, 3)), []
    handles = [
        model[0].register_forward_pre_hook(lambda *_: seen.append("before")),
        model[0].register_forward_hook(lambda *_: seen.append("after")),
        model[0].register_full_backward_hook(lambda *_: seen.append("back")),
    ]
    net = maestro.factorize(model)
    net(torch.randn(2, 4, requires_grad=True)).sum().backward()
    assert seen == ["before", "after", "back"]
    for handle in handles:
        handle.remove()
    net(torch.randn(2, 4)).sum().backward()
    assert len(seen) == 3


def test_attributes_buffers_and_tags_survive_and_are_merged():
    dense = nn.Sequential(nn.Linear(6, 5), nn.Conv2d(2, 3, 3))
    for layer in dense:
        layer.group, layer._initialised = "body", True
        layer.register_buffer("seen", torch.ones(2))
        layer.register_buffer("scratch", torch.ones(2), persistent=False)
        layer.weight.decay, layer.bias.decay = 0.1, 0.0
    net = maestro.factorize(dense)
    maestro.truncate(net, {"0": 1, "1": 1})
    for _ in range(2):
        for layer in net:
            assert layer.group == "body" and layer._initialised
            assert torch.equal(layer.seen, torch.ones(2)) and layer.scratch.any()
        names = {name.rpartition(".")[2]: p for name, p in net.named_parameters()}
        assert all(p.decay == (0.1 if p.ndim > 1 else 0.0) for p in names.values())
        assert {"0.seen", "1.seen"} <= net.state_dict().keys()
        assert "0.scratch" not in net.state_dict()
        maestro.merge(net)


def conv1d(n, m):
    """transformers' Conv1D, or one that is written as it is where there is none."""
    try:
        from transformers.pytorch_utils import Conv1D
    except ImportError:

        class Conv1D(nn.Module):
            __module__ = "transformers.pytorch_utils"

            def __init__(self, nf, nx):
                super().__init__()
                self.nf, self.nx = nf, nx
                self.weight = nn.Parameter(torch.randn(nx, nf))
                self.bias = nn.Parameter(torch.zeros(nf))

            def forward(self, x):
                out = torch.addmm(self.bias, x.flatten(0, -2), self.weight)
                return out.view(*x.shape[:-1], self.nf)

    return Conv1D(m, n)


@pytest.mark.parametrize("sizes", [(6, 4), (4, 6)])
def test_the_conv1d_of_gpt2(sizes):
    dense = nn.Sequential(conv1d(*sizes))
    nn.init.normal_(dense[0].bias)
    net = unchanged(dense, torch.randn(2, 3, sizes[0]))
    assert net[0].shape == sizes[::-1] and net[0].nf == sizes[1]
    assert maestro.left_alone(net) == {}
    assert type(maestro.merge(net)[0]) is nn.Linear


# what is refused, before anything is changed


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_named(value):
    model = nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3)))
    model[1][0].weight.data[1, 2] = value
    with pytest.raises(ValueError, match="^the weight of 1.0 is not finite$"):
        maestro.factorize(model)
    assert maestro.ranks(model) == {}


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (nn.Sequential(nn.ReLU()), "it has no layers with weights"),
        (nn.Sequential(nn.Embedding(2, 2), nn.Embedding(2, 2)), "0: Embed.*2 such"),
        (nn.Bilinear(2, 2, 2), "itself: Bilinear is linear in each of two"),
    ],
)
def test_nothing_to_factorise_is_an_error_that_says_why(model, reason):
    with pytest.raises(ValueError, match=f"nothing of .* can be .*: {reason}"):
        maestro.factorize(model)


def test_a_network_that_is_wrapped_already_is_refused():
    wrapped = nn.parallel.DistributedDataParallel.__new__(
        nn.parallel.DistributedDataParallel
    )
    nn.Module.__init__(wrapped)
    wrapped.module = nn.Linear(3, 3)
    with pytest.raises(ValueError, match="factorize first, then wrap"):
        maestro.factorize(wrapped)


@pytest.mark.parametrize("value", [None, 3, "net", LeNet, [nn.Linear(2, 2)], {}])
@pytest.mark.parametrize(
    "function",
    [
        maestro.factorize,
        maestro.left_alone,
        maestro.low_rank_layers,
        maestro.ranks,
        maestro.merge,
        maestro.costs,
        maestro.footprint,
    ],
)
def test_what_is_no_network_is_refused(function, value):
    with pytest.raises(ValueError, match="^(model|net) is .*: it takes a network"):
        function(value)


# networks of which a part is left alone


class Tied(nn.Module):
    """A language model's embedding and output share one matrix."""

    def __init__(self):
        super().__init__()
        self.embed, self.body = nn.Embedding(7, 4), nn.Linear(4, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        return self.head(self.body(self.embed(tokens)))


def test_attention_is_taken_whole():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.out = nn.MultiheadAttention(8, 2), nn.Linear(8, 8)

        def forward(self, x):
            return self.out(self.attention(x, x, x)[0])

    net = unchanged(Block(), torch.randn(5, 2, 8))
    assert maestro.ranks(net) == {
        "attention.out_proj": 8,
        "attention.in_proj_weight_factors": 8,
        "out": 8,
    }
    assert maestro.left_alone(net) == {}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("padded", [False, True])
def test_the_fast_path_of_transformer_encoders(padded):
    """In eval mode PyTorch's own layer reads its linear layers' weights itself."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    dense = nn.TransformerEncoder(layer, 2).eval()
    net = maestro.factorize(copy.deepcopy(dense))
    parts = [
        "linear1",
        "linear2",
        "self_attn.in_proj_weight_factors",
        "self_attn.out_proj",
    ]
    assert sorted(maestro.ranks(net)) == [
        f"layers.{i}.{part}" for i in (0, 1) for part in parts
    ]
    x, mask = torch.randn(2, 3, 8), torch.tensor([[False] * 3, [False, False, True]])
    mask = mask if padded else None
    with torch.no_grad():
        torch.testing.assert_close(
            net(x, src_key_padding_mask=mask), dense(x, src_key_padding_mask=mask)
        )


def test_tied_weights_stay_tied():
    tokens = torch.randint(7, (2, 3))
    net = unchanged(Tied(), tokens)
    assert net.head.weight is net.embed.weight
    assert list(maestro.ranks(net)) == ["body"]
    left = maestro.left_alone(net)
    assert "tied" in left["head"] and "Embedding" in left["embed"]


def test_two_layers_of_one_weight_or_one_bias_are_tied():
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(5)))
    model[1].weight = model[0].weight
    model[3].bias = model[2].bias
    net = unchanged(model, torch.randn(2, 4))
    assert list(maestro.ranks(net)) == ["4"]
    assert all("tied" in maestro.left_alone(net)[name] for name in "0123")
    assert net[1].weight is net[0].weight and net[3].bias is net[2].bias


def test_a_model_that_holds_an_lstm():
    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.lstm = nn.Embedding(9, 6), nn.LSTM(6, 5, batch_first=True)
            self.head = nn.Linear(5, 3)

        def forward(self, tokens):
            return self.head(self.lstm(self.embed(tokens))[0])

    net = unchanged(Tagger(), torch.randint(9, (2, 7)))
    assert set(maestro.ranks(net)) == {
        "head",
        "lstm.weight_ih_l0_factors",
        "lstm.weight_hh_l0_factors",
    }
    assert set(maestro.left_alone(net)) == {"embed"}
    net(torch.randint(9, (2, 7))).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


# other people's networks


def same_to_rounding(dense, net, x):
    """In single precision, whose rounding makes 1e-6 to 2e-6 of these networks."""
    with torch.no_grad():
        expected, out = dense(x), net(x)
    assert expected.abs().max() > 1e-3
    return (out - expected).abs().max() / expected.abs().max() <= 1e-4


def trains(net, x):
    net.train()
    with maestro.sample(net):
        net(x).square().mean().backward()
    grads = [p.grad for p in net.parameters()]
    return all(g is not None and g.isfinite().all() for g in grads)


def test_torchvision_resnet50():
    dense = import_torchvision().models.resnet50(weights=None).eval()
    net = maestro.factorize(copy.deepcopy(dense))
    assert len(maestro.ranks(net)) == 54 and maestro.left_alone(net) == {}
    assert sum(maestro.ranks(net).values()) == 14248
    assert same_to_rounding(dense, net, torch.randn(1, 3, 64, 64))
    assert trains(net, torch.randn(2, 3, 64, 64))


def test_torchvision_vit_b_16():
    dense = import_torchvision().models.vit_b_16(weights=None).eval()
    nn.init.normal_(dense.heads.head.weight, std=0.02)  # torchvision starts it at zero
    net = maestro.factorize(copy.deepcopy(dense))
    names = {name.rpartition(".")[2] for name in maestro.ranks(net)}
    assert len(maestro.ranks(net)) == 50
    assert names == {
        "0",
        "3",
        "conv_proj",
        "head",
        "out_proj",
        "in_proj_weight_factors",
    }
    # class token and positions
    assert set(maestro.left_alone(net)) == {"", "encoder"}
    x = torch.randn(1, 3, 224, 224)
    assert same_to_rounding(dense, net, x)
    assert trains(net, x)


def test_inference_mode_is_no_trap():
    """A network made outside is factorised and trained on; one made inside is not."""
    net = nn.Sequential(nn.Linear(4, 3))
    with torch.inference_mode():
        maestro.factorize(net)
        with pytest.raises(ValueError, match="was made in torch.inference_mode"):
            maestro.factorize(nn.Sequential(nn.Linear(4, 3)))
    net(torch.ones(1, 4)).sum().backward()
    assert net[0].U.grad is not None
