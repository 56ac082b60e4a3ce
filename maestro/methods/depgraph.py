"""DepGraph (Fang et al. 2023): whole channels are pruned, through torch-pruning.

The network trains dense. Then groups of channels that depend on each other, found by
the package from one forward pass, leave step by step, those of the smallest norms
first, until our own count of the parameters is met; the pruned network trains on at a
lower rate. This is the method without its sparse training: the norms are those that
the recipe left.
"""

from dataclasses import replace

import torch
from torch import nn

from ..config import integer, number
from ..lowrank.choosing import skipper
from ..lowrank.counting import footprint
from .method import Change, Method, Phase

STEPS = 400  # in which a layer would lose all of its channels
SCOPES = ("local", "global")


class DepGraph(Method):
    """Channel pruning after training, and fine-tuning.

    Args:
        params_share: parameters wanted, as a share of the dense network's, at most.
        tune: epochs of fine-tuning, with the recipe's schedule squeezed into them.
        tune_rate: the learning rate of fine-tuning, as a share of the recipe's.
        scope: "local", each group of channels loses the same part, or "global", the
            smallest of all groups leave.
        most: the largest part of its channels that a group loses.
        skip: names of layers whose outputs stay, the classifier among them.
    """

    def __init__(
        self,
        params_share=0.5,
        tune=100,
        tune_rate=0.1,
        scope="local",
        most=0.9,
        skip=(),
    ):
        self.params_share = number("params_share", params_share)
        self.tune = integer("tune", tune, low=0)
        self.tune_rate, self.most = number("tune_rate", tune_rate), number("most", most)
        for name, value in (
            ("params_share", params_share),
            ("tune_rate", tune_rate),
            ("most", most),
        ):
            if not 0 < value <= 1:
                raise ValueError(f"{name}={value!r}: it takes a number in (0, 1]")
        if scope not in SCOPES:
            raise ValueError(f"scope={scope!r}; it is one of {', '.join(SCOPES)}")
        self.scope = scope
        self.skip = skip
        self.shapes = {}  # {parameter or buffer: shape} after pruning

    def phases(self, recipe):
        if not self.tune:
            return [Phase("training", recipe)]
        squeeze = self.tune / recipe.epochs
        milestones = {max(1, round(m * squeeze)) for m in recipe.milestones}
        tuning = replace(
            recipe,
            epochs=self.tune,
            lr=recipe.lr * self.tune_rate,
            milestones=tuple(sorted(milestones)),
            freeze=tuple((name, 0) for name, _ in recipe.freeze),
        )
        return [Phase("training", recipe), Phase("fine-tuning", tuning)]

    def prepare(self, model, example_inputs, generator):
        torch_pruning()
        skipper(model, self.skip)  # a name of no module is refused before training
        return super().prepare(model, example_inputs, generator)

    def after_phase(self, phase, model, optimizer):
        if phase.name != "training":
            return Change.NOTHING
        self._prune(model)
        self.shapes = {n: tuple(v.shape) for n, v in model.state_dict().items()}
        self.count(model)
        return Change.NEW_OPTIMIZER

    def _prune(self, model):
        """Remove channels until the parameters are at most those that are wanted."""
        package, training = torch_pruning(), model.training
        frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
        device = next(model.parameters()).device
        example = self.example_inputs.to(device)
        wanted = self.params_share * self.costs.footprint({}).params
        skipped = skipper(model, self.skip)
        ignored = [one for name, one in model.named_modules() if skipped(name, one)]
        model.eval()
        with torch.no_grad():
            outputs = model(example).shape
        pruner = package.pruner.BasePruner(
            model,
            example,
            importance=package.importance.GroupMagnitudeImportance(p=2),
            global_pruning=self.scope == "global",
            pruning_ratio=1.0,
            max_pruning_ratio=self.most,
            iterative_steps=STEPS,
            ignored_layers=ignored,
        )
        for _ in range(STEPS):
            if footprint(model, self.example_inputs).params <= wanted:
                break
            pruner.step()
        left = footprint(model, self.example_inputs).params
        if left > wanted:
            raise ValueError(
                f"params_share={self.params_share}: pruning a part of {self.most} of "
                f"every layer leaves {left:,} parameters, more than {wanted:,.0f}"
            )
        for name in frozen:  # the package makes new parameters
            model.get_parameter(name).requires_grad_(False)
        with torch.no_grad():
            if model(example).shape != outputs:
                raise ValueError(
                    f"skip={self.skip!r}: the last layer lost outputs; name it as well"
                )
        model.train(training)

    def restore_shapes(self, model, state):
        if state["shapes"]:
            resize(model, state["shapes"])
            self.count(model)
        return model

    def state_dict(self):
        return {"shapes": self.shapes}

    def load_state_dict(self, state):
        self.shapes = dict(state["shapes"])


def torch_pruning():
    """The package. Raises ModuleNotFoundError, saying how to install it."""
    try:
        import torch_pruning
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "method=depgraph needs the package torch-pruning: pip install "
            "torch-pruning==1.6.1"
        ) from error
    return torch_pruning


def resize(model, shapes):
    """Give the layers of ``model`` the ``shapes`` {parameter or buffer: shape}."""
    for name, module in model.named_modules():
        for key, tensor in [*module._parameters.items(), *module._buffers.items()]:
            shape = shapes.get(f"{name}.{key}".lstrip("."))
            if tensor is None or shape is None or tensor.shape == torch.Size(shape):
                continue
            other = tensor.detach().new_empty(shape)
            if key in module._parameters:
                other = nn.Parameter(other, tensor.requires_grad)
            setattr(module, key, other)
        _note_sizes(module)


def _note_sizes(module):
    """Let the attributes that name a layer's sizes say those of its tensors."""
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.Conv2d):
        module.out_channels, inputs, *_ = module.weight.shape
        module.in_channels = inputs * module.groups
    elif isinstance(module, nn.modules.batchnorm._NormBase):
        module.num_features = len(module.running_mean)
