"""The loop that trains any method: steps, hooks, evaluation, history, checkpoints.

One run is one `Training`. Its state can be written at any step and read back, and the
run then ends in the same record, bit for bit on one CPU thread: batches are drawn from
a generator seeded by (seed, epoch), and all other randomness is part of the state.
Several processes can train one run; distributed.py has what that takes.
"""

import hashlib
import itertools
import math
import sys
import time

import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from .. import datasets, methods, models
from ..lowrank.counting import costs
from ..methods import Change
from ..results import records
from .checkpoints import checkpoint_path, save_state, weights_path
from .distributed import ALONE
from .energy import Meter
from .history import History
from .machine import keep_memory, peak_memory, pick_device, pick_precision, ran_on
from .optimizers import Lookahead, lr_at, make_optimizer, parameter_groups, set_lr
from .replay import CudaRecorder, Replay

CHECKPOINT_SECONDS = 30
# batches over which batch norm's statistics are estimated anew, of 128 examples at most
RECALIBRATION = 200
# state that is just numbers or text
PLAIN = ("epoch", "step", "steps", "loss_sum", "examples", "precisions", "peak_memory")
_made = itertools.count()  # of the Trainings of this process


class Interrupted(Exception):
    """The run was asked to stop; its checkpoint is written and it can go on later."""


class Training:
    """A run under way: the network, its optimiser, all randomness, and the history.

    Args:
        config: the RunConfig.
        device: where to train, as `pick_device` takes it.
        task: its data, already on ``device``; loaded if None.
        group: the processes that share the run.
        recorder: what records steps to replay them, as `CudaRecorder`; None if every
            step is run as it is.
        precision: "float32", "bfloat16", or "auto": as the recipe has it.
    """

    def __init__(
        self,
        config,
        device="cpu",
        task=None,
        group=ALONE,
        recorder=None,
        precision="auto",
    ):
        self.config, self.device = config, pick_device(device)
        self.group, self.recorder = group, recorder
        self.method = methods.make(config)
        self.phases = self.method.phases(config.recipe)
        self.task = task or datasets.load(config.task, self.device)
        self.precision = pick_precision(self.device, precision, config.recipe)
        self.precisions = [self.precision]  # all that the run has had
        self.task.rows = group.rows
        self.task.channels_last = self.precision != "float32"
        torch.manual_seed(_seed(config.seed, "start"))
        self.generator = torch.Generator().manual_seed(_seed(config.seed, "method"))
        on_gpu = self.device.type == "cuda"
        if on_gpu:  # whose count of the peak can begin anew
            torch.cuda.reset_peak_memory_stats(self.device)
        self.model = self._make_model()
        self.replay = Replay(self._descend, recorder) if recorder else None
        self.epoch = self.step = 0  # epochs finished; steps done in this one
        self.steps = 0  # of the schedule
        self.losses = []  # of the last steps, each times its examples
        self.loss_sum, self.examples = 0.0, 0  # of this epoch
        # bytes; a process that has trained another run cannot tell the two apart
        self.peak_memory, self.first = 0, next(_made) == 0
        self.meter = Meter(self.device)  # of this epoch
        self.history = History(self.method.ranks(self.model))
        self._make_optimizer()
        self._freeze()
        self._part_dropout()

    def _make_model(self):
        """The network that the method trains first, on the device."""
        config = self.config
        model = models.make(config.model, self.task.classes, config.size)
        if hasattr(model, "start_from"):
            model.start_from(self.task)
        self.dense = costs(model, self.task.example).footprint({})
        model = self.method.prepare(model, self.task.example, self.generator)
        return self._placed(self.group.prepared(model, self.device))

    def _placed(self, model):
        last = self.device.type == "cuda" or self.precision != "float32"
        layout = torch.channels_last if last else torch.contiguous_format
        return model.to(self.device, memory_format=layout)

    # ------------------------------------------------------------ where it stands

    @property
    def epochs(self):
        """How many epochs all phases train together."""
        return sum(phase.epochs for phase in self.phases)

    @property
    def finished(self):
        return self.epoch == self.epochs or self.history.diverged

    @property
    def phase(self):
        """The phase of the epoch under way, and how many of its epochs are done."""
        done = self.epoch
        for phase in self.phases:
            if done < phase.epochs:
                break
            done -= phase.epochs
        return phase, done

    def lr(self, step):
        """The schedule's learning rate at its step number ``step``."""
        phase, done = self.phase
        share = (self.step - self.steps + step) / self.epoch_steps
        return lr_at(phase.recipe, phase.first + done, step, share)

    @property
    def epoch_steps(self):
        """How many steps an epoch has."""
        return math.ceil(len(self.task) / self.phase[0].recipe.batch_size)

    # ------------------------------------------------------------ an epoch

    def run_epoch(self, after_step=lambda training: None):
        """Train what is left of this epoch, shrink, evaluate, and note it all.

        ``after_step`` is called between steps, when the state is consistent.
        """
        self.meter.start()
        if self.step == 0:
            self._follow(self.method.before_epoch(self.model, self.optimizer))
        cost = self.method.training_cost(self.model)
        self.model.train()
        self._freeze()
        # wrapped anew each epoch, because shrinking replaces parameters
        net = self.group.spread(self.model, self.task.example)
        for batch in self._batches():
            self.losses.append(self._train_step(net, batch))
            self.examples += self.task.count(batch)
            self.step += 1
            if len(self.losses) == 100:  # seldom: on a GPU it waits for the device
                self._add_losses()
            self.meter.read("training")
            after_step(self)
            self.meter.start()
        self._add_losses()
        if math.isfinite(self.loss_sum) and self._weights_are_finite():
            self._end_epoch()
        self.meter.read("training")
        tested = self.evaluate()
        self.meter.read("evaluation")
        self._note(cost, tested)

    def evaluate(self, seen_as=lambda net: net):
        """The task's figures for the network as it is now, batch norm recalibrated.

        seen_as: what is evaluated in place of the network, a function of it.
        """
        net = self.group.split(self.model)
        with self._autocast(), self.method.active(training=False):
            if self.method.recalibrates:
                self._recalibrate(net)
            self.group.same_buffers(self.model)
            self.model.eval()
            return self.task.evaluate(seen_as(net))

    def _recalibrate(self, net):
        size = self.phase[0].recipe.batch_size
        examples = RECALIBRATION * min(size, 128)
        if self.device.type == "cuda":  # in small batches it would wait for Python
            size = max(size, 1000)
        recalibrate(net, self.task, size, math.ceil(examples / size))

    def _batches(self):
        """What is left of this epoch's batches."""
        seed = _seed(self.config.seed, f"order {self.epoch}")
        turn = _seed(self.config.seed, "mirrored"), self.epoch
        size = self.phase[0].recipe.batch_size
        return self.task.epoch(size, seed, self.step, turn)

    def _train_step(self, net, batch):
        """One step; returns the loss of its batch, summed over examples."""
        set_lr(self.optimizer, self.lr(self.steps))
        self.method.draw()
        self.steps += 1
        loss_sum = self.replay(batch) if self.replay else self._descend(batch, net)
        if self.lookahead:
            phase, done = self.phase
            steps = (phase.first + done) * self.epoch_steps + self.step + 1
            self.lookahead.after_step(self.model, steps)
        return loss_sum

    def _descend(self, batch, net=None):
        """What the device does in a step: it must never have to wait for the host."""
        loss_sum = self.method.descend(Step(self, net or self.model, batch))
        self.optimizer.zero_grad()
        return loss_sum

    def _end_epoch(self):
        """Let the method change the network between training and evaluation."""
        change = self.method.after_epoch(self.model, self.optimizer)
        phase, done = self.phase
        if done + 1 == phase.epochs:
            change |= self.method.after_phase(phase, self.model, self.optimizer)
        self._follow(change)

    def _note(self, cost, tested):
        """Close the epoch: its line in the history, and the next phase if it ends."""
        phase, done = self.phase
        shipped = self.method.size(self.model)
        line = {
            "lr": self.lr(self.steps - 1),
            "train_loss": self.loss_sum / self.examples,
            **tested,
            "params": shipped.params,
            "macs": shipped.macs,
            "bits": shipped.bits,
            "train_params": cost[0],
            "train_macs": cost[1],
            **self.meter.figures(),
        }
        self.history.add(line, self.method.ranks(self.model))
        self.epoch += 1
        self.step, self.loss_sum, self.examples = 0, 0.0, 0
        self.meter = Meter(self.device)
        begins = done + 1 == phase.epochs and not self.finished
        if begins and self.phase[0].fresh_optimizer:
            self.steps = 0
            self._make_optimizer()

    # ------------------------------------------------------------ the optimiser

    def _make_optimizer(self):
        recipe = self.phase[0].recipe
        groups = self.method.groups(parameter_groups(self.model, recipe), self.model)
        self.optimizer = make_optimizer(groups, recipe, self.replay is not None)
        self.lookahead = None
        if recipe.lookahead:
            steps = recipe.epochs * self.epoch_steps
            self.lookahead = Lookahead(self.model, recipe.lookahead, steps)
        self._recapture()

    def _freeze(self):
        """From their epoch on, what the recipe freezes has no gradient."""
        phase, done = self.phase
        there = dict(self.model.named_parameters())
        for name, epochs in phase.recipe.freeze:
            if name not in there:
                raise ValueError(
                    f"freeze={name!r}: {self.config.model} has no such parameter"
                )
            trained = phase.first + done < epochs
            if there[name].requires_grad != trained:
                there[name].requires_grad_(trained)
                self._recapture()

    def _recapture(self):
        """Record the next step anew: shapes or places have changed."""
        if self.replay:
            self.method.fix_shapes()
            self.replay.forget()

    def _follow(self, change):
        """Do what a hook's `Change` asks for."""
        if Change.NEW_OPTIMIZER in change:
            self.steps = 0
            self._make_optimizer()
        elif Change.RECAPTURE in change:
            self._recapture()

    # ------------------------------------------------------------ small things

    def _part_dropout(self):
        """The first process draws as one alone would, each further one otherwise."""
        if not self.group.main:
            where = f"epoch {self.epoch}, step {self.step}"
            purpose = f"process {self.group.rank}, {where}"
            torch.manual_seed(_seed(self.config.seed, purpose))

    def _autocast(self):
        reduced = self.precision != "float32"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=reduced)

    def _add_losses(self):
        if self.losses:
            self.loss_sum += torch.stack(self.losses).sum(dtype=torch.float64).item()
            self.losses.clear()

    @torch.no_grad()
    def _weights_are_finite(self):
        """And their squares, so that a product of two norms, the importance, is too."""
        sums = [p.square().sum() for p in self.model.parameters()]
        return torch.stack(sums).isfinite().all().item()

    def _read_peak(self):
        if self.device.type == "cuda" or self.first:
            self.peak_memory = max(self.peak_memory, peak_memory(self.device) or 0)

    def _phases_done(self):
        """The phases that have begun, with how many of their epochs are done."""
        phases, left = [], self.epoch
        for phase in self.phases:
            done = min(left, phase.epochs)
            left -= done
            if done:
                phases.append({"name": phase.name, "epochs": done})
        return phases

    # ------------------------------------------------------------ saved and recorded

    def network_state(self):
        """The network alone, as `restore_network` takes it."""
        return {"model": self.model.state_dict(), "method": self.method.state_dict()}

    def restore_network(self, state):
        """Take the network of a `state_dict` or `network_state`, its ranks included."""
        model = self.method.restore_shapes(self.model, state["method"])
        self.model = self._placed(model)
        self.model.load_state_dict(state["model"])
        self.method.load_state_dict(state["method"])

    def state_dict(self):
        """All that `load_state_dict` of a new Training needs to go on from here."""
        self._read_peak()
        state = self.network_state() | {name: getattr(self, name) for name in PLAIN}
        state["config"] = self.config.to_dict()
        state["losses"] = [loss.cpu() for loss in self.losses]
        for name in ("optimizer", "history", "meter"):
            state[name] = getattr(self, name).state_dict()
        if self.lookahead:
            state["lookahead"] = self.lookahead.state_dict()
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
        for name in PLAIN:
            setattr(self, name, state[name])
        self.losses = [loss.to(self.device) for loss in state["losses"]]
        self.restore_network(state)
        self._make_optimizer()
        self._load_optimizer(state["optimizer"])
        if self.lookahead:
            self.lookahead.load_state_dict(state["lookahead"])
        if self.precision not in self.precisions:
            self.precisions = [*self.precisions, self.precision]
        self.history.load_state_dict(state["history"])
        self.meter.load_state_dict(state["meter"])
        self.generator.set_state(state["generators"]["method"])
        torch.set_rng_state(state["generators"]["torch"])
        if self.device.type == "cuda" and "cuda" in state["generators"]:
            torch.cuda.set_rng_state(state["generators"]["cuda"], self.device)
        self._part_dropout()

    def _load_optimizer(self, state):
        """Take the saved state, but step as this device does, whichever saved it."""
        groups = [
            saved | {key: value for key, value in current.items() if key != "params"}
            for saved, current in zip(
                state["param_groups"], self.optimizer.param_groups, strict=True
            )
        ]
        self.optimizer.load_state_dict(state | {"param_groups": groups})

    def record(self):
        """The run's record, a dict that `records.save` takes."""
        self._read_peak()
        counted = self.method.costs
        seconds = sum(records.epoch_seconds(self.history.columns()))
        return {
            "schema": records.SCHEMA,
            "id": self.config.id,
            "config": self.config.to_dict(),
            "phases": self._phases_done(),
            "dense": self.dense._asdict(),
            "fixed": counted.fixed._asdict(),
            "maps": {name: list(layer) for name, layer in counted.maps.items()},
            **self.history.fields(),
            "ran_on": ran_on(self.device, ", ".join(self.precisions))
            | self.group.told
            | ({"replayed": True} if self.replay else {})
            | ({"peak_memory": self.peak_memory} if self.peak_memory else {})
            | {"wall_seconds": round(seconds, 1)},
            "data": {"task": self.config.task, "fingerprint": self.task.fingerprint},
            "studies": {},
        }


class Step:
    """One batch of a `Training`, as a method's `descend` sees it."""

    def __init__(self, training, net, batch):
        self._training, self._net, self._batch = training, net, batch
        self.model, self.optimizer = training.model, training.optimizer

    def backward(self):
        """The batch's forward and backward pass; returns the loss, summed."""
        with self._training._autocast():
            recipe = self._training.phase[0].recipe
            loss, loss_sum = self._training.task.loss(
                self._net, self._batch, recipe.label_smoothing
            )
        loss.backward()
        return loss_sum

    def update(self):
        """The optimiser's step, the gradient clipped first if the recipe says so."""
        clip = self._training.phase[0].recipe.clip
        if clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        self.optimizer.step()


def fit(
    config,
    device="cpu",
    task=None,
    report=None,
    stop=None,
    folder=None,
    group=ALONE,
    eager=False,
    precision="auto",
):
    """Run ``config``, or go on from its checkpoint; writes and returns the record.

    The checkpoint is written at most every CHECKPOINT_SECONDS and removed when the
    record is safe. The final weights go to `weights_path`, for studies.

    Args:
        config, device, task: as `Training` takes them.
        report: called with the Training after each epoch.
        stop: called between steps; when it returns true, the checkpoint is written and
            Interrupted raised.
        folder: where the record goes; data/runs if None.
        group: all its processes call this alike; the first one writes, and all stop
            when one is to.
        eager: on a GPU, launch every kernel by itself, instead of replaying recorded
            steps (replay.py).
        precision: as `Training` takes it.
    """
    keep_memory()
    checkpoint = checkpoint_path(config)
    device = pick_device(device)
    replays = methods.make(config).replayable and group is ALONE and not eager
    recorder = CudaRecorder(device) if replays and device.type == "cuda" else None
    training = Training(config, device, task, group, recorder, precision)
    training = resume(training, checkpoint)
    saved = time.monotonic()

    def after_step(training):
        nonlocal saved
        stopping = stop is not None and group.any(stop())
        due = stopping or time.monotonic() - saved > CHECKPOINT_SECONDS
        if due and group.main:
            if device.type == "cuda":  # what it still computes is training
                torch.cuda.synchronize(device)
                training.meter.read("training")
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
        save_state(training.network_state(), weights_path(config))
        records.save(record, folder)
        checkpoint.unlink(missing_ok=True)
    return record


def resume(training, checkpoint):
    """The Training to go on with: at ``checkpoint`` if there is one, else as given.

    A checkpoint that is damaged or of another run is reported and removed; the Training
    is then a new one, because half of the state may be loaded already. The processes of
    a group go on together or start anew together.
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
    recorder, precision = training.recorder, training.precision
    return Training(config, device, task, group, recorder, precision)


@torch.no_grad()
def recalibrate(model, task, batch_size, batches=RECALIBRATION):
    """Estimate batch norm's statistics anew, for the network as it is now (Sec. 1.1).

    Training saw networks with a layer cut; evaluation does not. The statistics are
    averages over up to ``batches`` batches of training data. Nothing happens without
    batch norm.
    """
    update_bn(itertools.islice(task.epoch(batch_size, seed=0), batches), model)


def _seed(seed, purpose):
    """A 63-bit seed for one purpose, so that no two streams coincide."""
    digest = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
