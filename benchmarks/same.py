"""LeNet trained by the book and as we train it: are the records the same?

    python benchmarks/same.py [--seeds 3] [--workers 2] [--out FILE]

Rounding differs from the first step on, and a training makes of it what it makes of
another seed. So not the weights are compared but the records, and the difference
between ways of training with that between seeds. Writes after each run; what the file
holds is not trained again.
"""

import argparse
import itertools
import json
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import torch
from plain import PlainTraining

from maestro.campaign import experiments
from maestro.models import MODELS
from maestro.paths import ROOT
from maestro.system import write_whole
from maestro.training.loop import Training
from maestro.training.machine import pick_device, ran_on
from maestro.training.record import record_of

LAMBDAS = (8e-5, 32e-5, 128e-5)
WAYS = {
    "by the book": lambda config: PlainTraining(config, MODELS[config.model]()),
    "ours": Training,
    "ours, draws as masks": lambda config: Training(config, recorder=Unrecorded()),
}


class Unrecorded:
    """In place of a GPU's recorder: every step is run, with the shapes of a replay."""

    def run(self, step, batch):
        return step(batch)

    def record(self, step, batch):
        result = torch.zeros(())
        return lambda: result.copy_(step(batch)), result


def train(way, config):
    """What is compared of one run."""
    torch.set_num_threads(1)
    run = WAYS[way](config)
    while not run.finished:
        run.run_epoch()
    record = record_of(run)
    final = record["final"]
    return {
        "way": way,
        "lambda_gl": config.options["lambda_gl"],
        "seed": config.seed,
        **{key: final[key] for key in ("test_accuracy", "test_loss", "train_loss")},
        "params": final["params"],
        "total_rank": sum(record["ranks"][-1][1].values()),
        "seconds": record["ran_on"]["wall_seconds"],
    }


def configs(seeds):
    runs = experiments.lenet_mnist(LAMBDAS, tuple(range(seeds)), thresholds=(1e-5,))
    return [config for config in runs if config.method == "maestro"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "_build" / "same.json")
    args = parser.parse_args()
    runs = []
    if args.out.is_file():
        runs = json.loads(args.out.read_text("utf-8"))["runs"]
    have = {(run["way"], run["lambda_gl"], run["seed"]) for run in runs}
    wanted = [
        (way, config)
        for config, way in itertools.product(configs(args.seeds), WAYS)
        if (way, config.options["lambda_gl"], config.seed) not in have
    ]
    ran = ran_on(pick_device("cpu"), "float32") | {"threads": 1}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(args.workers) as pool:
        for job in as_completed([pool.submit(train, *one) for one in wanted]):
            runs.append(job.result())
            print(runs[-1], flush=True)
            content = json.dumps({"ran_on": ran, "runs": runs}, indent=1) + "\n"
            write_whole(args.out, content.encode())
    print(f"written: {args.out}")


if __name__ == "__main__":
    main()
