"""Batch norm's statistics become the averages over the batches that are given."""

import pytest
import torch
from torch import nn

import maestro


def network():
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)).eval()


@pytest.mark.parametrize("labelled", [False, True])
def test_plain_averages(labelled):
    net = maestro.factorize(network())
    net[1].running_mean.fill_(7.0)
    x = [torch.randn(n, 4) for n in (8, 8, 8)]
    batches = [(b, torch.zeros(8)) for b in x] if labelled else x
    weights = [p.clone() for p in net.parameters()]
    assert maestro.recalibrate(net, iter(batches)) is net
    hidden = [net[0](b).detach() for b in x]
    means = torch.stack([h.mean(0) for h in hidden]).mean(0)
    variances = torch.stack([h.var(0) for h in hidden]).mean(0)
    torch.testing.assert_close(net[1].running_mean, means)
    torch.testing.assert_close(net[1].running_var, variances)
    assert not any(module.training for module in net.modules())
    assert net[1].momentum == 0.1
    for p, before in zip(net.parameters(), weights, strict=True):
        assert torch.equal(p, before) and p.grad is None


def test_a_cut_network_gets_the_statistics_of_the_cut_one():
    net = maestro.factorize(network())
    x = torch.randn(64, 4) * 3 + 1
    maestro.recalibrate(net, [x])
    maestro.truncate(net, {"0": 1})
    maestro.recalibrate(net, [x])
    normed = net[1](net[0](x))
    assert normed.mean(0).abs().max() <= 1e-4
    assert (normed.var(0) - 1).abs().max() <= 1e-2


def test_without_batches_the_statistics_stay():
    net = network()
    net[1].running_mean.fill_(7.0)
    with pytest.raises(ValueError, match="batches is empty"):
        maestro.recalibrate(net, [])
    assert (net[1].running_mean == 7).all()
    with pytest.raises(ValueError, match="net is .*: it takes a network"):
        maestro.recalibrate([net], [])


def test_frozen_norms_keep_their_statistics_and_modes():
    net = nn.Sequential(*network(), nn.BatchNorm1d(2)).train()
    net[1].eval()
    net[1].running_mean.fill_(7.0)
    maestro.recalibrate(net, [torch.randn(8, 4)])
    assert (net[1].running_mean == 7).all() and not net[1].training
    assert net.training and net[3].training and (net[3].running_mean != 0).any()


def test_a_batch_that_does_not_fit_changes_nothing():
    net = network()
    net[1].running_mean.fill_(7.0)
    with pytest.raises(RuntimeError):
        maestro.recalibrate(net, [torch.randn(8, 4), torch.randn(8, 5)])
    assert (net[1].running_mean == 7).all() and net[1].momentum == 0.1
    assert not any(module.training for module in net.modules())


def test_a_network_without_batch_norm_stays():
    net = nn.Sequential(nn.Linear(4, 4), nn.Dropout())
    maestro.recalibrate(net, [torch.randn(2, 4)])
    assert net.training


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
    assert maestro.recalibrate(net, taken) is net
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

    maestro.recalibrate(Refuses(1, 1), few_digits.epoch(30, seed=0))


class Frozen(nn.Sequential):
    """Its second module stays in evaluation mode, whatever mode is asked for."""

    def train(self, mode=True):
        super().train(mode)
        self[1].eval()
        return self


@pytest.mark.parametrize("training", [True, False])
def test_norms_that_the_network_freezes_keep_their_statistics(training):
    net = Frozen(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.BatchNorm1d(6)).train(training)
    net[1].running_mean.fill_(7.0)
    maestro.recalibrate(net, [torch.randn(8, 4)])
    assert (net[1].running_mean == 7).all() and not net[1].training
    assert net[2].running_mean.mean() < -5  # of what the frozen norm gives out
    assert net[2].training == training


def test_a_frozen_norm_runs_as_it_is_before_the_others():
    net = nn.Sequential(nn.BatchNorm1d(4), nn.BatchNorm1d(4)).train()
    net[0].eval()
    net[0].running_mean.fill_(2.0)
    x = torch.randn(16, 4)
    maestro.recalibrate(net, [x])
    torch.testing.assert_close(net[1].running_mean, net[0](x).mean(0))
    assert net[0].num_batches_tracked == 0 and not net[0].training


def test_a_norm_that_no_batch_reaches_keeps_its_statistics():
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.BatchNorm1d(4), nn.BatchNorm1d(4)

        def forward(self, x):
            return self.used(x)

    net = Unused()
    net.unused(torch.randn(8, 4) + 7)
    before = {k: v.clone() for k, v in net.unused.state_dict().items()}
    maestro.recalibrate(net, [torch.randn(8, 4)])
    for name, value in net.unused.state_dict().items():
        assert torch.equal(value, before[name])
    assert net.used.num_batches_tracked == 1


def test_statistics_that_are_not_finite_are_replaced():
    net = nn.BatchNorm1d(4)
    net.running_mean.fill_(torch.nan)
    maestro.recalibrate(net, [torch.randn(8, 4)])
    assert net.running_mean.isfinite().all()


def test_instance_norms_run_as_in_evaluation_and_keep_their_statistics():
    net = nn.Sequential(
        nn.InstanceNorm2d(3, track_running_stats=True), nn.BatchNorm2d(3)
    )
    net[0].running_mean.fill_(7.0)
    maestro.recalibrate(net, [torch.randn(4, 3, 5, 5)])
    assert (net[0].running_mean == 7).all() and net[0].training
    assert net[1].running_mean.mean() < -5


def test_in_inference_mode_the_network_can_be_trained_afterwards():
    net = network().train()
    with torch.inference_mode():
        maestro.recalibrate(net, [torch.randn(8, 4)])
    net(torch.randn(8, 4)).sum().backward()


def test_batches_that_are_none_are_refused():
    with pytest.raises(ValueError, match="batches is int: it takes an iterable"):
        maestro.recalibrate(network(), 5)
