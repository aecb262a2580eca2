from __future__ import annotations

import pytest
import torch
from torch import nn

import workbench as wb
from workbench.backbones.cost import Cost, cost, default_size, module_cost


@pytest.mark.parametrize(
    ("stride", "groups", "bias"), [(1, 1, False), (2, 1, True), (1, 6, False), (2, 3, True)]
)
def test_a_convolution_by_its_formula(stride: int, groups: int, bias: bool) -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 6, 1, bias=False), nn.Conv2d(6, 12, 3, stride, 1, groups=groups, bias=bias)
    )
    height, width = 10, 8
    weights = 3 * 6, 9 * 6 * 12 // groups
    multiply_adds = weights[0] * height * width + weights[1] * (height // stride) * (
        width // stride
    )
    assert module_cost(net, (height, width)) == Cost(sum(weights) + 12 * bias, multiply_adds)


def test_resnet18_of_imagenet_has_its_well_known_cost() -> None:
    from torchvision import models

    with torch.device("meta"):
        net = models.resnet18()
    found = module_cost(net, 224)
    assert found.parameters == 11_689_512
    assert found.multiply_adds / 1e9 == pytest.approx(1.82, abs=0.01)


def test_attention_is_counted() -> None:
    """A block needs 12 width^2 for each token and 2 width for each pair of tokens.

    The rest of the two networks is the same.
    """
    tokens, width = 16, 256
    one, two = (cost("vit_tiny", 8, 32, patch=8, depth=depth).multiply_adds for depth in (1, 2))
    assert two - one == 12 * width**2 * tokens + 2 * width * tokens**2


def test_squeeze_and_excitation_costs_little_and_deeper_networks_more() -> None:
    plain, gated = cost("iresnet18", 512, 112), cost("seresnet18", 512, 112)
    assert 1 < gated.multiply_adds / plain.multiply_adds < 1.01
    assert cost("iresnet100").multiply_adds > 4 * plain.multiply_adds


def test_the_network_stays_as_it_was() -> None:
    net = wb.backbones.create("smallresnet", embedding_dim=8, image_size=16)
    state = {key: value.clone() for key, value in net.state_dict().items()}
    module_cost(net, 16)
    assert net.training
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


def test_the_default_size_is_the_architectures() -> None:
    assert default_size("fashion_cnn") == 28
    assert default_size("smallresnet") == 64
    assert default_size("iresnet50") == 112
    assert cost("smallresnet", 32) == cost("smallresnet", 32, 64)
    assert cost("smallresnet", 32, (64, 64)) == cost("smallresnet", 32, 64)


def test_what_cannot_be_made_has_no_cost() -> None:
    with pytest.raises(wb.WorkbenchError, match="did you mean 'smallresnet'"):
        cost("smalresnet")
    with pytest.raises(wb.WorkbenchError, match="at least 16 x 16"):
        cost("smallresnet", 8, 15)
