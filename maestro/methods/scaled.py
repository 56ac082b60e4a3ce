"""Maestro with scaled gradients in place of the factors' own: ours.

With the factors' own gradients the rate that suits a dense network is too large for
U V^T: singular values that grow make their own steps longer. With scaled gradients a
step moves U V^T about as it would move a dense layer, so a dense network's recipe
carries over.
"""

from ..config import number
from ..lowrank import scale_gradients
from .maestro import Maestro


class Scaled(Maestro):
    """Algorithm 1 with scaled gradients (lowrank/scaling.py); options as `Maestro`.

    damping: as `scale_gradients` takes it. The lasso's gradient is not scaled.
    """

    replayable = False  # the columns drawn decide what a step divides by

    def __init__(
        self, lambda_gl=0.0, eps_ps=1e-7, sampler="pair", skip=(), damping=1e-3
    ):
        super().__init__(lambda_gl, eps_ps, sampler, skip)
        self.damping = number("damping", damping)

    def after_backward(self, model):
        scale_gradients(model, self.damping, self.cut)
        super().after_backward(model)
