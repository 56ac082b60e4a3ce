"""CUDA graphs: a step recorded once and replayed, one launch in place of hundreds.

The kernels of a small network finish faster than Python can launch them. A CUDA graph
holds all kernels of a step and the addresses that they use, and replaying it is one
launch. Everything that changes from step to step must therefore be in tensors that keep
their address: the batch (copied to the recording's inputs), the weights, the columns in
use (`lowrank.Masks`) and the learning rate.
"""

import gc

import torch

TRIES = 1  # eager steps for each shape before recording, in which libraries start up


class Replay:
    """``step`` as a function of a batch, replayed from one recording for each shape.

    The first TRIES steps of each shape run eagerly.

    Args:
        step: a function of a batch (a tensor, or nested tuples of tensors) that
            returns a tensor. It runs on the device alone, never reads a number back
            from the device, and ignores everything in the tuples that is no tensor.
        recorder: records a step, like `CudaRecorder`.
    """

    def __init__(self, step, recorder):
        self.step, self.recorder = step, recorder
        self.tried, self.recordings, self.stale = {}, {}, []

    def __call__(self, batch):
        key = tuple((tensor.shape, tensor.dtype) for tensor in tensors_in(batch))
        if key not in self.recordings:
            self.tried[key] = self.tried.get(key, 0) + 1
            if self.tried[key] <= TRIES:
                return self.recorder.run(self.step, batch)
            inputs = copied(batch)
            self.recordings[key] = inputs, *self.recorder.record(self.step, inputs)
            self.stale.clear()
        inputs, play, result = self.recordings[key]
        pairs = zip(tensors_in(inputs), tensors_in(batch), strict=True)
        for place, tensor in pairs:
            place.copy_(tensor, non_blocking=True)
        play()
        return result.clone()  # the next step overwrites ``result``

    def forget(self):
        """Discard all recordings, because shapes or addresses have changed."""
        # kept until the next recording has reused their memory
        self.stale += self.recordings.values()
        self.recordings, self.tried = {}, {}


class CudaRecorder:
    """Records steps on a stream of its own; all recordings share one memory pool."""

    def __init__(self, device):
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    def run(self, step, batch):
        """Run ``step(batch)`` eagerly, on the stream that records it later."""
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            result = step(batch)
        current.wait_stream(self.stream)
        return result

    def record(self, step, batch):
        """Record ``step(batch)`` without running it.

        Returns:
            (play, result): ``play()`` runs the step and writes to ``result``.

        Raises:
            RuntimeError: the step reads a number back from the device.
        """
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize(self.stream.device)
        gc.disable()  # memory must not be freed while the device records
        try:
            with torch.cuda.stream(self.stream):
                # other threads, such as those that load data, may use the device
                graph.capture_begin(self.pool, capture_error_mode="thread_local")
                try:
                    result = step(batch)
                finally:
                    graph.capture_end()
        except RuntimeError as error:
            raise RuntimeError(
                f"this step cannot be recorded as a CUDA graph ({error}); train with "
                "eager=True, on the command line --eager"
            ) from error
        finally:
            gc.enable()
        return graph.replay, result


def tensors_in(batch):
    """The tensors of nested tuples, in order."""
    if isinstance(batch, torch.Tensor):
        return [batch]
    parts = batch if isinstance(batch, tuple | list) else ()
    return [tensor for part in parts for tensor in tensors_in(part)]


def copied(batch):
    """The same nested tuples with copies of the tensors."""
    if isinstance(batch, tuple | list):
        return tuple(copied(part) for part in batch)
    return batch.clone() if isinstance(batch, torch.Tensor) else batch
