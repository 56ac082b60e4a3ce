"""Maestro with a dense start and steps that move U V^T as a dense layer's would: ours.

With the factors' own gradients the rate that suits a dense network is too large for
U V^T: singular values that grow make their own steps longer. With tangent gradients
(lowrank/tangent.py) and the weight decay of the product, a dense network's recipe
carries over. The first steps of a training are long beside the weights, and tangent
gradients hold to first order only, so the first epochs train the dense network. The SVD
that ends them also orders the columns by what the network has learnt so far.
"""

from ..config import integer, number
from ..lowrank import low_rank_layers, tangent_gradients
from .dense_start import DenseStart
from .method import WARM_UP, warmed_up


class Tangent(DenseStart):
    """Algorithm 1 with tangent gradients, from a dense start; options as `Maestro`.

    Args:
        warm_up: epochs of dense training; 0 factorises the initialisation.
        damping: as `tangent_gradients` takes it. The lasso's gradient stays as it is.
    """

    replayable = False  # the columns drawn decide what a step divides by
    dense_phase = WARM_UP

    def __init__(
        self,
        lambda_gl=0.0,
        eps_ps=1e-7,
        sampler="none",
        skip=(),
        warm_up=1,
        damping=1e-2,
    ):
        super().__init__(lambda_gl, eps_ps, sampler, skip)
        self.warm_up = integer("warm_up", warm_up, low=0)
        self.damping = number("damping", damping)
        self.starts_dense = self.warm_up > 0

    def phases(self, recipe):
        return warmed_up(recipe, self.warm_up)

    def groups(self, groups, model):
        """Each factor decays half as fast as the recipe says: the product as fast."""
        layers = low_rank_layers(model).values()
        factors = {id(factor) for layer in layers for factor in (layer.U, layer.V)}
        split = []
        for group in groups:
            mine = [p for p in group["params"] if id(p) in factors]
            others = [p for p in group["params"] if id(p) not in factors]
            halved = group["weight_decay"] / 2
            split.append(group | {"params": mine, "weight_decay": halved})
            split.append(group | {"params": others})
        return [group for group in split if group["params"]]

    def after_backward(self, model):
        if self.factorised:
            tangent_gradients(model, self.damping, self.cut)
        super().after_backward(model)
