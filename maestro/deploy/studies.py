"""What is asked of a trained network's weights before they go (Sec. 3.4, 5.5; App. E).

Smaller networks from a low-rank one, without training; translations and their BLEU; the
accuracy with test-time augmentation. The weights lie in data/cache only until then;
what is found is kept in the run's record, under ``studies``.
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

LASSO = ("lambda_gl", "eps_ps")  # the options that a donor of ranks may have otherwise


def train_and_study(configs, device="auto", workers=1, group=ALONE, **more):
    """Train those of ``configs`` that have no record, then make every missing study.

    Raises as `campaign.run`, whose arguments these are, and `study` do. Runs that fail
    keep the others from no study.
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
    """Every study of ``configs``' weights that their records lack, added to these.

    Runs without a record or without weights, and diverged ones, are left as they are.
    Of runs without a lasso "ranks_of" (Fig. 13), {donor's id: point}, for each donor:
    a run of ``configs`` that differs in lambda_gl and eps_ps only. Of translating runs
    "bleu": `bleu_of`. At the compact scale "views": `views_of`. Returns how many points
    were added. Raises RuntimeError where BLEU is asked for without sacreBLEU.
    """
    found, added = records.find(configs, folder), 0
    for config in configs:
        if not _can_be_asked(config, found):
            continue
        donors = [c for c in configs if c.id in found and _differ_in_lasso(config, c)]
        if donors:
            cut = partial(truncate_to_ranks_of, config, donors, found, device)
            added += _add(config, "ranks_of", cut, folder)
        if config.task == "multi30k":
            translated = partial(bleu_of, config, device)
            added += _add(config, "bleu", translated, folder)
        if config.model == "compact":
            viewed = partial(views_of, config, device)
            added += _add(config, "views", viewed, folder)
    return added


def truncate_to_ranks_of(config, donors, found, device="cpu", known=()):
    """``config``'s network cut, untrained, to the ranks that ``donors`` ended at.

    found: {id: record} of the donors. known: ids of donors to leave out. Returns
    {donor's id: {parameters, test_accuracy (%), params, macs}}; the parameters are the
    donor's lasso.
    """
    donors = [donor for donor in donors if donor.id not in known]
    if not donors:
        return {}
    training = _trained(config, device)
    whole, points = training.model, {}
    for donor in donors:
        training.model = copy.deepcopy(whole)
        kept = truncate(training.model, records.final_ranks(found[donor.id]))
        points[donor.id] = {
            "parameters": {name: donor.options[name] for name in LASSO},
            "test_accuracy": training.evaluate()["test_accuracy"],
            **training.method.costs.footprint(kept, merged=True)._asdict(),
        }
    return points


def bleu_of(config, device="cpu", known=()):
    """BLEU of ``config``'s network on the test sentences, by each of records.SEARCHES.

    known: searches to leave out. Returns {search: {parameters, score, signature}}, the
    signature sacreBLEU's. Raises RuntimeError without sacreBLEU.
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
    """The task's figures for ``config``'s network, averaged over six views of an image.

    known: not empty if they are known already. Returns {"six": {parameters, figures}}.
    """
    if known:
        return {}
    figures = _trained(config, device).evaluate(six_views)
    return {"six": {"parameters": {"views": 6}} | figures}


def _trained(config, device):
    """``config``'s Training with the weights that it ended with.

    Raises RuntimeError, naming the file, if they are damaged.
    """
    training, path = Training(config, device), weights_path(config)
    try:
        weights = torch.load(path, training.device, weights_only=True)
        training.restore_network(weights)
    except Exception as error:  # damage shows as almost any of them
        why = (str(error) or repr(error)).splitlines()[0]
        raise RuntimeError(
            f"{path} is damaged ({why}): delete it to do without its studies"
        ) from None
    return training


def _can_be_asked(config, found):
    finished = config.id in found and found[config.id]["status"] == "finished"
    return finished and weights_path(config).is_file()


def _add(config, name, ask, folder):
    """The points that the record's study ``name`` lacks, by ``ask``; returns how many.

    Under the run's claim: of two processes that study a run, the second waits, and
    reads what the first has written.
    """
    with claim(config, wait=True):
        record = records.read(records.path_of(config.id, folder))
        known = record["studies"].get(name, {})
        points = ask(known=known)
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
