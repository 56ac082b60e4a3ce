"""A network in evaluation mode for a while."""

from contextlib import contextmanager


@contextmanager
def evaluating(net):
    """Within it ``net`` is in evaluation mode; afterwards each module is as before."""
    before = {module: module.training for module in net.modules()}
    try:
        yield net.eval()
    finally:
        for module, training in before.items():
            module.training = training
