"""One file for a network at its ranks, which loads into the plain architecture.

The file is in the format of safetensors: nothing in it is code, and loading runs none.
Its tensors are the network's state_dict, each in its own memory, tied ones once. Its
metadata are one JSON text under "maestro", the manifest: the ranks, the kind of each
layer, a checksum, and what the user wants to have with it. Nothing is said of the
architecture, which is code: whoever loads the file makes the dense network, and `load`
gives it the shapes of the file.
"""

import hashlib
import importlib
import json
from pathlib import Path

import torch
from torch import nn

from ..lowrank import ranks
from ..lowrank.arguments import network
from ..lowrank.base import LowRank
from ..system import write_whole
from .shapes import fit

SCHEMA = 1
KEY = "maestro"


def save(net, path, about=None):
    """Write ``net`` to ``path``, factorised or merged, at whatever ranks it has.

    Args:
        net: any nn.Module whose state are tensors; of one that is wrapped for several
            devices or by torch.compile, the network inside.
        path: where to; by custom it ends in .safetensors. What was there is replaced,
            all at once.
        about: a dict to keep with it, of what JSON has: accuracy, task, a date.
    Returns:
        The number of bytes written.
    Raises:
        ValueError: ``net`` is no module; a part of its state is no tensor; ``about`` is
            not for JSON. Nothing is written then.
        ImportError: safetensors is not installed.
        DiskError: the file cannot be written.
    """
    net = unwrapped(network("net", net))
    library = require("safetensors.torch")
    tensors, tied = _tensors(net)
    kinds = {name: type(m).__name__ for name, m in net.named_modules() if _holds(m)}
    manifest = {
        "schema": SCHEMA,
        "ranks": ranks(net),
        "kinds": kinds,
        "tied": tied,
        "checksum": _checksum(tensors),
        "about": {} if about is None else about,
    }
    try:
        text = json.dumps(manifest, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"about: it takes what JSON has, text, finite numbers and lists ({error})"
        ) from None
    data = library.save(tensors, {KEY: text})
    write_whole(path, data)
    return len(data)


def unwrapped(net):
    """The network inside torch.compile's wrapper, or one for several devices."""
    while True:
        if isinstance(net, nn.DataParallel | nn.parallel.DistributedDataParallel):
            net = net.module
        elif "_orig_mod" in net._modules:  # of torch.compile
            net = net._orig_mod
        else:
            return net


@torch.inference_mode(False)
def load(path, into):
    """Load the file ``path``, of `save`, into the plain network ``into``, in place.

    Its layers get the forms and ranks of the file: factors, or the plain layers that
    `maestro.merge` makes. The outputs are then those of the network that was saved, to
    the bit. Make the optimiser afterwards.

    Args:
        path: the file.
        into: a network of the same architecture, dense as it was made; its numbers do
            not matter. One that is factorised or merged alike is taken as well.
    Returns:
        ``into``, or what replaces it, if the network itself is one layer.
    Raises:
        ValueError: the file is not one of `save`, or damaged, or of a newer version of
            this package; or it does not fit, which says what does not. ``into`` stays
            as it is.
        FileNotFoundError, ImportError: no such file; safetensors is not installed.
    """
    network("into", into)
    tensors, said = _read(path)
    for name, first in said["tied"].items():
        tensors[name] = tensors[first]
    into = fit(into, tensors, said["kinds"], str(path))
    into.load_state_dict(tensors)
    return into


def manifest(path):
    """What the file says of itself: {ranks, kinds, tied, about, ...}; no weights read.

    Raises as `load` does.
    """
    with _opened(path) as file:
        return _manifest(file.metadata(), path)


def require(module):
    """The optional package's ``module``; ImportError that says what to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f"{package} is not installed: pip install {package}"
        ) from error


def _tensors(net):
    """({name: tensor in memory of its own}, {name: the first name of the same one})."""
    tensors, tied, first = {}, {}, {}
    for name, value in net.state_dict(keep_vars=True).items():
        if not isinstance(value, torch.Tensor) or value.is_meta:
            kind = "without numbers (meta)" if isinstance(value, torch.Tensor) else ""
            raise ValueError(
                f"the state {name!r} is {kind or type(value).__name__}: it takes "
                "tensors with numbers"
            )
        if first.setdefault(id(value), name) != name:
            tied[name] = first[id(value)]
            continue
        value = value.detach().cpu()
        tensors[name] = value.clone(memory_format=torch.contiguous_format)
    return tensors, tied


def _holds(module):
    """Whether ``module`` is a layer whose kind matters: it has weights of its own."""
    own = module._parameters.values()
    return isinstance(module, LowRank) or any(p is not None and p.ndim > 1 for p in own)


def _checksum(tensors):
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _read(path):
    with _opened(path) as file:
        found = _manifest(file.metadata(), path)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if _checksum(tensors) != found["checksum"]:
        raise ValueError(f"{path} is damaged: its numbers are not those saved")
    return tensors, found


def _opened(path):
    library = require("safetensors")
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    try:
        return library.safe_open(path, "pt")
    except library.SafetensorError as error:
        raise ValueError(
            f"{path} is damaged, or not a safetensors file ({error})"
        ) from None


def _manifest(metadata, path):
    text = (metadata or {}).get(KEY)
    if text is None:
        raise ValueError(f"{path} was not written by maestro.save: it has no manifest")
    try:
        found = json.loads(text)
        schema = found["schema"]
    except (ValueError, TypeError, KeyError):
        raise ValueError(f"{path} is damaged: its manifest cannot be read") from None
    if schema != SCHEMA:
        raise ValueError(
            f"{path} is of schema {schema}; this version reads {SCHEMA}: update maestro"
        )
    return found
