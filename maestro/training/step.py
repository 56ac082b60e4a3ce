"""One step of the training loop, as a method takes it."""

from torch import nn
from torch.nn import functional as F

from ..datasets.images import at_least_single


class Step:
    """One step of a `Training` on one batch, for a method's `descend`."""

    def __init__(self, training, net, batch):
        self._training, self._net, self._batch = training, net, batch
        self.model, self.optimizer = training.model, training.optimizer

    def backward(self):
        """The forward and backward pass; returns the loss, summed over examples."""
        with self._training.autocast():
            recipe = self._training.phase[0].recipe
            loss, loss_sum = self._training.task.loss(
                self._forward, self._batch, recipe.label_smoothing
            )
        loss.backward()
        return loss_sum

    def distil(self):
        """As `backward`, with the last pass's own predictions as the labels.

        Raises ValueError if the network does not give one row of logits an example.
        """
        with self._training.autocast():
            logits, labels = self._net(*self._inputs), self._outputs.detach()
            if logits.ndim != 2:
                raise ValueError(
                    f"outputs of shape {tuple(logits.shape)}: distillation takes "
                    "(examples, classes)"
                )
            logits, labels = at_least_single(logits), at_least_single(labels)
            loss = F.cross_entropy(logits, labels.softmax(1))
        loss.backward()

    def _forward(self, *inputs):
        self._inputs, self._outputs = inputs, self._net(*inputs)
        return self._outputs

    def update(self):
        """The optimiser's step, after clipping the gradient if the recipe clips."""
        clip = self._training.phase[0].recipe.clip
        if clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        self.optimizer.step()
