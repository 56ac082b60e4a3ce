"""The runs of each experiment with the paper's method and its dense network.

The functions take the parameters of the notebooks, so that a notebook, the command line
and the campaign name the same run in the same way.
"""

from dataclasses import replace

from ..config import RunConfig, number
from ..methods import resolve
from .scales import (
    BUT_LAST_STAGE,
    COMPACT,
    FULL_WIDTH,
    LENET,
    NARROW,
    RESNET18,
    RESNET50,
    SAMPLING,
    SYMBOLS_A_PAIR,
    TRANSFORMER,
    VGG19,
)

# tangent steps let a lasso cut only if their damping lets small columns die
LASSO_STEPS = {"sampler": "upper", "damping": 1.0}
# the networks that are trained without a lasso and cut afterwards, with their seeds
CUT_SEEDS = {"lenet": (3, 4, 5), "resnet18": (2,), "vgg19": (2,)}


def lenet_mnist(lambdas=(), seeds=(0, 1, 2), epochs=0, thresholds=(1e-7, 1e-5)):
    """Table 11 and the LeNet panels of Figs. 8-13, at each threshold eps_ps.

    The paper calls 1e-7 typical; 1e-5 is the default of the authors' code. Runs that
    the threshold does not affect (dense, lambda_gl = 0) are listed once.
    """
    lambdas = lambdas or LENET.lambdas
    if not thresholds:
        raise ValueError(f"thresholds={thresholds!r}: it takes at least one number")
    first, *others = (number("thresholds", value) for value in thresholds)
    at_first = LENET._replace(eps_ps=first)
    configs = _grid("lenet", {"paper": at_first}, "paper", lambdas, seeds, epochs)
    cut = [value for value in lambdas if value > 0]
    for eps_ps in others if cut else ():
        scales = {"paper": LENET._replace(eps_ps=eps_ps)}
        configs += _grid("lenet", scales, "paper", cut, seeds, epochs, ("maestro",))
    return configs


def lenet_mnist_batch_128(lambdas=(16e-5, 64e-5), seeds=(0,)):
    """The default batch size of the authors' code, for comparison."""
    recipe = replace(LENET.recipe, batch_size=128)
    scales = {"paper": LENET._replace(recipe=recipe)}
    return _grid("lenet", scales, "paper", lambdas, seeds, 0, ("maestro",))


def lenet_mnist_masked(
    lambdas=(64e-5,), seeds=(0, 1, 2), thresholds=(1e-7, 1e-5), batch_size=64
):
    """Columns masked, as in the authors' code: do the ranks of masked columns return?

    The thresholds are the paper's typical one and the code's default, 1e-5. The code's
    default batch size is 128.
    """
    recipe = replace(LENET.recipe, batch_size=batch_size)
    return [
        config
        for eps_ps in thresholds
        for config in _grid(
            "lenet",
            {"paper": LENET._replace(recipe=recipe, eps_ps=eps_ps)},
            "paper",
            lambdas,
            seeds,
            0,
            ("masked",),
        )
    ]


def lenet_mnist_proximal(lambdas=(), seeds=(0, 1, 2)):
    """Table 11 with a proximal step: exact zeros, and no threshold."""
    lambdas = lambdas or [value for value in LENET.lambdas if value > 0]
    scales = {"paper": LENET._replace(eps_ps=0.0)}
    return _grid("lenet", scales, "paper", lambdas, seeds, 0, ("proximal",))


def cut_afterwards(network="lenet", seeds=()):
    """Figs. 5a and 11: a dense network and one by LoD without a lasso, to be cut.

    Their seeds are not those of Tables 11 to 13, whose weights were not kept.

    Args:
        network: one of CUT_SEEDS. LeNet has the paper's scale, the others the laptop's.
        seeds: those of CUT_SEEDS if empty.
    """
    if network not in CUT_SEEDS:
        raise ValueError(f"network={network!r}: it is one of {', '.join(CUT_SEEDS)}")
    seeds = seeds or CUT_SEEDS[network]
    if network == "lenet":
        return lenet_mnist((0.0,), seeds)
    grids = {"resnet18": resnet18_cifar10, "vgg19": vgg19_cifar10}
    return grids[network]("laptop", (0.0,), seeds)


def lenet_mnist_pretrained(lambdas=(32e-5, 64e-5, 128e-5, 256e-5), seeds=(0, 1, 2)):
    """LeNet trained dense, then factorised and fine-tuned by Algorithm 1.

    Five epochs of fine-tuning are a quarter of Table 11's training, so that four times
    its lambda_gl about keep the product with the sum of learning rates.
    """
    options = [{"lambda_gl": number("lambdas", x), "eps_ps": 1e-5} for x in lambdas]
    return [
        resolve(RunConfig(LENET.task, "lenet", "pretrained", LENET.recipe, some, seed))
        for seed in seeds
        for some in options
    ]


def lenet_mnist_budgeted(targets=(0.7, 0.5, 0.33, 0.25, 0.18, 0.13), seeds=(0, 1, 2)):
    """LeNet trained to six sizes, shares of the dense network's parameters.

    They lie on the frontier of Table 11's grid of lambda_gl.
    """
    options = [{"target": target, "eps_ps": 1e-5} for target in targets]
    return [
        resolve(RunConfig(LENET.task, "lenet", "budgeted", LENET.recipe, some, seed))
        for seed in seeds
        for some in options
    ]


def resnet18_cifar10(scale="paper", lambdas=(), seeds=(0, 1, 2), epochs=0):
    """Table 12 and the ResNet-18 panels of Figs. 4, 8-10, 12 and 13."""
    return _grid("resnet18", RESNET18, scale, lambdas, seeds, epochs)


def resnet18_cifar10_proximal(lambdas=(), seeds=(0,)):
    """The proximal step in a network with batch norm and weight decay, laptop scale."""
    laptop = RESNET18["laptop"]._replace(eps_ps=0.0)
    lambdas = lambdas or [value for value in laptop.lambdas if value > 0]
    scales = {"laptop": laptop}
    return _grid("resnet18", scales, "laptop", lambdas, seeds, 0, ("proximal",))


def vgg19_cifar10(scale="paper", lambdas=(), seeds=(0, 1, 2), epochs=0):
    """Table 13 and the VGG-19 panels of Figs. 8-10, 12 and 13."""
    return _grid("vgg19", VGG19, scale, lambdas, seeds, epochs)


def transformer_multi30k(scale="paper", lambdas=(), seeds=(0, 1, 2), epochs=0):
    """Tables 3 and 14, with untied embeddings, which match the printed counts."""
    return _grid("transformer", TRANSFORMER, scale, lambdas, seeds, epochs)


def transformer_multi30k_mean_loss(lambdas=(0.32,), seeds=(0,)):
    """``lambdas`` as weights against the mean loss over symbols, at laptop scale.

    With Adam this is the same training as the summed loss with lambda_gl multiplied by
    the number of symbols.
    """
    symbols = TRANSFORMER["laptop"].recipe.batch_size * SYMBOLS_A_PAIR
    scaled = [round(value * symbols, 9) for value in lambdas]
    return _grid("transformer", TRANSFORMER, "laptop", scaled, seeds, 0, ("maestro",))


def resnet50(scale="paper", lambdas=(), seeds=(0,), epochs=0, partial=False):
    """Tables 4 and 15: ImageNet-1k, or at shorter scales Imagenette at 64 pixels.

    partial: decompose only the last stage, at all but the two smallest lambda_gl.
    """
    skip = ()
    if partial:
        skip = BUT_LAST_STAGE
        lambdas = lambdas or sorted(RESNET50[scale].lambdas)[2:]
    return _grid("resnet50", RESNET50, scale, lambdas, seeds, epochs, skip=skip)


def resnet50_imagenet(scale="paper", lambdas=(), seeds=(0,), epochs=0):
    """Both decompositions of Table 15, with the dense network once."""
    given = scale, lambdas, seeds, epochs
    partial = resnet50(*given, partial=True)
    return resnet50(*given) + [c for c in partial if c.method != "dense"]


def compact_cifar10(scale="compact, 11 epochs", seeds=(0, 1, 2, 3, 4)):
    """The compact network: dense, low-rank with tangent steps, narrow, by Maestro.

    Tangent steps follow a dense start of a fifth of the epochs, as long as the learning
    rate rises. They end at a half or a quarter of the size by one cut, or at some size
    by a lasso. Narrow dense networks are the first thing that a practitioner tries. The
    factors' own steps do not train at this learning rate (`sampling_cifar10`), so
    Maestro has one row. All seeds of a row are together.
    """
    if scale not in COMPACT:
        raise ValueError(f"scale={scale!r}: compact has {', '.join(COMPACT)}")
    task, recipe, lambdas, eps_ps, size, _ = COMPACT[scale]
    start = {"skip": ["whiten"], "warm_up": recipe.epochs // 5}
    whole = start | {"eps_ps": eps_ps, "lambda_gl": 0.0}
    full = size.get("width", FULL_WIDTH)
    narrow = [("dense", {}, {"width": round(share * full)}) for share in NARROW]
    rows = [
        ("dense", {}, size),
        *(("tangent", whole | {"sampler": s}, size) for s in ("none", "upper", "pair")),
        *_cut(0.5, start, size, ("upper", "pair", "none")),
        *narrow,
        *_cut(0.25, start, size, ("upper", "pair")),
        *(
            ("tangent", whole | LASSO_STEPS | {"lambda_gl": value}, size)
            for value in lambdas
        ),
        ("maestro", {"skip": ["whiten"], "eps_ps": eps_ps}, size),
    ]
    return [
        resolve(RunConfig(task, "compact", method, recipe, options, seed, scale, wide))
        for method, options, wide in rows
        for seed in seeds
    ]


def _cut(target, start, size, samplers):
    """The rows of one cut to ``target``, (method, options, size), by each sampler."""
    options = start | {"target": target}
    return [("tangent_cut", options | {"sampler": s}, size) for s in samplers]


# ways to train factors, each with the samplers that it is tried with; the first with
# the recipe's learning rate, which suits dense networks, and with a third of it
SAMPLERS = ("none", "seldom", "pair", "upper", "independent", "fraction")
WAYS = (
    ("maestro", 1.0, {}, ("none", "pair")),
    ("maestro", 1 / 3, {}, ("none", "pair")),
    ("tangent", 1.0, {"warm_up": 0}, ("none", "seldom", "pair")),
    ("tangent", 1.0, {"warm_up": 1}, SAMPLERS),
)


def sampling_cifar10(epochs=2, seeds=(0, 1, 2)):
    """The compact network at half its width, dense and by every way and sampler.

    Without a lasso, so that all have the same size. Biases of batch norm keep their
    learning rate when that of the factors is a third.
    """
    scale = f"compact, half as wide, {epochs} epochs"
    if scale not in SAMPLING:
        raise ValueError(f"epochs={epochs!r}: it takes 2, 5 or 11")
    task, recipe, _, eps_ps, size, _ = SAMPLING[scale]
    frozen = {"lambda_gl": 0.0, "eps_ps": eps_ps, "skip": ["whiten"]}
    rows = [("dense", recipe, {})]
    for method, share, options, samplers in WAYS:
        slower = replace(recipe, lr=share * recipe.lr, norm_lr=recipe.norm_lr / share)
        for sampler in samplers:
            rows.append((method, slower, frozen | options | {"sampler": sampler}))
    return [
        resolve(
            RunConfig(task, "compact", method, its_recipe, options, seed, scale, size)
        )
        for seed in seeds
        for method, its_recipe, options in rows
    ]


def sampling_finalists(seeds=tuple(range(10))):
    """The samplers of most interest after a dense start, for longer and with ten seeds.

    The best of `sampling_cifar10`, the paper's, and none, beside the dense network.
    """
    samplers = ("none", "upper", "pair")
    return [
        config
        for config in sampling_cifar10(5, seeds)
        if config.method == "dense"
        or (config.options.get("warm_up") and config.options["sampler"] in samplers)
    ]


def _grid(
    model,
    scales,
    scale,
    lambdas,
    seeds,
    epochs,
    methods=("dense", "maestro"),
    skip=(),
):
    """The runs of each method at each lambda_gl, for each seed.

    Args:
        model: the name of the network.
        scales: {name: Scale}.
        scale: a name in ``scales``.
        lambdas: the values of lambda_gl; the grid of the scale if empty.
        seeds: the seeds.
        epochs: the recipe's if 0; any other number makes a scale of its own.
        methods: the methods; "dense" has no lambda_gl.
        skip: the layers that stay dense.
    """
    if scale not in scales:
        raise ValueError(f"scale={scale!r}: {model} has {', '.join(scales)}")
    task, recipe, grid, eps_ps, size, sampler = scales[scale]
    if epochs and epochs != recipe.epochs:
        recipe, scale = replace(recipe, epochs=epochs), f"{scale}, {epochs} epochs"
    low_rank = [
        {
            "lambda_gl": number("lambdas", value),
            "eps_ps": eps_ps,
            "sampler": sampler,
            "skip": list(skip),
        }
        for value in lambdas or grid
    ]
    return [
        resolve(RunConfig(task, model, method, recipe, options, seed, scale, size))
        for seed in seeds
        for method in methods
        for options in ([{}] if method == "dense" else low_rank)
    ]
