"""Weights whose names are of no known program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import workbench as wb
from workbench import backbones
from workbench.weights import Checkpoint, Fit, StateDict, fitting_backbone
from workbench.weights.order import in_order

DIM = 8


class _Unit(nn.Module):
    """Convolution, batch normalisation and, unless it is linear, PReLU."""

    def __init__(
        self,
        inside: int,
        outside: int,
        kernel: Any,
        stride: int = 1,
        groups: int = 1,
        linear: bool = False,
        padding: int = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, kernel, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outside)
        self.prelu = nn.Identity() if linear else nn.PReLU(outside)

    def forward(self, x: Tensor) -> Tensor:
        return self.prelu(self.bn(self.conv(x)))


class _Bottleneck(nn.Module):
    """The layers of an inverted bottleneck in one sequence, as in Xiaoccer's repository."""

    def __init__(self, inside: int, outside: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inside * expansion
        self.connect = stride == 1 and inside == outside
        self.conv = nn.Sequential(
            nn.Conv2d(inside, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.PReLU(hidden),
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.PReLU(hidden),
            nn.Conv2d(hidden, outside, 1, bias=False),
            nn.BatchNorm2d(outside),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.connect else self.conv(x)


class _Xiaoccer(nn.Module):
    """The paper's MobileFaceNet for images of 112 x 96, with the names of a public file."""

    STAGES = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _Unit(3, 64, 3, 2, padding=1)
        self.dw_conv1 = _Unit(64, 64, 3, groups=64, padding=1)
        blocks, inside = [], 64
        for expansion, outside, count, stride in self.STAGES:
            for number in range(count):
                blocks.append(_Bottleneck(inside, outside, 1 if number else stride, expansion))
                inside = outside
        self.blocks = nn.Sequential(*blocks)
        self.conv2 = _Unit(128, 512, 1)
        self.linear7 = _Unit(512, 512, (7, 6), groups=512, linear=True)
        self.linear1 = _Unit(512, 128, 1, linear=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2(self.blocks(self.dw_conv1(self.conv1(x))))
        return self.linear1(self.linear7(x)).flatten(1)


class _Foamliu(nn.Module):
    """foamliu's MobileFaceNet, with its names in the order of its definition."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _relu6(3, 64, 3, 2)
        self.dw_conv = nn.ModuleDict(
            {
                "depthwise": nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False),
                "pointwise": nn.Conv2d(64, 64, 1, bias=False),
                "bn1": nn.BatchNorm2d(64),
                "bn2": nn.BatchNorm2d(64),
            }
        )
        self.conv2 = _relu6(128, 512, 1)
        self.gdconv = nn.ModuleDict(
            {
                "depthwise": nn.Conv2d(512, 512, 7, groups=512, bias=False),
                "bn": nn.BatchNorm2d(512),
            }
        )
        self.conv3, self.bn = nn.Conv2d(512, 128, 1), nn.BatchNorm2d(128)
        features, inside = [], 64
        for expansion, outside, count, stride in _Xiaoccer.STAGES:
            for number in range(count):
                features.append(
                    _inverted(inside, outside, 1 if number else stride, inside * expansion)
                )
                inside = outside
        self.features = nn.Sequential(*features)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        x = self.dw_conv["bn1"](self.dw_conv["depthwise"](x)).relu()
        x = self.dw_conv["bn2"](self.dw_conv["pointwise"](x)).relu()
        for block in self.features:
            out = block.conv(x)
            x = x + out if out.shape == x.shape and block.stride == 1 else out
        x = self.conv2(x)
        x = self.gdconv["bn"](self.gdconv["depthwise"](x))
        return self.bn(self.conv3(x)).flatten(1)


def _relu6(inside: int, outside: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Module:
    convolution = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outside), nn.ReLU6())


def _inverted(inside: int, outside: int, stride: int, hidden: int) -> nn.Module:
    block = nn.Module()
    block.stride = stride  # type: ignore[assignment]
    block.conv = nn.Sequential(
        _relu6(inside, hidden, 1),
        _relu6(hidden, hidden, 3, stride, groups=hidden),
        nn.Conv2d(hidden, outside, 1, bias=False),
        nn.BatchNorm2d(outside),
    )
    return block


def _trained(net: nn.Module) -> nn.Module:
    """Draws running statistics, slopes and biases that are not those of a new network."""
    torch.manual_seed(0)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.1)
            elif isinstance(module, nn.PReLU):
                module.weight.uniform_(0.1, 0.4)
    return net.eval()


def _fit(parts: dict[str, StateDict], **options: Any) -> Fit:
    return fitting_backbone(Checkpoint(parts, []), "net.ckpt", **options)


def _assert_same_embeddings(fit: Fit, net: nn.Module, size: tuple[int, int]) -> None:
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(
            fit.net.double()(images), net.double()(images), rtol=1e-6, atol=1e-6
        )


def test_a_public_mobilefacenet_is_matched_by_order_and_its_image_size_by_shape() -> None:
    net = _trained(_Xiaoccer())
    fit = _fit({"net_state_dict": net.state_dict()})
    assert (fit.name, fit.options, fit.net.image_size) == ("mobilefacenet", {"width": 1}, (112, 96))
    assert fit.notes[0].endswith("tensors were loaded from 'net_state_dict'")
    assert "the weights were assigned to 'mobilefacenet' by their order and shapes" in fit.notes[1]
    _assert_same_embeddings(fit, net, (112, 96))


def test_foamlius_mobilefacenet_gives_the_same_embeddings() -> None:
    net = _trained(_Foamliu())
    fit = _fit({"": {f"module.{name}": tensor for name, tensor in net.state_dict().items()}})
    assert (fit.name, fit.options) == ("mobilefacenet", {"width": 1, "variant": "foamliu"})
    assert "with the names of foamliu's MobileFaceNet" in fit.notes[0]
    _assert_same_embeddings(fit, net, (112, 112))


@pytest.fixture(autouse=True)
def _few_backbones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compares the weights with a few backbones only, as creating all of them takes seconds."""
    few = ["fashion_cnn", "iresnet18", "mobilefacenet", "smallresnet", "smallresnet_of_mine"]
    names = backbones.names
    monkeypatch.setattr(backbones, "names", lambda: [name for name in names() if name in few])


@pytest.fixture(scope="module")
def small() -> StateDict:
    torch.manual_seed(0)
    return wb.backbones.create("smallresnet", embedding_dim=DIM, image_size=16).state_dict()


def _other_names(state: StateDict) -> StateDict:
    """Numbers the layers; the names of the tensors in a layer stay."""
    layers: dict[str, int] = {}
    return {
        f"layer{layers.setdefault(name.rpartition('.')[0], len(layers))}."
        f"{name.rpartition('.')[2]}": tensor
        for name, tensor in state.items()
    }


def test_other_names_in_the_same_order_are_the_same_network(small: StateDict) -> None:
    head = {"classifier.weight": torch.ones(30, DIM)}
    fit = _fit({"": _other_names(small) | head}, image_size=16)
    assert fit.name == "smallresnet"
    assert all(torch.equal(fit.net.state_dict()[name], small[name]) for name in small)
    assert "1 tensors outside the backbone were left out: classifier.weight" in fit.notes


def _swapped(state: StateDict) -> StateDict:
    """Exchanges the layers of a batch normalisation and the convolution before it."""
    names = list(state)
    return {name: state[name] for name in [*names[1:6], names[0], *names[6:]]}


OTHER_NETWORKS: dict[str, Callable[[StateDict], StateDict]] = {
    "a tensor is missing": lambda state: dict(list(state.items())[:-2]),
    "a tensor has another shape": lambda state: {
        name: tensor[:-1] if name == "layer1.weight" else tensor for name, tensor in state.items()
    },
    "another order": _swapped,
    "a mean in the place of a variance": lambda state: {
        name.replace("running_mean", "x")
        .replace("running_var", "running_mean")
        .replace("x", "running_var"): tensor
        for name, tensor in state.items()
    },
    "one layer in the place of two": lambda state: {
        name.replace("layer2.", "layer1."): tensor
        for name, tensor in state.items()
        if not name.startswith("layer2.running")
    },
    "a layer more": lambda state: state | {"attention.weight": torch.ones(DIM, DIM)},
    "a head of another length": lambda state: state | {"logits.weight": torch.ones(3, DIM + 1)},
}


@pytest.mark.parametrize("change", OTHER_NETWORKS.values(), ids=list(OTHER_NETWORKS))
def test_another_network_is_not_matched(
    change: Callable[[StateDict], StateDict], small: StateDict, complaint: Any
) -> None:
    with complaint("net.ckpt", "does not fit 'smallresnet'"):
        _fit({"": change(_other_names(small))}, requested="smallresnet", image_size=16)


def test_order_alone_needs_the_same_grouping_into_layers() -> None:
    expected = {"a.weight": torch.zeros(2), "a.bias": torch.zeros(2), "b.weight": torch.zeros(2)}
    same = {"x.weight": torch.ones(2), "x.bias": torch.ones(2), "y.weight": torch.ones(2)}
    assert list(in_order(same, expected) or {}) == list(expected)
    for names in (
        ("x.weight", "y.bias", "z.weight"),  # one layer became two
        ("x.weight", "x.bias", "x.scale"),  # another kind of tensor
        ("x.weight", "x.bias", "x.q.weight"),
    ):
        state = {name: torch.ones(2) for name in names}
        wanted = None if names[2] != "x.q.weight" else list(expected)
        result = in_order(state, expected)
        assert (None if result is None else list(result)) == wanted


def test_several_backbones_of_the_same_shapes_must_be_chosen(
    small: StateDict, complaint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workbench.backbones.registry import BACKBONES
    from workbench.backbones.small import SmallResNet

    monkeypatch.setitem(BACKBONES._factories, "smallresnet_of_mine", SmallResNet)
    state = _other_names(small)
    with complaint("fit several backbones: smallresnet, smallresnet_of_mine", "--backbone"):
        _fit({"": state}, image_size=16)
    assert _fit({"": state}, requested="smallresnet", image_size=16).name == "smallresnet"


def test_weights_that_give_every_image_the_same_embedding_are_refused(
    small: StateDict, complaint: Any
) -> None:
    state = {name: torch.zeros_like(tensor) for name, tensor in small.items()}
    with complaint("net.ckpt", "the embeddings of two images of noise are equal"):
        _fit({"": state}, requested="smallresnet", image_size=16)
