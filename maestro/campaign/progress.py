"""What a campaign tells, and how long it expects to take: words, a bar, a pace."""

import statistics

from ..config import RunConfig
from ..methods import epochs
from ..results import records
from ..training.checkpoints import epochs_done
from ..training.machine import device_name, pick_device


def describe(config):
    """A run in a few words: 'lenet/mnist maestro lambda_gl=8e-05 seed 0'.

    The scale is said where it is not the paper's, the size where it is not the model's
    own, options where they are not empty.
    """
    size, options = (
        " ".join(f"{k}={_short(v)}" for k, v in values.items() if v != [])
        for values in (config.size, config.options)
    )
    scale = "" if config.scale == "paper" else config.scale
    words = (f"{config.model}/{config.task}", scale, size, config.method, options)
    return " ".join(w for w in words if w) + f" seed {config.seed}"


def result(record):
    """What came of a run: '98.91 %, 31,363 parameters, 105 s'; None if left alone."""
    if record is None:
        return "left to the process that has it under way"
    final, seconds = record["final"], record["ran_on"]["wall_seconds"]
    return (
        f"{final['test_accuracy']:.2f} %, {final['params']:,} parameters, "
        f"{seconds:.0f} s" + (", diverged" if record["status"] == "diverged" else "")
    )


def bar(todo, shown):
    """A bar of all epochs that ``todo`` has left, if stderr is a terminal."""
    from tqdm import tqdm

    total = sum(epochs(config) - epochs_done(config) for config in todo)
    disable = None if shown else True  # None: unless stderr is a terminal
    return tqdm(total=total, unit="epoch", disable=disable, smoothing=0.05)


class Pace:
    """Seconds per epoch of each kind of run, learned from records and as they come.

    A kind is a task, model, size and method at one device, or so many processes. What
    was never seen has no expectation, and may be started: that is how it is learned.
    """

    def __init__(self, device, folder=None, processes=1):
        self.device, self.seconds = pick_device(device), {}
        name = device_name(self.device)
        for record in records.read_all(folder)[0].values():
            ran_on = record["ran_on"]
            if (ran_on["device"], ran_on.get("processes", 1)) == (name, processes):
                config = RunConfig.from_dict(record["config"])
                for seconds in records.epoch_seconds(record["history"]):
                    self.note(config, seconds)

    def note(self, config, seconds):
        self.seconds.setdefault(self._kind(config), []).append(seconds)

    def expected(self, config):
        """Seconds that ``config`` still needs; 0 if nothing like it was ever seen."""
        seen = self.seconds.get(self._kind(config))
        if not seen:
            return 0
        left = epochs(config) - epochs_done(config)
        return statistics.median(seen[-50:]) * left

    def _kind(self, config):
        size = tuple(sorted(config.size.items()))
        return config.task, config.model, size, config.method


def _short(value):
    if isinstance(value, list):
        return ",".join(value)
    return f"{value:g}" if isinstance(value, float) else value
