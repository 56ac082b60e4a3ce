"""Weights that modules read: attention, recurrent layers, experts, anything named."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import maestro


class Experts(nn.Module):
    """As transformers has them: two stacks of matrices, indexed and multiplied."""

    def __init__(self, count=3, n=4, m=6):
        super().__init__()
        self.up = nn.Parameter(torch.randn(count, m, n))
        self.down = nn.Parameter(torch.randn(count, n, m))
        self.scale = nn.Parameter(torch.ones(count, n))

    def forward(self, x):  # (B, n)
        h = torch.bmm(x.expand(len(self.up), *x.shape), self.up.mT).relu()
        each = [F.linear(h[e], self.down[e]) * self.scale[e] for e in range(len(h))]
        return sum(each)


class PickedExperts(nn.Module):
    """Each token goes to the expert that its gate says."""

    def __init__(self, count=3, n=4, m=6):
        super().__init__()
        self.gate = nn.Linear(n, count)
        self.experts = Experts(count, n, m)

    def forward(self, x):  # (B, n)
        pick = self.gate(x).argmax(1)
        up, down = self.experts.up[pick], self.experts.down[pick]
        h = torch.bmm(up, x[:, :, None]).relu()
        return torch.bmm(down, h)[:, :, 0]


class Own(nn.Module):
    """A module of nobody's library."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(7, 5))
        self.other = nn.Parameter(torch.randn(5, 7))

    def forward(self, x):
        return (x @ self.table).tanh() @ self.other


class Attention(nn.Module):
    """An encoder's, with an input for each of query, key and value."""

    def __init__(self, **options):
        super().__init__()
        self.inner = nn.MultiheadAttention(8, 2, batch_first=True, **options)

    def forward(self, q, k, v):
        return self.inner(q, k, v)[0]


def tokens(*shape):
    return torch.randn(shape, dtype=torch.float64)


X = tokens(2, 3, 8)
NETWORKS = {
    "self-attention": (lambda: Attention(), (X, X, X)),
    "cross-attention": (lambda: Attention(), (X, tokens(2, 5, 8), tokens(2, 5, 8))),
    "three inputs": (
        lambda: Attention(kdim=5, vdim=6, add_bias_kv=True, bias=False),
        (X, tokens(2, 4, 5), tokens(2, 4, 6)),
    ),
    "encoder": (
        lambda: nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True),
        (X,),
    ),
    "lstm": (lambda: nn.LSTM(8, 6, 2, bidirectional=True), (X,)),
    "lstm, projected": (lambda: nn.LSTM(8, 6, proj_size=4, bias=False), (X,)),
    "gru": (lambda: nn.GRU(8, 5, batch_first=True), (X,)),
    "rnn": (lambda: nn.RNN(8, 5), (X,)),
    "lstm cell": (lambda: nn.LSTMCell(8, 5), (X[0],)),
    "gru cell": (lambda: nn.GRUCell(8, 5), (X[0],)),
    "experts": (lambda: Experts(), (tokens(7, 4),)),
}


@pytest.fixture(params=NETWORKS)
def case(request):
    """(the dense network, its inputs) in double precision; nothing is zero."""
    made, inputs = NETWORKS[request.param]
    net = made().double()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn_like(p), alpha=0.1)
    return net, inputs


def first(out):
    while not isinstance(out, torch.Tensor):
        out = out[0]
    return out


def same(a, b, atol=1e-10):
    a, b = first(a), first(b)
    assert a.shape == b.shape and b.any()
    assert (a - b).abs().max() <= atol


def half(net):
    cut = {name: (r + 1) // 2 for name, r in maestro.ranks(net).items()}
    maestro.truncate(net, cut)
    return net


def dense_twin(net, dense):
    """``dense`` with the products of the factors of ``net`` for its weights."""
    twin = copy.deepcopy(dense)
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            owner, _, own = name.rpartition(".")
            there = net.get_submodule(owner)
            parameter.copy_(getattr(there, own))
    return twin


def test_the_function_is_the_same(case):
    dense, inputs = case
    net = maestro.factorize(copy.deepcopy(dense))
    assert maestro.ranks(net) and isinstance(net, type(dense))
    same(net(*inputs), dense(*inputs))
    for mode in (net.eval(), net.train()):
        with torch.no_grad():
            same(mode(*inputs), dense.train(mode.training)(*inputs))
    assert maestro.left_alone(net) == maestro.left_alone(dense)
    again = maestro.factorize(net)
    same(again(*inputs), dense(*inputs))


def test_gradients_are_those_of_the_dense_weights(case):
    dense, inputs = case
    net = half(maestro.factorize(copy.deepcopy(dense)))
    twin = dense_twin(net, dense)
    for one in (net, twin):
        first(one(*inputs)).square().sum().backward()
    checked = 0
    for name, layer in maestro.low_rank_layers(net).items():
        owner, _, own = name.removesuffix("_factors").rpartition(".")
        there = twin.get_submodule(owner)
        if name.endswith("_factors"):
            G = getattr(there, own).grad.reshape(layer.blocks, *layer.shape)
            U, V = (M.unflatten(0, (layer.blocks, -1)) for M in (layer.U, layer.V))
            gu, gv = (G @ V).flatten(0, 1), (G.mT @ U).flatten(0, 1)
            torch.testing.assert_close(layer.U.grad, gu, rtol=0, atol=1e-9)
            torch.testing.assert_close(layer.V.grad, gv, rtol=0, atol=1e-9)
            checked += 1
    assert checked


def test_a_step_of_the_method(case):
    """Draws as widths and as masks, lasso, shrinking with momentum, and on."""
    dense, inputs = case
    outs = []
    for masks in (False, True):
        net = maestro.factorize(copy.deepcopy(dense)).train()
        optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9)
        for seed in range(3):
            optimizer.zero_grad()
            draw = torch.Generator().manual_seed(seed)
            with maestro.sample(net, draw, "independent", masks=masks) as cut:
                loss = first(net(*inputs)).square().mean()
                loss = loss + 0.1 * maestro.hierarchical_group_lasso(net)
                loss.backward()
            optimizer.step()
        assert cut.keys() == maestro.ranks(net).keys()
        before = maestro.ranks(net)
        middle = sorted(
            maestro.importance(layer)[-1].item()
            for layer in maestro.low_rank_layers(net).values()
        )[0]
        after = maestro.shrink(net, optimizer, eps_ps=middle)
        assert sum(after.values()) < sum(before.values())
        first(net(*inputs)).square().mean().backward()
        optimizer.step()
        outs.append(net(*inputs))
    same(*outs, atol=1e-9)


@pytest.mark.parametrize("rank", [0, 1, None])
def test_merging_gives_the_parameters_back(case, rank):
    dense, inputs = case
    net = maestro.factorize(copy.deepcopy(dense)).eval()
    if rank is not None:
        maestro.truncate(net, dict.fromkeys(maestro.ranks(net), rank))
    with torch.no_grad():
        expected = net(*inputs)
        foretold = maestro.footprint(net, inputs, merged=True)
        merged = maestro.merge(net)
        out, wanted = first(merged(*inputs)), first(expected)
    assert merged is net and type(merged) is type(dense)
    assert (out - wanted).abs().max() <= 1e-10
    assert not any("maestro" in type(m).__module__ for m in merged.modules())
    assert sum(p.numel() for p in merged.parameters()) == foretold.params
    if not any(name.endswith("linear1") for name, _ in dense.named_modules()):
        names = {name for name, _ in dense.named_parameters()}
        assert names == {name for name, _ in merged.named_parameters()}
    first(merged(*inputs)).sum().backward()


def test_counting(case):
    """Each map costs r (m + n) for every vector, of cross-attention too."""
    dense, inputs = case
    whole = maestro.footprint(dense, inputs)
    net = maestro.factorize(copy.deepcopy(dense))
    costs = maestro.costs(net, inputs)
    assert not costs.uncounted
    fixed = whole.macs - sum(m * n * p for m, n, p in costs.maps.values())
    assert fixed >= 0 and costs.fixed.macs == fixed
    half(net)
    counted = maestro.footprint(net, inputs)
    assert counted.params == sum(p.numel() for p in net.parameters())
    ranks = maestro.ranks(net)
    maps = costs.maps.items()
    assert counted.macs == fixed + sum(ranks[k] * (m + n) * p for k, (m, n, p) in maps)


def test_states_copies_and_pickles(case):
    dense, inputs = case
    net = half(maestro.factorize(copy.deepcopy(dense))).eval()
    with torch.no_grad():
        expected = net(*inputs)
        other = maestro.factorize(copy.deepcopy(dense)).eval()
        saved = io.BytesIO()
        torch.save(net.state_dict(), saved)
        saved.seek(0)
        other.load_state_dict(torch.load(saved))
        assert maestro.ranks(other) == maestro.ranks(net)
        copied = copy.deepcopy(net)
        for one in (other, copied, pickle.loads(pickle.dumps(net))):
            assert torch.equal(first(one(*inputs)), first(expected))
        for p in copied.parameters():
            p.zero_()
        assert torch.equal(first(net(*inputs)), first(expected))


def test_an_optimiser_made_too_early_is_stopped(case):
    dense, _ = case
    optimizer = torch.optim.SGD(dense.parameters(), 0.1)
    maestro.factorize(dense)
    with pytest.raises(RuntimeError, match="make it afterwards"):
        optimizer.step()


def test_blocks_share_their_columns():
    net = maestro.factorize(nn.MultiheadAttention(8, 2).double())
    layer = net.in_proj_weight_factors
    assert (layer.blocks, layer.shape, layer.max_rank) == (3, (8, 8), 8)
    assert (layer.U.shape, layer.V.shape) == ((24, 8), (24, 8))
    W = layer.weight.detach().unflatten(0, (3, 8))
    maestro.truncate(net, {"in_proj_weight_factors": 3})
    for block, cut in zip(W, layer.weight.detach().unflatten(0, (3, 8)), strict=True):
        P, S, Qt = torch.linalg.svd(block)  # the best of rank 3, in each
        assert (P[:, :3] * S[:3] @ Qt[:3] - cut).abs().max() <= 1e-10


def test_a_weight_is_computed_once_in_a_pass(monkeypatch):
    net = maestro.factorize(nn.LSTM(8, 6, 2))
    layer = net.weight_hh_l0_factors
    calls, matrix = [], layer.matrix
    monkeypatch.setattr(layer, "matrix", lambda: calls.append(1) or matrix())
    net(torch.randn(3, 8))
    assert len(calls) == 1 and "_weights_now" not in vars(net)


def test_an_error_in_the_pass_leaves_nothing_behind():
    net = maestro.factorize(nn.LSTM(8, 6))
    with pytest.raises(RuntimeError):
        net(torch.randn(3, 7))
    assert "_weights_now" not in vars(net)


# named by the user


def test_an_expert_that_the_input_picks_is_counted():
    dense, x = PickedExperts().double(), tokens(7, 4)
    net = maestro.factorize(copy.deepcopy(dense))
    same(net(x), dense(x))
    assert maestro.footprint(dense, x).macs == 7 * (4 * 3 + 2 * 4 * 6)
    half(net)
    ranks = maestro.ranks(net)
    counted = maestro.footprint(net, x)
    assert ranks == {
        "gate": 2,
        "experts.up_factors": 2,
        "experts.down_factors": 2,
    }
    assert counted.macs == 7 * (2 * 7 + 2 * 2 * 10)
    assert counted.params == sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("weights", ["*.table", ["own.table"], ("own.t*", "own.oth*")])
def test_weights_that_are_named_are_taken(weights):
    dense = nn.ModuleDict({"own": Own(), "plain": nn.Linear(3, 3)}).double()
    assert list(maestro.left_alone(dense)) == ["own"]
    net = maestro.factorize(copy.deepcopy(dense), weights=weights)
    assert "own.table_factors" in maestro.ranks(net)
    x = tokens(2, 7)
    same(net["own"](x), dense["own"](x))
    assert maestro.left_alone(dense, weights=weights) == {}
    half(net)
    expected = net["own"](x)
    same(maestro.merge(net)["own"](x), expected)
    assert type(net["own"]) is Own


def test_a_subclass_that_computes_something_else_can_be_named():
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    dense = nn.Sequential(Doubled(4, 5), nn.Linear(5, 3)).double()
    net = maestro.factorize(copy.deepcopy(dense), weights="0.weight")
    assert list(maestro.ranks(net)) == ["0.weight_factors", "1"]
    x = tokens(2, 4)
    same(net(x), dense(x))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("own.tabel", "names no parameter"),
        ("plain.bias", r"plain.bias is \(3,\); it takes a matrix"),
        (3, "weights=3: it takes the name of a parameter"),
        ([nn.Linear], "it takes the name of a parameter"),
    ],
)
def test_names_that_are_wrong_change_nothing(weights, message):
    net = nn.ModuleDict({"own": Own(), "plain": nn.Linear(3, 3)})
    with pytest.raises(ValueError, match=message):
        maestro.factorize(net, weights=weights)
    assert maestro.ranks(net) == {}


def test_skip_leaves_them_dense():
    net = nn.Sequential(nn.LSTM(8, 6), nn.Linear(6, 3))
    maestro.factorize(net, skip="0")
    assert list(maestro.ranks(net)) == ["1"]
    assert maestro.left_alone(net, "0") == {"0": "skipped"}


# of the others PyTorch makes a state for one size of batch
@pytest.mark.parametrize("name", ["three inputs", "encoder", "lstm cell", "experts"])
def test_torch_export(name):
    made, inputs = NETWORKS[name]
    net = half(maestro.factorize(made().double())).eval()
    program = torch.export.export(net, inputs).module()
    with torch.no_grad():
        same(program(*inputs), net(*inputs))


@pytest.mark.parametrize(
    "module", [nn.LSTM(4, 3), nn.GRUCell(4, 3), nn.MultiheadAttention(4, 2)]
)
def test_merged_parameters_are_in_the_order_of_the_dense_ones(module):
    """An optimiser's saved state goes by the order alone."""
    dense = nn.Sequential(copy.deepcopy(module))
    merged = maestro.merge(maestro.factorize(nn.Sequential(module)))
    names = [name for name, _ in dense.named_parameters()]
    assert [name for name, _ in merged.named_parameters()] == names


@pytest.mark.parametrize(
    "module",
    [
        nn.LSTM(32, 32),
        nn.GRU(32, 32),
        nn.MultiheadAttention(32, 2),
        nn.TransformerEncoderLayer(32, 2, 32),
    ],
)
def test_merged_weights_are_as_large_as_dense_ones_and_saved_factors_are_not(
    module, tmp_path
):
    """The README and the page of questions say so."""
    dense = sum(p.numel() for p in module.parameters())
    net = maestro.factorize(nn.Sequential(module))
    maestro.truncate(net, dict.fromkeys(maestro.ranks(net), 1))
    maestro.save(net, tmp_path / "factors.safetensors")
    merged = maestro.merge(copy.deepcopy(net))
    assert sum(p.numel() for p in merged.parameters()) == dense
    fresh = maestro.load(tmp_path / "factors.safetensors", copy.deepcopy(merged))
    numbers = sum(p.numel() for p in fresh.parameters())
    assert numbers == sum(p.numel() for p in net.parameters()) < dense / 2


def test_torch_fx_takes_the_merged_network_alone():
    """The page of questions says so."""
    net = maestro.factorize(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4)))
    with pytest.raises((TypeError, RuntimeError)):
        torch.fx.symbolic_trace(net)
    x, merged = torch.randn(3, 6), maestro.merge(net)
    assert torch.equal(torch.fx.symbolic_trace(merged)(x), merged(x))
