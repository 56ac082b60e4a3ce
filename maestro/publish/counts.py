"""The published sizes of the other systems, counted again on shapes alone."""

import pandas as pd
import torch

from ..campaign.baselines import BUT_LAST_STAGE, PUFFERFISH_SKIPS, SPECTRAL_SKIPS
from ..methods import Pufferfish, Spectral
from ..models import MODELS
from ..results.published import paper_table

PICTURE = torch.zeros(1, 3, 32, 32)
SENTENCES = torch.full((1, 28), 2), torch.full((1, 28), 2)


def published_counts():
    """Parameters and MACs of published networks: ours, and those that the paper prints.

    Pufferfish's VGG-19 has its authors' head of three layers, and its Transformer one
    matrix for both embeddings and the output. Millions and billions as printed.
    """
    vgg19 = [*PUFFERFISH_SKIPS["vgg19"], "classifier.4"]
    spectral = Spectral(0.02, skip=SPECTRAL_SKIPS["vgg19"])
    photo = torch.zeros(1, 3, 224, 224)
    of_16, of_3, of_4 = (paper_table(number) for number in (16, 3, 4))
    of_4 = of_4[of_4.section.str.startswith("Not")].assign(model="resnet50")
    rows = [
        ("resnet18", {}, _pufferfish("resnet18"), PICTURE, of_16),
        ("vgg19", {"hidden": (512, 512)}, _with(vgg19), PICTURE, of_16),
        ("vgg19", {}, spectral, PICTURE, of_16),
        ("resnet50", {}, _with(BUT_LAST_STAGE), photo, of_4),
        (
            "transformer",
            {"tied": True},
            _pufferfish("transformer"),
            SENTENCES,
            of_3.assign(model="transformer"),
        ),
    ]
    return pd.DataFrame([_row(*row) for row in rows]).set_index("network")


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
