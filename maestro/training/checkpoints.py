"""Where a run's state lies between its steps, and its weights after the last one."""

import io
from pathlib import Path

import torch

from ..paths import CACHE
from ..system import write_whole


def save_state(state, path):
    """torch.save, whole or not at all."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_whole(path, buffer.getvalue())


def checkpoint_path(config) -> Path:
    """Where the state of an unfinished run lies."""
    return CACHE / "checkpoints" / f"{config.id}.pt"


def weights_path(config) -> Path:
    """Where the final weights of a finished run lie, for studies."""
    return CACHE / "weights" / f"{config.id}.pt"


def lock_path(config) -> Path:
    """The file whose lock claims the run for one process."""
    return CACHE / "locks" / config.id


def epochs_done(config):
    """How many epochs the run's checkpoint has finished; 0 without a readable one."""
    try:  # mapped, not read: the weights are not wanted
        path = checkpoint_path(config)
        state = torch.load(path, mmap=True, weights_only=True, map_location="cpu")
        return state["epoch"]
    except Exception:  # no checkpoint, or a damaged one, which `resume` will report
        return 0
