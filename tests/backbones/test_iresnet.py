from __future__ import annotations

import pytest
import torch

import workbench as wb

NORM = ("weight", "bias", "running_mean", "running_var")


def _norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.{part}": (channels,) for part in NORM} | {f"{name}.num_batches_tracked": ()}


def _published(
    blocks: tuple[int, ...], embedding_dim: int, places: int
) -> dict[str, tuple[int, ...]]:
    """Names and shapes in a checkpoint of arcface_torch, written down from its format."""
    expected = {"conv1.weight": (64, 3, 3, 3), "prelu.weight": (64,)} | _norm("bn1", 64)
    for layer, (count, before, channels) in enumerate(
        zip(blocks, (64, 64, 128, 256), (64, 128, 256, 512), strict=True), start=1
    ):
        for block in range(count):
            first, name = block == 0, f"layer{layer}.{block}"
            incoming = before if first else channels
            expected |= (
                _norm(f"{name}.bn1", incoming)
                | _norm(f"{name}.bn2", channels)
                | _norm(f"{name}.bn3", channels)
            )
            expected[f"{name}.conv1.weight"] = (channels, incoming, 3, 3)
            expected[f"{name}.conv2.weight"] = (channels, channels, 3, 3)
            expected[f"{name}.prelu.weight"] = (channels,)
            if first:
                expected[f"{name}.downsample.0.weight"] = (channels, incoming, 1, 1)
                expected |= _norm(f"{name}.downsample.1", channels)
    expected |= _norm("bn2", 512) | _norm("features", embedding_dim)
    return expected | {"fc.weight": (embedding_dim, 512 * places), "fc.bias": (embedding_dim,)}


@pytest.mark.parametrize(
    ("name", "blocks"), [("iresnet18", (2, 2, 2, 2)), ("iresnet50", (3, 4, 14, 3))]
)
def test_weights_are_named_and_shaped_as_in_arcface_torch(
    name: str, blocks: tuple[int, ...]
) -> None:
    state = wb.backbones.create(name, embedding_dim=512, image_size=112).state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == _published(
        blocks, 512, 7 * 7
    )


@pytest.mark.parametrize(
    ("name", "millions"),
    [("iresnet18", 24.03), ("iresnet34", 34.14), ("iresnet50", 43.59), ("iresnet100", 65.16)],
)
def test_parameters_are_as_many_as_published(name: str, millions: float) -> None:
    with torch.device("meta"):
        net = wb.backbones.create(name, embedding_dim=512, image_size=112)
    assert sum(parameter.numel() for parameter in net.parameters()) / 1e6 == pytest.approx(
        millions, abs=0.01
    )


def test_a_published_state_loads_and_is_computed_with() -> None:
    random = torch.Generator().manual_seed(0)
    state = {
        key: torch.zeros(shape, dtype=torch.long)
        if key.endswith("tracked")
        else torch.rand(shape, generator=random) * (0.05 if len(shape) > 1 else 1.0)
        + 0.1 * (len(shape) == 1)
        for key, shape in _published((2, 2, 2, 2), 6, 2 * 1).items()
    }
    net = wb.backbones.create("iresnet18", embedding_dim=6, image_size=(32, 16)).eval()
    net.load_state_dict(state, strict=True)
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    images = torch.rand(2, 3, 32, 16, generator=random) * 2 - 1
    torch.testing.assert_close(
        net(images), _by_hand(state, images, (2, 2, 2, 2)), rtol=1e-4, atol=1e-4
    )


def _by_hand(
    state: dict[str, torch.Tensor], x: torch.Tensor, blocks: tuple[int, ...]
) -> torch.Tensor:
    """arcface_torch's network, written out with functions."""

    def conv(name: str, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
        weight = state[f"{name}.weight"]
        return torch.nn.functional.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        weight, bias, mean, variance = (
            state[f"{name}.{part}"].reshape(-1, *[1] * (x.ndim - 2))
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / (variance + 1e-5).sqrt() * weight + bias

    def prelu(name: str, x: torch.Tensor) -> torch.Tensor:
        return torch.where(x > 0, x, x * state[f"{name}.weight"].reshape(-1, 1, 1))

    x = prelu("prelu", norm("bn1", conv("conv1", x)))
    for layer, count in enumerate(blocks, start=1):
        for block in range(count):
            name, stride = f"layer{layer}.{block}", 1 if block else 2
            inner = prelu(
                f"{name}.prelu", norm(f"{name}.bn2", conv(f"{name}.conv1", norm(f"{name}.bn1", x)))
            )
            inner = norm(f"{name}.bn3", conv(f"{name}.conv2", inner, stride))
            x = inner + (
                x
                if block
                else norm(f"{name}.downsample.1", conv(f"{name}.downsample.0", x, stride))
            )
    x = norm("bn2", x).flatten(1) @ state["fc.weight"].T + state["fc.bias"]
    return norm("features", x)


def test_the_scale_of_the_last_layer_is_fixed() -> None:
    net = wb.backbones.create("iresnet18", embedding_dim=4, image_size=16)
    assert [key for key, parameter in net.named_parameters() if not parameter.requires_grad] == [
        "features.weight"
    ]
    assert torch.equal(net.state_dict()["features.weight"], torch.ones(4))


@pytest.mark.parametrize("head", ["gap", "gdc"])
def test_with_another_head_the_trunk_keeps_its_names(head: str) -> None:
    net = wb.backbones.create("iresnet18", embedding_dim=4, image_size=(33, 16), head=head)
    assert net(torch.zeros(2, 3, 33, 16)).shape == (2, 4)
    trunk = {
        key: shape
        for key, shape in _published((2, 2, 2, 2), 4, 1).items()
        if not key.startswith(("fc.", "features."))
    }
    state = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    assert {key: shape for key, shape in state.items() if not key.startswith("head.")} == trunk


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    net, images = (
        wb.backbones.create("iresnet18", embedding_dim=4, image_size=16, dropout=0.5),
        torch.rand(4, 3, 16, 16),
    )
    assert not torch.equal(net(images), net(images))
    net.eval()
    assert torch.equal(net(images), net(images))
