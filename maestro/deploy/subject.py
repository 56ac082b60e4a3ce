"""A finished run and its trained network, as a study needs them."""

import copy
from functools import cached_property

import torch
from torch import nn

from ..lowrank import factorize
from ..results import records
from ..training.checkpoints import weights_path
from ..training.loop import Training


def factorised(net):
    """`factorize`, in place; layers whose weights were not trained stay as they are.

    The energy of such a column (a whitening filter's, say) does not tell what the
    column is worth.
    """
    fixed = [
        name
        for name, module in net.named_modules()
        if isinstance(getattr(module, "weight", None), nn.Parameter)
        and not module.weight.requires_grad
    ]
    return factorize(net, skip=fixed)


class Subject:
    """A finished run under study.

    Attributes:
        config: its RunConfig.
        recorded: {id: record} of the runs that are studied together.
        device: the device to evaluate on, as for `pick_device`.
    """

    def __init__(self, config, recorded, device="cpu"):
        self.config, self.recorded, self.device = config, recorded, device

    @cached_property
    def training(self):
        """The run's `Training` with the final weights, loaded when first needed.

        Raises RuntimeError if the file of the weights is damaged.
        """
        training, path = Training(self.config, self.device), weights_path(self.config)
        try:
            weights = torch.load(path, training.device, weights_only=True)
            training.restore_network(weights)
        except Exception as error:  # a damaged file can raise almost any exception
            why = (str(error) or repr(error)).splitlines()[0]
            raise RuntimeError(
                f"{path} is damaged ({why}): delete it to do without its studies"
            ) from None
        return training

    def network(self):
        """A copy of the trained network, for a study to change."""
        return copy.deepcopy(self.training.model)

    def evaluate(self, network):
        """The task's figures of ``network``, as the Training evaluates."""
        training, whole = self.training, self.training.model
        training.model = network
        try:
            return training.evaluate()
        finally:
            training.model = whole

    @property
    def can_be_studied(self):
        """Whether the run has finished and its weights are saved."""
        record = self.recorded.get(self.config.id, {})
        finished = record.get("status") == "finished"
        return finished and weights_path(self.config).is_file()

    def others(self):
        """The RunConfigs of the finished runs among ``recorded``, with this one."""
        finished = (r for r in self.recorded.values() if r["status"] == "finished")
        return [records.config_of(record) for record in finished]
