"""The published sizes, counted again on shapes alone."""

from decimal import Decimal

import pandas as pd
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..campaign.baselines import BUT_LAST_STAGE, PUFFERFISH_SKIPS, SPECTRAL_SKIPS
from ..lowrank.counting import footprint
from ..methods import Pufferfish, Spectral
from ..models import MODELS
from ..results.confidence import FAILS, HOLDS
from ..results.published import paper_table
from ..results.verdicts import Verdict

PICTURE = torch.zeros(1, 3, 32, 32)
PHOTO = torch.zeros(1, 3, 224, 224)
SENTENCES = torch.full((1, 28), 2), torch.full((1, 28), 2)
# {network of Table 2: (arguments of the model, example inputs)}
OF_TABLE_2 = {
    "lenet": ({}, (torch.zeros(1, 1, 28, 28),)),
    "resnet18": ({}, (PICTURE,)),
    "vgg19": ({}, (PICTURE,)),
    "resnet50": ({"classes": 1000}, (PHOTO,)),
    "transformer": ({"tied": True}, SENTENCES),
}


def published_counts():
    """Parameters and MACs of published networks: ours, and those that the paper prints.

    Pufferfish's VGG-19 has its authors' head of three layers, and its Transformer one
    matrix for both embeddings and the output. Millions and billions as printed.
    """
    vgg19 = [*PUFFERFISH_SKIPS["vgg19"], "classifier.4"]
    spectral = Spectral(0.02, skip=SPECTRAL_SKIPS["vgg19"])
    of_16, of_3, of_4 = (paper_table(number) for number in (16, 3, 4))
    of_4 = of_4[of_4.section.str.startswith("Not")].assign(model="resnet50")
    rows = [
        ("resnet18", {}, _pufferfish("resnet18"), PICTURE, of_16),
        ("vgg19", {"hidden": (512, 512)}, _with(vgg19), PICTURE, of_16),
        ("vgg19", {}, spectral, PICTURE, of_16),
        ("resnet50", {}, _with(BUT_LAST_STAGE), PHOTO, of_4),
        (
            "transformer",
            {"tied": True},
            _pufferfish("transformer"),
            SENTENCES,
            of_3.assign(model="transformer"),
        ),
    ]
    return pd.DataFrame([_row(*row) for row in rows]).set_index("network")


def table_2():
    """{network: Verdict}: do the sizes that Table 2 prints come out?

    A size comes out if it is within one unit of the last printed digit. MACs may also
    come out with `elementwise` operations.
    """
    rows = _of_table_2()
    return {model: _printed(model, rows.loc[model]) for model in rows.index}


def _printed(model, row):
    arguments, example = OF_TABLE_2[model]
    with torch.device("meta"):
        net = MODELS[model](**arguments)
    counted, more = footprint(net, _on_meta(example)), elementwise(net, example)
    pairs = [
        (row.params, "M parameters", [counted.params / 1e6]),
        (row.macs, "G MACs", [counted.macs / 1e9, (counted.macs + more) / 1e9]),
    ]
    off = [
        f"{ours[0]:g} where the table prints {text} {unit}"
        for text, unit, ours in pairs
        if not any(_fits(number, text) for number in ours)
    ]
    said = f"{counted.params:,} parameters, {counted.macs:,} MACs"
    if not _fits(counted.macs / 1e9, row.macs):
        said += f" of linear maps and {more:,} operations of batch norm, ReLU, pooling"
    sentence = "; ".join(off) or said
    return Verdict(
        "the printed sizes come out",
        FAILS if off else HOLDS,
        counted.params / 1e6,
        float(row.params),
        1,
        sentence=sentence,
        scale="shapes",
        say="{:.2f}M parameters".format,
    )


class _Elementwise(TorchDispatchMode):
    """Counts operations that are no linear maps, as common counting tools do."""

    PER_NUMBER = {"batch_norm": 2, "relu": 1, "max_pool2d": 1, "mean": 1}

    def __init__(self):
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, call, types, args=(), kwargs=None):
        name = call.overloadpacket.__name__
        for part, each in self.PER_NUMBER.items():
            if part in name:
                self.operations += each * args[0].numel()
        return call(*args, **(kwargs or {}))


@torch.no_grad()
def elementwise(net, example):
    """The operations of batch norm, ReLU and pooling in one pass on ``example``.

    Two for each number that batch norm takes, and one for each that ReLU or a pooling
    takes. net: a network on the meta device.
    """
    with _Elementwise() as counter:
        net.eval()(*_on_meta(example))
    return counter.operations


def table_6():
    """The `Verdict` on LeNet as Table 6 prints it: does the network fit together?"""
    with torch.device("meta"):
        printed = nn.Sequential(
            nn.Conv2d(1, 6, 5, padding=1),
            nn.MaxPool2d(2, stride=1),
            nn.Conv2d(6, 16, 5),
            nn.MaxPool2d(2, stride=2),
        )
        features = printed(torch.zeros(1, 1, 28, 28)).numel()
        wanted = MODELS["lenet"]().fc1.in_features
    word = HOLDS if features == wanted else FAILS
    sentence = (
        f"the printed convolutions give {features:,} features, fc1 takes {wanted}"
    )
    say = "{:,.0f} features".format
    return Verdict(
        "Table 6 fits", word, features, wanted, 1, 0.0, "shapes", sentence, say
    )


def table_7():
    """The `Verdict` on ResNet-50 as Table 7 prints it: has it the size of Table 2?"""
    row = _of_table_2().loc["resnet50"]
    with torch.device("meta"):
        net = MODELS["resnet50"](classes=20)
        net.conv1.padding = (1, 1)
        counted = footprint(net, _on_meta((PHOTO,)))
    ours, theirs = counted.params / 1e6, float(row.params)
    fits = _fits(ours, row.params)
    sentence = f"{counted.params:,} parameters and {counted.macs:,} MACs as printed"
    say, word = "{:.2f}M parameters".format, HOLDS if fits else FAILS
    return Verdict(
        "Table 7 fits Table 2", word, ours, theirs, 1, 0.0, "shapes", sentence, say
    )


def _of_table_2():
    return paper_table(2, dtype=str).set_index("model")


def _fits(ours, text):
    """Whether ``ours`` is within a unit of the last digit of a printed number."""
    unit = Decimal(10) ** Decimal(text).as_tuple().exponent  # 0.01 of '4.12'
    return abs(Decimal(ours) - Decimal(text)) <= unit


def _on_meta(example):
    return tuple(tensor.to("meta") for tensor in example)


def _row(model, size, method, example, table):
    name = type(method).__name__.lower()
    [printed] = table[(table.model == model) & (table.variant == name)].itertuples()
    with torch.device("meta"):
        net = MODELS[model](**size)
        counted = method.size(method.prepare(net, example, None))
    return {
        "network": f"{type(method).__name__}, {model}",
        "parameters": f"{counted.params:,}",
        "the paper's (M)": f"{printed.params:g}",
        "parameters apart": f"{counted.params / 1e6 / printed.params - 1:+.1%}",
        "MACs": f"{counted.macs:,}",
        "the paper's (G)": "–" if pd.isna(printed.macs) else f"{printed.macs:g}",
        "MACs apart": _apart(counted.macs / 1e9, printed.macs),
    }


def _apart(ours, printed):
    return "–" if pd.isna(printed) else f"{ours / printed - 1:+.1%}"


def _pufferfish(model):
    return _with(PUFFERFISH_SKIPS[model])


def _with(skip):
    return Pufferfish(warm_up=0, rank_ratio=0.25, skip=skip)
