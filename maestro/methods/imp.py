"""Iterative magnitude pruning with weight rewinding (Frankle et al. 2020).

Train; remove the smallest weights of those that are left, over all layers together; put
the others back to what they were early in the first round, the schedule too; train
again. After k rounds the part (1 - fraction)^k of the weights is left. The zeros are
unstructured: the network computes as many products as before, unless something skips
them.
"""

import torch
from torch import nn

from ..config import integer, number
from ..lowrank.choosing import skipper
from .method import BITS, Change, Method, Phase, Size


class IMP(Method):
    """Rounds of training, each with fewer weights.

    Args:
        rounds: how often weights are removed; the network is trained rounds + 1 times.
        fraction: the part of the weights left that each round removes.
        rewind: the epoch of the first round to whose end weights and schedule go back;
            0 is the initialisation.
        skip: names of layers whose weights are never removed.
    """

    def __init__(self, rounds=5, fraction=0.2, rewind=1, skip=()):
        self.rounds = integer("rounds", rounds, low=0)
        self.fraction = number("fraction", fraction)
        if not 0 < fraction < 1:
            raise ValueError(f"fraction={fraction!r}: it takes a number in (0, 1)")
        self.rewind = integer("rewind", rewind, low=0)
        self.skip = skip
        self.done = 0  # epochs of the first round
        self.masks, self.rewound = {}, {}  # {parameter: tensor}
        self.pairs = None  # [(parameter, its mask)], once the network is placed
        self.due = self.pruned = False  # is a round's pruning due; was there one

    def phases(self, recipe):
        if self.rewind >= recipe.epochs:
            raise ValueError(
                f"rewind={self.rewind}: it takes fewer than the recipe's "
                f"{recipe.epochs} epochs"
            )
        if recipe.schedule == "inverse_sqrt":
            raise ValueError(
                "schedule='inverse_sqrt' cannot be rewound, because it counts steps; "
                "'steps' and 'triangle' count epochs"
            )
        again = [
            Phase(f"round {i}", recipe, first=self.rewind)
            for i in range(1, self.rounds + 1)
        ]
        return [Phase("round 0", recipe), *again]

    def prepare(self, model, example_inputs, generator):
        model = super().prepare(model, example_inputs, generator)
        skipped = skipper(model, self.skip)
        self.masks = {
            f"{name}.weight": torch.ones_like(module.weight, dtype=torch.bool)
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear | nn.Conv2d) and not skipped(name, module)
        }
        if self.rewind == 0:
            self._remember(model)
        return model

    def before_epoch(self, model, optimizer):
        """Prune and rewind when a round begins; a round ends with what it trained."""
        if not self.due:
            return Change.NOTHING
        self._prune(model)
        model.load_state_dict(self.rewound)
        self._apply(model)
        self.due = False
        return Change.NEW_OPTIMIZER

    def after_step(self, model, optimizer):
        """Keep removed weights at zero, momentum or not."""
        if self.pruned:
            self._apply(model)

    def after_epoch(self, model, optimizer):
        if not self.rewound:
            self.done += 1
            if self.done == self.rewind:
                self._remember(model)
        return Change.NOTHING

    def after_phase(self, phase, model, optimizer):
        self.due = phase.name != f"round {self.rounds}"
        return Change.NOTHING

    def _remember(self, model):
        state = model.state_dict()
        self.rewound = {name: value.clone() for name, value in state.items()}

    @torch.no_grad()
    def _prune(self, model):
        """Remove the part ``fraction`` of the weights left, the smallest of all."""
        self.pruned = True
        pairs = self._paired(model)
        sizes = torch.cat([weight.abs()[mask] for weight, mask in pairs])
        remove = round(self.fraction * len(sizes))
        if not remove:
            return
        bound = sizes.kthvalue(remove).values
        for weight, mask in pairs:
            mask &= weight.abs() > bound

    @torch.no_grad()
    def _apply(self, model):
        for weight, mask in self._paired(model):
            weight.mul_(mask)

    def _paired(self, model):
        """``pairs``, with the masks on the device where the network was placed."""
        if self.pairs is None:
            weights = {name: model.get_parameter(name) for name in self.masks}
            self.masks = {n: m.to(weights[n].device) for n, m in self.masks.items()}
            self.pairs = [(weights[n], mask) for n, mask in self.masks.items()]
        return self.pairs

    @property
    def density(self):
        """The part of the prunable weights that is left."""
        kept = sum(int(mask.sum()) for mask in self.masks.values())
        return kept / sum(mask.numel() for mask in self.masks.values())

    def size(self, model):
        """Numbers that are not removed; bits with a map of which those are.

        MACs are those of the dense network: no zero is skipped.
        """
        params, macs = self.costs.fixed
        prunable = sum(mask.numel() for mask in self.masks.values())
        params -= prunable - round(self.density * prunable)
        return Size(params, macs, params * BITS + prunable)

    def state_dict(self):
        names = ("masks", "rewound", "done", "due", "pruned")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state):
        self.masks, self.pairs = dict(state["masks"]), None
        self.rewound, self.done = dict(state["rewound"]), state["done"]
        self.due, self.pruned = state["due"], state["pruned"]
