"""The runs of the other systems, each with the options of its authors."""

from ..config import RunConfig
from ..methods import resolve
from .scales import BUT_LAST_STAGE, LENET, RESNET18, RESNET50, TRANSFORMER, VGG19

# the layers that Pufferfish leaves dense (App. B of Wang et al. 2021)
PUFFERFISH_SKIPS = {
    "lenet": ["conv1", "fc3"],
    "resnet18": ["conv1", "layer1.0", "*.shortcut", "fc"],
    "vgg19": [f"features.{i}" for i in (0, 3, 7, 10, 14, 17, 20, 23, 27)],
    "resnet50": BUT_LAST_STAGE,
    "transformer": ["encoder.0", "decoder.0", "output"],
}
WARM_UP = 80 / 300  # the share of epochs that are dense


def pufferfish(model, scale="paper", seeds=(0, 1, 2), rank_ratio=0.25):
    """Pufferfish on ``model``, with a dense warm-up of 80 / 300 of the epochs."""
    scales = {"lenet": {"paper": LENET}, "resnet18": RESNET18, "vgg19": VGG19}
    scales |= {"resnet50": RESNET50, "transformer": TRANSFORMER}
    task, recipe, _, _, size, _ = scales[model][scale]
    skip = PUFFERFISH_SKIPS[model]
    if model == "vgg19":
        skip = [*skip, "classifier"]
    options = {
        "warm_up": round(WARM_UP * recipe.epochs),
        "rank_ratio": rank_ratio,
        "skip": skip,
    }
    return [
        resolve(
            RunConfig(task, model, "pufferfish", recipe, options, seed, scale, size)
        )
        for seed in seeds
    ]


def lenet_baselines(seeds=(0, 1, 2)):
    """Every system on LeNet, each at two sizes, about a half and a quarter.

    Cuttlefish chooses its own size. Its window of 11 epochs is meant for 300 epochs, so
    the window here is 3. XNOR-Net is left out, because it keeps the first and the last
    convolution in full precision and LeNet has no others.
    """
    task, recipe, *_ = LENET
    skip = {"skip": PUFFERFISH_SKIPS["lenet"]}
    warm_up = {"warm_up": round(WARM_UP * recipe.epochs)}
    settled = {"window": 3, "patience": 4, "smoothing": 3}
    rows = [
        *(("pufferfish", warm_up | skip | {"rank_ratio": r}) for r in (0.33, 0.16)),
        *(("svd", skip | {"rank_ratio": r}) for r in (0.33, 0.16)),
        *(("svd", skip | {"rank_ratio": r, "tune": 5}) for r in (0.33, 0.16)),
        *(("spectral", skip | {"params_share": s}) for s in (0.5, 0.25)),
        ("cuttlefish", settled | skip),
        *(("imp", {"rounds": k}) for k in (3, 6)),
        *(("spectral_decay", skip | {"coefficient": c}) for c in (0.03, 0.1)),
        *(("dlrt", skip | {"theta": theta}) for theta in (0.1, 0.2)),
    ]
    return [
        resolve(RunConfig(task, "lenet", method, recipe, options, seed))
        for seed in seeds
        for method, options in rows
    ]
