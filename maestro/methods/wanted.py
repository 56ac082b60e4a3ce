"""A size that is asked for: how it is checked, and the ranks that keep it."""

from ..config import number
from ..lowrank import ranks
from ..lowrank.counting import costs
from ..lowrank.ladders import ONE, Prices, order, shares_of_energy

UNITS = ("params", "macs")


class Wanted:
    """A size for the end of a training, and when in its course it is reached.

    target: the size as a share of the dense network's, in (0, 1]. unit: of the size,
    "params" or "macs". settled: the share of all epochs after which it is reached.
    """

    def __init__(self, target, unit, settled):
        for name, value in (("target", target), ("settled", settled)):
            if not 0 < number(name, value) <= 1:
                raise ValueError(f"{name}={value!r}: it takes a number in (0, 1]")
        if unit not in UNITS:
            raise ValueError(f"unit={unit!r}: it is one of {', '.join(UNITS)}")
        self.target, self.unit, self.settled = float(target), unit, float(settled)

    def epochs(self, recipe):
        """How many epochs of ``recipe`` lead to the size; one at least."""
        return max(1, round(self.settled * recipe.epochs))

    def of(self, dense, example_inputs):
        """Note the size of the network ``dense``, of which ``target`` is a share."""
        self.dense = self.size(costs(dense, example_inputs).footprint({}))
        self.limit = self.target * self.dense

    def size(self, footprint):
        return getattr(footprint, self.unit)

    def require_reach(self, model, costs):
        """Raise ValueError if no ranks of the factorised ``model`` are small enough."""
        one = {name: min(1, r) for name, r in ranks(model).items()}
        smallest = self.size(costs.footprint(one, merged=True))
        if smallest > self.limit:
            raise ValueError(
                f"target={self.target:g}: with one column in each layer the network "
                f"has {smallest / self.dense:.4f} of the dense network's {self.unit}"
            )

    def fitting(self, model, costs):
        """The ranks within the limit that lose the least share of energy a column."""
        prices = Prices(costs, ranks(model))
        path = order(prices, prices.ladders(ONE), shares_of_energy(model), None)
        sizes = (self.size(prices.footprint(some)) for some in path)
        within = (r for r, size in zip(path, sizes, strict=True) if size <= self.limit)
        return next(within)
