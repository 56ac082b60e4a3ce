"""Every run that the book's tables and figures need, as configurations by priority.

The functions take the parameters that the notebooks take, so that a notebook, the
command line and the campaign mean the same run by the same words.
"""

from dataclasses import replace

from .config import Recipe, RunConfig

# App. D.3. The paper does not state the batch: at 64 its footprints come out
LENET = Recipe(epochs=20, batch_size=64, lr=0.01, momentum=0.9)
LENET_LAMBDAS = (0.0, 8e-5, 16e-5, 32e-5, 64e-5, 128e-5, 256e-5)


def lenet_mnist(
    lambdas=LENET_LAMBDAS, seeds=(0, 1, 2), epochs=0, thresholds=(1e-7, 1e-5)
):
    """Table 11 and the LeNet panels of Figs. 8-13, at each threshold eps_ps.

    The paper calls 1e-7 typical; 1e-5 is the default of the authors' code. Runs that
    the threshold cannot touch (dense, lambda_gl = 0) are there once.
    """
    first, *others = thresholds
    configs = _grid("mnist", "lenet", LENET, lambdas, seeds, epochs, eps_ps=first)
    cut = [value for value in lambdas if value > 0]
    for eps_ps in others:
        configs += _grid(
            "mnist", "lenet", LENET, cut, seeds, epochs, ("maestro",), eps_ps
        )
    return configs


# App. D.3, and two shorter scales. "short" is the full network for a tenth of the
# epochs at ten times the learning rate, which keeps lambda_gl times the sum of learning
# rates, and so the paper's grid of lambda_gl. "laptop" is a narrow network for a few
# epochs: as a column's norm falls by about lambda_gl sqrt(r) times the sum of learning
# rates, its larger lambda_gl stand there for the paper's. The threshold goes with the
# learning rate (see the chapter on LeNet).
CIFAR = {
    "paper": Recipe(300, 128, 0.01, weight_decay=1e-4, milestones=(150, 250)),
    "short": Recipe(30, 128, 0.1, weight_decay=1e-4, milestones=(15, 25)),
}
CIFAR_EPS = {"paper": 1e-7, "short": 1e-5, "laptop": 1e-5}
# rounded, so that each is the number that its decimals say
CIFAR_LAMBDAS = (0.0, *(round(4e-6 * 2**k, 9) for k in range(9)))
RESNET18_LAPTOP = Recipe(8, 64, 0.05, weight_decay=1e-4, milestones=(4, 7))
VGG19_LAPTOP = Recipe(6, 64, 0.02, weight_decay=1e-4, milestones=(4,))


def resnet18_cifar10(scale="paper", lambdas=(), seeds=(0, 1, 2), epochs=0):
    """Table 12 and the ResNet-18 panels of Figs. 4, 8-10, 12 and 13."""
    recipe, size, grid = CIFAR.get(scale), {}, CIFAR_LAMBDAS
    if scale == "laptop":
        recipe, size, grid = RESNET18_LAPTOP, {"width": 8}, (0.0, 2e-4, 8e-4)
    return _cifar("resnet18", scale, recipe, size, lambdas or grid, seeds, epochs)


def vgg19_cifar10(scale="paper", lambdas=(), seeds=(0, 1, 2), epochs=0):
    """Table 13 and the VGG-19 panels of Figs. 8-10, 12 and 13."""
    # Table 13 ends one lambda_gl before Table 12
    recipe, size, grid = CIFAR.get(scale), {}, CIFAR_LAMBDAS[:-1]
    if scale == "laptop":
        recipe, size, grid = VGG19_LAPTOP, {"width": 16}, (0.0, 4e-4, 16e-4)
    return _cifar("vgg19", scale, recipe, size, lambdas or grid, seeds, epochs)


def _cifar(model, scale, recipe, size, lambdas, seeds, epochs):
    eps_ps = CIFAR_EPS[scale]
    return _grid(
        "cifar10",
        model,
        recipe,
        lambdas,
        seeds,
        epochs,
        eps_ps=eps_ps,
        scale=scale,
        size=size,
    )


# App. D.3. "paper, code" is what the source of its recipe does: the schedule of Vaswani
# et al. with 128,000 steps of warm-up, of which 400 epochs are 45,600, and no clipping.
# The paper's warm-up of 10 epochs is 1,140 steps of 256 pairs.
TRANSFORMER = Recipe(
    400,
    256,
    1e-3,
    optimizer="adam",
    betas=(0.9, 0.98),
    schedule="inverse_sqrt",
    warmup=1140,
    clip=0.25,
)
TRANSFORMERS = {
    "paper": TRANSFORMER,
    "paper, code": replace(
        TRANSFORMER,
        lr=2 * (512 * 128_000) ** -0.5,
        warmup=128_000,
        adam_eps=1e-9,
        clip=0,
    ),
    "short": replace(TRANSFORMER, epochs=40),
    "laptop": replace(TRANSFORMER, epochs=4, batch_size=64, lr=2e-3, warmup=400),
}
# lambda_gl weighs against a sum over the symbols of a batch: in batches of a quarter
# the size, a quarter of it is the same
TRANSFORMER_LAMBDAS = dict.fromkeys(TRANSFORMERS, (0.32, 0.64, 1.28, 2.56, 5.12))
TRANSFORMER_LAMBDAS["laptop"] = (0.0, 0.08, 0.32)
# Adam's steps do not get smaller with the gradient: dead columns move on a floor that
# goes with the square of the last learning rate, which is smaller in longer trainings
TRANSFORMER_EPS = dict.fromkeys(TRANSFORMERS, 1e-7) | {"short": 1e-4, "laptop": 1e-4}
TRANSFORMER_SIZE = {
    "laptop": {"layers": 2, "width": 128, "heads": 4, "inner": 512},
}
SYMBOLS_A_PAIR = 14  # to be found in English, on average, in Multi30k

RESNET50 = {
    "paper": Recipe(90, 256, 0.01, weight_decay=1e-4, milestones=(30, 60)),
    "laptop": Recipe(6, 32, 0.05, weight_decay=1e-4, milestones=(3, 5)),
}
RESNET50_LAMBDAS = {
    "paper": (0.0, 1e-6, 2e-6, 4e-6, 8e-6),
    "laptop": (0.0, 5e-4, 2e-3),
}
BUT_LAST_STAGE = ["conv1", "layer1", "layer2", "layer3", "fc"]


def transformer_multi30k(scale="paper", lambdas=(), seeds=(0, 1, 2), epochs=0):
    """Tables 3 and 14: the untied network, whose count they print."""
    return _grid(
        "multi30k",
        "transformer",
        TRANSFORMERS[scale],
        lambdas or TRANSFORMER_LAMBDAS[scale],
        seeds,
        epochs,
        eps_ps=TRANSFORMER_EPS[scale],
        scale=scale,
        size=TRANSFORMER_SIZE.get(scale),
    )


def transformer_multi30k_mean_loss(lambdas=(0.32,), seeds=(0,)):
    """``lambdas`` read as weights beside the mean over symbols, at laptop scale.

    For Adam the sum with so many times the lambda_gl is the same training.
    """
    symbols = TRANSFORMERS["laptop"].batch_size * SYMBOLS_A_PAIR
    scaled = [round(value * symbols, 9) for value in lambdas]
    runs = transformer_multi30k("laptop", scaled, seeds)
    return [config for config in runs if config.method == "maestro"]


def resnet50(scale="paper", lambdas=(), seeds=(0,), epochs=0, partial=False):
    """Tables 4 and 15: ImageNet-1k, or at laptop scale Imagenette at 64 pixels.

    partial: only the last stage is decomposed.
    """
    laptop = scale == "laptop"
    return _grid(
        "imagenette64" if laptop else "imagenet",
        "resnet50",
        RESNET50[scale],
        lambdas or RESNET50_LAMBDAS[scale],
        seeds,
        epochs,
        eps_ps=1e-5 if laptop else 1e-7,
        scale=scale,
        size={"width": 16} if laptop else None,
        skip=BUT_LAST_STAGE if partial else (),
    )


def lenet_mnist_batch_128(lambdas=(16e-5, 64e-5), seeds=(0,)):
    """The batch size that the authors' code defaults to, for comparison."""
    recipe = replace(LENET, batch_size=128)
    return _grid("mnist", "lenet", recipe, lambdas, seeds, methods=("maestro",))


def lenet_mnist_masked(lambdas=(64e-5,), seeds=(0, 1, 2)):
    """Columns masked as in the authors' code: do cut ranks come back?"""
    return _grid("mnist", "lenet", LENET, lambdas, seeds, methods=("masked",))


def _grid(
    task,
    model,
    recipe,
    lambdas,
    seeds,
    epochs=0,
    methods=("dense", "maestro"),
    eps_ps=1e-7,
    scale="paper",
    size=None,
    skip=(),
):
    """For each seed, each method at each lambda_gl (the dense one has none)."""
    if epochs and epochs != recipe.epochs:
        recipe, scale = replace(recipe, epochs=epochs), f"{scale}, {epochs} epochs"
    configs = []
    for seed in seeds:
        for method in methods:
            grid = [
                {"lambda_gl": float(value), "eps_ps": eps_ps, "sampler": "pair"}
                | ({"skip": list(skip)} if skip else {})
                for value in lambdas
            ]
            for options in [{}] if method == "dense" else grid:
                configs.append(
                    RunConfig(
                        task, model, method, recipe, options, seed, scale, size or {}
                    )
                )
    return configs


EXPERIMENTS = {
    "table 11": lenet_mnist,
    "table 12, laptop": lambda: resnet18_cifar10("laptop", seeds=(0,)),
    "table 13, laptop": lambda: vgg19_cifar10("laptop", seeds=(0,)),
    "table 14, laptop": lambda: transformer_multi30k("laptop", seeds=(0,)),
    "table 15, laptop": lambda: resnet50("laptop"),
    "table 14, lambda's scale": transformer_multi30k_mean_loss,
    "table 12, short": lambda: resnet18_cifar10("short"),
    "table 14, short": lambda: transformer_multi30k("short"),
    "table 13, short": lambda: vgg19_cifar10("short"),
    "table 11, batch 128": lenet_mnist_batch_128,
    "table 11, masked": lenet_mnist_masked,
}


NOTEBOOKS = {
    "10_lenet_mnist": lenet_mnist,
    "11_resnet18_cifar10": resnet18_cifar10,
    "12_vgg19_cifar10": vgg19_cifar10,
    "13_transformer_multi30k": transformer_multi30k,
    "14_resnet50_imagenet": resnet50,
}


def for_notebook(name, **given):
    """The runs that notebook ``name`` trains if it is told to, for its parameters.

    given: the notebook's parameters; those that make a grid are used.
    """
    if name not in NOTEBOOKS:
        raise ValueError(f"{name} has nothing to train")
    names = ("lambdas", "seeds", "epochs", "thresholds")
    grid = {key: given[key] for key in names if key in given}
    sizes = (
        [{"scale": scale} for scale in given["scales"]] if "scales" in given else [{}]
    )
    return [config for size in sizes for config in NOTEBOOKS[name](**grid, **size)]


def every_run():
    """All runs of all experiments, each once, most wanted first, paper scale last."""
    configs = [config for runs in EXPERIMENTS.values() for config in runs()]
    configs += [*resnet18_cifar10(), *vgg19_cifar10()]
    configs += [*resnet50(), *resnet50(partial=True)]
    configs += [*transformer_multi30k("paper, code"), *transformer_multi30k()]
    return list({config.id: config for config in configs}.values())
