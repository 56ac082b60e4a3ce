"""Maestro with a proximal step in place of the lasso's subgradient: ours.

The paper descends on the lasso as on any loss. A subgradient step does not stop at 0,
so dead columns tremble, and a threshold must say what counts as zero. The proximal step
after the optimiser's ends at zero exactly: no threshold is needed.
"""

from ..lowrank import proximal_step
from .maestro import Maestro


class Proximal(Maestro):
    """Algorithm 1 with proximal steps; options as `Maestro`. Trains with SGD only.

    eps_ps 0, its default here, cuts the columns that are zero, no others.
    """

    def __init__(self, lambda_gl=0.0, eps_ps=0.0, sampler="pair", skip=()):
        super().__init__(lambda_gl, eps_ps, sampler, skip)

    def after_backward(self, model):
        """Nothing: the lasso has no part in the gradient."""

    def phases(self, recipe):
        if recipe.optimizer != "sgd":
            raise ValueError(
                f"optimizer={recipe.optimizer!r} with method=proximal: it takes sgd, "
                "whose steps are the gradient's length"
            )
        return super().phases(recipe)

    def after_step(self, model, optimizer):
        if self.lambda_gl:
            # as long as a subgradient's way becomes, momentum carrying it on
            group = optimizer.param_groups[0]
            length = group["lr"] / group.get("lr_scale", 1.0) / (1 - group["momentum"])
            proximal_step(model, self.lambda_gl * length)
