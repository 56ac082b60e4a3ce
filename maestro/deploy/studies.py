"""Post-training studies, stored in the run's record (Sec. 3.4, 5.5; App. E).

The studies are smaller networks cut from a low-rank network without training,
translations with their BLEU, and the accuracy with test-time augmentation. The weights
in data/cache may be deleted afterwards: the points of a study are in the record, under
``studies``.
"""

import copy
import dataclasses
from functools import partial

import torch

from ..campaign import RunsFailed, run
from ..campaign.process import claim
from ..datasets.images import six_views
from ..datasets.translation import bleu
from ..lowrank import truncate
from ..results import records
from ..training.checkpoints import weights_path
from ..training.distributed import ALONE
from ..training.loop import Training
from ..training.machine import made

LASSO = ("lambda_gl", "eps_ps")  # the options in which a donor of ranks may differ


def train_and_study(configs, device="auto", workers=1, group=ALONE, **more):
    """Train the ``configs`` without a record, then make every missing study.

    The arguments are those of `campaign.run`; the exceptions are those of
    `campaign.run` and `study`. If runs fail, the studies of the others are made first.
    """
    failed = None
    try:
        run(configs, device, workers, group=group, **more)
    except RunsFailed as error:
        failed = error
    if group.main:
        study(configs, device)
    if failed:
        raise failed


def study(configs, device="auto", folder=None):
    """Make every study that the records of ``configs`` lack, and add it to the records.

    "ranks_of" (`truncate_to_ranks_of`) is for runs without a lasso, with one point for
    each donor: a run of ``configs`` that differs only in lambda_gl and eps_ps. "bleu"
    is for translation (`bleu_of`), "views" for the compact model (`views_of`). Runs
    without a record or without weights, and diverged runs, are skipped.

    Args:
        configs: a list of RunConfigs.
        device: the device to evaluate on, as for `pick_device`.
        folder: the folder of the records; data/runs if None.

    Returns:
        The number of points added.

    Raises:
        RuntimeError: sacreBLEU is missing, or saved weights are damaged.
    """
    finished, added = records.find(configs, folder), 0
    for config in configs:
        if not _can_be_studied(config, finished):
            continue
        donors = [
            c for c in configs if c.id in finished and _differ_in_lasso(config, c)
        ]
        if donors:
            cut = partial(truncate_to_ranks_of, config, donors, finished, device)
            added += _add(config, "ranks_of", cut, folder)
        if config.task == "multi30k":
            translated = partial(bleu_of, config, device)
            added += _add(config, "bleu", translated, folder)
        if config.model == "compact":
            viewed = partial(views_of, config, device)
            added += _add(config, "views", viewed, folder)
    return added


def truncate_to_ranks_of(config, donors, recorded, device="cpu", known=()):
    """The network of ``config`` truncated to the final ranks of each donor (Fig. 13).

    Args:
        config: the RunConfig of the network.
        donors: the RunConfigs whose ranks are taken.
        recorded: {id: record} of the donors.
        device: the device to evaluate on.
        known: ids of donors to leave out.

    Returns:
        {donor's id: {parameters, test_accuracy (%), params, macs}}; the parameters are
        the donor's lasso.
    """
    donors = [donor for donor in donors if donor.id not in known]
    if not donors:
        return {}
    training = _trained(config, device)
    whole, points = training.model, {}
    for donor in donors:
        training.model = copy.deepcopy(whole)
        kept = truncate(training.model, records.final_ranks(recorded[donor.id]))
        points[donor.id] = {
            "parameters": {name: donor.options[name] for name in LASSO},
            "test_accuracy": training.evaluate()["test_accuracy"],
            **training.method.costs.footprint(kept, merged=True)._asdict(),
        }
    return points


def bleu_of(config, device="cpu", known=()):
    """BLEU of the network of ``config`` on the test sentences, by each search.

    Args:
        config: the RunConfig of the network.
        device: the device to translate on.
        known: names of records.SEARCHES to leave out.

    Returns:
        {search: {parameters, score, signature}}, with sacreBLEU's signature.

    Raises:
        RuntimeError: sacreBLEU is missing.
    """
    left = {name: n for name, n in records.SEARCHES.items() if name not in known}
    if not left:
        return {}
    training = _trained(config, device)
    task, points = training.task, {}
    for search, beam in left.items():
        sentences = task.translate(training.model, beam=beam)
        score, signature = bleu(sentences, task.references)
        points[search] = {
            "parameters": {"beam": beam},
            "score": score,
            "signature": signature,
        }
    return points


def views_of(config, device="cpu", known=()):
    """The figures of the network of ``config`` with six views of each image averaged.

    Args:
        config: the RunConfig of the network.
        device: the device to evaluate on.
        known: not empty if the record has these figures already.

    Returns:
        {"six": {parameters, test_loss, test_accuracy (%)}}; empty if known.
    """
    if known:
        return {}
    figures = _trained(config, device).evaluate(six_views)
    return {"six": {"parameters": {"views": 6}} | figures}


def _trained(config, device):
    """The Training of ``config`` with its final weights.

    Raises RuntimeError if the file of the weights is damaged.
    """
    training, path = Training(config, device), weights_path(config)
    try:
        weights = torch.load(path, training.device, weights_only=True)
        training.restore_network(weights)
    except Exception as error:  # a damaged file can raise almost any exception
        why = (str(error) or repr(error)).splitlines()[0]
        raise RuntimeError(
            f"{path} is damaged ({why}): delete it to do without its studies"
        ) from None
    return training


def _can_be_studied(config, recorded):
    """Whether the run has finished and its weights are saved."""
    finished = config.id in recorded and recorded[config.id]["status"] == "finished"
    return finished and weights_path(config).is_file()


def _add(config, name, compute, folder):
    """Add the points that the record's study ``name`` lacks; returns their number.

    The run is claimed meanwhile: of two processes that study one run, the second waits
    and then reads the record that the first has written.
    """
    with claim(config, wait=True):
        record = records.read(records.path_of(config.id, folder))
        known = record["studies"].get(name, {})
        points = compute(known=known)
        if points:
            dated = {key: point | made() for key, point in points.items()}
            record["studies"][name] = known | dated
            records.save(record, folder)
    return len(points)


def _differ_in_lasso(config, other):
    """Whether ``config`` has no lasso, ``other`` has one, and nothing else differs."""
    if config.options.get("lambda_gl") != 0 or not other.options.get("lambda_gl"):
        return False
    lasso = {key: config.options[key] for key in LASSO}
    return dataclasses.replace(other, options=other.options | lasso) == config
