"""One network on one batch, run again and again at other ranks (Sec. 3.4).

Nothing is cut: a layer runs with its first columns only. Two things make it quick and
right. A run that differs from the one before in a single layer starts at that layer:
what the layers before it put out was kept. And batch norm uses the batch's own
statistics, which a large batch has to offer (Yu & Huang 2019), so that nothing needs to
be recalibrated between runs.
"""

from contextlib import contextmanager
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from ..lowrank import columns_in_use, low_rank_layers
from ..lowrank.modes import evaluating
from ..lowrank.reads import weights_read


def cross_entropy(x, y):
    """The judge of a classifier: net -> (loss, share of right answers) on a batch."""

    def judge(net):
        logits = net(x)
        if logits.shape[:1] + logits.shape[2:] != y.shape:
            raise ValueError(
                f"the network puts out {tuple(logits.shape)} and the labels are "
                f"{tuple(y.shape)}: they take (B, classes, ...) and (B, ...); for "
                "another loss pass a function of the network"
            )
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        right = (logits.argmax(1) == y).float().mean()
        return F.cross_entropy(logits, y).item(), right.item()

    return judge


def judge_of(data):
    """What judges a network: ``data`` itself if it is a function, else its batch.

    Args:
        data: (x, y), inputs and class labels; or a function net -> loss, or net ->
            (loss, accuracy in 0..1).

    Returns:
        A function net -> (loss, accuracy or None).

    Raises:
        ValueError: ``data`` is neither.
    """
    if isinstance(data, tuple | list) and len(data) == 2:
        x, y = data
        if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor):
            if len(x) == 0 or len(x) != len(y):
                raise ValueError(
                    f"data has {len(x)} inputs and {len(y)} labels: it takes as many "
                    "of each, at least one"
                )
            if y.is_floating_point() or y.is_complex():
                raise ValueError(
                    f"labels are {y.dtype}: they take integers, the numbers of "
                    "classes; for another loss pass a function of the network"
                )
            return cross_entropy(x, y)
    if not callable(data):
        raise ValueError(
            f"data is {type(data).__name__}: it takes a pair of tensors, inputs and "
            "labels, or a function of the network that returns its loss"
        )
    return lambda net: _pair(data(net))


def _pair(judged):
    """(loss, accuracy or None) as numbers."""
    loss, accuracy = judged if isinstance(judged, tuple | list) else (judged, None)
    return float(loss), None if accuracy is None else float(accuracy)


@contextmanager
def runs_of(net, judge):
    """`Runs` of ``net``, judged by ``judge`` (of `judge_of`).

    Within it ``net`` is in evaluation mode, but with its batch's statistics; afterwards
    it is as before.
    """
    runs = Runs(net, judge)
    try:
        for layer in runs.layers.values():
            layer.forward = partial(runs.call, layer)
        with evaluating(net), batch_statistics(net):
            yield runs
    finally:
        for layer in runs.layers.values():
            vars(layer).pop("forward", None)


class Runs:
    """Runs of one network at ranks of one's choice; see `runs_of`."""

    def __init__(self, net, judge):
        self.net, self.judge = net, judge
        self.layers = low_rank_layers(net)
        self.read = weights_read(net)
        self.kept = []  # (layer, output, the output's version) in the order of calls
        self.copied = set()  # layers whose output other code overwrites
        self.start = self.calls = 0
        self.keeping = False
        self.count = 0  # of runs

    def base(self, ranks, changed=None):
        """Run at ``ranks`` and keep what later runs share with it; (loss, accuracy).

        changed: the only layer whose rank differs from the last call's; None for any.
        """
        judged = self._run(ranks, self._first_call(changed), keep=True)
        stale = {
            layer for layer, out, version in self.kept if out._version != version
        } - self.copied
        if stale:  # overwritten in place: keep copies from now on
            self.copied |= stale
            judged = self._run(ranks, 0, keep=True)
        return judged

    def other(self, ranks, changed):
        """Run at ``ranks``, in which one layer's rank is not the base's."""
        return self._run(ranks, self._first_call(changed), keep=False)

    def _first_call(self, name):
        """The place of the layer's first call in a run; 0 where it is not known."""
        layer = self.layers.get(name)
        if layer is None or layer in self.read:
            return 0
        places = (i for i, (one, *_) in enumerate(self.kept) if one is layer)
        return next(places, 0)

    @torch.inference_mode(False)
    @torch.no_grad()
    def _run(self, ranks, start, keep):
        self.start, self.keeping, self.calls = start, keep, 0
        self.count += 1
        if keep:
            del self.kept[start:]
        with columns_in_use(self.layers, ranks):
            return self.judge(self.net)

    def call(self, layer, *args, **keywords):
        """What ``layer`` puts out: kept from the base, or computed now."""
        place, self.calls = self.calls, self.calls + 1
        if place < self.start:
            one, out, _ = self.kept[place]
            if one is not layer:
                raise RuntimeError("the network calls its layers in another order now")
            return out.clone() if layer in self.copied else out
        out = type(layer).forward(layer, *args, **keywords)
        if self.keeping:
            mine = out.clone() if layer in self.copied else out
            self.kept.append((layer, mine, mine._version))
        return out


@contextmanager
def batch_statistics(net):
    """Within it batch norm in evaluation mode normalises by its batch's statistics."""
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    names = ("running_mean", "running_var")
    before = [[m._buffers.get(name) for name in names] for m in norms]
    try:
        for norm in norms:
            norm._buffers.update(dict.fromkeys(names))
        yield
    finally:
        for norm, values in zip(norms, before, strict=True):
            norm._buffers.update(zip(names, values, strict=True))
