"""The recipe's optimiser and its learning rate, step by step (App. D.3)."""

import torch


def parameter_groups(model, recipe):
    """The parameter groups of ``recipe``: [{"params": [...], ...}, ...].

    One group, or where ``decay_vectors`` is false a second one for biases and norms,
    which have no weight decay.
    """
    parameters = list(model.parameters())
    if recipe.decay_vectors:
        return [{"params": parameters}]
    return [
        {"params": [p for p in parameters if p.ndim >= 2]},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
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
    return torch.optim.SGD(groups, momentum=recipe.momentum, **more)


def lr_at(recipe, epoch, step=0):
    """The learning rate of one step.

    Args:
        recipe: whose schedule it is.
        epoch: how many epochs of the schedule have finished.
        step: how many steps the schedule has made (for "inverse_sqrt").
    """
    if recipe.schedule == "inverse_sqrt":
        n = (step + 1) / recipe.warmup
        return recipe.lr * min(n, n**-0.5)
    return recipe.lr * recipe.lr_decay ** sum(epoch >= m for m in recipe.milestones)


def set_lr(optimizer, lr):
    """Set the learning rate ``lr`` of the schedule, each group's ``lr_scale`` times."""
    for group in optimizer.param_groups:
        scaled = lr * group["lr_scale"]
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(scaled)
        else:
            group["lr"] = scaled
