"""What `factorize` takes of a network and what it leaves alone, with the reason."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import maestro

# what is left alone


class Own(nn.Linear):
    def forward(self, x):
        return super().forward(x) * 2


class Experts(nn.Module):
    """A name alone does not make vectors matrices."""

    def __init__(self, n):
        super().__init__()
        self.scales = nn.Parameter(torch.ones(3, n))


@pytest.mark.parametrize(
    "module, reason",
    [
        (nn.Conv2d(4, 4, 3, groups=4), "convolution (groups=4) of rank 1 in each"),
        (nn.ConvTranspose1d(4, 4, 3, groups=4), "(groups=4) of rank 1 in each"),
        (nn.Embedding(5, 4), "Embedding looks rows up"),
        (nn.Bilinear(4, 4, 4), "Bilinear is linear in each of two inputs"),
        (Own(4, 4), "Own is not a layer of one linear map"),
        (Experts(4), "Experts is not a layer of one linear map"),
        (nn.LazyLinear(4), "no weight before its first forward"),
        (nn.LazyConv2d(4, 3), "no weight before its first forward"),
        (parametrizations.weight_norm(nn.Linear(4, 4)), "computes its weight"),
        (parametrizations.spectral_norm(nn.Linear(4, 4)), "computes its weight"),
        (nn.Linear(4, 4, dtype=torch.complex64), "weights of torch.complex64"),
    ],
)
def test_left_alone_with_its_reason(module, reason):
    model = nn.ModuleDict({"odd": module, "plain": nn.Linear(4, 3)})
    before = maestro.left_alone(model)
    net = maestro.factorize(model)
    assert net["odd"] is module
    assert reason in before["odd"] and "plain" not in before
    assert maestro.left_alone(net) == before
    assert maestro.ranks(net) == {"plain": 3}


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_weight_norm_by_hook_is_left_alone():
    model = nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 4))
    dense = copy.deepcopy(model.state_dict())
    maestro.factorize(model)
    assert list(maestro.left_alone(model)) == ["0"]
    assert "computes its weight" in maestro.left_alone(model)["0"]
    assert torch.equal(model.state_dict()["0.weight_v"], dense["0.weight_v"])


def test_a_weight_that_the_parent_holds_too_is_tied():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model.register_parameter("also", model[0].weight)
    assert "tied" in maestro.left_alone(model)["0"]
    assert maestro.ranks(maestro.factorize(model)) == {"1": 4}


def test_vectors_are_not_listed():
    model = nn.Sequential(nn.BatchNorm1d(4), nn.LayerNorm(4), nn.PReLU(4))
    assert maestro.left_alone(model) == {}


# what would lose something


class Scaled(nn.Linear):
    """What it adds is called by the network."""

    def norm(self):
        return self.weight.norm()


def own_forward(layer):
    dense = layer.forward
    layer.forward = lambda x: 2 * dense(x)


def adapter(layer):
    layer.adapter = nn.LayerNorm(4)


def gate(layer):
    layer.gate = nn.Parameter(torch.ones(4))


def tag(name):
    return lambda layer: setattr(layer, name, "mine")


def other_kind(layer):
    layer.weight = type("Quantised", (nn.Parameter,), {})(layer.weight.detach())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (own_forward, "a forward of its own"),
        (adapter, "holds other modules or parameters"),
        (gate, "holds other modules or parameters"),
        (tag("columns"), "whose names low-rank layers use: columns"),
        (tag("rank"), "whose names low-rank layers use: rank"),
        (lambda m: m.register_buffer("U", torch.ones(1)), "low-rank layers use: U"),
        (other_kind, "a parameter of the kind Quantised"),
        (lambda m: m.weight.register_hook(torch.neg), "hooks on the gradient"),
        (
            lambda m: m.bias.register_post_accumulate_grad_hook(print),
            "hooks on the gradient",
        ),
        (
            lambda m: m.register_state_dict_post_hook(lambda *_: None),
            "hooks on its state_dict",
        ),
        (
            lambda m: m.register_load_state_dict_pre_hook(lambda *_: None),
            "hooks on its state_dict",
        ),
    ],
)
def test_what_cannot_be_kept_is_left_alone(change, reason):
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    change(model[0])
    layer, x = model[0], torch.randn(3, 4)
    expected = layer(x)
    assert list(maestro.left_alone(model)) == ["0"]
    assert reason in maestro.left_alone(model)["0"]
    net = maestro.factorize(model)
    assert net[0] is layer and torch.equal(layer(x), expected)
    assert maestro.ranks(net) == {"1": 4}


def test_a_subclass_with_methods_of_its_own_is_left_alone():
    model = nn.Sequential(Scaled(4, 4), nn.Linear(4, 4))
    assert maestro.left_alone(model) == {
        "0": "Scaled defines more than nn.Linear: norm"
    }
    maestro.factorize(model)[0].norm()


def test_layers_that_peft_adapts_are_left_alone():
    """Its merge adds to ``base_layer.weight.data``: here that would be a product."""
    base = type("BaseTunerLayer", (), {"__module__": "peft.tuners.tuners_utils"})
    lora = type("Linear", (nn.Module, base), {})()
    lora.base_layer, lora.lora_A = nn.Linear(4, 4), nn.Linear(4, 2)
    net = maestro.factorize(nn.ModuleDict({"lora": lora, "other": nn.Linear(4, 4)}))
    assert maestro.ranks(net) == {"other": 4}
    assert "peft" in maestro.left_alone(net)["lora.base_layer"]


# skip


def tree():
    def block():
        return nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})

    return nn.ModuleDict({"stem": nn.Linear(3, 3), "l1": block(), "l2": block()})


@pytest.mark.parametrize(
    "skip, left",
    [
        ((), []),
        ("stem", ["stem"]),
        (["stem", "l1.a"], ["l1.a", "stem"]),
        ("l1", ["l1.a", "l1.b"]),
        ("l1.*", ["l1.a", "l1.b"]),
        ("l[12]", ["l1.a", "l1.b", "l2.a", "l2.b"]),
        ("l?.a", ["l1.a", "l2.a"]),
        ("*.b", ["l1.b", "l2.b"]),
        (("l1", "*.b"), ["l1.a", "l1.b", "l2.b"]),
        (lambda name, module: name.endswith("a"), ["l1.a", "l2.a"]),
        (lambda name, module: isinstance(module, nn.Conv2d), []),
    ],
)
def test_skip(skip, left):
    every = ["l1.a", "l1.b", "l2.a", "l2.b", "stem"]
    reasons = maestro.left_alone(tree(), skip)
    net = maestro.factorize(tree(), skip)
    assert sorted(reasons) == left and set(reasons.values()) <= {"skipped"}
    assert sorted(maestro.ranks(net)) == [name for name in every if name not in left]


def test_skip_takes_each_name_of_a_shared_module():
    shared = nn.Linear(3, 3)
    model = nn.ModuleDict({"first": shared, "second": shared, "third": nn.Linear(3, 3)})
    assert maestro.ranks(maestro.factorize(model, "second")) == {"third": 3}
    assert model["first"] is model["second"] is shared


@pytest.mark.parametrize("skip", ["stm", "l3", ["stem", "l1.c"], "l1.a.*"])
def test_skip_of_an_unknown_name_stops_before_anything(skip):
    model = tree()
    with pytest.raises(ValueError, match="names no module of ModuleDict"):
        maestro.factorize(model, skip)
    assert maestro.ranks(model) == {}


def test_skip_names_what_is_near():
    with pytest.raises(ValueError, match="near it: .*stem"):
        maestro.factorize(tree(), "stemm")


@pytest.mark.parametrize(
    "skip", [None, 3, nn.Linear, ["0", 1], [nn.Linear(3, 3)], b"l1"]
)
@pytest.mark.parametrize("function", [maestro.factorize, maestro.left_alone])
def test_a_skip_of_another_kind_is_refused(function, skip):
    model = tree()
    with pytest.raises(ValueError, match="skip=.*it takes a name, several, or a func"):
        function(model, skip)
    assert maestro.ranks(model) == {}


@pytest.mark.parametrize("answer", [None, 1, "yes", [True]])
def test_a_predicate_that_does_not_answer_is_refused(answer):
    with pytest.raises(ValueError, match="skip returned .* must return True or False"):
        maestro.factorize(tree(), lambda name, module: answer)


def test_a_predicate_of_one_argument_is_refused():
    with pytest.raises(ValueError, match="a function must take .name, module."):
        maestro.factorize(tree(), lambda name: True)


def test_an_empty_name_stands_for_the_whole_network():
    assert len(maestro.left_alone(tree(), "")) == 5
    with pytest.raises(ValueError, match="stem: skipped .5 such."):
        maestro.factorize(tree(), "")
