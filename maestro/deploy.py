"""From a trained low-rank network to smaller ones, without training (Sec. 3.4, 5.5).

Studies of a run's final weights. The weights lie in data/cache only until then; what
is found is kept in the run's record, under ``studies``.
"""

import copy

import torch

from . import datasets, records
from .config import RunConfig
from .lowrank import truncate
from .tables import final_ranks
from .training import Training, weights_path


def truncate_to_ranks_of(config, donors, device="cpu", folder=None):
    """Fig. 13: ``config``'s network cut, untrained, to the ranks that others learned.

    config: a finished low-rank run whose weights are at hand. donors: finished runs of
    the same network (RunConfigs), such as the same seed at larger lambda_gl. Adds
    {donor's id: {lambda_gl, test_accuracy, params, macs}} to the record's study
    "ranks_of" and returns it. Raises FileNotFoundError if the weights are gone.
    """
    weights = torch.load(weights_path(config), map_location="cpu", weights_only=True)
    training = Training(config, device, datasets.load(config.task, device))
    training.model.load_state_dict(weights)
    whole, study = training.model, {}
    for donor in records.find(donors, folder).values():
        training.model = copy.deepcopy(whole)
        kept = truncate(training.model, final_ranks(donor))
        study[donor["id"]] = {
            "lambda_gl": RunConfig.from_dict(donor["config"]).options["lambda_gl"],
            "test_accuracy": training.evaluate()["test_accuracy"],
            **training.method.footprint(kept)._asdict(),
        }
    record = records.read(records.path_of(config.id, folder))
    record["studies"]["ranks_of"] = study
    records.save(record, folder)
    return study
