"""Rare gems (Sreenivasan et al. 2022): a mask is learned first, then the weights in it.

In the search the weights do not move: each is a constant of its layer's size, sqrt(2 /
fan-in), with the sign of its initialisation. What trains is a score p in [0, 1] of each
weight. A weight takes part while its score rounds to 1, and the gradient passes the
rounding unchanged. Every so many epochs the smallest scores of all layers together
leave the mask for good, as many as bring its density to ``density`` at the last cut.
Then the weights left in the mask train, with the recipe. Batch norm has neither scale
nor shift of its own.
"""

from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional as F

from ..config import integer, number
from ..lowrank.choosing import skipper
from ..lowrank.replacing import replace as put
from .method import BITS, Change, Method, Phase, Size, require_zero_padding

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


class Rounded(torch.autograd.Function):
    """1 where a score is larger than 1/2, else 0; the gradient passes unchanged."""

    @staticmethod
    def forward(ctx, scores):
        return (scores > 0.5).to(scores.dtype)

    @staticmethod
    def backward(ctx, grad):
        return grad


class Gem(nn.Module):
    """``layer`` with a score and a mask for each of its weights.

    searching: whether the scores choose among the weights in the mask.
    """

    def __init__(self, layer, generator):
        super().__init__()
        self.layer, self.searching = layer, True
        weight = layer.weight
        draws = torch.rand(weight.shape, generator=generator)
        self.scores = nn.Parameter(draws.to(weight))
        self.register_buffer("mask", torch.ones_like(weight, dtype=torch.bool))

    def weight(self):
        """The weights that take part, zeros elsewhere."""
        weight = self.layer.weight * self.mask
        return weight * Rounded.apply(self.scores) if self.searching else weight

    def forward(self, x):
        layer = self.layer
        if isinstance(layer, nn.Linear):
            return F.linear(x, self.weight(), layer.bias)
        geometry = layer.stride, layer.padding, layer.dilation, layer.groups
        return F.conv2d(x, self.weight(), layer.bias, *geometry)


class RareGems(Method):
    """A search for a mask, then training of the weights in it with the whole recipe.

    Args:
        density: the part of the weights that the search leaves.
        search: epochs of the search, with Adam; its rate falls in a straight line.
        every: epochs between two cuts of the search.
        score_lr: Adam's rate at the start.
        score_decay: weight of the scores' sum of squares in the loss.
        rounded: whether weights whose scores round to 0 leave the mask too when the
            search ends. The density is then smaller than ``density``.
        skip: names of layers that are trained in full.
    """

    def __init__(
        self,
        density=0.1,
        search=200,
        every=20,
        score_lr=0.01,
        score_decay=1e-6,
        rounded=False,
        skip=(),
    ):
        self.wanted = number("density", density)
        if not 0 < density < 1:
            raise ValueError(f"density={density!r}: it takes a number in (0, 1)")
        self.search = integer("search", search, low=2)
        self.every = integer("every", every, low=1)
        self.cuts = (search - 1) // every
        if not self.cuts:
            raise ValueError(
                f"every={every}: it takes fewer than the search's {search} epochs"
            )
        self.score_lr = number("score_lr", score_lr)
        self.score_decay = number("score_decay", score_decay)
        if not isinstance(rounded, bool):
            raise ValueError(f"rounded={rounded!r}: it takes true or false")
        self.rounded = rounded
        self.skip = skip
        self.done, self.searching = 0, True  # epochs of the search

    def phases(self, recipe):
        search = replace(
            recipe,
            epochs=self.search,
            optimizer="adam",
            lr=self.score_lr,
            weight_decay=0.0,
            schedule="triangle",
            triangle=(1.0, 1e-9, 0.0),
            norm_lr=1.0,
            lookahead=0,
            freeze=(),
        )
        return [Phase("search", search), Phase("training", recipe)]

    def prepare(self, model, example_inputs, generator):
        skipped = skipper(model, self.skip)
        chosen = [
            module
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear | nn.Conv2d) and not skipped(name, module)
        ]
        require_zero_padding(chosen, "raregems")
        for module in model.modules():
            if isinstance(module, NORMS):
                module.affine, module.weight, module.bias = False, None, None
        self.trained = [p for p in model.parameters() if p.requires_grad]
        put(model, {layer: Gem(layer, generator) for layer in chosen})
        for parameter in self.trained:
            parameter.requires_grad_(False)
        for gem in gems(model):
            set_constants(gem.layer)
        return super().prepare(model, example_inputs, generator)

    def before_epoch(self, model, optimizer):
        if not self.searching:
            return Change.NOTHING
        if self.done == self.search:
            if self.rounded:
                for gem in gems(model):
                    gem.mask &= gem.scores > 0.5
            self._train_weights(model)
            return Change.NEW_OPTIMIZER
        if self.done and self.done % self.every == 0:
            leave(model, self.wanted ** (self.done // self.every / self.cuts))
        return Change.NOTHING

    def _train_weights(self, model):
        """Let the weights move from now on, and the scores rest."""
        self.searching = False
        for gem in gems(model):
            gem.searching = False
            gem.scores.requires_grad_(False)
        for parameter in self.trained:
            parameter.requires_grad_(True)

    def after_backward(self, model):
        if self.searching and self.score_decay:
            for gem in gems(model):
                scores = gem.scores.detach()
                gem.scores.grad.add_(scores, alpha=2 * self.score_decay)

    @torch.no_grad()
    def after_step(self, model, optimizer):
        if self.searching:
            for gem in gems(model):
                gem.scores.clamp_(0, 1)

    def after_epoch(self, model, optimizer):
        self.done += self.searching
        return Change.NOTHING

    def size(self, model):
        """Numbers in the mask; bits with a map of it.

        MACs are those of the dense network: no zero is skipped.
        """
        params, macs = self.costs.fixed
        masks = [gem.mask for gem in gems(model)]
        prunable = sum(mask.numel() for mask in masks)
        kept = sum(int(mask.sum()) for mask in masks)
        params += kept - 2 * prunable  # of weights and scores
        return Size(params, macs, params * BITS + prunable)

    def training_cost(self, model):
        """Numbers held, scores too while they train, and the dense network's MACs."""
        held, macs = self.costs.fixed
        if not self.searching:
            held -= sum(gem.scores.numel() for gem in gems(model))
        return held, macs

    def restore_shapes(self, model, state):
        if not state["searching"]:
            self._train_weights(model)
        return model

    def state_dict(self):
        return {"done": self.done, "searching": self.searching}

    def load_state_dict(self, state):
        self.done, self.searching = state["done"], state["searching"]


def gems(model):
    """All layers of ``model`` that have scores."""
    return [module for module in model.modules() if isinstance(module, Gem)]


@torch.no_grad()
def set_constants(layer):
    """Keep the signs of the weights of ``layer``; its bias becomes zero."""
    size = (2 / layer.weight[0].numel()) ** 0.5
    layer.weight.copy_(torch.where(layer.weight >= 0, size, -size))
    if layer.bias is not None:
        layer.bias.zero_()


@torch.no_grad()
def leave(model, density):
    """Leave the part ``density`` of all weights in the masks, by the largest scores."""
    masks = [gem.mask for gem in gems(model)]
    scores = torch.cat([gem.scores.flatten() for gem in gems(model)])
    inside = torch.cat([mask.flatten() for mask in masks]).nonzero().flatten()
    # many scores are 0 or 1 exactly, so that no threshold parts them
    order = scores[inside].argsort(descending=True, stable=True)
    kept = torch.zeros_like(scores, dtype=torch.bool)
    kept[inside[order[: round(density * len(scores))]]] = True
    for mask, part in zip(masks, kept.split([m.numel() for m in masks]), strict=True):
        mask.copy_(part.view_as(mask))
