"""The scales: what each keeps of the paper's."""

import pytest

from maestro.campaign import scales


def steps_times_rate(recipe, examples):
    """Sum of the learning rates of all steps."""
    rates = [
        recipe.lr * recipe.lr_decay ** sum(epoch >= m for m in recipe.milestones)
        for epoch in range(recipe.epochs)
    ]
    return sum(rates) * -(-examples // recipe.batch_size)


@pytest.mark.parametrize("sizes", [scales.RESNET18, scales.VGG19])
def test_the_short_scale_keeps_the_sum_of_learning_rates_and_the_grid(sizes):
    paper, short = sizes["paper"], sizes["short"]
    kept = steps_times_rate(short.recipe, 50_000)
    assert kept == pytest.approx(steps_times_rate(paper.recipe, 50_000), rel=0.01)
    assert paper.lambdas == short.lambdas and not short.size


def test_imagenette_keeps_what_the_lasso_does_on_imagenet():
    paper, short = (scales.RESNET50[name] for name in ("paper", "short"))
    ours = steps_times_rate(short.recipe, 9_469)
    theirs = steps_times_rate(paper.recipe, 1_281_167)
    for value, like in zip(sorted(short.lambdas), sorted(paper.lambdas), strict=True):
        assert value * ours == pytest.approx(like * theirs, rel=0.2)


def test_the_lambdas_are_those_of_the_papers_tables():
    assert sorted(scales.RESNET18["paper"].lambdas) == pytest.approx(
        [0] + [4e-6 * 2**k for k in range(9)], rel=1e-12
    )
    assert sorted(scales.TRANSFORMER["paper"].lambdas) == [
        0.32 * 2**k for k in range(5)
    ]
