"""The data of the figures to touch, as scripts for the page, and their still pictures.

A page that is opened from the disk may run scripts but not fetch files, so each data
file is a script that adds to ``touchData``. Weights are float32 in base64, unrounded.
"""

import base64
import json
import re
from pathlib import Path

import numpy as np

from .. import theory
from ..campaign import experiments
from ..campaign.baselines import beside_maestro
from ..deploy import stored
from ..deploy.cuts import at_ranks
from ..deploy.search import greedy
from ..figures import column_sizes, cut_curves
from ..figures import frontier as systems_frontier
from ..figures.style import GREY, MARKS
from ..lowrank import factorize, low_rank_layers
from ..lowrank.counting import costs
from ..results import records, systems
from ..results.frontiers import frontiers
from . import parameters
from .evidence import CHAPTERS

SEARCHED = 256  # training images that the search for the ranks looks at
SHOWN = {  # chapters of their own runs
    "15_exact_zeros": (
        experiments.lenet_mnist_proximal,
        experiments.resnet18_cifar10_proximal,
    ),
    "17_sampling": (experiments.sampling_cifar10,),
    "18_train_once_deploy_everywhere": (
        experiments.cut_afterwards,
        experiments.lenet_mnist_budgeted,
    ),
    "23_pretrained_start": (experiments.lenet_mnist_pretrained,),
}
ABLATED = ("unshrunken", "full_pass")
OURS = ("dense", "maestro", "masked", "tangent", "tangent_cut")
TARGET = {"m": 9, "n": 6, "r": 6, "singular_values": [9.0, 6.0, 3.0]}  # of Fig. 2a
LR = 0.5  # as in the chapter on the SVD
PROBLEMS = 4  # seeds of it
STEP = 0.05  # the share of a layer's columns that a step of the search takes
USEFUL = 0.5  # the accuracy below which the search ends


def script(name, data):
    """The script that gives the page ``data`` under ``name``."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return f"(window.touchData ??= {{}}).{name} = {text};\n"


def write(folder):
    """Write all data files and still pictures into ``folder``."""
    nets = {name: network(run) for name, run in lenets().items()}
    data = {"digits": digits(), **nets, "ordering": ordering(), "frontier": frontier()}
    for name, values in data.items():
        (Path(folder) / f"data-{name}.js").write_text(script(name, values), "utf-8")
    stills = {
        "lenet": still_lenet(nets),
        "ordering": still_ordering(),
        "frontier": still_frontier(),
    }
    for name, picture in stills.items():
        picture.savefig(Path(folder) / f"still-{name}.png")


# ---------------------------------------------------------------- all runs


def frontier(good=None):
    """Every run and every row of the paper as a point, with its chapter and mark.

    good: {id: record}; all in data/runs if None.
    """
    good = records.read_all()[0] if good is None else good
    groups = frontiers(good)
    shown = {c.id: name for name, of in SHOWN.items() for runs in of for c in runs()}
    for group in groups:
        for point in group["points"]:
            point["chapter"] = _chapter(point, group["model"], shown)
    points = [point for group in groups for point in group["points"]]
    names = {point["system"] for point in points}
    marks = {name: mark for name, mark in MARKS.items() if name in names}
    marks |= dict.fromkeys(sorted(names - marks.keys()), (GREY, "o"))
    titles = {name: _title(name) for name in sorted({p["chapter"] for p in points})}
    return {"groups": groups, "marks": marks, "chapters": titles}


def still_frontier():
    """The frontier of all systems on LeNet."""
    return systems_frontier(systems.frontier(records.find(beside_maestro("lenet"))))


def _chapter(point, model, shown):
    """The chapter that a point is from; ``shown``: {id of a run: chapter}."""
    if point.get("run") in shown:
        return shown[point["run"]]
    if point.get("method") in ABLATED:
        return "22_ablation"
    if point.get("method", "maestro") in OURS:
        return CHAPTERS[model]
    return "16_baselines"


def _title(notebook):
    """The heading of a notebook."""
    cells = json.loads(parameters.find(notebook).read_text("utf-8"))["cells"]
    return "".join(cells[0]["source"]).partition("\n")[0].removeprefix("# ")


# ---------------------------------------------------------------- a linear map


def ordering():
    """The linear problems of the page: targets A (m, n), starts U (m, r), V (n, r)."""
    seeds, values = range(PROBLEMS), TARGET["singular_values"]
    m, n, r = (TARGET[name] for name in "mnr")
    factors = theory.start("uniform", m, n, r, seeds)
    problems = []
    for seed, U, V in zip(seeds, *factors, strict=True):
        A = theory.random_target(m, n, values, seed)
        parts = {"A": A, "U": U, "V": V}
        problems.append({name: part.ravel().tolist() for name, part in parts.items()})
    return {**TARGET, "lr": LR, "problems": problems}


def still_ordering():
    """The sizes of the columns of the first problem, trained in three ways."""
    m, n, r = (TARGET[name] for name in "mnr")
    A = theory.random_target(m, n, TARGET["singular_values"], 0)
    start = np.eye(n) / n, *theory.start("uniform", m, n, r, [0])
    all_columns = np.eye(r)[-1]
    ways = {
        "all columns in each step": theory.Objective(all_columns),
        "b drawn in each step": theory.Objective(),
        "b drawn, with the lasso": theory.Objective(lambda_gl=1e-3),
    }
    sizes = {}
    for name, way in ways.items():
        path = theory.sgd(A, *start, [0], theory.Descent(2000, LR), way)
        sizes[name] = theory.importance(path.U, path.V)[:, 0]
    return column_sizes(path.steps, sizes, TARGET["singular_values"])


# ---------------------------------------------------------------- LeNet


def lenets():
    """{"lod": the run trained by LoD without a lasso, "svd": the dense one}."""
    found = {}
    for run, config in stored.networks().items():
        if config.model == "lenet" and config.options.get("lambda_gl") == 0:
            found["lod"] = run
        elif config.model == "lenet" and config.method == "dense":
            found["svd"] = run
    return found


def network(run):
    """A stored network with all columns, and the ranks on the way of a search.

    Args:
        run: the id of a run whose network is in data/models.

    Returns:
        A dict: run, accuracy (recorded, %), fixed (the numbers outside of the layers),
        dense {params, macs}, layers [{name, m, n, rank, positions, U, V, bias}], path
        [[the rank of each layer]], from the whole network to the first of no use.
    """
    net, example = whole(run), stored.some_mnist().example
    counted, record = costs(net, example), records.read(records.path_of(run))
    layers = [
        {
            "name": name,
            "m": counted.maps[name].m,
            "n": counted.maps[name].n,
            "rank": layer.rank,
            "positions": counted.maps[name].positions,
            **{part: _packed(getattr(layer, part)) for part in ("U", "V", "bias")},
        }
        for name, layer in low_rank_layers(net).items()
    ]
    return {
        "run": run,
        "accuracy": record["final"]["test_accuracy"],
        "fixed": counted.fixed.params,
        "dense": record["dense"],
        "layers": layers,
        "path": _path(net, example),
    }


def whole(run):
    """The stored network of a run, factorised with all columns."""
    net, _, _ = stored.read(run)
    return net if low_rank_layers(net) else factorize(net)


def digits():
    """The stored test images of MNIST: their pixels packed, labels, mean and std."""
    task = stored.some_mnist()
    images, labels = (part.numpy() for part in task.test)
    return {
        "images": base64.b64encode(zeros_counted(images.tobytes())).decode(),
        "labels": "".join(map(str, labels)),
        "mean": round(task.mean.item(), 6),
        "std": round(task.std.item(), 6),
    }


def still_lenet(nets):
    """The test error on the way of each network's search, for pages without scripts."""
    task, series = stored.some_mnist(), []
    for name, data in nets.items():
        net = whole(data["run"])
        counted = costs(net, task.example)
        names = [layer["name"] for layer in data["layers"]]
        points = []
        for ranks in data["path"][::4]:
            cut = dict(zip(names, ranks, strict=True))
            accuracy = task.evaluate(at_ranks(net, cut))["test_accuracy"]
            points.append((counted.footprint(cut, merged=True).params, accuracy))
        params, accuracy = zip(*points, strict=True)
        label = "trained by LoD" if name == "lod" else "SVD of the dense network"
        series.append((label, params, accuracy, [0] * len(points), name == "svd"))
    return cut_curves(series, "parameters of the network as shipped")


def zeros_counted(data):
    """Bytes with each run of at most 255 zeros as a zero and its length."""
    return re.sub(rb"\0{1,255}", lambda run: bytes([0, len(run[0])]), data)


def _packed(tensor):
    numbers = np.ascontiguousarray(tensor.detach().numpy(), "<f4")
    return base64.b64encode(numbers.tobytes()).decode()


def _path(net, example):
    """The ranks at which the greedy search of Sec. 3.4 passes, while it is of use."""
    task = stored.some_mnist()
    data = task.first(SEARCHED), task.train[1][:SEARCHED]
    found = greedy(net, data, example, accuracy=USEFUL, share=STEP)
    return [list(point.ranks.values()) for point in found.path]
