"""From a trained low-rank network to smaller ones, without training (Sec. 3.4, 5.5).

Studies of a run's final weights. The weights lie in data/cache only until then; what
is found is kept in the run's record, under ``studies``.
"""

import copy
import dataclasses

import torch

from . import records
from .lowrank import truncate
from .tables import final_ranks
from .training import Training, weights_path


def study(configs, device="cpu", folder=None):
    """Fig. 13 for each of ``configs`` without a lasso: cut to the others' ranks.

    Adds to the record of each such run {donor's id: {lambda_gl, test_accuracy, params,
    macs}}, under "ranks_of", for the donors that it lacks: finished runs among
    ``configs`` that differ in lambda_gl and eps_ps only. Runs whose weights are gone
    are left as they are. Returns how many points were added.
    """
    found, added = records.find(configs, folder), 0
    for config in configs:
        if config.options.get("lambda_gl") != 0 or config.id not in found:
            continue
        known = found[config.id]["studies"].get("ranks_of", {})
        donors = [
            c
            for c in configs
            if c.id in found and c.id not in known and _differ_in_lasso(config, c)
        ]
        if donors and weights_path(config).is_file():
            points = truncate_to_ranks_of(config, donors, found, device)
            record = records.read(records.path_of(config.id, folder))
            record["studies"]["ranks_of"] = known | points
            records.save(record, folder)
            added += len(points)
    return added


def truncate_to_ranks_of(config, donors, found, device="cpu"):
    """``config``'s network cut, untrained, to the ranks that ``donors`` ended at.

    found: {id: record} of the donors. Returns {donor's id: {lambda_gl, test_accuracy
    (%), params, macs}}.
    """
    training = Training(config, device)
    weights = torch.load(weights_path(config), training.device, weights_only=True)
    training.model.load_state_dict(weights)
    whole, points = training.model, {}
    for donor in donors:
        training.model = copy.deepcopy(whole)
        kept = truncate(training.model, final_ranks(found[donor.id]))
        points[donor.id] = {
            "lambda_gl": donor.options["lambda_gl"],
            "test_accuracy": training.evaluate()["test_accuracy"],
            **training.method.footprint(kept)._asdict(),
        }
    return points


def _differ_in_lasso(config, other):
    if other == config or not other.options.get("lambda_gl"):
        return False
    lasso = {key: config.options[key] for key in ("lambda_gl", "eps_ps")}
    same = dataclasses.replace(other, options=other.options | lasso)
    return same == config
