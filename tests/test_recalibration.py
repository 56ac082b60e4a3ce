"""Batch norm's statistics are estimated anew where training saw other networks."""

import pytest
import torch
from torch import nn

from maestro import recalibrate


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 5)
        self.first, self.second = nn.BatchNorm2d(3, momentum=0.3), nn.BatchNorm1d(3)

    def forward(self, x):
        return self.second(self.first(self.conv(x)).amax((2, 3)))


@pytest.mark.course
def test_recalibrated_statistics_are_plain_averages_over_the_batches(few_digits):
    net = Normed().eval()
    net.first.running_mean.fill_(7.0)
    taken = list(few_digits.epoch(30, seed=0))[:3]
    assert recalibrate(net, taken) is net
    with torch.no_grad():
        batches = [net.conv(x) for x, _ in taken]
        mean = torch.stack([x.mean((0, 2, 3)) for x in batches]).mean(0)
        var = torch.stack([x.var((0, 2, 3)) for x in batches]).mean(0)
        # sums of some 10^4 terms of size 1
        assert torch.allclose(net.first.running_mean, mean, rtol=0, atol=1e-11)
        assert torch.allclose(net.first.running_var, var, rtol=0, atol=1e-11)
    assert net.first.num_batches_tracked == 3
    assert (net.first.momentum, net.second.momentum) == (0.3, 0.1)


def test_without_batch_norm_nothing_is_computed(few_digits):
    class Refuses(nn.Linear):
        def forward(self, x):
            raise AssertionError("it was called")

    recalibrate(Refuses(1, 1), few_digits.epoch(30, seed=0))


def test_without_batches_nothing_is_changed(few_digits):
    net = Normed()
    net.first.running_mean.fill_(7.0)
    with pytest.raises(ValueError, match="batches is empty"):
        recalibrate(net, [])
    assert (net.first.running_mean == 7).all()
