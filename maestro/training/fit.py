"""One run from start to record: trained, checkpointed on the way, resumed after a stop.

`Training` (loop.py) trains an epoch. `fit` runs all epochs, writes the checkpoint, the
final weights and the record, and stops when it is asked to.
"""

import sys
import time

import torch

from .. import methods
from ..results import records
from .checkpoints import checkpoint_path, save_state, weights_path
from .distributed import ALONE
from .loop import Training
from .machine import pick_device
from .memory import keep_memory
from .record import record_of
from .replay import CudaRecorder

# the least time between two checkpoints; if writing one takes more than a second, the
# least time for each of these seconds
CHECKPOINT_SECONDS = 30
# what a good checkpoint raises where it cannot be read, or has no room, just now
NOT_DAMAGED = OSError, MemoryError, torch.OutOfMemoryError


class Interrupted(Exception):
    """The run was asked to stop. Its checkpoint is written, so it can be resumed."""


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
    """Train ``config``, from its checkpoint if it has one, and write its record.

    A checkpoint is written at most every CHECKPOINT_SECONDS, less often if writing it
    takes long, and removed once the record is written. The final weights go to
    `weights_path`, for studies.

    Args:
        config, device, task: as for `Training`.
        report: called with the Training after each epoch.
        stop: called after each step; if the result is true, the checkpoint is written
            and the run is interrupted.
        folder: the folder of the record; data/runs if None.
        group: the processes that share the run. Each of them calls `fit` with the same
            arguments; the first one writes the files, and all stop if one must stop.
        eager: on a GPU, launch each kernel separately instead of replaying recorded
            steps (replay.py).
        precision: as for `Training`.

    Returns:
        The record.

    Raises:
        Interrupted: ``stop`` returned true, in any of the processes.
    """
    keep_memory()
    checkpoint = checkpoint_path(config)
    device = pick_device(device)
    replays = methods.make(config).replayable and group is ALONE and not eager
    recorder = CudaRecorder(device) if replays and device.type == "cuda" else None
    training = Training(config, device, task, group, recorder, precision)
    training = resume(training, checkpoint)
    due = time.monotonic() + CHECKPOINT_SECONDS

    def after_step(training):
        nonlocal due
        stopping = stop is not None and group.any(stop())
        if group.main and (stopping or time.monotonic() > due):
            if device.type == "cuda":  # count its pending kernels as training
                torch.cuda.synchronize(device)
                training.meter.read("training")
            began = time.monotonic()
            save_state(training.state_dict(), checkpoint)
            saved = time.monotonic()
            due = saved + CHECKPOINT_SECONDS * max(1, saved - began)
        if stopping:
            raise Interrupted(config.id)

    while not training.finished:
        training.run_epoch(after_step)
        if report:
            report(training)
    record = record_of(training)
    if group.main:
        save_state(training.network_state(), weights_path(config))
        records.save(record, folder)
        checkpoint.unlink(missing_ok=True)
    return record


def resume(training, checkpoint):
    """Load ``checkpoint`` into ``training``, if that file exists.

    A checkpoint that is damaged or belongs to another run is reported and renamed. Part
    of its state may be loaded by then, so a new Training takes the place of the given
    one. The processes of a group all resume or all start again.

    Args:
        training: a new Training.
        checkpoint: the path that `checkpoint_path` gives for its run.

    Returns:
        The Training to continue with.

    Raises:
        OSError, MemoryError, torch.OutOfMemoryError: the checkpoint may be good, but
            cannot be read, or does not fit into memory, at the moment.
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
    except Exception as error:  # a damaged file can raise almost any exception
        if isinstance(error, NOT_DAMAGED) and checkpoint.is_file():
            raise
        why = (str(error) or repr(error)).splitlines()[0]
    if not group.any(why):
        return training
    if group.main:
        why = why or "not readable for every process"
        print(f"{checkpoint}: not usable ({why}); starting anew", file=sys.stderr)
        if checkpoint.is_file():
            checkpoint.replace(checkpoint.with_name(f"{checkpoint.name}.damaged"))
    config, device, task = training.config, training.device, training.task
    recorder, precision = training.recorder, training.precision
    return Training(config, device, task, group, recorder, precision)
