"""Every recorded run as a point: accuracy against size and time, network by network.

The paper's points are those of its tables on the same network (data/paper).
"""

import math

from ..config import variant
from .cells import NETWORKS, variant_name
from .published import paper_table, params_meant
from .records import config_of, epoch_seconds
from .systems import NAMES, accounts

TASKS = {
    "mnist": "MNIST",
    "cifar10": "CIFAR-10",
    "cifar10_alternating": "CIFAR-10",
    "multi30k": "Multi30k",
    "imagenette64": "Imagenette",
    "imagenet": "ImageNet",
}
# {(model, task, scale): (table, in what parameters are counted, MACs likewise)}
PRINTED = {
    ("lenet", "mnist", "paper"): (11, 1, 1),
    ("resnet18", "cifar10", "paper"): (12, 1e6, 1e9),
    ("vgg19", "cifar10", "paper"): (13, 1e6, 1e9),
    ("transformer", "multi30k", "paper"): (14, 1e6, 1e9),
    ("resnet50", "imagenet", "paper"): (15, 1e6, 1e9),
}
OTHERS = 16  # the table of the other systems


def frontiers(records):
    """The points of every network and scale that has a record or is in the paper.

    Args:
        records: {id: record}; runs that diverged are left out.

    Returns:
        [{model, name, points}]. A point is a dict: system, label, accuracy (%), params,
        macs, seconds; of a run also run, method, seed, date; of the paper also table.
        What is not known is None.
    """
    groups = {key: {} for key in PRINTED}
    for run, record in records.items():
        config = config_of(record)
        key = config.model, config.task, config.scale
        if record["status"] == "finished":
            groups.setdefault(key, {})[run] = record
    order = sorted(groups, key=lambda key: (list(NETWORKS).index(key[0]), key))
    return [
        {
            "model": key[0],
            "name": name_of(*key),
            "points": [*recorded(groups[key]), *printed(*key)],
        }
        for key in order
    ]


def name_of(model, task, scale):
    """'LeNet on MNIST', 'ResNet-18 on CIFAR-10, scale laptop'."""
    scale = scale.removeprefix(f"{model}, ")
    network = NETWORKS[model]
    name = f"{network[0].upper()}{network[1:]} on {TASKS.get(task, task)}"
    return name if scale == "paper" else f"{name}, scale {scale}"


def recorded(records):
    """The points of the runs of one network and scale."""
    table = accounts(records)
    rows = {variant(row.config): row for row in table.itertuples()}
    points = []
    for run, record in records.items():
        config, final = config_of(record), record["final"]
        row = rows[variant(config)]
        points.append(
            {
                "run": run,
                "method": config.method,
                "system": row.system,
                "label": row.label,
                "seed": config.seed,
                "accuracy": round(final["test_accuracy"], 3),
                "params": final["params"],
                "macs": final["macs"],
                "seconds": round(sum(epoch_seconds(record["history"])), 1),
                "date": record["ran_on"]["date"],
            }
        )
    order = {label: place for place, label in enumerate(table.label)}
    return sorted(points, key=lambda point: (order[point["label"]], point["seed"]))


def printed(model, task, scale):
    """The paper's points on one network; none at another scale."""
    if (model, task, scale) not in PRINTED:
        return []
    number, million, billion = PRINTED[model, task, scale]
    table = paper_table(number)
    if number == 11:
        table["params"] = params_meant(table)
    rows = [(number, row) for row in table.to_dict("records")]
    others = paper_table(OTHERS).to_dict("records")
    rows += [
        (OTHERS, row)
        for row in others
        if row["model"] == model and row["variant"] not in ("dense", "maestro")
    ]
    return [_printed(row, table, million, billion) for table, row in rows]


def _printed(row, table, million, billion):
    name = NAMES[row["variant"]][0]
    lambda_gl = row["lambda_gl"]
    label = name if math.isnan(lambda_gl) else f"{name}, {variant_name(lambda_gl)}"
    macs = None if math.isnan(row["macs"]) else round(row["macs"] * billion)
    return {
        "system": name,
        "label": label,
        "accuracy": row["accuracy"],
        "params": round(row["params"] * million),
        "macs": macs,
        "seconds": None,
        "table": table,
    }
