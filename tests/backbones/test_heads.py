from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch import nn

import workbench as wb
from workbench.backbones.heads import Head, Scale, embedding_head, halved

every_head = pytest.mark.parametrize("kind", get_args(Head))


def _map(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@every_head
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 6)])
@pytest.mark.parametrize("embedding_dim", [1, 2, 5])
@pytest.mark.parametrize("norm", [True, False])
def test_a_map_becomes_embeddings(
    kind: Head, size: tuple[int, int], embedding_dim: int, norm: bool
) -> None:
    head = embedding_head(kind, 4, size, embedding_dim, norm=norm)
    assert head(_map(3, 4, *size)).shape == (3, embedding_dim)
    assert any(isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) for layer in head) == norm


@pytest.mark.parametrize(
    ("kind", "weights"),
    [
        ("gap", 4 * 5 + 5 + 2 * 5),
        ("flatten", 4 * 6 * 5 + 5 + 2 * 5),
        ("gdc", 4 * 6 + 2 * 4 + 4 * 5 + 2 * 5),
    ],
)
def test_number_of_weights(kind: Head, weights: int) -> None:
    assert _parameters(embedding_head(kind, 4, (2, 3), 5)) == weights


def test_gap_is_a_linear_layer_on_the_means() -> None:
    head, x = embedding_head("gap", 4, (2, 3), 5, norm=False), _map(3, 4, 2, 3)
    (fc,) = (layer for layer in head if isinstance(layer, nn.Linear))
    torch.testing.assert_close(head(x), x.mean((2, 3)) @ fc.weight.T + fc.bias)


def test_flatten_is_a_linear_layer_on_everything() -> None:
    head, x = embedding_head("flatten", 4, (2, 3), 5, norm=False), _map(3, 4, 2, 3)
    (fc,) = (layer for layer in head if isinstance(layer, nn.Linear))
    torch.testing.assert_close(head(x), x.reshape(3, -1) @ fc.weight.T + fc.bias)


def test_gdc_weighs_each_place_by_channel() -> None:
    head, x = embedding_head("gdc", 4, (2, 3), 5, norm=False), _map(3, 4, 2, 3)
    (conv,) = (layer for layer in head if isinstance(layer, nn.Conv2d))
    (fc,) = (layer for layer in head if isinstance(layer, nn.Linear))
    weighed = torch.einsum("nchw,chw->nc", x, conv.weight[:, 0])
    torch.testing.assert_close(head(x), weighed @ fc.weight.T)


@every_head
def test_embeddings_of_a_batch_are_normalised_by_coordinate(kind: Head) -> None:
    embeddings = embedding_head(kind, 4, (2, 3), 5)(10 + 100 * _map(64, 4, 2, 3))
    torch.testing.assert_close(embeddings.mean(0), torch.zeros(5), rtol=0, atol=1e-4)
    torch.testing.assert_close(embeddings.std(0, correction=0), torch.ones(5), rtol=0, atol=1e-2)


@every_head
def test_dropout_acts_before_the_linear_layer_and_in_training_only(kind: Head) -> None:
    head, x = embedding_head(kind, 64, (1, 1), 5, dropout=0.25), torch.ones(200, 64, 1, 1)
    seen: list[torch.Tensor] = []
    for layer in head:
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()  # all images are the same: nothing would be left of them
        if isinstance(layer, nn.Linear):
            layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    head(x)
    head.eval()(x)
    training, evaluation = (float((entered == 0).float().mean()) for entered in seen)
    assert abs(training - 0.25) < 0.02
    assert evaluation == 0


@pytest.mark.parametrize("kind", ["flat", "GAP", None, 3, ["gap"]])
def test_an_unknown_head_is_an_error_in_one_line(kind: Any) -> None:
    with pytest.raises(
        wb.WorkbenchError, match=r"unknown head .*known: flatten, gap, gdc"
    ) as caught:
        embedding_head(kind, 4, (2, 3), 5)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["smallresnet", "seresnet18", "iresnet18", "resnet18", "sphereface20"]
)
def test_backbones_suggest_the_nearest_head(name: str) -> None:
    with pytest.raises(wb.WorkbenchError, match="did you mean 'flatten'"):
        wb.backbones.create(name, embedding_dim=2, image_size=16, head="flaten")


@pytest.mark.parametrize(
    ("size", "times", "expected"),
    [
        ((112, 96), 4, (7, 6)),
        ((112, 112), 5, (4, 4)),
        ((17, 31), 0, (17, 31)),
        ((17, 31), 1, (9, 16)),
        ((1, 33), 5, (1, 2)),
    ],
)
def test_halved(size: tuple[int, int], times: int, expected: tuple[int, int]) -> None:
    assert halved(size, times) == expected
    x = torch.zeros(1, 1, *size)
    for _ in range(times):
        x = nn.functional.conv2d(x, torch.zeros(1, 1, 3, 3), stride=2, padding=1)
    assert x.shape[2:] == expected


def test_stored_runs_of_smallresnet_and_seresnet18_still_fit() -> None:
    small = wb.backbones.create("smallresnet", embedding_dim=3, image_size=28).state_dict()
    assert {
        key: tuple(value.shape)
        for key, value in small.items()
        if key.startswith("head.") and value.ndim > 1
    } == {
        "head.0.weight": (128, 1, 4, 4),
        "head.3.weight": (3, 128),
    }
    assert [key for key in small if key.startswith("head.") and key.endswith("bias")] == [
        "head.1.bias",
        "head.4.bias",
    ]
    large = wb.backbones.create("seresnet18", embedding_dim=3, image_size=28).state_dict()
    assert {
        key: tuple(value.shape)
        for key, value in large.items()
        if key.startswith("head.") and value.ndim > 0
    } == {
        "head.2.weight": (3, 512 * 2 * 2),
        "head.2.bias": (3,),
        "head.3.weight": (3,),
        "head.3.bias": (3,),
        "head.3.running_mean": (3,),
        "head.3.running_var": (3,),
    }


@pytest.mark.parametrize("size", ["112", 112.5, (112,), (1, 2, 3), (112, None), {"height": 112}])
def test_sizes_that_are_none(size: Any) -> None:
    with pytest.raises(
        wb.WorkbenchError,
        match=r"image_size must be a whole number of pixels or \(height, width\), got",
    ):
        wb.backbones.create("smallresnet", image_size=size)


@pytest.mark.parametrize("scale", get_args(Scale))
@every_head
def test_the_scale_of_the_closing_norm(kind: Head, scale: Scale) -> None:
    head = embedding_head(kind, 4, (2, 3), 5, scale=scale)
    closing = head[-1]
    assert isinstance(closing, nn.BatchNorm1d)
    trained = {key for key, parameter in closing.named_parameters() if parameter.requires_grad}
    assert trained == {"trained": {"weight", "bias"}, "frozen": {"bias"}, "none": set()}[scale]
    optimizer = torch.optim.SGD([*head.parameters()], lr=0.5, weight_decay=0.1)
    for seed in range(3):
        x = torch.randn(16, 4, 2, 3, generator=torch.Generator().manual_seed(seed))
        optimizer.zero_grad()
        (-head(x).norm(dim=1).mean()).backward()  # asks for longer embeddings
        optimizer.step()
    nn.init.zeros_(closing.bias)
    mean_square = head(x).square().sum(1).mean().item()
    if scale == "trained":
        assert mean_square > 5.5
    else:
        assert mean_square == pytest.approx(5.0, rel=0.02)  # D, whatever was trained


@pytest.mark.parametrize(
    "name",
    [name for name in wb.backbones.names() if not name.startswith("sphereface")]
    + ["torchvision:resnet18"],
)
@pytest.mark.parametrize("scale", get_args(Scale))
def test_every_backbone_with_a_closing_norm_has_the_option(name: str, scale: Scale) -> None:
    assert wb.backbones.accepts(name, "scale")
    with torch.device("meta"):
        net = wb.backbones.create(name, embedding_dim=3, image_size=32, scale=scale)
    closing = [
        layer
        for layer in net.modules()
        if isinstance(layer, nn.BatchNorm1d) and layer.num_features == 3
    ][-1]
    assert closing.weight.requires_grad == (scale == "trained")
    assert closing.bias.requires_grad == (scale != "none")


def test_a_network_without_norm_has_no_scale() -> None:
    assert not wb.backbones.accepts("sphereface20", "scale")
    with pytest.raises(wb.WorkbenchError, match="did you mean 'smallresnet'"):
        wb.backbones.accepts("smalresnet", "scale")


@pytest.mark.parametrize("scale", ["freezed", "Trained", None, 1])
def test_an_unknown_scale_is_an_error_in_one_line(scale: Any) -> None:
    with pytest.raises(
        wb.WorkbenchError, match=r"scale of the head .*known: frozen, none, trained"
    ) as caught:
        embedding_head("gap", 4, (2, 3), 5, scale=scale)
    assert "\n" not in str(caught.value)
