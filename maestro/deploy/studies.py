"""What is asked of a trained network's weights before they go (Sec. 3.4, 5.5; App. E).

Smaller networks from a low-rank one, without training; translations and their BLEU. The
weights lie in data/cache only until then; what is found is kept in the run's record,
under ``studies``.
"""

import copy
import dataclasses

import torch

from ..datasets.translation import bleu
from ..lowrank import truncate
from ..results import records
from ..training.loop import Training, weights_path


def study(configs, device="cpu", folder=None):
    """Every study of ``configs``' weights that their records lack, added to these.

    Runs without a record or without weights, and diverged ones, are left as they are.
    Of runs without a lasso "ranks_of" (Fig. 13), {donor's id: point}, for each donor:
    a run of ``configs`` that differs in lambda_gl and eps_ps only. Of translating runs
    "bleu": `bleu_of`. Returns how many points were added. Raises RuntimeError where
    BLEU is asked for without sacreBLEU.
    """
    found, added = records.find(configs, folder), 0
    for config in configs:
        if not _can_be_asked(config, found):
            continue
        donors = [c for c in configs if c.id in found and _differ_in_lasso(config, c)]
        known = found[config.id]["studies"].get("ranks_of", {})
        donors = [c for c in donors if c.id not in known]
        if donors:
            points = truncate_to_ranks_of(config, donors, found, device)
            added += _add(config, "ranks_of", points, folder)
        if config.task == "multi30k" and "bleu" not in found[config.id]["studies"]:
            added += _add(config, "bleu", bleu_of(config, device), folder)
    return added


def truncate_to_ranks_of(config, donors, found, device="cpu"):
    """``config``'s network cut, untrained, to the ranks that ``donors`` ended at.

    found: {id: record} of the donors. Returns {donor's id: {lambda_gl, test_accuracy
    (%), params, macs}}.
    """
    training = _trained(config, device)
    whole, points = training.model, {}
    for donor in donors:
        training.model = copy.deepcopy(whole)
        kept = truncate(training.model, records.final_ranks(found[donor.id]))
        points[donor.id] = {
            "lambda_gl": donor.options["lambda_gl"],
            "test_accuracy": training.evaluate()["test_accuracy"],
            **training.method.footprint(kept)._asdict(),
        }
    return points


def bleu_of(config, device="cpu"):
    """BLEU of ``config``'s network on the test sentences, by each of records.SEARCHES.

    Returns {search: {score, signature}}, the signature sacreBLEU's. Raises RuntimeError
    without sacreBLEU.
    """
    training = _trained(config, device)
    task, points = training.task, {}
    for search, beam in records.SEARCHES.items():
        sentences = task.translate(training.model, beam=beam)
        score, signature = bleu(sentences, task.references)
        points[search] = {"score": score, "signature": signature}
    return points


def _trained(config, device):
    """``config``'s Training with the weights that it ended with."""
    training = Training(config, device)
    weights = torch.load(weights_path(config), training.device, weights_only=True)
    training.model.load_state_dict(weights)
    return training


def _can_be_asked(config, found):
    finished = config.id in found and found[config.id]["status"] == "finished"
    return finished and weights_path(config).is_file()


def _add(config, name, points, folder):
    """``points`` into the record's study ``name``; returns how many."""
    record = records.read(records.path_of(config.id, folder))
    record["studies"][name] = record["studies"].get(name, {}) | points
    records.save(record, folder)
    return len(points)


def _differ_in_lasso(config, other):
    """Whether ``config`` has no lasso, ``other`` has one, and nothing else differs."""
    if config.options.get("lambda_gl") != 0 or not other.options.get("lambda_gl"):
        return False
    lasso = {key: config.options[key] for key in ("lambda_gl", "eps_ps")}
    return dataclasses.replace(other, options=other.options | lasso) == config
