"""The recipe's optimiser, its learning rate step by step, and slow weights beside it.

App. D.3 has plain SGD and Adam. What the compact scale needs besides is of Keller
Jordan's airbench (2024): a triangular schedule, a rate of their own for the biases of
batch norm, and lookahead.
"""

import torch
from torch import nn

NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


def parameter_groups(model, recipe):
    """The parameter groups of ``recipe``: [{"params": [...], ...}, ...].

    Parameters of one rate and one decay are together. Biases and norms have no decay
    where ``decay_vectors`` is false; norms have ``norm_lr`` times the rate.
    """
    norms = {
        id(p)
        for module in model.modules()
        if isinstance(module, NORMS)
        for p in module.parameters(recurse=False)
    }
    groups = {}
    for p in model.parameters():
        scale = recipe.norm_lr if id(p) in norms else 1.0
        decayed = recipe.decay_vectors or p.ndim >= 2
        # a step's decay is rate times decay: with this, that of all the others
        decay = recipe.weight_decay / scale if decayed and scale else 0.0
        groups.setdefault((scale, decay), []).append(p)
    return [
        {"params": parameters, "lr_scale": scale, "weight_decay": decay}
        for (scale, decay), parameters in groups.items()
    ]


def make_optimizer(groups, recipe, replayed=False):
    """The recipe's optimiser; fused: one kernel for all parameters.

    groups: as `parameter_groups` gives them. A group's ``lr_scale`` multiplies the
    learning rate. replayed: a recorded step is to read the learning rate, which is a
    tensor then.
    """
    device = groups[0]["params"][0].device
    for group in groups:
        group.setdefault("lr_scale", 1.0)
        if replayed:
            group["lr"] = torch.tensor(recipe.lr, device=device)
    more = {"lr": recipe.lr, "weight_decay": recipe.weight_decay, "fused": True}
    if recipe.optimizer == "adam":
        adam = {"betas": recipe.betas, "eps": recipe.adam_eps, "capturable": replayed}
        return torch.optim.Adam(groups, **adam, **more)
    sgd = {"momentum": recipe.momentum, "nesterov": recipe.nesterov}
    return torch.optim.SGD(groups, **sgd, **more)


def lr_at(recipe, epoch, step=0, share=0.0):
    """The learning rate of one step.

    Args:
        recipe: whose schedule it is.
        epoch: how many epochs of the schedule have finished.
        step: how many steps the schedule has made (for "inverse_sqrt").
        share: how much of the epoch under way is done, 0 to 1 (for "triangle").
    """
    if recipe.schedule == "inverse_sqrt":
        n = (step + 1) / recipe.warmup
        return recipe.lr * min(n, n**-0.5)
    if recipe.schedule == "triangle":
        first, peak, last = recipe.triangle
        done = (epoch + share) / recipe.epochs
        if done < peak:
            return recipe.lr * (first + (1 - first) * done / peak)
        return recipe.lr * (1 - (1 - last) * (done - peak) / (1 - peak))
    return recipe.lr * recipe.lr_decay ** sum(epoch >= m for m in recipe.milestones)


def set_lr(optimizer, lr):
    """Set the learning rate ``lr`` of the schedule, each group's ``lr_scale`` times."""
    for group in optimizer.param_groups:
        scaled = lr * group["lr_scale"]
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(scaled)
        else:
            group["lr"] = scaled


class Lookahead:
    """Slow copies of the weights, which the training ones meet every few steps.

    After step t of T, every ``every`` steps: slow <- d slow + (1 - d) fast and
    fast <- slow, with d = 0.95^every (t / T)^3; after the last step fast <- slow.
    (Zhang et al. 2019, with the growing average of airbench.) Batch norm's statistics
    are averaged along.
    """

    def __init__(self, model, every, steps):
        self.every, self.steps = every, steps
        self.slow = {name: v.clone() for name, v in _floats(model)}

    @torch.no_grad()
    def after_step(self, model, done):
        """done: steps since the start, this one included."""
        last = done == self.steps
        if done % self.every and not last:
            return
        kept = 1.0 if last else 0.95**self.every * (done / self.steps) ** 3
        for name, fast in _floats(model):
            slow = self._slow_of(name, fast)
            slow.lerp_(fast, 1 - kept)
            fast.copy_(slow)

    def _slow_of(self, name, fast):
        """The slow copy, without the columns that were cut; anew if it is another."""
        slow = self.slow.get(name)
        if slow is None or slow.shape != fast.shape:
            cut = slow is not None and slow.ndim == 2 and len(slow) == len(fast)
            cut = cut and slow.shape[1] > fast.shape[1]
            slow = (slow[:, : fast.shape[1]] if cut else fast).clone()
            self.slow[name] = slow
        return slow

    def state_dict(self):
        return self.slow

    def load_state_dict(self, state):
        self.slow = {name: v.clone() for name, v in state.items()}


def _floats(model):
    return [(k, v) for k, v in model.state_dict().items() if v.is_floating_point()]
