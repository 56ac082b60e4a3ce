"""A step on a GPU, recorded once and replayed: one launch in place of hundreds.

A small network's kernels are done sooner than Python can ask for the next one. A CUDA
graph holds all kernels of a step and their addresses; replaying it asks once. What
changes from step to step must lie in tensors that keep their place: the batch (copied
to where the recording reads it), the weights, the columns in use (`lowrank.Masks`), the
learning rate.
"""

import gc

import torch

TRIES = 1  # of a shape, before it is recorded: libraries set themselves up meanwhile


class Replay:
    """``step`` of a batch, replayed from one recording for each shape of batch.

    step: takes a batch, a tensor or nested tuples of them (what else is in them it must
    not depend on); works on the device alone and never asks it for a number; returns a
    tensor. The first TRIES of each shape run as they are. recorder: how the device
    records, as `CudaRecorder`.
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
        return result.clone()  # the next one is written to the same place

    def forget(self):
        """Record anew: weights have other shapes now, or lie elsewhere."""
        # kept until the next recording has taken over their memory
        self.stale += self.recordings.values()
        self.recordings, self.tried = {}, {}


class CudaRecorder:
    """Records on a stream of its own, with one pool of memory for all recordings."""

    def __init__(self, device):
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    def run(self, step, batch):
        """``step(batch)`` as it is, on the stream on which it is recorded later."""
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            result = step(batch)
        current.wait_stream(self.stream)
        return result

    def record(self, step, batch):
        """(play, result): ``play()`` does ``step(batch)`` again, writing to ``result``.

        Nothing is computed yet. RuntimeError if the step asks the device for a number.
        """
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize(self.stream.device)
        gc.disable()  # what it would free must not be freed while the device records
        try:
            with torch.cuda.stream(self.stream):
                # other threads, as those that load data, may go on meanwhile
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
    """The tensors in nested tuples, in their order."""
    if isinstance(batch, torch.Tensor):
        return [batch]
    parts = batch if isinstance(batch, tuple | list) else ()
    return [tensor for part in parts for tensor in tensors_in(part)]


def copied(batch):
    """The same nested tuples with copies of the tensors."""
    if isinstance(batch, tuple | list):
        return tuple(copied(part) for part in batch)
    return batch.clone() if isinstance(batch, torch.Tensor) else batch
