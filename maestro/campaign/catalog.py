"""All runs that the book's tables and figures need, in order of priority."""

from ..results.records import path_of
from .baselines import (
    ablation,
    beside_maestro,
    lenet_baselines,
    lenet_tuned_svd,
    pufferfish,
    rate_tries,
    systems,
    table_4,
    table_16,
)
from .experiments import (
    compact_cifar10,
    cut_afterwards,
    lenet_mnist,
    lenet_mnist_batch_128,
    lenet_mnist_budgeted,
    lenet_mnist_masked,
    lenet_mnist_pretrained,
    lenet_mnist_proximal,
    resnet18_cifar10,
    resnet18_cifar10_proximal,
    resnet50,
    resnet50_imagenet,
    sampling_cifar10,
    sampling_finalists,
    transformer_multi30k,
    transformer_multi30k_mean_loss,
    vgg19_cifar10,
)
from .progress import describe
from .scales import COMPACT

FIRST_ROWS = 4  # the dense network and three lambda_gl
EXPERIMENTS = {
    "table 11": lenet_mnist,
    "table 12, laptop": lambda: resnet18_cifar10("laptop", seeds=(0,)),
    "table 13, laptop": lambda: vgg19_cifar10("laptop", seeds=(0,)),
    "table 14, laptop": lambda: transformer_multi30k("laptop", seeds=(0,)),
    "table 15, laptop": lambda: resnet50("laptop"),
    "table 15, laptop, last stage": lambda: resnet50("laptop", partial=True),
    "table 14, lambda's scale": transformer_multi30k_mean_loss,
    "table 12, short": lambda: resnet18_cifar10("short"),
    "table 14, short": lambda: transformer_multi30k("short"),
    "table 13, short": lambda: vgg19_cifar10("short"),
    "table 15, short": lambda: resnet50("short"),
    "table 15, short, last stage": lambda: resnet50("short", partial=True),
    "table 11, batch 128": lenet_mnist_batch_128,
    "table 11, masked": lenet_mnist_masked,
    "table 11, masked, batch 128": lambda: lenet_mnist_masked(batch_size=128),
    "table 11, proximal": lenet_mnist_proximal,
    "table 12, laptop, proximal": resnet18_cifar10_proximal,
    "figure 11, lenet": cut_afterwards,
    "table 11, sizes asked for": lenet_mnist_budgeted,
    "table 11, pretrained": lenet_mnist_pretrained,
    "sampling, compact": sampling_cifar10,
    "sampling, compact, finalists": sampling_finalists,
    "systems, lenet": lenet_baselines,
    "pufferfish, resnet18, laptop": lambda: pufferfish("resnet18", "laptop", (0,)),
    "figure 11, resnet18, laptop": lambda: cut_afterwards("resnet18"),
    "figure 11, vgg19, laptop": lambda: cut_afterwards("vgg19"),
}
# the other systems beside Maestro, each experiment seed by seed, in order of priority
SYSTEMS = {
    "ablation, lenet": lambda: ablation("lenet", "paper"),
    "systems, compact, rates": rate_tries,
    "systems, compact": lambda: systems("compact", "compact, half as wide, 5 epochs"),
    "systems, resnet18, laptop": lambda: systems("resnet18", "laptop", (0,)),
    "ablation, resnet18, laptop": lambda: ablation("resnet18", "laptop", (0,)),
    "table 3, laptop": lambda: pufferfish("transformer", "laptop", (0,)),
    "table 4, laptop": lambda: _table_4("laptop"),
    "systems, compact, full width": lambda: systems("compact", "compact, 5 epochs"),
    "systems, resnet18, short": lambda: systems("resnet18", "short"),
    "ablation, resnet18, short": lambda: ablation("resnet18", "short"),
    "table 16, resnet18, short": lambda: table_16("resnet18", "short"),
    "systems, vgg19, short": lambda: systems("vgg19", "short"),
    "table 16, vgg19, short": lambda: table_16("vgg19", "short"),
    "table 3, short": lambda: pufferfish("transformer", "short"),
    "table 4, short": lambda: _table_4("short"),
}
# at the paper's scale; the systems with its learning rate and with the usual one
AT_PAPER = {
    "table 12, paper": resnet18_cifar10,
    "table 13, paper": vgg19_cifar10,
    "table 15, paper": resnet50,
    "table 15, paper, last stage": lambda: resnet50(partial=True),
    "table 14, paper, code": lambda: transformer_multi30k("paper, code"),
    "table 14, paper": transformer_multi30k,
    "table 12, paper, code": lambda: resnet18_cifar10("paper, code"),
    "table 13, paper, code": lambda: vgg19_cifar10("paper, code"),
    "table 15, paper, code": lambda: resnet50("paper, code"),
    "table 15, paper, code, last stage": lambda: resnet50("paper, code", partial=True),
    "ablation, resnet18, paper": lambda: ablation("resnet18", "paper"),
    "table 16, resnet18, paper": lambda: _at_both_rates("resnet18", table_16),
    "table 16, vgg19, paper": lambda: _at_both_rates("vgg19", table_16),
    "systems, resnet18, paper": lambda: _at_both_rates("resnet18", systems),
    "systems, vgg19, paper": lambda: _at_both_rates("vgg19", systems),
    "table 12, usual rate": lambda: resnet18_cifar10("paper, usual rate"),
    "table 13, usual rate": lambda: vgg19_cifar10("paper, usual rate"),
    "table 3, paper": lambda: pufferfish("transformer", "paper"),
    "table 4, paper": lambda: _table_4("paper"),
}


def _table_4(scale):
    return table_4(scale, partial=True) + table_4(scale)


def _at_both_rates(model, rows):
    return rows(model, "paper") + rows(model, "paper, usual rate")


def every_compact_run(seeds=(0, 1, 2, 3, 4)):
    """The runs of the compact scale, each scale row by row."""
    return [run for scale in COMPACT for run in compact_cifar10(scale, seeds)]


COMPACT_RUNS = {"compact": every_compact_run}
NAMED = EXPERIMENTS | COMPACT_RUNS | SYSTEMS | AT_PAPER
NOTEBOOKS = {
    "10_lenet_mnist": lenet_mnist,
    "11_resnet18_cifar10": resnet18_cifar10,
    "12_vgg19_cifar10": vgg19_cifar10,
    "13_transformer_multi30k": transformer_multi30k,
    "14_resnet50_imagenet": resnet50_imagenet,
    "15_exact_zeros": lenet_mnist_proximal,
    "16_baselines": lambda networks, seeds: [
        config for name in networks for config in beside_maestro(name, seeds)
    ],
    "17_sampling": sampling_cifar10,
    "21_compact_cifar10": compact_cifar10,
    "18_train_once_deploy_everywhere": lambda seeds: [
        *cut_afterwards(seeds=seeds),
        *cut_afterwards("resnet18"),
        *cut_afterwards("vgg19"),
        *lenet_mnist_budgeted(),
    ],
    "22_ablation": lambda seeds: [
        *ablation("lenet", "paper", seeds),
        *ablation("resnet18", "laptop", seeds[:1]),
    ],
    "23_pretrained_start": lambda lambdas, seeds: [
        *lenet_mnist_pretrained(lambdas, seeds),
        *lenet_tuned_svd(seeds),
    ],
}


def for_notebook(name, **given):
    """The runs that notebook ``name`` trains with ``train=True``.

    given: the notebook's parameters; only those of the grid are used.
    """
    if name not in NOTEBOOKS:
        raise ValueError(f"{name} has nothing to train")
    names = ("lambdas", "seeds", "epochs", "thresholds", "networks")
    grid = {key: given[key] for key in names if key in given}
    sizes = (
        [{"scale": scale} for scale in given["scales"]] if "scales" in given else [{}]
    )
    return [config for size in sizes for config in NOTEBOOKS[name](**grid, **size)]


def every_run():
    """All runs of all experiments, each once, in order of priority.

    First come the first rows of each table with one seed, then the other rows, then the
    other seeds, then the compact scale row by row, then the other systems, then the
    paper's scale.
    """
    wanted = [
        ((config.seed, place >= FIRST_ROWS), config)
        for runs in EXPERIMENTS.values()
        for place, config in enumerate(runs())
    ]
    configs = [config for _, config in sorted(wanted, key=lambda pair: pair[0])]
    configs += every_compact_run()
    configs += [config for runs in SYSTEMS.values() for config in runs()]
    configs += [config for runs in AT_PAPER.values() for config in runs()]
    return _each_once(configs)


def chosen(words):
    """The runs that ``words`` name, in order of priority; none if nothing has them.

    words: the name of an experiment, as "systems, lenet", or part of a description.
    """
    if words in NAMED:
        return _each_once(NAMED[words]())
    return [config for config in every_run() if words in describe(config)]


def lacking():
    """[(name, runs without a record, runs)] of the experiments that lack some."""
    counts = []
    for name, runs in NAMED.items():
        configs = _each_once(runs())
        left = sum(not path_of(config.id).is_file() for config in configs)
        if left:
            counts.append((name, left, len(configs)))
    return counts


def _each_once(configs):
    return list({config.id: config for config in configs}.values())
