"""Algorithm 1's loop, for any method: train, shrink, recalibrate, evaluate, record.

One run is one `Training`. Its state can be written at any step and read back, and the
run then ends in the same record, bit for bit on one CPU thread: batches are drawn from
a generator seeded by (seed, epoch), all other randomness is part of the state.
Several processes can train one run; what that takes is in distributed.py.
"""

import hashlib
import itertools
import math
import sys
import time
from pathlib import Path

import torch
from torch import nn

from .. import datasets, methods
from ..models import MODELS
from ..paths import CACHE
from ..results import records
from ..system import write_whole
from .distributed import ALONE
from .energy import joules
from .machine import pick_device, ran_on
from .optimizers import lr_at, make_optimizer, set_lr
from .replay import CudaRecorder, Replay

CHECKPOINT_SECONDS = 30
RECALIBRATION = 200  # batches over which batch norm's statistics are estimated anew


class Interrupted(Exception):
    """The run was asked to stop; its checkpoint is written and it can go on later."""


class Training:
    """A run under way: the network, its optimiser, all randomness, and the history.

    config: a RunConfig. task: its data, already on ``device``; loaded if None.
    group: the processes that share the run. recorder: what records steps to replay
    them, as `CudaRecorder`; None if every step is run as it is.
    """

    def __init__(self, config, device="cpu", task=None, group=ALONE, recorder=None):
        self.config, self.device = config, pick_device(device)
        self.group = group
        self.method = methods.make(config)
        if config.model not in MODELS:
            raise ValueError(
                f"model={config.model!r}; it is one of {', '.join(MODELS)}"
            )
        self.task = task or datasets.load(config.task, self.device)
        self.task.rows = group.rows
        torch.manual_seed(_seed(config.seed, "start"))
        self.generator = torch.Generator().manual_seed(_seed(config.seed, "method"))
        model = MODELS[config.model](classes=self.task.classes, **config.size)
        self.dense = methods.dense.costs(model, self.task.example).footprint({})
        model = self.method.prepare(model, self.task.example, self.generator)
        model = group.prepared(model, self.device)
        on_gpu = self.device.type == "cuda"
        if on_gpu:  # the peak is to be this run's, not its process's
            torch.cuda.reset_peak_memory_stats(self.device)
        self.precision = "bfloat16" if on_gpu else "float32"
        layout = torch.channels_last if on_gpu else torch.contiguous_format
        self.model = model.to(self.device, memory_format=layout)
        self.recorder = recorder
        self.replay = Replay(self._descend, recorder) if recorder else None
        self._make_optimizer()
        self.epoch = self.step = 0  # epochs finished; steps done in this one
        self.steps = 0  # since the start
        self.losses = []  # of the last steps, each times its examples
        self.loss_sum, self.examples, self.seconds = 0.0, 0, 0.0  # of this epoch
        self.joules, self.metered = 0.0, None  # of this epoch; the meter as last read
        self.history, self.ranks = [], [[0, self.method.ranks(model)]]
        self._part_dropout()

    @property
    def finished(self):
        return self.epoch == self.config.recipe.epochs or self.diverged

    @property
    def diverged(self):
        last = self.history[-1] if self.history else {}
        return not all(math.isfinite(value) for value in last.values())

    def run_epoch(self, after_step=lambda training: None):
        """Train what is left of this epoch, shrink, evaluate, and note it all.

        ``after_step`` is called between steps, when the state is consistent.
        """
        ranks = self.method.ranks(self.model)
        started = time.perf_counter()
        self.metered = joules(self.device)
        self.model.train()
        # for an epoch: then columns are cut
        net = self.group.spread(self.model, self.task.example)
        for batch in self._batches():
            self.losses.append(self._train_step(net, batch))
            self.examples += self.task.count(batch)
            self.step += 1
            if len(self.losses) == 100:  # seldom: on a GPU it waits for the device
                self._add_losses()
            self.seconds += -started + (started := time.perf_counter())
            after_step(self)
        self._add_losses()
        if math.isfinite(self.loss_sum) and self._weights_are_finite():
            self._shrink()
        tested = self.evaluate()
        self.seconds += time.perf_counter() - started
        self._read_meter()
        self._note(ranks, tested)

    def evaluate(self):
        """The task's figures for the network as it is now, batch norm recalibrated."""
        net = self.group.split(self.model)
        if self.method.recalibrates:
            size, batches = self.config.recipe.batch_size, RECALIBRATION
            if self.device.type == "cuda" and size < 1000:
                # as many examples; in small batches a GPU would wait for Python
                size, batches = 1000, math.ceil(batches * size / 1000)
            with self._autocast():
                recalibrate(net, self.task, size, batches)
        self.group.same_buffers(self.model)
        self.model.eval()
        with self._autocast():
            return self.task.evaluate(net)

    def _batches(self):
        """What is left of this epoch's batches."""
        seed = _seed(self.config.seed, f"order {self.epoch}")
        return self.task.epoch(self.config.recipe.batch_size, seed, self.step)

    def _train_step(self, net, batch):
        """One step; returns the loss of its batch, summed over examples."""
        recipe = self.config.recipe
        set_lr(self.optimizer, lr_at(recipe, self.epoch, self.steps))
        self.method.draw()
        self.steps += 1
        return self.replay(batch) if self.replay else self._descend(batch, net)

    def _descend(self, batch, net=None):
        """What the device does in a step: it must never have to wait for the host."""
        net = self.model if net is None else net
        with self.method.step():
            with self._autocast():
                loss, loss_sum = self.task.loss(net, batch)
            loss.backward()
        self.method.penalise(self.model)
        clip = self.config.recipe.clip
        if clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        self.optimizer.step()
        self.method.after_step(self.model, self.optimizer)
        self.optimizer.zero_grad()
        return loss_sum

    def _make_optimizer(self):
        parameters, replayed = self.model.parameters(), self.replay is not None
        self.optimizer = make_optimizer(parameters, self.config.recipe, replayed)
        self._record_anew()

    def _record_anew(self):
        if self.replay:
            self.method.fix_shapes()
            self.replay.forget()

    def _shrink(self):
        shapes = [p.shape for p in self.model.parameters()]
        self.method.after_epoch(self.model, self.optimizer)
        if shapes != [p.shape for p in self.model.parameters()]:
            self._record_anew()

    def _part_dropout(self):
        """The first process draws as one alone would, each further one otherwise."""
        if not self.group.main:
            purpose = f"process {self.group.rank}, step {self.steps}"
            torch.manual_seed(_seed(self.config.seed, purpose))

    def _autocast(self):
        reduced = self.precision != "float32"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=reduced)

    def _add_losses(self):
        if self.losses:
            self.loss_sum += torch.stack(self.losses).sum(dtype=torch.float64).item()
            self.losses.clear()

    def _read_meter(self):
        """Add up the energy since the last reading, where the device tells it."""
        now = joules(self.device)
        if None not in (now, self.metered):
            self.joules += max(0.0, now - self.metered)  # a counter may start anew
        self.metered = now

    @torch.no_grad()
    def _weights_are_finite(self):
        """And their squares, so that a product of two norms, the importance, is too."""
        sums = [p.square().sum() for p in self.model.parameters()]
        return torch.stack(sums).isfinite().all().item()

    def _note(self, ranks, tested):
        """Close the epoch: its line in the history, and the ranks if they changed."""
        now = self.method.ranks(self.model)
        shipped = self.method.footprint(now)
        train_params, train_macs = self.method.training_cost(ranks)
        self.history.append(
            {
                "lr": lr_at(self.config.recipe, self.epoch, self.steps - 1),
                "train_loss": self.loss_sum / self.examples,
                **tested,
                "params": shipped.params,
                "macs": shipped.macs,
                "train_params": train_params,
                "train_macs": train_macs,
                "seconds": round(self.seconds, 3),
                **({} if self.metered is None else {"joules": round(self.joules, 1)}),
            }
        )
        self.epoch += 1
        if now != self.ranks[-1][1]:
            self.ranks.append([self.epoch, now])
        self.step, self.loss_sum, self.examples = 0, 0.0, 0
        self.seconds = self.joules = 0.0

    def state_dict(self):
        """All that `load_state_dict` of a new Training needs to go on from here."""
        self._read_meter()
        state = {name: getattr(self, name) for name in _PLAIN}
        state["config"] = self.config.to_dict()
        state["losses"] = [loss.cpu() for loss in self.losses]
        for name in ("model", "optimizer", "method"):
            state[name] = getattr(self, name).state_dict()
        state["generators"] = {
            "method": self.generator.get_state(),
            "torch": torch.get_rng_state(),
        }
        if self.device.type == "cuda":
            state["generators"]["cuda"] = torch.cuda.get_rng_state(self.device)
        return state

    def load_state_dict(self, state):
        """Go on where ``state`` was taken. ValueError if it is of another run."""
        if state["config"] != self.config.to_dict():
            raise ValueError("this checkpoint is of another configuration")
        self.model.load_state_dict(state["model"])  # takes the checkpoint's ranks
        self._make_optimizer()
        # how it steps is this device's, whatever wrote the checkpoint
        groups = self.optimizer.param_groups
        own = [{k: v for k, v in g.items() if k != "params"} for g in groups]
        told = state["optimizer"]["param_groups"]
        groups = [there | here for there, here in zip(told, own, strict=True)]
        self.optimizer.load_state_dict(state["optimizer"] | {"param_groups": groups})
        self.method.load_state_dict(state["method"])
        for name in _PLAIN:
            setattr(self, name, state[name])
        self.losses = [loss.to(self.device) for loss in state["losses"]]
        self.generator.set_state(state["generators"]["method"])
        torch.set_rng_state(state["generators"]["torch"])
        if self.device.type == "cuda" and "cuda" in state["generators"]:
            torch.cuda.set_rng_state(state["generators"]["cuda"], self.device)
        self._part_dropout()

    def record(self):
        """The run's record, a dict that `records.save` takes."""
        history = {
            name: [line[name] for line in self.history] for name in _columns(self)
        }
        final = {name: column[-1] for name, column in history.items()}
        for name in records.NOT_FINAL:
            final.pop(name, None)
        best = max(history["test_accuracy"], default=None)
        if self.diverged:  # JSON has no nan
            history = {k: [_finite(v) for v in column] for k, column in history.items()}
            final = {k: _finite(v) for k, v in final.items()}
        return {
            "schema": records.SCHEMA,
            "id": self.config.id,
            "config": self.config.to_dict(),
            "status": "diverged" if self.diverged else "finished",
            "dense": self.dense._asdict(),
            "fixed": self.method.costs.fixed._asdict(),
            "maps": {name: list(m) for name, m in self.method.costs.maps.items()},
            "history": history,
            "ranks": self.ranks,
            "final": final,
            "best": {"test_accuracy": best},
            "ran_on": ran_on(self.device, self.precision)
            | self.group.told
            | ({"replayed": True} if self.replay else {})
            | {"wall_seconds": round(sum(line["seconds"] for line in self.history), 1)},
            "data": {"task": self.config.task, "fingerprint": self.task.fingerprint},
            "studies": {},
        }


_PLAIN = (
    "epoch",
    "step",
    "steps",
    "loss_sum",
    "examples",
    "seconds",
    "joules",
    "history",
    "ranks",
)


def fit(
    config,
    device="cpu",
    task=None,
    report=None,
    stop=None,
    folder=None,
    group=ALONE,
    eager=False,
):
    """Run ``config``, or go on from its checkpoint; writes and returns the record.

    report: called with the Training after each epoch. stop: called between steps; when
    it returns true, the checkpoint is written and Interrupted raised. The checkpoint is
    written at most every CHECKPOINT_SECONDS and removed when the record is safe; the
    final weights go to `weights_path`, for studies. group: all its processes call this
    alike; the first one writes, and all stop when one is to. eager: on a GPU, launch
    every kernel by itself, instead of replaying recorded steps (replay.py).
    """
    checkpoint = checkpoint_path(config)
    device = pick_device(device)
    graphs = device.type == "cuda" and group is ALONE and not eager
    recorder = CudaRecorder(device) if graphs else None
    training = resume(Training(config, device, task, group, recorder), checkpoint)
    saved = time.monotonic()

    def after_step(training):
        nonlocal saved
        stopping = stop is not None and group.any(stop())
        due = stopping or time.monotonic() - saved > CHECKPOINT_SECONDS
        if due and group.main:
            save_state(training.state_dict(), checkpoint)
            saved = time.monotonic()
        if stopping:
            raise Interrupted(config.id)

    while not training.finished:
        training.run_epoch(after_step)
        if report:
            report(training)
    record = training.record()
    if group.main:
        save_state(training.model.state_dict(), weights_path(config))
        records.save(record, folder)
        checkpoint.unlink(missing_ok=True)
    return record


def resume(training, checkpoint):
    """The Training to go on with: at ``checkpoint`` if that is there, else as given.

    A checkpoint that is damaged or of another run is told about and removed; the
    Training is then a new one, because half of the state may be loaded already. The
    processes of a group go on together or start anew together.
    """
    group = training.group
    if not group.any(checkpoint.is_file()):
        return training
    why = ""
    try:
        state = torch.load(checkpoint, map_location=training.device, weights_only=True)
        for key in ("method", "torch", "cuda"):
            if key in state["generators"]:
                state["generators"][key] = state["generators"][key].cpu()
        training.load_state_dict(state)
    except Exception as error:  # damage shows as almost any of them
        why = (str(error) or repr(error)).splitlines()[0]
    if not group.any(why):
        return training
    if group.main:
        why = why or "not readable for every process"
        print(f"{checkpoint}: not usable ({why}); starting anew", file=sys.stderr)
        checkpoint.unlink(missing_ok=True)
    config, device, task = training.config, training.device, training.task
    return Training(config, device, task, group, training.recorder)


def save_state(state, path):
    """torch.save, whole or not at all."""
    import io

    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_whole(path, buffer.getvalue())


def checkpoint_path(config) -> Path:
    return CACHE / "checkpoints" / f"{config.id}.pt"


def epochs_done(config):
    """How many epochs the run's checkpoint has finished; 0 without a readable one."""
    try:  # mapped, not read: the weights are not wanted
        state = torch.load(checkpoint_path(config), mmap=True, weights_only=True)
        return state["epoch"]
    except Exception:  # not there, or damaged, which `resume` will tell
        return 0


def weights_path(config) -> Path:
    return CACHE / "weights" / f"{config.id}.pt"


def lock_path(config) -> Path:
    return CACHE / "locks" / config.id


@torch.no_grad()
def recalibrate(model, task, batch_size, batches=RECALIBRATION):
    """Estimate batch norm's statistics anew, for the network as it is now (Sec. 1.1).

    Training saw networks with a layer cut; evaluation does not. Averages over up to
    ``batches`` batches of training data. Nothing happens without batch norm.
    """
    norms = [
        m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)
    ]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over all batches
    model.train()
    for inputs, _ in itertools.islice(task.epoch(batch_size, seed=0), batches):
        model(inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _seed(seed, purpose):
    """A 63-bit seed for one purpose, so that no two streams coincide."""
    digest = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _columns(training):
    """Of the history, those that every epoch has: not every device tells its energy."""
    lines = training.history or [{}]
    return [name for name in lines[0] if all(name in line for line in lines)]


def _finite(value):
    return value if not isinstance(value, float) or math.isfinite(value) else None
