"""One layer: U V^T computes what nn.Linear and nn.Conv2d compute, at every rank."""

import copy
import itertools
import pickle
import re

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.nn import functional as F
from torch.nn.utils import prune

import maestro
from maestro.lowrank import LowRank, LowRankConv, LowRankLinear

STRIDES, DILATIONS = (1, 2, (2, 1)), (1, 2, (1, 2))
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
GEOMETRIES = [
    *itertools.product(STRIDES, (0, 1, (2, 1), "valid"), DILATIONS, PADDING_MODES),
    *itertools.product((1,), ("same",), DILATIONS, PADDING_MODES),
]


def dense_twin(layer, dense):
    """``dense`` with the weight U V^T of ``layer``, at the rank it has now."""
    twin = copy.deepcopy(dense)
    with torch.no_grad():
        twin.weight.copy_((layer.U @ layer.V.t()).view_as(twin.weight))
    return twin


def difference(a, b):
    assert a.shape == b.shape and a.dtype == b.dtype
    return (a - b).abs().max().item() if a.numel() else 0.0


def one_way(layer, product):
    """``layer``, made to take the product U V^T or the two maps."""
    layer.product_is_cheaper = lambda positions: product
    return layer


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("stride, padding, dilation, padding_mode", GEOMETRIES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("product", [True, False])
def test_convolution(stride, padding, dilation, padding_mode, bias, product):
    dense = nn.Conv2d(
        3, 4, (3, 2), stride, padding, dilation, 1, bias, padding_mode
    ).double()
    x = torch.randn(2, 3, 9, 10, dtype=torch.float64)
    layer = one_way(maestro.factorize(copy.deepcopy(dense)), product)
    assert difference(layer(x), dense(x)) <= 1e-10
    for rank in (2, 0):
        maestro.truncate(layer, {"": rank})
        assert difference(layer(x), dense_twin(layer, dense)(x)) <= 1e-10


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("side", [3, 40])  # few positions, and many
@pytest.mark.parametrize("product", [True, False])
def test_convolution_keeps_the_layout_of_its_images(layout, side, product):
    """Code behind it may count on it: ``view``, for one, does."""
    dense = nn.Conv2d(6, 5, 3, padding=1).double()
    layer = one_way(maestro.factorize(copy.deepcopy(dense)), product)
    x = torch.randn(1, 6, side, side, dtype=torch.float64)
    x = x.contiguous(memory_format=layout)
    outs = [module(x) for module in (layer, dense)]
    for out in outs:
        assert out.is_contiguous(memory_format=layout)
        out.square().sum().backward()
    assert difference(*outs) <= 1e-10
    G = dense.weight.grad.flatten(1)
    torch.testing.assert_close(layer.U.grad, G @ layer.V, rtol=0, atol=1e-8)
    torch.testing.assert_close(layer.V.grad, G.t() @ layer.U, rtol=0, atol=1e-8)


def test_one_channel_is_in_the_default_layout():
    layer = one_way(maestro.factorize(nn.Conv2d(1, 5, 5)), product=False)
    assert layer(torch.randn(1, 1, 6, 6)).is_contiguous()


@pytest.mark.parametrize("kernel", [1, 2, 3, (1, 3)])
@pytest.mark.parametrize("channels", [(1, 6), (6, 1), (5, 5)])
def test_convolution_kernels(kernel, channels):
    dense = nn.Conv2d(*channels, kernel, padding="same").double()
    x = torch.randn(3, channels[0], 5, 7, dtype=torch.float64)
    layer = maestro.factorize(copy.deepcopy(dense))
    assert difference(layer(x), dense(x)) <= 1e-10


@pytest.mark.parametrize("rank", [3, 1, 0])
@pytest.mark.parametrize("shape", [(2, 6, 5), (0, 2, 6, 5), (1, 2, 6, 5)])
def test_convolution_without_a_batch_or_with_an_empty_one(shape, rank):
    dense = nn.Conv2d(2, 3, 3, padding=1).double()
    layer = maestro.factorize(copy.deepcopy(dense))
    maestro.truncate(layer, {"": rank})
    x = torch.randn(shape, dtype=torch.float64)
    assert difference(layer(x), dense_twin(layer, dense)(x)) <= 1e-10


@pytest.mark.parametrize("sizes", [(7, 4), (4, 7), (5, 5), (1, 3), (3, 1)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", [(), (6,), (2, 3), (0,)])
@pytest.mark.parametrize("product", [True, False])
def test_linear(sizes, bias, batch, product):
    dense = nn.Linear(*sizes, bias).double()
    x = torch.randn(*batch, sizes[0], dtype=torch.float64)
    layer = one_way(maestro.factorize(copy.deepcopy(dense)), product)
    assert difference(layer(x), dense(x)) <= 1e-10
    for rank in reversed(range(layer.rank)):
        maestro.truncate(layer, {"": rank})
        assert difference(layer(x), dense_twin(layer, dense)(x)) <= 1e-10


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
@pytest.mark.parametrize("sizes", [(0, 3), (3, 0)])
def test_linear_without_features(sizes):
    dense = nn.Linear(*sizes)
    layer = maestro.factorize(copy.deepcopy(dense))
    x = torch.randn(2, sizes[0])
    assert layer.rank == 0 and torch.equal(layer(x), dense(x))


@pytest.mark.parametrize("dense", [nn.Linear(6, 4), nn.Conv2d(2, 4, 3)])
def test_rank_zero_is_the_bias(dense):
    layer = maestro.factorize(dense)
    maestro.truncate(layer, {"": 0})
    x = (
        torch.randn(2, 6)
        if isinstance(layer, LowRankLinear)
        else torch.randn(2, 2, 5, 5)
    )
    out = layer(x)
    expected = layer.bias if out.ndim == 2 else layer.bias[:, None, None]
    assert torch.equal(out, expected.expand_as(out))
    out.sum().backward()
    assert torch.equal(layer.bias.grad, torch.full((4,), out[:, 0].numel() * 1.0))


@pytest.mark.parametrize("product", [True, False])
@pytest.mark.parametrize(
    "kind, sizes, shape",
    [(nn.Linear, (18, 4), (18,)), (nn.Conv2d, (2, 4, 3, 1, 1), (2, 3, 3))],
)
def test_gradients_are_those_of_the_product(kind, sizes, shape, product):
    """dL/dU = G V and dL/dV = G^T U for G = dL/dW, whichever way it is computed."""
    dense = kind(*sizes).double()
    layer = one_way(maestro.factorize(copy.deepcopy(dense)), product)
    x = torch.randn(7, *shape, dtype=torch.float64)
    weights = torch.randn_like(dense(x))
    for module in (dense, layer):
        (module(x).square() * weights).sum().backward()
    G = dense.weight.grad.flatten(1)
    torch.testing.assert_close(layer.U.grad, G @ layer.V, rtol=0, atol=1e-9)
    torch.testing.assert_close(layer.V.grad, G.t() @ layer.U, rtol=0, atol=1e-9)
    torch.testing.assert_close(layer.bias.grad, dense.bias.grad, rtol=0, atol=1e-9)


@pytest.mark.parametrize("columns", [None, 2])
@pytest.mark.parametrize("product", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dense", [nn.Linear(6, 5), nn.Conv2d(2, 4, 3)])
def test_gradients_lie_in_memory_as_the_factors_do(dense, product, columns, layout):
    """Fused optimisers on a CPU take it for granted, and are wrong without a word."""
    layer = one_way(maestro.factorize(copy.deepcopy(dense)), product)
    layer.columns = columns
    x = torch.randn(3, 2, 5, 6).contiguous(memory_format=layout)
    layer(x).square().sum().backward()
    for factor in (layer.U, layer.V):
        assert factor.grad.stride() == factor.stride()
    before = [factor.detach().clone() for factor in (layer.U, layer.V)]
    torch.optim.Adam(layer.parameters(), 0.1, eps=0.1, fused=True).step()
    for old, factor in zip(before, (layer.U, layer.V), strict=True):
        expected = old - 0.1 * factor.grad / (factor.grad.abs() + 0.1)
        torch.testing.assert_close(factor.detach(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "inputs, outputs, rank, product_from",  # the first number of positions
    [
        (32, 32, 32, 33),  # product: 32^3, and 32^2 a position; two maps: 32 * 64
        (32, 32, 16, None),  # a position is as dear either way
        (48, 32, 25, 38),  # 25 columns are made as 32: 25 * 32 * 48 < P * 32^2
        (20, 10, 2, 2),  # 10 are made as 16, and so are 2: 2 * 10 * 20 < P * 16^2
    ],
)
def test_the_cheaper_way_is_taken(inputs, outputs, rank, product_from):
    layer = maestro.factorize(nn.Linear(inputs, outputs))
    layer.columns = rank
    for positions in range(1, 200):
        product = product_from is not None and positions >= product_from
        assert layer.product_is_cheaper(positions) == product, positions


@pytest.mark.parametrize("product", [True, False])
def test_both_ways_are_gone(product, monkeypatch):
    """What `product_is_cheaper` says is what happens."""
    made = []
    layer = one_way(maestro.factorize(nn.Conv2d(3, 5, 3)), product)
    monkeypatch.setattr(F, "conv2d", lambda x, W, *_, **more: made.append(W.shape) or x)
    layer(torch.randn(1, 3, 4, 4))
    assert made == ([(5, 3, 3, 3)] if product else [(5, 3, 3, 3), (5, 5, 1, 1)])


def test_weight_can_be_read():
    linear, conv = nn.Linear(5, 3), nn.Conv2d(2, 3, 3)
    for dense in (linear, conv):
        layer = maestro.factorize(copy.deepcopy(dense))
        torch.testing.assert_close(layer.weight, dense.weight)
        layer.columns = 1
        one = layer.U[:, :1] @ layer.V[:, :1].t()
        torch.testing.assert_close(layer.weight.flatten(1), one)


def test_width_and_factors_follow_the_columns_in_use():
    layer = maestro.factorize(nn.Linear(5, 3))
    assert (layer.width, layer.factors()[0].shape[1]) == (3, 3)
    layer.columns = 2
    assert (layer.width, layer.rank) == (2, 3)
    assert [f.shape for f in layer.factors()] == [(3, 2), (5, 2)]


def test_numbers_of_a_layer():
    layer = maestro.factorize(nn.Conv2d(2, 5, 3, stride=2, bias=False))
    assert (layer.shape, layer.max_rank, layer.rank) == ((5, 18), 5, 5)
    assert (layer.in_channels, layer.out_channels, layer.bias) == (2, 5, None)
    assert "rank=5" in repr(layer) and "stride=(2, 2)" in repr(layer)
    layer = maestro.factorize(nn.Linear(7, 4))
    assert (layer.in_features, layer.out_features, layer.max_rank) == (7, 4, 4)
    assert "in_features=7, out_features=4, rank=4, bias=True" in repr(layer)


def test_factors_are_contiguous_always():
    """LBFGS, pruning, safetensors and FSDP2 take it for granted."""
    layer = maestro.factorize(nn.Linear(6, 4))
    smaller = copy.deepcopy(layer)
    maestro.truncate(smaller, {"": 2})
    layer.load_state_dict(smaller.state_dict())
    assert layer.rank == 2
    for net in (layer, smaller, maestro.factorize(nn.Conv2d(2, 5, 3))):
        assert all(p.is_contiguous() for p in net.parameters())


def test_the_factors_are_copies():
    U, V, bias = torch.ones(2, 3).t(), torch.ones(4, 2), torch.ones(3)
    layer = LowRankLinear(U, V, bias)
    for p, given in zip(layer.parameters(), (U, V, bias), strict=True):
        assert torch.equal(p, given) and p.data_ptr() != given.data_ptr()


def test_layers_can_be_pickled():
    layer = maestro.factorize(nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"))
    x = torch.randn(1, 2, 5, 5)
    assert torch.equal(pickle.loads(pickle.dumps(layer))(x), layer(x))


MATRIX, OTHER, VECTOR = torch.zeros(3, 2), torch.zeros(4, 2), torch.zeros(3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (MATRIX, torch.zeros(4, 1)),
            "U (3, 2) and V (4, 1) must have as many columns",
        ),
        ((VECTOR, OTHER), "U is (3,): it takes a matrix"),
        ((MATRIX, torch.zeros(4, 2, 1)), "V is (4, 2, 1): it takes a matrix"),
        ((None, OTHER), "U is NoneType: it takes a floating-point tensor"),
        ((MATRIX, OTHER.long()), "V is torch.int64: it takes a floating-point tensor"),
        ((MATRIX, OTHER, MATRIX), "bias is (3, 2): it takes a vector"),
        ((MATRIX, OTHER, torch.zeros(4)), "bias is 4 long: U has 3 rows"),
        ((MATRIX, OTHER, True), "bias is bool: it takes a floating-point tensor"),
    ],
)
def test_factors_and_bias_that_do_not_fit_are_refused(arguments, message):
    for kind in (LowRank, LowRankLinear):
        with pytest.raises(ValueError, match=re.escape(message)):
            kind(*arguments)


@pytest.mark.parametrize("like", [None, nn.Linear(4, 3), nn.Conv2d(2, 3, 3)])
def test_a_convolution_is_made_like_one_that_fits(like):
    with pytest.raises(ValueError, match="like=.*it takes an nn.Conv1d"):
        LowRankConv(MATRIX, OTHER, None, like)


@pytest.mark.parametrize("columns", [-1, 1.0, True, "2"])
def test_columns_of_another_kind_are_refused(columns):
    layer = maestro.factorize(nn.Linear(4, 3))
    layer.columns = columns
    with pytest.raises(ValueError, match="columns=.* a number from 0 to 3"):
        layer(torch.randn(2, 4))


def test_kinds():
    assert type(maestro.factorize(nn.Linear(3, 2))) is LowRankLinear
    assert type(maestro.factorize(nn.Conv2d(3, 2, 1))) is LowRankConv


# state


def network():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 6, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(24, 5)
    )
    return maestro.factorize(net.double())


def optimizer_of(net, kind):
    if kind is torch.optim.SGD:
        return kind(net.parameters(), 0.05, momentum=0.9, weight_decay=1e-3)
    return kind(net.parameters(), 0.01)


def train(net, optimizer, steps, seed):
    data = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        x = torch.randn(8, 1, 4, 4, generator=data, dtype=torch.float64)
        optimizer.zero_grad()
        loss = net(x).square().mean() + 0.01 * maestro.hierarchical_group_lasso(net)
        loss.backward()
        optimizer.step()
    return loss


@pytest.mark.parametrize("first", ["network", "optimiser"])
@pytest.mark.parametrize("trained", [0, 2])
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_training_goes_on_the_same_when_both_are_loaded(kind, trained, first):
    """The optimiser is made before: loading must not take its parameters away."""
    net = network()
    optimizer = optimizer_of(net, kind)
    train(net, optimizer, 3, seed=1)
    maestro.truncate(net, {"0": 1, "3": 2}, optimizer)
    saved = copy.deepcopy([net.state_dict(), optimizer.state_dict()])
    train(net, optimizer, 3, seed=2)

    resumed = network()
    its_optimizer = optimizer_of(resumed, kind)
    alive = train(resumed, its_optimizer, trained, seed=3) if trained else None
    before = list(resumed.parameters())
    loads = [resumed.load_state_dict, its_optimizer.load_state_dict]
    both = list(zip(loads, saved, strict=True))
    for load, state in both if first == "network" else both[::-1]:
        load(state)
    assert all(p is q for p, q in zip(resumed.parameters(), before, strict=True))
    assert maestro.ranks(resumed) == {"0": 1, "3": 2}
    train(resumed, its_optimizer, 3, seed=2)
    assert alive is None or alive.requires_grad  # a loss that lives does not matter
    for p, q in zip(resumed.parameters(), net.parameters(), strict=True):
        assert p.is_contiguous() and torch.equal(p, q)


def test_loading_takes_gradients_of_another_shape_away():
    net, small = network(), network()
    maestro.truncate(small, {"3": 2})
    net(torch.randn(2, 1, 4, 4).double()).sum().backward()
    net.load_state_dict(small.state_dict())
    assert net[3].U.grad is None and net[0].U.grad is not None
    net(torch.randn(2, 1, 4, 4).double()).sum().backward()
    assert net[3].U.grad.shape == (5, 2)


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("ranks", [{"0": 0, "3": 1}, {"0": 6}])
def test_any_rank_loads_into_any_other(ranks, assign):
    saved, x = network(), torch.randn(2, 1, 4, 4).double()
    maestro.truncate(saved, ranks)
    for before in ({}, {"0": 2, "3": 2}):
        net = network()
        maestro.truncate(net, before)
        net.load_state_dict(saved.state_dict(), assign=assign)
        assert torch.equal(net(x), saved(x)) and net[0].U.requires_grad


@pytest.mark.parametrize("change", ["rows", "only U", "two ranks"])
def test_what_does_not_fit_leaves_the_layer_as_it_was(change):
    net = network()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    state["3.U"] = state["3.U"][:, :2]
    if change == "rows":
        state["3.U"], state["3.V"] = state["3.U"][:3], state["3.V"][:, :2]
    elif change == "only U":
        del state["3.V"]
    before = copy.deepcopy(net[3].state_dict())
    with pytest.raises(RuntimeError, match="3.(U|V)"):
        net.load_state_dict(state)
    assert net[3].U.shape == before["U"].shape and torch.equal(net[3].V, before["V"])


@pytest.mark.parametrize("form", ["number", "row"])
def test_masked_columns_are_state(form):
    net, x = network(), torch.randn(2, 1, 4, 4).double()
    net[0].columns, net[3].columns = 2, 0
    if form == "row":
        net[0].columns = torch.tensor([1.0, 1, 0, 0, 0, 0], dtype=torch.float64)
    other = network()
    other.load_state_dict(net.state_dict())
    assert (other[0].columns, other[3].columns) == (2, 0)
    assert torch.allclose(other(x), net(x), rtol=0, atol=1e-14)
    assert maestro.ranks(other) == {"0": 6, "3": 5}
    # and a network that uses all columns takes them all into use again
    other.load_state_dict(network().state_dict())
    assert other[0].columns is None and "0.columns" not in other.state_dict()


def test_a_state_without_this_layer_leaves_its_columns():
    net = network()
    net[0].columns = 2
    net.load_state_dict({}, strict=False)
    assert net[0].columns == 2


# what users do with a network


def test_the_whole_network_is_saved_and_copied_at_any_rank(tmp_path):
    net, x = network(), torch.randn(2, 1, 4, 4).double()
    maestro.truncate(net, {"0": 3, "3": 0})
    net[0].columns = 2
    torch.save(net, tmp_path / "net.pt")
    loaded = torch.load(tmp_path / "net.pt", weights_only=False)
    for other in (copy.deepcopy(net), loaded, pickle.loads(pickle.dumps(net))):
        assert torch.equal(other(x), net(x)) and maestro.ranks(other)["0"] == 3
        other(x).sum().backward()


def test_safetensors(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    net, x = network(), torch.randn(2, 1, 4, 4).double()
    maestro.truncate(net, {"0": 3, "3": 0})
    net[0].columns = 2
    safetensors.save_file(net.state_dict(), tmp_path / "net.safetensors")
    other = network()
    other.load_state_dict(safetensors.load_file(tmp_path / "net.safetensors"))
    assert torch.equal(other(x), net(x))
    safetensors.save_model(net, tmp_path / "model.safetensors")
    again = network()
    safetensors.load_model(again, tmp_path / "model.safetensors")
    assert torch.equal(again(x), net(x))


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_distributed_checkpoints(tmp_path):
    """Saved at one rank, read at another: through the state, as PyTorch's docs do."""
    from torch.distributed import checkpoint
    from torch.distributed.checkpoint import format_utils
    from torch.distributed.checkpoint.state_dict import (
        get_model_state_dict,
        set_model_state_dict,
    )

    net, x = network(), torch.randn(2, 1, 4, 4).double()
    maestro.truncate(net, {"0": 3, "3": 1})
    state = get_model_state_dict(net)
    checkpoint.save(state, checkpoint_id=tmp_path / "parts", no_dist=True)
    format_utils.dcp_to_torch_save(tmp_path / "parts", tmp_path / "whole.pt")
    other = network()
    set_model_state_dict(other, torch.load(tmp_path / "whole.pt"))
    assert torch.equal(other(x), net(x))
    same = copy.deepcopy(net)
    nn.init.zeros_(same[0].U)
    state = get_model_state_dict(same)
    checkpoint.load(state, checkpoint_id=tmp_path / "parts", no_dist=True)
    set_model_state_dict(same, state)
    assert torch.equal(same(x), net(x))


def test_parameters_as_a_vector():
    net, x = network(), torch.randn(2, 1, 4, 4).double()
    vector = nn.utils.parameters_to_vector(net.parameters())
    assert len(vector) == sum(p.numel() for p in net.parameters())
    expected = net(x)
    with torch.no_grad():
        for p in net.parameters():
            p.zero_()
    nn.utils.vector_to_parameters(vector, net.parameters())
    assert torch.equal(net(x), expected)


def test_lbfgs_takes_its_steps():
    net, x = network(), torch.randn(8, 1, 4, 4).double()
    optimizer = torch.optim.LBFGS(net.parameters(), lr=0.5, max_iter=4)

    def closure():
        optimizer.zero_grad()
        loss = net(x).square().mean()
        loss.backward()
        return loss

    before = optimizer.step(closure).item()
    assert closure().item() < before


def test_pruning():
    net, x = network(), torch.randn(2, 1, 4, 4).double()
    prune.l1_unstructured(net[3], "U", amount=0.5)
    prune.ln_structured(net[3], "V", amount=2, n=2, dim=0)
    net(x).sum().backward()
    assert net[3].U_orig.grad is not None
    expected = net(x)
    prune.remove(net[3], "U")
    prune.remove(net[3], "V")
    assert torch.equal(net(x), expected) and (net[3].U == 0).sum() == 12
    maestro.truncate(net, {"3": 2})


def test_functional_calls_and_their_gradients():
    net, x = network(), torch.randn(3, 1, 4, 4).double()
    weights = {name: p.detach() * 2 for name, p in net.named_parameters()}
    doubled = copy.deepcopy(net)
    doubled.load_state_dict(weights)
    out = torch.func.functional_call(net, weights, x)
    assert torch.allclose(out, doubled(x), rtol=0, atol=1e-13)

    def loss(weights, x):
        return torch.func.functional_call(net, weights, x[None]).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(weights, x)
    doubled(x).square().sum().backward()
    for name, p in doubled.named_parameters():
        assert torch.allclose(each[name].sum(0), p.grad, rtol=0, atol=1e-10)


# a graph for every size of batch


def small_network(ranks):
    net = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1),
        nn.Conv2d(6, 8, 3, stride=2, padding_mode="reflect", padding=1),
        nn.Conv2d(8, 4, 1),
        nn.Flatten(),
        nn.Linear(64, 7),
    )
    net = maestro.factorize(net.eval())
    maestro.truncate(net, ranks)
    return net


@pytest.mark.parametrize("form", ["low rank", "merged"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    "ranks", [{}, {"0": 3, "1": 2, "2": 1, "4": 2}, {"0": 0, "2": 0, "4": 0}]
)
def test_export_with_a_batch_of_any_size(ranks, layout, form):
    net = small_network(ranks)
    if form == "merged":
        maestro.merge(net)
    inputs = torch.randn(12, 2, 8, 8).contiguous(memory_format=layout)
    batch = ({0: torch.export.Dim("batch")},)
    exported = torch.export.export(net, (inputs[:2],), dynamic_shapes=batch).module()
    for size in (1, 2, 5, 12):
        difference = exported(inputs[:size]) - net(inputs[:size])
        assert difference.abs().max() <= 1e-5


def test_compiled_as_often_as_a_dense_network():
    """Not for each batch: a dense network is compiled anew for the second one."""
    counts = []
    for net in (small_network({"0": 3, "4": 2}), maestro.merge(small_network({}))):
        torch.compiler.reset()
        counter = CompileCounter()
        compiled = torch.compile(net, backend=counter)
        for size in (2, 5, 9, 20, 100, 300):
            compiled(torch.randn(size, 2, 8, 8))
        counts.append(counter.frame_count)
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    "dense",
    [nn.Linear(4, 3), nn.Conv2d(4, 3, 2), nn.ConvTranspose2d(4, 3, 2)],
    ids=["linear", "convolution", "transposed"],
)
def test_the_input_has_the_name_that_pytorch_gives_it(dense):
    x = torch.randn(2, 4, 4, 4)
    net = maestro.factorize(nn.Sequential(dense))
    assert torch.equal(net[0](input=x), net(x))


@pytest.mark.parametrize(
    "dense",
    [
        nn.Linear(4, 3, bias=False),
        nn.Conv2d(4, 3, 2, bias=False),
        nn.ConvTranspose2d(4, 3, 2, bias=False),
    ],
    ids=["linear", "convolution", "transposed"],
)
def test_a_layer_without_columns_passes_gradients_of_zero_on(dense):
    """DistributedDataParallel waits for the gradient of every parameter before it."""
    net = maestro.factorize(nn.Sequential(nn.Conv2d(4, 4, 1), dense))
    maestro.truncate(net, {"1": 0})
    net(torch.randn(2, 4, 4, 4)).sum().backward()
    for parameter in net.parameters():
        assert parameter.grad is not None and not parameter.grad.any()


def test_what_is_cut_or_loaded_in_inference_mode_can_be_trained():
    dense = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4))
    net, other = (maestro.factorize(copy.deepcopy(dense)) for _ in range(2))
    maestro.truncate(other, {"1": 2})
    x = torch.randn(3, 6)

    def step(optimizer):
        net(x).square().sum().backward()
        optimizer.step()

    optimizer = torch.optim.Adam(net.parameters())
    step(optimizer)
    with torch.inference_mode():
        maestro.truncate(net, {"0": 3}, optimizer)
    step(optimizer)
    with torch.inference_mode():
        maestro.order_by_data(net, x.clone())
    step(torch.optim.Adam(net.parameters()))
    with torch.inference_mode():
        net.load_state_dict(other.state_dict())
    step(torch.optim.Adam(net.parameters()))
