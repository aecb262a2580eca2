"""The moving average of weights, against PyTorch's and an independent float64 formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import workbench as wb
from workbench.training.averaging import Average


def _change(net: nn.Module, seed: int) -> None:
    """Changes weights and running statistics at random."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in net.state_dict().values():
            if value.is_floating_point():
                value.add_(torch.randn(value.shape, generator=generator))
            else:
                value.add_(1)


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 4))


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_it_is_the_average_of_pytorch_with_the_same_decay(decay: float) -> None:
    def theirs(average: Tensor, value: Tensor, count: Tensor | int) -> Tensor:
        share = min(decay, float((1 + count) / (10 + count)))
        return share * average + (1 - share) * value

    net = _net()
    ours = Average(net, decay)
    # Their first update copies the weights. Here the average begins with them.
    expected = AveragedModel(net, avg_fn=lambda a, v, n: theirs(a, v, n - 1), use_buffers=True)
    expected.update_parameters(net)
    for seed in range(20):
        _change(net, seed)
        ours.update()
        expected.update_parameters(net)
    state = expected.module.state_dict()
    for name, value in ours.averaged.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, state[name], rtol=1e-5, atol=1e-5)
        else:
            assert torch.equal(value, net.state_dict()[name])


def test_it_is_the_formula() -> None:
    net = nn.Linear(1, 1, bias=False)
    average = Average(net, 0.9)
    expected = net.weight.item()
    for step, value in enumerate(np.random.default_rng(0).normal(size=200)):
        nn.init.constant_(net.weight, float(value))
        average.update()
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * float(value)
    assert average.averaged.state_dict()["weight"].item() == pytest.approx(expected, rel=1e-5)


def test_the_initial_weights_are_forgotten_in_a_short_training() -> None:
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, 100.0)
    average = Average(net, 0.9999)
    nn.init.constant_(net.weight, 1.0)
    for _ in range(50):
        average.update()
    assert average.averaged.state_dict()["weight"].item() == pytest.approx(1.0, abs=0.01)


def test_the_network_itself_does_not_change() -> None:
    net = wb.backbones.create("smallresnet", embedding_dim=4, image_size=16)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    average = Average(net, 0.9)
    average.update()
    assert net.training
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not average.averaged.training
    assert not any(parameter.requires_grad for parameter in average.averaged.parameters())
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(average.averaged(images), net.eval()(images))


def test_it_keeps_the_memory_format() -> None:
    net = _net().to(memory_format=torch.channels_last)
    average = Average(net, 0.9)
    _change(net, 1)
    average.update()
    weight = average.averaged.state_dict()["0.weight"]
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_it_continues_from_its_state_bit_for_bit() -> None:
    net = _net()
    average = Average(net, 0.99)
    for seed in range(3):
        _change(net, seed)
        average.update()
    resumed = Average(net, 0.99)
    resumed.load_state_dict(average.state_dict())
    for seed in range(3, 6):
        _change(net, seed)
        average.update()
        resumed.update()
    assert resumed.updates == average.updates == 6
    for name, value in average.averaged.state_dict().items():
        assert torch.equal(value, resumed.averaged.state_dict()[name])
