"""The loop that trains any method: steps, hooks, evaluation, history, state.

One run is one `Training`. Its state can be saved after any step. A run that is resumed
from a saved state ends in the same record, bit for bit on one CPU thread: batches are
drawn from a generator seeded by (seed, epoch), and the state holds all other
randomness. Several processes can train one run (distributed.py).
"""

import hashlib
import itertools
import math

import torch

from .. import datasets, methods, models
from ..config import RunConfig
from ..lowrank import recalibrate
from ..lowrank.counting import costs
from ..methods import Change
from .distributed import ALONE
from .energy import Meter
from .history import History
from .machine import pick_device, pick_precision
from .memory import Peak
from .optimizers import Lookahead, lr_at, make_optimizer, parameter_groups, set_lr
from .replay import Replay
from .step import Step

# batches, of at most 128 examples, for the statistics of batch norm: for the figures of
# a whole phase, and for those of an epoch on the way there
RECALIBRATION, BRIEF = 200, 20
# attributes of the state that are numbers or text
PLAIN = ("epoch", "step", "steps", "loss_sum", "examples", "precisions")


class Training:
    """A run under way: the network, its optimiser, all randomness, and the history.

    Args:
        config: the RunConfig.
        device: the device to train on, as for `pick_device`.
        task: the run's data, already on ``device``; loaded if None.
        group: the processes that share the run.
        recorder: records steps as a CUDA graph to replay them, like `CudaRecorder`;
            None launches every step's kernels separately.
        precision: "float32", "bfloat16", or "auto" for the recipe's.
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
        if self.device.type == "cuda":
            # cuDNN's attention plans every shape of a batch anew, and its dropout is
            # rounded in PyTorch 2.11
            torch.backends.cuda.enable_cudnn_sdp(False)
        self.group, self.recorder = group, recorder
        self.method = methods.make(config)
        self.phases = self.method.phases(config.recipe)
        self.task = task or datasets.load(config.task, self.device)
        self.precision = pick_precision(self.device, precision, config.recipe)
        self.precisions = [self.precision]  # all that the run was trained in
        self.task.rows = group.rows
        self.task.channels_last = self.precision != "float32"
        torch.manual_seed(_seed(config.seed, "start"))
        self.generator = torch.Generator().manual_seed(_seed(config.seed, "method"))
        self.peak = Peak(self.device)
        self.model = self._make_model()
        self.replay = Replay(self._descend, recorder) if recorder else None
        self.epoch = self.step = 0  # epochs finished; steps done in the current epoch
        self.steps = 0  # steps done in the schedule
        self.losses = []  # of the last steps, each summed over its examples
        self.loss_sum, self.examples = 0.0, 0  # of the current epoch
        self.meter = Meter(self.device)  # of the current epoch
        self.history = History(self.method.ranks(self.model))
        self._make_optimizer()
        self._freeze()
        self._seed_dropout()

    def _make_model(self):
        """The network at the start of the method's first phase, on the device."""
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

    # ------------------------------------------------------------ progress

    @property
    def epochs(self):
        """The number of epochs of all phases together."""
        return sum(phase.epochs for phase in self.phases)

    @property
    def finished(self):
        return self.epoch == self.epochs or self.history.diverged

    @property
    def phase(self):
        """(the phase of the current epoch, how many of the phase's epochs are done)."""
        done = self.epoch
        for phase in self.phases:
            if done < phase.epochs:
                break
            done -= phase.epochs
        return phase, done

    def lr(self, step):
        """The learning rate of the schedule at its step ``step``."""
        phase, done = self.phase
        share = (self.step - self.steps + step) / self.epoch_steps
        return lr_at(phase.recipe, phase.first + done, step, share)

    @property
    def epoch_steps(self):
        """The number of steps of an epoch."""
        return math.ceil(len(self.task) / self.phase[0].recipe.batch_size)

    # ------------------------------------------------------------ an epoch

    def run_epoch(self, after_step=lambda training: None):
        """Train the rest of the current epoch, shrink, evaluate, and note the figures.

        The recipe may leave out the evaluation (`Recipe.evaluate_every`), but not after
        the last epoch of a phase or after a loss that is not finite.

        after_step: called with the Training after each step, when its state can be
        saved.
        """
        self.meter.start()
        if self.step == 0:
            self._follow(self.method.before_epoch(self.model, self.optimizer))
        self.model.train()
        self._freeze()
        net = None  # wrapped anew each epoch, because shrinking replaces parameters
        for batch in self._batches():
            net = self.group.spread(self.model, self.task.example, net)
            self.losses.append(self._train_step(net, batch))
            self.examples += self.task.count(batch)
            self.step += 1
            if len(self.losses) == 100:  # rarely, because the host waits for the device
                self._add_losses()
            self.meter.read("training")
            after_step(self)
            self.meter.start()
        self._add_losses()
        cost, lr = self.method.training_cost(self.model), self.lr(self.steps - 1)
        finite = math.isfinite(self.loss_sum) and self._weights_are_finite()
        if finite:
            self._end_epoch()
        self.meter.read("training")
        due = self._evaluation_is_due or not finite
        tested = self.evaluate(brief=not self._ends_phase) if due else {}
        self.meter.read("evaluation")
        self._note(lr, cost, tested)

    @property
    def _ends_phase(self):
        """Whether the current epoch is the last of its phase."""
        phase, done = self.phase
        return done + 1 == phase.epochs

    @property
    def _evaluation_is_due(self):
        every = self.phase[0].recipe.evaluate_every
        return self._ends_phase or (self.epoch + 1) % every == 0

    def evaluate(self, seen_as=lambda net: net, brief=False):
        """The task's figures of the current network, with batch norm recalibrated.

        Networks that were cut need that, and others gain by it, narrow ones
        most, so every method's network is recalibrated.

        Args:
            seen_as: a function of the network that returns the model to evaluate.
            brief: whether a tenth of the usual batches recalibrates batch norm.
        """
        net = self.group.split(self.model)
        with self.autocast(), self.method.active(training=False):
            self._recalibrate(net, BRIEF if brief else RECALIBRATION)
            self.group.same_buffers(self.model)
            self.model.eval()
            return self.task.evaluate(seen_as(net))

    def _recalibrate(self, net, count):
        size = self.phase[0].recipe.batch_size
        examples = count * min(size, 128)
        if self.device.type == "cuda":  # small batches would leave the device idle
            size = max(size, 1000)
        batches = self.task.epoch(size, seed=0)
        recalibrate(net, itertools.islice(batches, math.ceil(examples / size)))

    def _batches(self):
        """The remaining batches of the current epoch."""
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
        """A step's work on the device, which must never wait for the host."""
        loss_sum = self.method.descend(Step(self, net or self.model, batch))
        self.optimizer.zero_grad()
        return loss_sum

    def _end_epoch(self):
        """Let the method change the network between training and evaluation."""
        change = self.method.after_epoch(self.model, self.optimizer)
        if self._ends_phase:
            phase, _ = self.phase
            change |= self.method.after_phase(phase, self.model, self.optimizer)
        self._follow(change)

    def _note(self, lr, cost, tested):
        """Close the epoch: add its line to the history; start the next phase if due."""
        begins = self._ends_phase
        line = {
            "lr": lr,
            "train_loss": self.loss_sum / self.examples,
            **tested,
            **self.method.size(self.model)._asdict(),
            "train_params": cost[0],
            "train_macs": cost[1],
            **self.meter.figures(),
        }
        self.history.add(line, self.method.ranks(self.model))
        self.epoch += 1
        self.step, self.loss_sum, self.examples = 0, 0.0, 0
        self.meter = Meter(self.device)
        if begins and not self.finished and self.phase[0].fresh_optimizer:
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
        """Freeze the parameters that the recipe freezes from the current epoch on."""
        phase, done = self.phase
        parameters = dict(self.model.named_parameters())
        for name, epochs in phase.recipe.freeze:
            if name not in parameters:
                raise ValueError(
                    f"freeze={name!r}: {self.config.model} has no such parameter"
                )
            trained = phase.first + done < epochs
            if parameters[name].requires_grad != trained:
                parameters[name].requires_grad_(trained)
                self._recapture()

    def _recapture(self):
        """Discard the recorded steps, because shapes or addresses have changed."""
        if self.replay:
            self.method.fix_shapes()
            self.replay.forget()

    def _follow(self, change):
        """React to the `Change` that a hook returned."""
        if Change.NEW_OPTIMIZER in change:
            self.steps = 0
            self._make_optimizer()
        elif Change.RECAPTURE in change:
            self._recapture()

    # ------------------------------------------------------------ small things

    def _seed_dropout(self):
        """Give each process but the first a seed of its own, for its dropout masks."""
        if not self.group.main:
            where = f"epoch {self.epoch}, step {self.step}"
            purpose = f"process {self.group.process}, {where}"
            torch.manual_seed(_seed(self.config.seed, purpose))

    def autocast(self):
        reduced = self.precision != "float32"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=reduced)

    def _add_losses(self):
        if self.losses:
            self.loss_sum += torch.stack(self.losses).sum(dtype=torch.float64).item()
            self.losses.clear()

    @torch.no_grad()
    def _weights_are_finite(self):
        """Whether the sums of squared weights are finite.

        The importance of a column, a product of two norms, is then finite as well.
        """
        sums = [p.square().sum() for p in self.model.parameters()]
        return torch.stack(sums).isfinite().all().item()

    # ------------------------------------------------------------ state

    def network_state(self):
        """The network's part of the state, for `restore_network`."""
        return {"model": self.model.state_dict(), "method": self.method.state_dict()}

    def restore_network(self, state):
        """Load the network of a `state_dict` or `network_state`, with its ranks."""
        model = self.method.restore_shapes(self.model, state["method"])
        self.model = self._placed(model)
        self.model.load_state_dict(state["model"])
        self.method.load_state_dict(state["method"])

    def state_dict(self):
        """The state that a new Training needs to continue from this step."""
        state = self.network_state() | {name: getattr(self, name) for name in PLAIN}
        state["config"] = self.config.to_dict()
        state["peak_memory"] = self.peak.read()
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
        """Continue from ``state``. Raises ValueError if it belongs to another run."""
        # as values: a checkpoint may be older than a field that is at its default
        if RunConfig.from_dict(state["config"]) != self.config:
            raise ValueError("this checkpoint belongs to another configuration")
        for name in PLAIN:
            setattr(self, name, state[name])
        self.peak.bytes = state["peak_memory"]
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
        self._seed_dropout()

    def _load_optimizer(self, state):
        """Load the saved state, but keep the options that the current device needs."""
        groups = [
            saved | {key: value for key, value in current.items() if key != "params"}
            for saved, current in zip(
                state["param_groups"], self.optimizer.param_groups, strict=True
            )
        ]
        self.optimizer.load_state_dict(state | {"param_groups": groups})


def _seed(seed, purpose):
    """A 63-bit seed for one purpose, so that no two streams of numbers coincide."""
    digest = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
