"""Other libraries' networks, and everything that is done with a network.

    python benchmarks/networks.py

tries every use in USES on every network in NETWORKS and writes
``data/bench/networks.json``, from which the book's page "Any network" is made.
``tests/test_networks.py`` tries the same, cell by cell. The networks are small, built
from their configuration with random weights; everything is in double precision.
"""

import copy
import importlib
import io
import json
import math
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import metadata

import torch
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

import maestro
from maestro.datasets.torchvision_repair import import_torchvision
from maestro.paths import ROOT
from maestro.system import write_whole

OUT = ROOT / "data" / "bench" / "networks.json"
TOLERANCE = 1e-9  # of the largest output
WORKS = "works"

# ---------------------------------------------------------------- the networks


@dataclass(frozen=True, eq=False)
class Network:
    """build: takes the library's module. activations: MACs of its unbatched products
    of two activations, which PyTorch's counter cannot tell from those with weights."""

    library: str
    name: str
    build: Callable
    inputs: dict
    activations: int = 0


def _convnext(torchvision):
    models = torchvision.models
    block = models.convnext.CNBlockConfig
    return models.ConvNeXt([block(16, 32, 1), block(32, None, 2)], num_classes=10)


def _hugging(model, config, **options):
    """Builds a network of transformers."""
    return lambda t: getattr(t, model)(getattr(t, config)(**options))


def _timm(name, **options):
    return lambda timm: timm.create_model(name, num_classes=10, **options)


def _images():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 32, 32, dtype=torch.double, generator=generator)


IMAGES = {"x": _images()}
TOKENS = {"input_ids": torch.tensor([[7, 3, 8, 2, 6, 9], [5, 5, 1, 6, 3, 9]])}
PATCHES = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}
INNER = {"hidden_size": 16, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 2, "intermediate_size": 32}
VISION = {"image_size": 32, "patch_size": 8, **INNER, **HEADS}
ENDS = {"bos_token_id": 0, "eos_token_id": 9, "pad_token_id": 0}
WORDS = {"vocab_size": 50, **ENDS}
TEXT = {"max_position_embeddings": 16, **INNER, **HEADS, **WORDS}

NETWORKS = [
    Network(
        "torchvision", "ResNet-18", lambda t: t.models.resnet18(num_classes=10), IMAGES
    ),
    Network(
        "torchvision",
        "MobileNetV2",
        lambda t: t.models.MobileNetV2(
            10, 0.25, [[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 2, 2]]
        ),
        IMAGES,
    ),
    Network(
        "torchvision",
        "ViT",
        lambda t: t.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=10),
        IMAGES,
    ),
    Network(
        "torchvision",
        "Swin",
        lambda t: t.models.SwinTransformer(
            [4, 4], 16, [2, 2], [2, 4], [4, 4], num_classes=10
        ),
        IMAGES,
    ),
    Network("torchvision", "ConvNeXt", _convnext, IMAGES),
    Network(
        "timm", "ResNet-10-T", _timm("resnet10t", channels=(16, 32, 64, 128)), IMAGES
    ),
    Network("timm", "ViT-Tiny", _timm("vit_tiny_patch16_224", **PATCHES), IMAGES),
    Network("timm", "BEiT", _timm("beit_base_patch16_224", **PATCHES), IMAGES),
    Network("timm", "EVA-02", _timm("eva02_tiny_patch14_224", **PATCHES), IMAGES),
    Network(
        "timm",
        "MLP-Mixer",
        lambda t: t.models.mlp_mixer.MlpMixer(
            10, img_size=32, patch_size=8, num_blocks=2, embed_dim=24
        ),
        IMAGES,
    ),
    Network(
        "timm",
        "ConvNeXt V2",
        _timm("convnextv2_atto", depths=(1, 1, 1, 1), dims=(8, 16, 24, 32)),
        IMAGES,
    ),
    Network(
        "transformers", "BERT", _hugging("BertModel", "BertConfig", **TEXT), TOKENS
    ),
    Network(
        "transformers",
        "GPT-2",
        _hugging(
            "GPT2LMHeadModel",
            "GPT2Config",
            **{"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 16, **WORDS},
            use_cache=False,
        ),
        TOKENS,
    ),
    Network(
        "transformers",
        "T5",
        _hugging(
            "T5ForConditionalGeneration",
            "T5Config",
            **{"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2},
            **WORDS,
            use_cache=False,
        ),
        TOKENS | {"decoder_input_ids": TOKENS["input_ids"].flip(1)},
    ),
    Network(
        "transformers",
        "Llama",
        _hugging(
            "LlamaForCausalLM",
            "LlamaConfig",
            **TEXT,
            num_key_value_heads=1,
            use_cache=False,
        ),
        TOKENS,
    ),
    Network(
        "transformers",
        "CLIP",
        _hugging(
            "CLIPModel",
            "CLIPConfig",
            text_config=TEXT,
            vision_config=VISION,
            projection_dim=12,
        ),
        TOKENS | {"pixel_values": IMAGES["x"]},
        activations=2 * 2 * 12,  # each text with each image
    ),
    Network(
        "transformers",
        "Mamba",
        _hugging(
            "MambaForCausalLM",
            "MambaConfig",
            **{**INNER, **WORDS, "state_size": 4},
            use_cache=False,
        ),
        TOKENS,
    ),
]


def library(name):
    """The module; torchvision is repaired first, because the two others import it."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is fetched
    torchvision = import_torchvision()
    return torchvision if name == "torchvision" else importlib.import_module(name)


@cache
def _dense(network):
    torch.manual_seed(0)
    net = network.build(library(network.library)).double().eval()
    with torch.no_grad():  # nothing is left at zero, where gradients would vanish
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return net


@cache
def _factorised(network):
    return maestro.factorize(copy.deepcopy(_dense(network)))


def dense(network):
    return copy.deepcopy(_dense(network))


def factorised(network):
    return copy.deepcopy(_factorised(network))


# ---------------------------------------------------------------- the uses

# Each takes a Network; it returns nothing, or the reason for which the use is refused,
# and raises whatever fails.


def factorise(network):
    """The factorised network computes the same function."""
    same(outputs(factorised(network), network), outputs(dense(network), network))


def train(network):
    """One step of LoD reaches every factor, and moves the loss."""
    net = factorised(network).train()
    before = loss_of(net, network).item()
    step(net, sgd(net), network)
    for name, layer in maestro.low_rank_layers(net).items():
        for factor in (layer.U, layer.V):
            gradient = factor.grad
            assert gradient is not None and gradient.isfinite().all(), name
            assert gradient.any(), f"no gradient at {name}"
    assert loss_of(net, network).item() != before


def cut(network):
    """Half the columns go, momentum with them, and training goes on."""
    net, optimizer = half_cut(network)
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in net.parameters())
    for layer in maestro.low_rank_layers(net).values():
        for factor in (layer.U, layer.V):
            assert optimizer.state[factor]["momentum_buffer"].shape == factor.shape
    before = loss_of(net, network).item()
    step(net, optimizer, network)
    after = loss_of(net, network).item()
    assert math.isfinite(after) and after != before


def save(network):
    """A state_dict loads into a network at other ranks, smaller and larger."""
    small, large = half_cut(network)[0].eval(), factorised(network)
    for source, target in ((small, factorised(network)), (large, half_cut(network)[0])):
        saved = io.BytesIO()
        torch.save(source.state_dict(), saved)
        saved.seek(0)
        target.load_state_dict(torch.load(saved))
        assert maestro.ranks(target) == maestro.ranks(source)
        same(outputs(target.eval(), network), outputs(source, network))


def resume(network):
    """Training goes on as if uninterrupted; model or optimiser is loaded first."""
    net, optimizer = half_cut(network)
    saved = io.BytesIO()
    torch.save((net.state_dict(), optimizer.state_dict()), saved)
    step(net, optimizer, network)
    expected = outputs(net.eval(), network)
    for model_first in (True, False):
        net = factorised(network).train()
        optimizer = sgd(net)
        saved.seek(0)
        model_state, optimizer_state = torch.load(saved)
        if model_first:
            net.load_state_dict(model_state)
        optimizer.load_state_dict(optimizer_state)
        if not model_first:
            net.load_state_dict(model_state)
        step(net, optimizer, network)
        same(outputs(net.eval(), network), expected)


def merge(network):
    """Plain PyTorch layers compute the same; `footprint` knows their size before."""
    for net in (factorised(network), half_cut(network)[0].eval(), emptied(network)):
        expected = outputs(net, network)
        expected_size = maestro.footprint(net, merged=True, **network.inputs)
        merged = maestro.merge(net)
        assert not any("maestro" in type(m).__module__ for m in merged.modules())
        same(outputs(merged, network), expected)
        assert maestro.footprint(merged, **network.inputs) == expected_size


def count(network):
    """PyTorch's own counter arrives at the same MACs."""
    net = dense(network)
    found = maestro.footprint(net, **network.inputs)
    with FlopCounterMode(display=False) as counter:
        net(**network.inputs)
    flops = {str(op): n for op, n in counter.get_flop_counts()["Global"].items()}
    linear = sum(flops.get(f"aten.{op}", 0) for op in ("mm", "addmm", "convolution"))
    assert found.macs == linear // 2 - network.activations > 0
    assert found.params == sum(p.numel() for p in net.parameters())
    assert (
        maestro.footprint(factorised(network), merged=True, **network.inputs) == found
    )


def export(network):
    """torch.export with a dynamic batch: factorised, and merged with an empty layer."""
    small = half_cut(network)[0].eval()
    try:
        for net in (small, maestro.merge(emptied(network))):
            exported = torch.export.export(net, (), **exportable(network)).module()
            more = {k: torch.cat([x, x[:1]]) for k, x in network.inputs.items()}
            same(values(exported(**more)), values(net(**more)))
    except Exception:
        reason = dense_export_fails(network)
        if reason is None:
            raise
        return reason


USES = (factorise, train, cut, save, resume, merge, count, export)


# ---------------------------------------------------------------- what they share


def values(output):
    """All floating-point outputs as one row."""
    leaves = [x for x in tree_leaves(output) if isinstance(x, torch.Tensor)]
    return torch.cat([x.flatten().double() for x in leaves if x.is_floating_point()])


def outputs(net, network):
    with torch.no_grad():
        return values(net(**network.inputs))


def same(found, expected):
    assert found.shape == expected.shape and expected.any()
    error = (found - expected).abs().max() / expected.abs().max()
    assert error <= TOLERANCE, f"outputs differ by {error:.1e}"


def sgd(net):
    return torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)


def loss_of(net, network):
    torch.manual_seed(1)  # dropout's masks
    output = values(net(**network.inputs))
    weights = torch.linspace(-1, 1, len(output), dtype=output.dtype)
    return (output * weights).mean()


def step(net, optimizer, network):
    optimizer.zero_grad()
    with maestro.sample(net, torch.Generator().manual_seed(0)):
        loss_of(net, network).backward()
    optimizer.step()


def half_cut(network):
    """(net, optimizer) after a step of training, at half of each layer's rank."""
    net = factorised(network).train()
    optimizer = sgd(net)
    step(net, optimizer, network)
    halves = {name: (r + 1) // 2 for name, r in maestro.ranks(net).items()}
    maestro.truncate(net, halves, optimizer)
    return net, optimizer


def emptied(network):
    """A network at half ranks, in one of whose layers no column is left."""
    net = half_cut(network)[0].eval()
    names = list(maestro.ranks(net))
    maestro.truncate(net, {names[len(names) // 2]: 0})
    return net


def exportable(network):
    batch = {0: torch.export.Dim("batch")}
    return {
        "kwargs": network.inputs,
        "dynamic_shapes": dict.fromkeys(network.inputs, batch),
    }


def dense_export_fails(network):
    """Why the network cannot be exported before it is factorised; None if it can."""
    try:
        torch.export.export(dense(network), (), **exportable(network))
    except Exception as error:
        return f"PyTorch cannot export the dense network: {type(error).__name__}"


# ---------------------------------------------------------------- the table


def described(network):
    """What `factorize` takes of a network, and what it leaves: {reason: modules}."""
    net = factorised(network)
    reasons = [reason.partition(" (")[0] for reason in maestro.left_alone(net).values()]
    return {
        "library": network.library,
        "network": network.name,
        "layers": len(maestro.low_rank_layers(net)),
        "left_alone": dict(Counter(reasons)),
    }


def table():
    """What is recorded: the libraries' versions, what each use is, the rows."""
    libraries = dict.fromkeys(network.library for network in NETWORKS)
    return {
        "versions": {name: metadata.version(name) for name in ["torch", *libraries]},
        "uses": {use.__name__: use.__doc__ for use in USES},
        "rows": [
            described(network)
            | {"uses": {use.__name__: use(network) or WORKS for use in USES}}
            for network in NETWORKS
        ],
    }


if __name__ == "__main__":
    write_whole(OUT, json.dumps(table(), indent=1) + "\n")
