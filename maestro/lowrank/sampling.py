"""LoD: which layers run with fewer columns in this step (Eq. 4, Algorithm 1, line 3).

The paper draws one pair (i, b) uniformly from all pairs 1 <= b <= r_i of all layers:
layer i runs with its first b columns, every other layer at full rank. The other modes
are what later chapters compare it with.
"""

import bisect
import math
from contextlib import contextmanager
from itertools import accumulate

import torch

from .draws import columns_in_use
from .factorize import low_rank_layers

MODES = {
    "pair": "one pair (i, b), uniform over all pairs (the paper)",
    "shuffled": "one pair from a shuffled list of all, without replacement (authors)",
    "independent": "every layer at once, each with its own uniform b",
    "fraction": "every layer at once, all at one uniform share of their ranks",
    "upper": "one pair (i, b), uniform over those with b from r_i / 2 to r_i",
    "seldom": "one pair (i, b), uniform over all pairs, in one step of four",
    "none": "no layer is ever cut: the lasso alone orders the columns",
}
# {mode that cuts one layer in a step: the share of the steps in which it does}
ONE_PAIR = {"pair": 1.0, "shuffled": 1.0, "upper": 1.0, "seldom": 0.25}


def expected_columns(ranks, mode):
    """How many columns each layer runs with in a step, on average over the draws.

    Of a pair, layer i is the one that is cut with probability r_i / R, R = sum r_i,
    and then runs (r_i + 1) / 2 columns; otherwise it runs all of them. The MACs of a
    network at these numbers are those of a step: "Rel. MACs (Train.)" of Tables 11-15.

    Args:
        ranks: {name: r} of the layers.
        mode: one of MODES.
    Returns:
        {name: columns}, not whole numbers in general.
    """
    lowest = _lowest(ranks, mode)
    pairs = {name: r - lowest[name] + 1 for name, r in ranks.items() if r}
    total = sum(pairs.values())
    columns = {}
    for name, r in ranks.items():
        cut = ONE_PAIR[mode] * pairs[name] / total if r and mode in ONE_PAIR else 1
        columns[name] = r - cut * (r - lowest[name]) / 2
    return columns


def _lowest(ranks, mode):
    """{name: b}, the fewest columns that each layer of ``ranks`` ever runs with."""
    fewest = {"none": lambda r: r, "upper": lambda r: math.ceil(r / 2)}
    of = fewest.get(mode, lambda r: min(1, r))
    return {name: of(r) for name, r in ranks.items()}


class RankSampler:
    """Draws the columns to use, step after step, for one network.

    net: a factorised network. mode: one of MODES. generator: a CPU torch.Generator
    that makes the draws reproducible. masks: whether a step multiplies by `Masks`
    instead of cutting, as `sample` explains. The draws depend on the names and ranks of
    the layers only, not on the order in which they are registered or called. After
    `shrink` or `truncate` the sampler goes on with the new ranks by itself; the
    shuffled list, which the old ranks made, starts anew.

    Raises ValueError if an argument is of another kind, or nothing is low-rank.
    """

    def __init__(self, net, mode="pair", generator=None, masks=False):
        if mode not in list(MODES):
            raise ValueError(f"mode={mode!r}; it is one of {', '.join(MODES)}")
        if not _is_generator(generator):
            raise ValueError(
                f"generator={generator!r}: it takes a torch.Generator of the CPU, as "
                "torch.Generator().manual_seed(0)"
            )
        if not isinstance(masks, bool):
            raise ValueError(f"masks={masks!r}: it takes True or False")
        layers = low_rank_layers(net)
        if not layers:
            raise ValueError(
                f"{type(net).__name__} has no low-rank layers to sample; factorize it"
            )
        self.layers = dict(sorted(layers.items()))
        self.mode, self.generator, self.masks = mode, generator, masks
        self._ranks, self._ends, self._list = None, None, []

    def draw(self):
        """{name: b} for the layers cut in this step (the others run in full)."""
        ranks = [layer.width for layer in self.layers.values()]
        if ranks != self._ranks:
            self._set_ranks(ranks)
            self._list = []
        if not sum(ranks):
            return {}
        return getattr(self, f"_{self.mode}")()

    @contextmanager
    def step(self):
        """Run the body with one draw in force; yields the draw, {name: b}."""
        cut = self.draw()
        with self._in_force(cut):
            yield cut

    def state_dict(self):
        """What a resumed run needs besides the generator: the list still to walk."""
        return {"ranks": self._ranks, "list": list(self._list)}

    def load_state_dict(self, state):
        self._ranks, self._list = None, list(state["list"])
        if state["ranks"] is not None:
            self._set_ranks(state["ranks"])

    def _set_ranks(self, ranks):
        """Note the ranks, and where each layer's pairs end in the list of all."""
        named = dict(zip(self.layers, ranks, strict=True))
        self._ranks, self._lowest = ranks, list(_lowest(named, self.mode).values())
        pairs = zip(ranks, self._lowest, strict=True)
        self._ends = list(accumulate(r - low + 1 if r else 0 for r, low in pairs))

    def _in_force(self, cut):
        if not self.masks:
            return columns_in_use(self.layers, cut)
        masks = Masks(self.layers)
        masks.send(cut)
        return masks.in_force()

    def _pair(self):
        return self._nth(self._randint(self._ends[-1]))

    def _upper(self):
        return self._pair()

    def _seldom(self):
        return self._pair() if self._uniform() < ONE_PAIR["seldom"] else {}

    def _none(self):
        return {}

    def _shuffled(self):
        if not self._list:
            self._list = torch.randperm(
                self._ends[-1], generator=self.generator
            ).tolist()
        return self._nth(self._list.pop())

    def _independent(self):
        named = zip(self.layers, self._ranks, strict=True)
        return {name: 1 + self._randint(r) for name, r in named if r}

    def _fraction(self):
        # uniform on (0, 1]; the share is real, so b = ceil(share * r) meets no ties
        share = 1 - self._uniform()
        named = zip(self.layers, self._ranks, strict=True)
        return {name: max(1, math.ceil(share * r)) for name, r in named if r}

    def _nth(self, j):
        """Pair number j of all pairs, layer after layer by name: {name: b}."""
        i = bisect.bisect_right(self._ends, j)
        behind = self._ends[i] - j  # 1 for the last pair of the layer, b = r
        return {list(self.layers)[i]: self._ranks[i] + 1 - behind}

    def _uniform(self):
        """A number from [0, 1)."""
        return torch.rand((), dtype=torch.float64, generator=self.generator).item()

    def _randint(self, high):
        return torch.randint(high, (), generator=self.generator).item()


class Masks:
    """Draws as rows of ones and zeros in the layers: every step has the same shapes.

    For a step that is recorded once and replayed: it reads the draw where it lies, on
    the device, and `send` changes it there. A cut layer saves nothing then, one of
    many. layers: {name: layer}; it holds while their ranks stay as they are.
    """

    def __init__(self, layers):
        self.layers = layers
        self.ranks = [layer.rank for layer in layers.values()]
        factor = next(iter(layers.values())).U
        self.dtype, device = factor.dtype, factor.device
        owner = torch.arange(len(layers)).repeat_interleave(torch.tensor(self.ranks))
        column = torch.cat([torch.arange(rank) for rank in self.ranks])
        self.owner, self.column = owner.to(device), column.to(device)
        self.widths = torch.tensor(self.ranks, device=device)

    def send(self, cut):
        """Let the next steps run the layers in ``cut``, {name: b}, with b columns."""
        named = self.layers.items()
        widths = torch.tensor([cut.get(name, layer.width) for name, layer in named])
        if self.widths.is_cuda:  # from pinned memory nobody waits for the copy
            widths = widths.pin_memory()
        self.widths.copy_(widths, non_blocking=True)

    def in_force(self):
        """A context in which the layers use what was sent last."""
        used = (self.column < self.widths[self.owner]).to(self.dtype)
        pairs = zip(self.layers.items(), used.split(self.ranks), strict=True)
        rows = {name: row.to(layer.U) for (name, layer), row in pairs}
        return columns_in_use(self.layers, rows)


def sample(net, generator=None, mode="pair", masks=False):
    """Ordered dropout for one step, forward and backward pass:

        with maestro.sample(net, generator):
            loss = criterion(net(x), y)
            loss.backward()

    A context that yields the draw, {name: b}. The backward pass belongs inside, because
    activation checkpointing runs the layers again there; outside they refuse to.
    Shorthand for a `RankSampler` used once; mode "shuffled" needs the sampler itself,
    which remembers where in its list it is.

    generator: a CPU torch.Generator. mode: one of MODES. masks: multiply the columns
    that are left out by zero instead of computing without them: slower by itself, but
    all steps have the same shapes. `torch.compile` then compiles the network once; it
    would do so for every rank that is drawn, and give up after a few.

    Raises ValueError, at once, as `RankSampler` does.
    """
    if mode == "shuffled":
        raise ValueError(
            "mode='shuffled' walks a list over many steps; make a "
            "RankSampler(net, 'shuffled') and use its step()"
        )
    return RankSampler(net, mode, generator, masks).step()


def _is_generator(value):
    if value is None:
        return True
    return isinstance(value, torch.Generator) and value.device.type == "cpu"
