"""Maestro with a second pass in each step, through the whole low-rank network.

The ablation of Table 5. The paper speaks of an extra pass; the authors' code teaches
the sampled network what the whole one says: its loss is the cross-entropy to the whole
network's softmax, which has no gradient. Both losses have weight one.
"""

from .maestro import Maestro


class FullPass(Maestro):
    """Algorithm 1 with the sum of two losses; options as `Maestro`.

    distilled: whether the sampled network learns the whole network's predictions, as in
    the authors' code, in place of the labels.
    """

    def __init__(
        self, lambda_gl=0.0, eps_ps=1e-7, sampler="pair", skip=(), distilled=False
    ):
        super().__init__(lambda_gl, eps_ps, sampler, skip)
        if not isinstance(distilled, bool):
            raise ValueError(f"distilled={distilled!r}: it takes true or false")
        self.distilled = distilled

    def descend(self, step):
        """Both passes; the loss returned is the whole network's."""
        loss_sum = step.backward()
        with self.active(training=True):
            if self.distilled:
                step.distil()
            else:
                step.backward()
        self.after_backward(step.model)
        step.update()
        self.after_step(step.model, step.optimizer)
        return loss_sum

    def training_cost(self, model):
        """Parameters held, and the MACs of both passes."""
        held, sampled = super().training_cost(model)
        return held, sampled + self.costs.footprint(self.ranks(model)).macs
