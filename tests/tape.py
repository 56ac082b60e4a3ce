"""What stands for a CUDA card where there is none: graphs that are tapes.

A tape holds all operations of one step, with the very tensors they read and wrote.
Playing it does them again, in the same places, and nothing else: what Python decided
while it was recorded stays decided, as in a CUDA graph.
"""

from contextlib import nullcontext
from types import SimpleNamespace

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from maestro.training.replay import CudaRecorder, tensors_in

WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero"}


class Tape(TorchDispatchMode):
    """The operations of one step, with the methods of torch.cuda.CUDAGraph."""

    def __init__(self):
        super().__init__()
        self.calls, self.fresh = [], True

    def __torch_dispatch__(self, call, types, args=(), kwargs=None):
        name = call.overloadpacket.__name__
        if name in WAITS:
            raise RuntimeError(f"the host waits for the device: {name}")
        out = call(*args, **(kwargs or {}))
        self.calls.append((call, args, kwargs or {}, out))
        return out

    def capture_begin(self, pool, capture_error_mode):
        self.__enter__()

    def capture_end(self):
        self.__exit__(None, None, None)

    @torch.no_grad()
    def replay(self):
        if self.fresh:  # a device does not compute while it records; a tape does
            self.fresh = False
            return
        for call, args, kwargs, out in self.calls:
            again = call(*args, **kwargs)
            for place, tensor in zip(tensors_in(out), tensors_in(again), strict=True):
                if place.data_ptr() != tensor.data_ptr():
                    place.copy_(tensor)


def put_in_place_of_a_card(monkeypatch):
    """Let `CudaRecorder` find what it asks of torch.cuda."""

    def stream(device=None):
        return SimpleNamespace(device=device, wait_stream=lambda other: None)

    for name, stand_in in {
        "CUDAGraph": Tape,
        "Stream": stream,
        "current_stream": stream,
        "stream": lambda stream: nullcontext(),
        "synchronize": lambda device: None,
        "graph_pool_handle": lambda: (0, 1),
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)


class CountingRecorder(CudaRecorder):
    """Counts what it did."""

    def __init__(self):
        super().__init__(torch.device("cpu"))
        self.run_as_is = self.recorded = 0

    def run(self, step, batch):
        self.run_as_is += 1
        return super().run(step, batch)

    def record(self, step, batch):
        self.recorded += 1
        return super().record(step, batch)
