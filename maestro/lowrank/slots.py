"""Weights that a module reads itself, instead of calling a layer that holds them.

nn.MultiheadAttention keeps its three projections in one parameter, nn.LSTM and nn.GRU
hand theirs to one kernel, the experts of a mixture are a stack of matrices. Such a
module stays what it is. For the parameter ``w`` it gets a child ``w_factors``, a
`LowRankWeight`, and its class a property ``w``, which computes U V^T. Whatever reads
the weight, PyTorch's fast paths included, reads the product.
"""

from functools import cache

from torch import nn

from .layers import LowRankWeight
from .watching import note_replaced

SUFFIX = "_factors"


class Slots:
    """What the class of a module with such weights has besides its own."""

    def __call__(self, *args, **kwargs):
        """Run the module; each weight is computed once, however often it is read."""
        if "_weights_now" in vars(self):
            return super().__call__(*args, **kwargs)
        vars(self)["_weights_now"] = {name: _product(self, name) for name in self.slots}
        try:
            return super().__call__(*args, **kwargs)
        finally:
            del vars(self)["_weights_now"]

    def __reduce_ex__(self, protocol):
        kind = type(self)
        return _blank, (kind.dense_kind, kind.slots), self.__getstate__()


class _RecurrentSlots(Slots):
    """nn.LSTM, nn.GRU and nn.RNN keep a list of their weights: it is made anew."""

    @property
    def _flat_weights(self):
        return [getattr(self, name, None) for name in self._flat_weights_names]

    @_flat_weights.setter
    def _flat_weights(self, weights):
        pass

    def _update_flat_weights(self):
        pass

    def flatten_parameters(self):
        pass


def weights_read_by(module):
    """{parameter's name: blocks} of the weights that ``module`` is known to read.

    Names and numbers of blocks are of the kind of module; a parameter may be missing.
    """
    if isinstance(module, nn.MultiheadAttention):
        apart = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
        return {"in_proj_weight": 3} | dict.fromkeys(apart, 1)
    if isinstance(module, nn.RNNBase):
        names = module._flat_weights_names
        return {name: 1 for name in names if name.startswith("weight")}
    if isinstance(module, nn.RNNCellBase):
        return {"weight_ih": 1, "weight_hh": 1}
    if type(module).__name__.endswith("Experts"):  # of any library
        own = module._parameters.items()
        return {name: len(p) for name, p in own if p is not None and p.ndim == 3}
    return {}


def unrolled(weight, blocks):
    """(blocks, m, n): a weight (blocks m, n) or (blocks, m, n)."""
    return weight if weight.ndim == 3 else weight.unflatten(0, (blocks, -1))


def put_in(module, layers):
    """Let ``layers`` {parameter's name: LowRankWeight} stand for these parameters."""
    held = getattr(type(module), "slots", ())
    note_replaced(module._parameters[name] for name in layers)
    for name, layer in layers.items():
        module._parameters[name] = None  # keeps its place for `take_out`
        module._modules[name + SUFFIX] = layer.train(module.training)
    vars(module).pop("_flat_weights", None)
    base = getattr(type(module), "dense_kind", type(module))
    module.__class__ = _kind(base, (*held, *layers))


def take_out(module, weights):
    """Put the parameters ``weights`` {name: nn.Parameter}, of all slots, back."""
    layers = [module._modules.pop(name + SUFFIX) for name in weights]
    note_replaced(p for layer in layers for p in layer.parameters())
    module.__class__ = type(module).dense_kind
    for name, weight in weights.items():
        module.register_parameter(name, weight)
    if isinstance(module, nn.RNNBase):
        module._init_flat_weights()


@cache
def _kind(base, slots):
    """The class of a module of the class ``base`` with these slots."""
    mixin = _RecurrentSlots if issubclass(base, nn.RNNBase) else Slots
    own = {name: property(_reader(name)) for name in slots}
    own |= {"dense_kind": base, "slots": slots, "__doc__": base.__doc__}
    return type(base.__name__, (mixin, base), own)


def _blank(base, slots):
    kind = _kind(base, slots)
    return kind.__new__(kind)


def _reader(name):
    def read(self):
        now = vars(self).get("_weights_now")
        return _product(self, name) if now is None else now[name]

    return read


def _product(module, name):
    layer = module._modules[name + SUFFIX]
    return layer.kernel(layer.matrix())


def slots(net):
    """{module: {parameter's name: LowRankWeight}} of the modules that have slots."""
    return {
        module: {name: module._modules[name + SUFFIX] for name in type(module).slots}
        for module in net.modules()
        if isinstance(module, Slots)
    }


def owned(net):
    """The `LowRankWeight`s of ``net``."""
    return {m for m in net.modules() if isinstance(m, LowRankWeight)}
