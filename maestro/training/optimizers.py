"""The recipe's optimiser and its learning rate, step by step (App. D.3)."""

import torch


def make_optimizer(parameters, recipe, replayed=False):
    """The recipe's optimiser; fused: one kernel for all parameters.

    replayed: a recorded step is to read the learning rate, which is a tensor then.
    """
    groups = [{"params": list(parameters)}]
    device = groups[0]["params"][0].device
    lr = torch.tensor(recipe.lr, device=device) if replayed else recipe.lr
    decay = {"lr": lr, "weight_decay": recipe.weight_decay, "fused": True}
    if not recipe.decay_vectors:
        vectors = [p for p in groups[0]["params"] if p.ndim < 2]
        groups[0]["params"] = [p for p in groups[0]["params"] if p.ndim >= 2]
        groups.append({"params": vectors, "weight_decay": 0.0})
    if recipe.optimizer == "adam":
        adam = {"betas": recipe.betas, "eps": recipe.adam_eps, "capturable": replayed}
        return torch.optim.Adam(groups, **adam, **decay)
    return torch.optim.SGD(groups, momentum=recipe.momentum, **decay)


def lr_at(recipe, epoch, step=0):
    """The learning rate of one step.

    epoch: how many have finished; step: how many since the start of the training.
    """
    if recipe.schedule == "inverse_sqrt":
        n = (step + 1) / recipe.warmup
        return recipe.lr * min(n, n**-0.5)
    return recipe.lr * recipe.lr_decay ** sum(epoch >= m for m in recipe.milestones)


def set_lr(optimizer, lr):
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr
