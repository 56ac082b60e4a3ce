"""One step of the training loop, as a method takes it."""

from torch import nn


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
                self._net, self._batch, recipe.label_smoothing
            )
        loss.backward()
        return loss_sum

    def update(self):
        """The optimiser's step, after clipping the gradient if the recipe clips."""
        clip = self._training.phase[0].recipe.clip
        if clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        self.optimizer.step()
