"""The plain forms of a layer against the clock: dense, two maps, aligned.

    python benchmarks/forms.py

prints, for layers of ResNet-18 and of a Transformer at a quarter and half of their
ranks and at one batch of 1 and one of 32, the time of two maps and of the aligned form
as a share of the dense layer's, beside their share of the MACs. Ratios only: all forms
are timed in turn, and the least of several rounds counts.
"""

import torch
from timing import race
from torch import nn

import maestro
from maestro.lowrank.forms import forms
from maestro.lowrank.plain import plain

LAYERS = {
    "conv 64, 32x32": (lambda: nn.Conv2d(64, 64, 3, padding=1), (64, 32, 32)),
    "conv 256, 8x8": (lambda: nn.Conv2d(256, 256, 3, padding=1), (256, 8, 8)),
    "conv 512, 4x4": (lambda: nn.Conv2d(512, 512, 3, padding=1), (512, 4, 4)),
    "linear 512, 28": (lambda: nn.Linear(512, 512), (28, 512)),
    "linear 512 to 2048, 28": (lambda: nn.Linear(512, 2048), (28, 512)),
}
SHARES = (0.25, 0.5, 0.75)
BATCHES = (1, 32)
ROUNDS = 7


def compare(name, share, batch, rounds=ROUNDS):
    """[(form, share of the dense MACs, share of the dense time), ...]."""
    made, shape = LAYERS[name]
    layer = maestro.factorize(made()).eval()
    maestro.truncate(layer, {"": round(share * layer.max_rank)})
    x = torch.randn(batch, *shape)
    sizes = {form.name: form.params for form in forms(*layer.shape, layer.rank, True)}
    modules = {form: plain(layer, form).eval() for form in sizes}
    with torch.inference_mode():
        calls = {form: lambda m=m: m(x) for form, m in modules.items()}
        times = race(calls, rounds, torch.device("cpu"))
    least = {form: min(seconds) for form, seconds in times.items()}
    return [
        (form, sizes[form] / sizes["dense"], least[form] / least["dense"])
        for form in sizes
    ]


def main():
    print("layer, batch, rank: share of the dense MACs -> share of the dense time")
    for name in LAYERS:
        for batch in BATCHES:
            for share in SHARES:
                rows = compare(name, share, batch)[1:]
                said = ", ".join(f"{form} {m:.2f} -> {t:.2f}" for form, m, t in rows)
                print(f"{name}, {batch}, {share:.2f}: {said}", flush=True)


if __name__ == "__main__":
    main()
