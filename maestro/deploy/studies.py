"""Post-training studies, stored in the run's record (Sec. 3.4, 5.5; App. E).

A study computes figures of a trained network without training it again: of a smaller
network that is cut from it, of its translations, of its answers to six views of an
image. The weights in data/cache may be deleted afterwards, because the record keeps the
points of a study under ``studies``.
"""

import dataclasses
import time

from ..campaign import RunsFailed, run
from ..campaign.process import claim, over
from ..datasets.images import six_views
from ..datasets.translation import bleu
from ..lowrank import truncate
from ..results import records
from ..training.distributed import ALONE
from ..training.machine import made
from .cuts import can_be_cut, cuts
from .subject import Subject
from .uniform import can_be_cut_evenly, uniform_cuts

LASSO = ("lambda_gl", "eps_ps")  # the options in which a donor of ranks may differ


def train_and_study(
    configs, device="auto", workers=1, group=ALONE, minutes=None, **more
):
    """Train the ``configs`` without a record, then make every missing study.

    The arguments are those of `campaign.run`; the exceptions are those of
    `campaign.run` and `study`. If runs fail, the studies of the others are made first.
    The time budget ``minutes`` is that of both together.
    """
    failed, start = None, time.time()
    try:
        run(configs, device, workers, group=group, minutes=minutes, **more)
    except RunsFailed as error:
        failed = error
    if group.main:
        deadline = None if minutes is None else start + 60 * minutes
        study(configs, device, deadline=deadline)
    if failed:
        raise failed


def study(configs, device="auto", folder=None, deadline=None):
    """Make every study of STUDIES that the records of ``configs`` lack.

    Runs without a record or without weights, and diverged runs, are skipped. Every
    point is saved as soon as it is computed.

    Args:
        configs: a list of RunConfigs.
        device: the device to evaluate on, as for `pick_device`.
        folder: the folder of the records; data/runs if None.
        deadline: a time.time() after which no further point is begun; the next call
            makes the rest.

    Returns:
        The number of points added.

    Raises:
        RuntimeError: sacreBLEU is missing, or saved weights are damaged.
    """
    recorded = records.find(configs, folder)
    subjects = [Subject(config, recorded, device) for config in configs]
    return sum(_study(subject, folder, deadline) for subject in subjects)


def _study(subject, folder, deadline):
    """Add the points that the record of a run lacks; returns their number.

    The run is claimed meanwhile: of two processes that study one run, the second waits
    and then reads the record that the first has written.
    """
    if over(deadline) or not subject.can_be_studied:
        return 0
    added = 0
    with claim(subject.config, wait=True):
        record = records.read(records.path_of(subject.config.id, folder))
        for name, (applies, compute) in STUDIES.items():
            if not applies(subject):
                continue
            known = record["studies"].get(name, {})
            for point, figures in compute(subject, frozenset(known)):
                known[point] = figures | made()
                record["studies"][name] = known
                records.save(record, folder)
                added += 1
                if over(deadline):
                    return added
    return added


# ---------------------------------------------------------------- ranks of other runs


def donors(subject):
    """The runs that have a lasso and differ from a run without one in nothing else."""
    if subject.config.options.get("lambda_gl") != 0:
        return []
    lasso = {key: subject.config.options[key] for key in LASSO}
    return [
        other
        for other in subject.others()
        if other.options.get("lambda_gl")
        and dataclasses.replace(other, options=other.options | lasso) == subject.config
    ]


def truncated(subject, known=()):
    """The network truncated to the final ranks of each donor (Fig. 13).

    Yields (donor's id, {parameters, test_accuracy (%), params, macs}); the parameters
    are the donor's lasso.
    """
    for donor in donors(subject):
        if donor.id in known:
            continue
        network = subject.network()
        ranks = truncate(network, records.final_ranks(subject.recorded[donor.id]))
        costs = subject.training.method.costs
        yield (
            donor.id,
            {
                "parameters": {name: donor.options[name] for name in LASSO},
                "test_accuracy": subject.evaluate(network)["test_accuracy"],
                **costs.footprint(ranks, merged=True)._asdict(),
            },
        )


# ---------------------------------------------------------------- translations


def translates(subject):
    return subject.config.task == "multi30k"


def translated(subject, known=()):
    """BLEU of the network on the test sentences, by each of records.SEARCHES.

    Yields (search, {parameters, score, signature}), with sacreBLEU's signature. Raises
    RuntimeError if sacreBLEU is missing.
    """
    for search, beam in records.SEARCHES.items():
        if search in known:
            continue
        training = subject.training
        sentences = training.task.translate(training.model, beam=beam)
        score, signature = bleu(sentences, training.task.references)
        parameters = {"beam": beam}
        yield (
            search,
            {"parameters": parameters, "score": score, "signature": signature},
        )


# ---------------------------------------------------------------- six views


def is_compact(subject):
    return subject.config.model == "compact"


def viewed(subject, known=()):
    """The network's figures with its answers to six views of an image averaged.

    Yields ("six", {parameters, test_loss, test_accuracy (%)}).
    """
    if "six" not in known:
        figures = subject.training.evaluate(six_views)
        yield "six", {"parameters": {"views": 6}} | figures


# {name: (whether the study applies to a Subject, its points)}. The second function
# takes a Subject and the names of the known points, and yields the other points, each
# with its ``parameters``.
STUDIES = {
    "ranks_of": (donors, truncated),
    "uniform": (can_be_cut_evenly, uniform_cuts),
    "cuts": (can_be_cut, cuts),
    "bleu": (translates, translated),
    "views": (is_compact, viewed),
}
