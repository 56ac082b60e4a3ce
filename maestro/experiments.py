"""Every run that the book's tables and figures need, as configurations by priority.

The functions take the parameters that the notebooks take, so that a notebook, the
command line and the campaign mean the same run by the same words.
"""

from .config import Recipe, RunConfig

# App. D.3. The paper does not state the batch: at 64 its footprints come out
LENET = Recipe(epochs=20, batch_size=64, lr=0.01, momentum=0.9)
LENET_LAMBDAS = (0.0, 8e-5, 16e-5, 32e-5, 64e-5, 128e-5, 256e-5)

# scikit-learn's digits: 1,437 images; seconds, not minutes
DIGITS = Recipe(epochs=40, batch_size=32, lr=0.01, momentum=0.9)


def lenet_mnist(lambdas=LENET_LAMBDAS, seeds=(0, 1, 2), epochs=0, dense=True):
    """Table 11 and the LeNet panels of Figs. 8-13: seed by seed, dense first."""
    return _grid("mnist", "lenet", LENET, lambdas, seeds, epochs, dense)


def lenet_digits(lambdas=(0.0, 1e-3), seeds=(0,), epochs=0, dense=True):
    """The same network and loop on data that need no download, trained live."""
    return _grid("digits", "lenet", DIGITS, lambdas, seeds, epochs, dense)


def _grid(task, model, recipe, lambdas, seeds, epochs, dense):
    """One dense run and one Maestro run for each lambda_gl, for each seed."""
    scale = "paper"
    if epochs and epochs != recipe.epochs:
        recipe = Recipe(**vars(recipe) | {"epochs": epochs})
        scale = f"{epochs} epochs"
    configs = []
    for seed in seeds:
        if dense:
            configs.append(
                RunConfig(task, model, "dense", recipe, seed=seed, scale=scale)
            )
        for value in lambdas:
            options = {"lambda_gl": value, "eps_ps": 1e-7, "sampler": "pair"}
            configs.append(
                RunConfig(task, model, "maestro", recipe, options, seed, scale)
            )
    return configs


EXPERIMENTS = {"10_lenet_mnist": lenet_mnist}


def every_run():
    """All runs of all experiments, most wanted first."""
    return [config for runs in EXPERIMENTS.values() for config in runs()]
