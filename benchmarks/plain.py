"""Algorithm 1 by the book: what ours is compared with, step for step and run for run.

No layers of ours, no cost model, no fused anything: dense weights made of the factors'
leading columns, Eq. 5 suffix by suffix, and PyTorch differentiates the whole.
"""

import torch
from torch.func import functional_call

import maestro
from maestro.training.loop import Training


def weights_of(dense, net, cut):
    """{name: weight} of ``dense``, the network as defined, from the factors in ``net``.

    cut: {layer: b}, layers that run with their first b columns only.
    """
    layers, weights = maestro.low_rank_layers(net), dict(net.named_buffers())
    for name, weight in dense.named_parameters():
        layer = name.removesuffix(".weight")
        if layer in layers:
            U, V = layers[layer].U, layers[layer].V
            b = cut.get(layer, U.shape[1])
            weights[name] = (U[:, :b] @ V[:, :b].t()).view_as(weight)
        else:
            weights[name] = net.get_parameter(name)
    return weights


def penalty(net):
    """Eq. 5, without lambda_gl: the norms of all suffixes of columns of all factors."""
    return sum(
        factor[:, b:].norm()
        for layer in maestro.low_rank_layers(net).values()
        for factor in (layer.U, layer.V)
        for b in range(factor.shape[1])
    )


def outputs(dense, net, cut, *inputs):
    """What ``dense`` computes with the factors of ``net`` for weights."""
    return functional_call(dense, weights_of(dense, net, cut), inputs)


class PlainTraining(Training):
    """A `Training` whose every step is by the book. dense: the network as defined."""

    def __init__(self, config, dense, **more):
        super().__init__(config, **more)
        self.dense_net = dense.to(self.device)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            config.recipe.lr,
            config.recipe.momentum,
            weight_decay=config.recipe.weight_decay,
            foreach=False,
            fused=False,
        )

    def _descend(self, batch, net=None):
        def model(*inputs):
            return outputs(self.dense_net, self.model, self.method.cut, *inputs)

        loss, loss_sum = self.task.loss(model, batch)
        (loss + self.method.lambda_gl * penalty(self.model)).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss_sum
