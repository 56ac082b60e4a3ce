"""Ordered dropout for one step: which columns are drawn, and what a draw does."""

import re
from collections import Counter, OrderedDict

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

import maestro
from maestro import MODES, RankSampler
from maestro.lowrank import expected_columns

SIZES = {"a": (3, 8), "b": (5, 5), "c": (9, 2)}  # ranks 3, 5, 2
RANKS = {name: min(sizes) for name, sizes in SIZES.items()}
CUTTING = [mode for mode in MODES if mode != "none"]
PAIRS = {(name, b) for name, sizes in SIZES.items() for b in range(1, min(sizes) + 1)}


def network(order="abc"):
    """Three low-rank layers, registered in this order."""
    layers = {name: nn.Linear(*sizes) for name, sizes in SIZES.items()}
    return maestro.factorize(nn.ModuleDict({name: layers[name] for name in order}))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draws(sampler, count):
    return [sampler.draw() for _ in range(count)]


def chi_square(counts, cells, total):
    expected = total / cells
    rest = (cells - len(counts)) * expected
    return rest + sum((n - expected) ** 2 / expected for n in counts.values())


# the distribution


def test_pairs_are_uniform():
    drawn = draws(RankSampler(network(), "pair", generator()), 5000)
    assert all(len(cut) == 1 for cut in drawn)
    counts = Counter(next(iter(cut.items())) for cut in drawn)
    assert set(counts) == PAIRS
    assert chi_square(counts, len(PAIRS), 5000) < 27.9  # 9 degrees of freedom, 0.1 %


def test_independent_draws_every_layer_by_itself():
    drawn = draws(RankSampler(network(), "independent", generator()), 3000)
    assert all(set(cut) == set(SIZES) for cut in drawn)
    together = Counter(tuple(sorted(cut.items())) for cut in drawn)
    assert len(together) == 3 * 5 * 2
    assert chi_square(together, 30, 3000) < 58.3  # 29 degrees of freedom, 0.1 %


def test_fraction_draws_one_share_for_all():
    drawn = draws(RankSampler(network(), "fraction", generator()), 3000)
    ranks = {name: min(sizes) for name, sizes in SIZES.items()}
    for cut in drawn:
        # b = ceil(share r): the share lies in (b - 1, b] / r of every layer
        low = max((b - 1) / ranks[name] for name, b in cut.items())
        high = min(b / ranks[name] for name, b in cut.items())
        assert set(cut) == set(ranks) and low < high
    for name, r in ranks.items():
        counts = Counter(cut[name] for cut in drawn)
        assert set(counts) == set(range(1, r + 1))
        assert chi_square(counts, r, 3000) < 18.5  # 4 degrees of freedom, 0.1 %


def test_upper_draws_pairs_of_the_upper_halves():
    drawn = draws(RankSampler(network(), "upper", generator()), 4000)
    counts = Counter(next(iter(cut.items())) for cut in drawn)
    upper = {(name, b) for name, b in PAIRS if 2 * b >= min(SIZES[name])}
    assert set(counts) == upper and len(upper) < len(PAIRS)
    assert chi_square(counts, len(upper), 4000) < 22.5  # 6 degrees of freedom, 0.1 %


def test_seldom_draws_a_pair_in_one_step_of_four():
    drawn = draws(RankSampler(network(), "seldom", generator()), 12_000)
    counts = Counter(next(iter(cut.items())) for cut in drawn if cut)
    assert 2800 < sum(counts.values()) < 3200  # 3000 and four deviations of 47
    assert set(counts) == set(PAIRS)
    whole, pair = (expected_columns(RANKS, mode) for mode in ("none", "pair"))
    for name, r in whole.items():
        mean = r - (r - pair[name]) / 4
        assert expected_columns(RANKS, "seldom")[name] == pytest.approx(mean)


def test_none_cuts_nothing_and_draws_no_numbers():
    source = generator()
    before = source.get_state()
    assert draws(RankSampler(network(), "none", source), 3) == [{}, {}, {}]
    assert torch.equal(source.get_state(), before)


def test_shuffled_visits_each_pair_once_a_walk():
    sampler = RankSampler(network(), "shuffled", generator())
    walks = []
    for _ in range(3):
        walk = [next(iter(cut.items())) for cut in draws(sampler, len(PAIRS))]
        assert set(walk) == PAIRS
        walks.append(tuple(walk))
    assert len(set(walks)) == 3 and list(walks[0]) != sorted(PAIRS)


# what it depends on


@pytest.mark.parametrize("mode", CUTTING)
def test_reproducible(mode):
    def drawn(seed):
        return draws(RankSampler(network(), mode, generator(seed)), 20)

    assert drawn(3) == drawn(3)
    assert drawn(3) != drawn(4)


@pytest.mark.parametrize("mode", MODES)
def test_independent_of_registration(mode):
    nets = network("abc"), network("cab")
    assert list(maestro.ranks(nets[0])) != list(maestro.ranks(nets[1]))
    one, other = (draws(RankSampler(net, mode, generator()), 30) for net in nets)
    assert one == other


@pytest.mark.parametrize("order", ["xyz", "zyx", "yxz"])
def test_independent_of_call_order(order):
    """The layer that is drawn is the one that is cut, whenever it is called."""
    net = nn.ModuleDict({name: nn.Linear(4, 4, bias=False) for name in "xyz"})
    maestro.factorize(net)
    inputs = {name: torch.randn(2, 4) for name in order}
    sampler = RankSampler(net, "pair", generator(1))
    for _ in range(12):
        with sampler.step() as cut:
            outputs = {name: net[name](inputs[name]) for name in order}
        for name in order:
            U, V = net[name].U, net[name].V
            b = cut.get(name, 4)
            expected = inputs[name] @ V[:, :b] @ U[:, :b].t()
            torch.testing.assert_close(outputs[name], expected)


@pytest.mark.parametrize("mode", ["pair", "independent", "fraction"])
def test_sample_is_one_step_of_a_sampler(mode):
    net, one, other = network(), generator(5), generator(5)
    sampler = RankSampler(net, mode, one)
    for _ in range(10):
        expected = sampler.draw()
        with maestro.sample(net, other, mode) as cut:
            assert cut == expected
            assert cut == {n: net[n].columns for n in cut}


def test_a_generator_of_its_own_leaves_the_global_one():
    before = torch.get_rng_state()
    for mode in MODES:
        draws(RankSampler(network_without_random_numbers(), mode, generator()), 5)
    assert torch.equal(torch.get_rng_state(), before)


def network_without_random_numbers():
    net = nn.Sequential(maestro.LowRankLinear(torch.ones(3, 2), torch.ones(4, 2)))
    assert maestro.ranks(net) == {"0": 2}
    return net


def test_without_a_generator_the_global_one_counts():
    net, drawn = network(), []
    for _ in range(2):
        torch.manual_seed(7)
        drawn.append([dict(cut) for cut in draws(RankSampler(net), 10)])
    assert drawn[0] == drawn[1]


# what a draw does


def test_the_cut_layer_runs_its_leading_columns():
    net = maestro.factorize(
        nn.Sequential(
            OrderedDict(conv=nn.Conv2d(2, 4, 3), flat=nn.Flatten(), fc=nn.Linear(16, 5))
        ).double()
    )
    x, conv, fc = torch.randn(2, 2, 4, 4, dtype=torch.float64), net.conv, net.fc
    seen = set()
    for seed in range(40):
        with maestro.sample(net, generator(seed)) as cut:
            out = net(x)
        b, c = cut.get("conv", 4), cut.get("fc", 5)
        kernel = (conv.U[:, :b] @ conv.V[:, :b].t()).view(4, 2, 3, 3)
        hidden = nn.functional.conv2d(x, kernel, conv.bias).flatten(1)
        expected = hidden @ (fc.U[:, :c] @ fc.V[:, :c].t()).t() + fc.bias
        assert (out - expected).abs().max() <= 1e-10
        seen.add((b, c))
    assert seen == {(b, 5) for b in range(1, 5)} | {(4, c) for c in range(1, 6)}


@pytest.mark.parametrize("batch", [1, 100])
def test_cut_columns_get_no_gradient(batch):
    net = maestro.factorize(nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4)))
    with RankSampler(net, "independent", generator(3)).step() as cut:
        net(torch.randn(batch, 6)).square().sum().backward()
    assert cut["0"] < 5 and cut["1"] < 4
    for name, b in cut.items():
        for factor in (net[int(name)].U, net[int(name)].V):
            assert factor.grad.shape == factor.shape
            assert not factor.grad[:, b:].any() and factor.grad[:, :b].all()


def columns(net):
    return {layer.columns for layer in maestro.low_rank_layers(net).values()}


@pytest.mark.parametrize("mode", MODES)
def test_layers_are_whole_again_after_a_step(mode):
    net = network()
    sampler = RankSampler(net, mode, generator())
    for _ in range(5):
        with sampler.step() as cut:
            assert {n: net[n].columns for n in net if n in cut} == cut
        assert columns(net) == {None}


def test_layers_are_whole_again_after_an_exception():
    net = network()
    with pytest.raises(ZeroDivisionError):
        with maestro.sample(net, generator(), "independent"):
            raise ZeroDivisionError
    assert columns(net) == {None}


def test_a_mask_from_outside_bounds_the_draws_and_comes_back():
    net = network()
    net["b"].columns = 2
    sampler = RankSampler(net, "pair", generator())
    drawn = set()
    for _ in range(200):
        with sampler.step() as cut:
            drawn |= set(cut.items())
        assert net["b"].columns == 2
    assert drawn == PAIRS - {("b", 3), ("b", 4), ("b", 5)}


# ranks that change


@pytest.mark.parametrize("mode", CUTTING)
def test_rank_zero_is_never_drawn(mode):
    net = network()
    maestro.truncate(net, {"a": 0, "c": 0, "b": 4})
    drawn = [cut for cut in draws(RankSampler(net, mode, generator()), 240) if cut]
    assert all(set(cut) == {"b"} for cut in drawn)
    low = 2 if mode == "upper" else 1
    assert {cut["b"] for cut in drawn} == set(range(low, 5))


@pytest.mark.parametrize("mode", MODES)
def test_all_at_rank_zero_cuts_nothing(mode):
    net = network()
    maestro.truncate(net, dict.fromkeys(SIZES, 0))
    with RankSampler(net, mode, generator()).step() as cut:
        assert cut == {} and columns(net) == {None}


@pytest.mark.parametrize("mode", MODES)
def test_a_sampler_goes_on_after_a_shrink(mode):
    net = network()
    sampler = RankSampler(net, mode, generator())
    draws(sampler, 4)
    maestro.truncate(net, {"b": 1, "c": 0})
    left = {("a", 1), ("a", 2), ("a", 3), ("b", 1)}
    drawn = [pair for cut in draws(sampler, 4) for pair in cut.items()]
    if mode == "shuffled":  # the list starts anew
        assert sorted(drawn) == sorted(left)
    assert set(drawn) <= left


@pytest.mark.parametrize("mode", MODES)
def test_a_resumed_sampler_draws_what_the_first_would_have(mode):
    net, source = network(), generator()
    sampler = RankSampler(net, mode, source)
    draws(sampler, 7)
    state, numbers = sampler.state_dict(), source.get_state()
    expected = draws(sampler, 12)

    source = torch.Generator()
    source.set_state(numbers)
    resumed = RankSampler(net, mode, source)
    resumed.load_state_dict(state)
    assert draws(resumed, 12) == expected


# masks


@pytest.mark.parametrize("mode", ["pair", "independent", "fraction"])
def test_masks_compute_what_cutting_does(mode):
    net = maestro.factorize(nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4)).double())
    net[1].float()  # each mask is of its layer's kind
    x = torch.randn(3, 6, dtype=torch.float64)
    results = []
    for masks in (False, True):
        with maestro.sample(net, generator(2), mode, masks=masks) as cut:
            out = net[1](net[0](x).float())
            grads = torch.autograd.grad(out.square().sum(), net.parameters())
        results.append((cut, out, *grads))
    assert results[0][0] == results[1][0]
    for one, other in zip(results[0][1:], results[1][1:], strict=True):
        torch.testing.assert_close(one, other)


def test_a_sampler_with_masks_goes_on_after_a_shrink():
    net = network()
    sampler = RankSampler(net, "independent", generator(), masks=True)
    for ranks in ({}, {"a": 0, "b": 2}):
        maestro.truncate(net, ranks)
        with sampler.step() as cut:
            for name, layer in maestro.low_rank_layers(net).items():
                b = cut.get(name, 0)
                assert layer.columns.tolist() == [1.0] * b + [0.0] * (layer.rank - b)


def compilations(masks):
    """How often dynamo compiles a network that is trained for some steps."""
    torch._dynamo.reset()
    net = maestro.factorize(nn.Sequential(nn.Conv2d(2, 6, 3), nn.Flatten(1)))
    net.append(maestro.factorize(nn.Linear(96, 9)))
    counter = CompileCounter()
    compiled = torch.compile(net, backend=counter)
    x, source = torch.randn(4, 2, 6, 6), generator()
    for _ in range(6):
        with maestro.sample(net, source, masks=masks):
            out = compiled(x)
            torch.testing.assert_close(out, net(x))
            out.sum().backward()
    return counter.frame_count


def test_with_masks_a_network_is_compiled_once():
    assert compilations(masks=True) == 1 < compilations(masks=False)


# errors


@pytest.mark.parametrize("mode", ["pairs", None, ["pair"], 1])
def test_unknown_mode(mode):
    match = f"mode={re.escape(repr(mode))}; it is one of pair, shuffled"
    for call in (lambda: RankSampler(network(), mode), lambda: wrong(mode=mode)):
        with pytest.raises(ValueError, match=match):
            call()


@pytest.mark.parametrize("source", [0, "independent", torch.randn(2), True])
def test_what_is_no_generator(source):
    with pytest.raises(ValueError, match="generator=.*it takes a torch.Generator of"):
        wrong(generator=source)


@pytest.mark.parametrize("masks", [None, 1, "no"])
def test_masks_or_none(masks):
    with pytest.raises(ValueError, match=f"masks={masks!r}: it takes True or False"):
        wrong(masks=masks)


def wrong(**arguments):
    """It is refused when it is called, before the context is entered."""
    return maestro.sample(network(), **arguments)


def test_nothing_to_sample():
    with pytest.raises(ValueError, match="Linear has no low-rank layers to sample"):
        maestro.sample(nn.Linear(2, 2))


def test_a_single_step_has_no_list_to_walk():
    with pytest.raises(ValueError, match=r"make a RankSampler\(net, 'shuffled'\)"):
        maestro.sample(network(), mode="shuffled")
