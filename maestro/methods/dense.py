"""The network as it is, not factorised: the baseline, and the hooks' do-nothing."""

from contextlib import nullcontext

from ..lowrank.counting import costs


class Dense:
    """The hooks of a method, in the order in which training calls them.

    recalibrates: whether batch norm's statistics are estimated anew before evaluation,
    because training sees other networks than evaluation does.
    """

    recalibrates = False

    def prepare(self, model, example_inputs, generator):
        """Make of ``model`` what is trained; returns it. The optimiser is made after.

        example_inputs: one example's inputs. generator: for the method's own draws.
        """
        self.costs = costs(model, example_inputs)
        return model

    def fix_shapes(self):
        """From now on, while the ranks stay, every step is to have the same shapes.

        Such a step can be recorded and replayed: what `draw` draws it then reads from
        tensors that keep their place.
        """

    def draw(self):
        """Before each step: what of the network it is to train."""

    def step(self):
        """A context around one forward and backward pass of what was drawn."""
        return nullcontext()

    def penalise(self, model):
        """After the loss's backward pass: add the penalty's gradient to ``.grad``."""

    def after_step(self, model, optimizer):
        """After the optimiser's step; ``optimizer`` tells how long it was."""

    def after_epoch(self, model, optimizer):
        """Between training an epoch and evaluating it."""

    def ranks(self, model):
        """{layer name: r}, for the record."""
        return {}

    def footprint(self, ranks):
        """`Footprint` of the network as it would be shipped, at these ranks."""
        return self.costs.footprint(ranks, merged=True)

    def training_cost(self, ranks):
        """(parameters, MACs of one example's forward pass) while training."""
        return self.costs.footprint(ranks).params, self.costs.training_macs(ranks)

    def state_dict(self):
        """What a resumed run needs, besides the model, optimiser and generators."""
        return {}

    def load_state_dict(self, state):
        """The inverse of `state_dict`."""
