"""The published sizes, counted again on shapes alone."""

from decimal import Decimal

import pandas as pd
import torch
from torch import nn

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

    A size comes out if it is within one unit of the last printed digit.
    """
    rows = _of_table_2()
    return {model: _printed(model, rows.loc[model]) for model in rows.index}


def _printed(model, row):
    arguments, example = OF_TABLE_2[model]
    with torch.device("meta"):
        counted = footprint(MODELS[model](**arguments), _on_meta(example))
    pairs = [
        (row.params, counted.params / 1e6, "M parameters"),
        (row.macs, counted.macs / 1e9, "G MACs"),
    ]
    off = [
        f"{ours:g} where the table prints {text} {unit}"
        for text, ours, unit in pairs
        if abs(Decimal(ours) - Decimal(text)) > _last_digit(text)
    ]
    sentence = "; ".join(off) or f"{counted.params:,} parameters, {counted.macs:,} MACs"
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
    fits = abs(Decimal(ours) - Decimal(row.params)) <= _last_digit(row.params)
    sentence = f"{counted.params:,} parameters and {counted.macs:,} MACs as printed"
    say, word = "{:.2f}M parameters".format, HOLDS if fits else FAILS
    return Verdict(
        "Table 7 fits Table 2", word, ours, theirs, 1, 0.0, "shapes", sentence, say
    )


def _of_table_2():
    return paper_table(2, dtype=str).set_index("model")


def _last_digit(text):
    """One unit of the last digit of a printed number: 0.01 of '4.12'."""
    return Decimal(10) ** Decimal(text).as_tuple().exponent


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
