"""The progress of a campaign: descriptions of runs, a bar, and expected times."""

import statistics

from ..methods import epochs
from ..results import records
from ..training.checkpoints import epochs_done
from ..training.machine import device_name, pick_device


def describe(config):
    """A run in a few words: 'lenet/mnist dense seed 0, 20 epochs, batch 64, lr 0.01'.

    The paper's scale, the model's default size, empty options and float32 are left out.
    """
    size, options = (
        " ".join(f"{k}={_short(v)}" for k, v in values.items() if v != [])
        for values in (config.size, config.options)
    )
    scale = "" if config.scale == "paper" else config.scale
    words = (f"{config.model}/{config.task}", scale, size, config.method, options)
    recipe = config.recipe
    text = " ".join(w for w in words if w) + f" seed {config.seed}"
    text += f", {recipe.epochs} epochs, batch {recipe.batch_size}, lr {recipe.lr:g}"
    exact = recipe.precision == "float32"
    return text if exact else f"{text}, precision {recipe.precision}"


def result(record):
    """The result of a run, '98.91 %, 31,363 parameters, 105 s', from its record.

    record: None if another process has claimed the run.
    """
    if record is None:
        return "left to another process, which is training it"
    final, seconds = record["final"], record["ran_on"]["wall_seconds"]
    return (
        f"{final['test_accuracy']:.2f} %, {final['params']:,} parameters, "
        f"{seconds:.0f} s" + (", diverged" if record["status"] == "diverged" else "")
    )


def bar(todo, shown):
    """A progress bar of all epochs left in ``todo``, if stderr is a terminal."""
    from tqdm import tqdm

    total = sum(epochs(config) - epochs_done(config) for config in todo)
    disable = None if shown else True  # None: unless stderr is a terminal
    return tqdm(total=total, unit="epoch", disable=disable, smoothing=0.05)


class Pace:
    """Expected seconds of runs, from the epochs of earlier runs of the same kind.

    The kind of a run is its task, model, size and method. Only runs on the same device
    and as many processes count. For a kind without epochs, those of other methods on
    the same network count. A network without epochs has no expectation; its runs may
    start, so that their epochs can be measured.
    """

    def __init__(self, device, folder=None, processes=1):
        self.device, self.seconds = pick_device(device), {}
        name = device_name(self.device)
        for record in records.read_all(folder)[0].values():
            ran_on = record["ran_on"]
            if (ran_on["device"], ran_on.get("processes", 1)) == (name, processes):
                config = records.config_of(record)
                for seconds in records.epoch_seconds(record["history"]):
                    self.note(config, seconds)

    def note(self, config, seconds):
        for kind in self._kinds(config):
            self.seconds.setdefault(kind, []).append(seconds)

    def expected(self, config):
        """The seconds that ``config`` still needs; 0 if its network has no epochs."""
        left = epochs(config) - epochs_done(config)
        for kind in self._kinds(config):
            if seen := self.seconds.get(kind):
                return statistics.median(seen[-50:]) * left
        return 0

    def _kinds(self, config):
        """The kind of ``config``, and the wider one of all methods on its network."""
        network = config.task, config.model, *sorted(config.size.items())
        return (*network, config.method), network


def _short(value):
    if isinstance(value, list):
        return ",".join(value)
    return f"{value:g}" if isinstance(value, float) else value
