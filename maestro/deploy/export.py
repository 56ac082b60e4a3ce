"""A trained network as one file that runs without this package, and without ranks.

``.pt2`` is PyTorch's own format (torch.export): ``torch.export.load(path).module()``.
``.onnx`` is read by onnxruntime and others. Both hold the merged network with its batch
size open, and both are run and compared before the file is written.
"""

import copy
import inspect
import io
import math
import tempfile
import warnings
from pathlib import Path
from typing import NamedTuple

import torch
from torch.utils._pytree import tree_leaves, tree_map

from ..lowrank import merge
from ..lowrank.arguments import called_with, network
from ..system import require_writable, write_whole
from .files import require, unwrapped

# how far outputs may be apart, relative to the largest, by the network's precision
TOLERANCE = {torch.float16: 1e-2, torch.bfloat16: 5e-2}
EXACT = 1e-5  # of all other precisions


class Exported(NamedTuple):
    """bytes: of the file. difference: of its outputs, relative to the largest one."""

    bytes: int
    difference: float


def export(net, path, example_inputs, calibration=None, dynamic_batch=True, **merging):
    """Write ``net`` as a program to ``path``: .pt2 (torch.export) or .onnx.

    The network is copied, put in eval mode and merged (`maestro.merge`). The file is
    run, .onnx in onnxruntime, on the example and on a batch of another size.

    Args:
        net: any nn.Module, factorised or not; of one that is wrapped for several
            devices or by torch.compile, the network inside.
        path: where to; its ending tells the format.
        example_inputs: what the network is called with: a tensor, a tuple of
            positional inputs, or a dict of inputs by name.
        calibration: for .onnx, a few batches of inputs, each as ``example_inputs`` is
            one: without labels. Weights and activations become 8-bit integers (QDQ),
            the activations' ranges being those seen here; outputs then differ by
            percents, and are not compared with a tolerance.
        dynamic_batch: whether the first dimension of every input may have any size.
        merging: ``by`` and ``aligned`` of `maestro.merge`.
    Returns:
        Exported(bytes, difference)
    Raises:
        ValueError: another ending; ``calibration`` for .pt2, empty, or of other inputs
            than the example; a network whose code fixes the size of the batch;
            onnxruntime lacks an operation in the network's precision; or outputs that
            differ by more than 1e-5 (float16 1e-2, bfloat16 5e-2).
        ImportError: onnx, onnxscript or onnxruntime is not installed.
        DiskError: the file cannot be written; nothing is left half-written.
    """
    net = unwrapped(network("net", net))
    path = Path(path)
    if path.suffix not in _FORMATS:
        raise ValueError(f"path={str(path)!r}: it takes a name in .pt2 or .onnx")
    if calibration is not None:
        calibration = _checked(calibration, path, example_inputs)
    if path.suffix == ".onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            require(package)
    require_writable(path.parent)
    net = copy.deepcopy(net).eval()
    net = merge(net, example_inputs=example_inputs, **merging)
    inputs = called_with(example_inputs)
    if dynamic_batch:  # a size of one would be taken for a constant
        inputs = _resized(inputs, 2)
    data, run = _FORMATS[path.suffix](net, inputs, dynamic_batch)
    batches = [inputs, _resized(inputs, 3)] if dynamic_batch else [inputs]
    difference = max(_difference(run, net, batch) for batch in batches)
    most = max((TOLERANCE.get(t.dtype, EXACT) for t in net.parameters()), default=EXACT)
    if difference > most:
        raise ValueError(
            f"the exported program's outputs differ by {difference:.1e} of the largest "
            f"one, more than {most:.0e}: nothing was written"
        )
    if calibration is not None:
        data = _quantised(data, calibration)
        run = _onnx_runner(data)
        difference = max(_difference(run, net, batch) for batch in batches)
    write_whole(path, data)
    return Exported(len(data), difference)


def _checked(calibration, path, example_inputs):
    """The batches as (args, keywords), each in the order of ``example_inputs``."""
    if isinstance(calibration, torch.Tensor) or path.suffix != ".onnx":
        raise ValueError("calibration: it takes a list of a few batches, for .onnx")
    args, keywords = called_with(example_inputs)
    batches = []
    for batch in calibration:
        some, named = called_with(batch)
        if len(some) != len(args) or named.keys() != keywords.keys():
            raise ValueError(
                f"calibration: a batch of {_in_words(some, named)}, but the network is "
                f"called with {_in_words(args, keywords)}; leave labels out"
            )
        batches.append((some, {name: named[name] for name in keywords}))
    if not batches:
        raise ValueError("calibration is empty: it takes a few batches")
    return batches


def _in_words(args, keywords):
    return ", ".join([f"{len(args)} inputs", *map(repr, keywords)])


# ---------------------------------------------------------------- the two formats


def _pt2(net, inputs, dynamic_batch):
    """(bytes of the program, a function that runs it)."""
    saved = io.BytesIO()
    torch.export.save(_program(net, inputs, dynamic_batch), saved)
    data = saved.getvalue()
    module = torch.export.load(io.BytesIO(data)).module()
    return data, lambda args, keywords: _floats(module(*args, **keywords))


def _onnx(net, inputs, dynamic_batch):
    program = _program(net, inputs, dynamic_batch)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of its own passes, none that users can act on
        exported = torch.onnx.export(
            program, dynamo=True, external_data=False, verbose=False
        )
    data = exported.model_proto.SerializeToString()
    return data, _onnx_runner(data)


_FORMATS = {".pt2": _pt2, ".onnx": _onnx}


def _program(net, inputs, dynamic_batch):
    args, keywords = inputs
    shapes = None
    if dynamic_batch:
        positional, named = tree_map(_open_batch, inputs)
        shapes = positional
        if named:  # then all by the names that the network gives them
            names = inspect.signature(net.forward).parameters
            shapes = dict(zip(names, positional, strict=False)) | named
    try:
        with torch.no_grad():
            return torch.export.export(net, args, keywords, dynamic_shapes=shapes)
    except Exception as error:
        if dynamic_batch and "specialized" in str(error):
            why = str(error).strip().splitlines()[0]
            raise ValueError(
                "the network's code fixes the size of the batch; export with "
                f"dynamic_batch=False ({why})"
            ) from error
        raise


def _open_batch(x):
    tensor = isinstance(x, torch.Tensor) and x.ndim
    return {0: torch.export.Dim.DYNAMIC} if tensor else None


def _onnx_runner(data):
    try:
        session = require("onnxruntime").InferenceSession(
            data, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime has a class of its own for each kind
        why = str(error).strip().splitlines()[0]
        raise ValueError(
            f"onnxruntime cannot run the network ({why}); it may run net.float(), and "
            ".pt2 takes any precision"
        ) from error
    names = [each.name for each in session.get_inputs()]

    def run(args, keywords):
        out = session.run(None, dict(zip(names, _arrays(args, keywords), strict=True)))
        return _floats([torch.from_numpy(array) for array in out])

    return run


# ---------------------------------------------------------------- comparing


def _difference(run, net, inputs):
    args, keywords = inputs
    with torch.no_grad():
        expected = _floats(net(*args, **keywords))
    found = run(args, keywords)
    largest = max((x.abs().max().item() for x in expected if x.numel()), default=0.0)
    pairs = zip(found, expected, strict=True)
    worst = max((_apart(a, b) for a, b in pairs), default=0.0)
    return worst / largest if largest else worst


def _apart(a, b):
    if a.shape != b.shape:
        return math.inf
    apart = (a - b).abs().max().item() if a.numel() else 0.0
    return math.inf if math.isnan(apart) else apart


def _floats(output):
    """The floating-point tensors of an output, in double precision."""
    leaves = [x for x in tree_leaves(output) if isinstance(x, torch.Tensor)]
    return [x.detach().cpu().double() for x in leaves if x.is_floating_point()]


def _arrays(args, keywords):
    leaves = tree_leaves((args, keywords))
    return [x.detach().cpu().numpy() for x in leaves if isinstance(x, torch.Tensor)]


def _resized(inputs, batch):
    """The inputs with each tensor's first dimension repeated to ``batch`` times it."""

    def resized(x):
        if isinstance(x, torch.Tensor) and x.ndim:
            return torch.cat([x] * batch)
        return x

    return tree_map(resized, inputs)


# ---------------------------------------------------------------- integers


def _with_empty_channels(model):
    """Names of the nodes that stay in floating point.

    A channel whose weights are all zero, as in a layer of rank 0, gets a scale of zero,
    and the quantiser would lose its bias.
    """
    arrays = require("onnx").numpy_helper
    weights = {w.name: arrays.to_array(w) for w in model.graph.initializer}
    empty = {
        name
        for name, w in weights.items()
        if w.ndim > 1 and not all(w.any(axis=_others(w, axis)).all() for axis in (0, 1))
    }
    return [node.name for node in model.graph.node if empty.intersection(node.input)]


def _others(array, axis):
    """All dimensions of ``array`` but one."""
    return tuple(i for i in range(array.ndim) if i != axis)


def _quantised(data, batches):
    """The ONNX model ``data`` with 8-bit weights and activations, static QDQ."""
    quantization = require("onnxruntime.quantization")
    model = require("onnx").load_model_from_string(data)
    # shapes that the exporter noted and the quantiser would find contradicted
    del model.graph.value_info[:]
    names = [each.name for each in model.graph.input]
    fed = [dict(zip(names, _arrays(*batch), strict=True)) for batch in batches]

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            self.left = iter(fed)

        def get_next(self):
            return next(self.left, None)

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "int8.onnx"
        quantization.quantize_static(
            model,
            out,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            nodes_to_exclude=_with_empty_channels(model),
        )
        return out.read_bytes()
