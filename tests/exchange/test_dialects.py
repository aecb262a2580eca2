"""Weights with the names of other programs.

The networks of these programs are written here again, and their outputs are compared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import workbench as wb
from workbench.evaluation import load_model

DIM = 16


class _Layers(nn.Module):
    """A sequence with the name `layers`, as at every level of arcface_torch's mobilefacenet."""

    def __init__(self, *layers: nn.Module, residual: bool = False) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


def _conv(
    inside: int,
    outside: int,
    kernel: int,
    stride: int,
    padding: int,
    groups: int = 1,
    act: bool = True,
) -> _Layers:
    layers = [
        nn.Conv2d(inside, outside, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(outside),
    ]
    return _Layers(*layers, *([nn.PReLU(outside)] if act else []))


def _bottleneck(inside: int, outside: int, hidden: int, stride: int) -> _Layers:
    return _Layers(
        _conv(inside, hidden, 1, 1, 0),
        _conv(hidden, hidden, 3, stride, 1, groups=hidden),
        _conv(hidden, outside, 1, 1, 0, act=False),
        residual=stride == 1,
    )


class _Mbf(nn.Module):
    """The mobilefacenet of arcface_torch, its weights named as there."""

    def __init__(self, scale: int, blocks: tuple[int, int, int, int]) -> None:
        super().__init__()
        narrow, wide = 64 * scale, 128 * scale
        first = (
            _conv(narrow, narrow, 3, 1, 1, groups=64)
            if blocks[0] == 1
            else self._units(blocks[0], narrow, 128)
        )
        self.layers = nn.ModuleList(
            [
                _conv(3, narrow, 3, 2, 1),
                first,
                _bottleneck(narrow, narrow, 128, 2),
                self._units(blocks[1], narrow, 128),
                _bottleneck(narrow, wide, 256, 2),
                self._units(blocks[2], wide, 256),
                _bottleneck(wide, wide, 512, 2),
                self._units(blocks[3], wide, 256),
            ]
        )
        self.conv_sep = _conv(wide, 512, 1, 1, 0)
        self.features = _Layers(
            _conv(512, 512, 7, 1, 0, groups=512, act=False),
            nn.Flatten(),
            nn.Linear(512, DIM, bias=False),
            nn.BatchNorm1d(DIM),
        )

    @staticmethod
    def _units(count: int, channels: int, hidden: int) -> _Layers:
        return _Layers(*(_bottleneck(channels, channels, hidden, 1) for _ in range(count)))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.features(self.conv_sep(x))


class _IrBlock(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride)
        if inside != outside:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(inside),
            nn.Conv2d(inside, outside, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outside),
            nn.PReLU(outside),
            nn.Conv2d(outside, outside, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outside),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.res_layer(x) + self.shortcut_layer(x)


class _Ir(nn.Module):
    """AdaFace's and CVLface's IR network of basic blocks, its weights named as there."""

    def __init__(self, blocks: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64)
        )
        made, inside = [], 64
        for count, outside in zip(blocks, (64, 128, 256, 512), strict=True):
            for number in range(count):
                made.append(_IrBlock(inside, outside, 1 if number else 2))
                inside = outside
        self.body = nn.Sequential(*made)
        closing = nn.BatchNorm1d(DIM, affine=False)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(512), nn.Dropout(0.4), nn.Flatten(), nn.Linear(512 * 49, DIM), closing
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        raw = self.output_layer(self.body(self.input_layer(x)))
        norm = raw.norm(dim=1, keepdim=True)
        return raw / norm, norm


def _lived(net: nn.Module) -> nn.Module:
    """With weights, slopes and running statistics that are no longer those of the beginning."""
    torch.manual_seed(0)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                if module.affine:
                    module.weight.uniform_(0.5, 1.5)
                    module.bias.normal_(0, 0.1)
            elif isinstance(module, nn.PReLU):
                module.weight.uniform_(0.1, 0.4)
    return net.eval()


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x.double(), dim=1)


def _embedded(run: wb.runs.Run, pixels: Tensor) -> Tensor:
    """By the imported network, in the pixels' own precision."""
    with torch.inference_mode():
        return load_model(run, "cpu").net.to(pixels.dtype)(pixels).clone()


@pytest.mark.parametrize(
    ("scale", "blocks", "options", "count"),
    [
        (2, (1, 4, 6, 2), {}, 333),
        pytest.param(
            4, (2, 8, 12, 4), {"width": 4, "blocks": [2, 8, 12, 4]}, 606, marks=pytest.mark.slow
        ),
        (1, (2, 1, 1, 3), {"width": 1, "blocks": [2, 1, 1, 3]}, None),
    ],
    ids=["mbf", "mbf_large", "own blocks"],
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_arcface_torchs_mobilefacenets_come_by_name(
    tmp_path: Path, scale: int, blocks: Any, options: dict[str, Any], count: int | None, prefix: str
) -> None:
    net = _lived(_Mbf(scale, blocks))
    state = net.state_dict()
    assert count in (None, len(state))
    torch.save({f"{prefix}{key}": tensor for key, tensor in state.items()}, tmp_path / "model.pt")
    run = wb.import_model(tmp_path / "model.pt", runs_dir=tmp_path / "runs")
    assert (run.config["backbone"], run.config.get("backbone_options", {})) == (
        "mobilefacenet",
        options,
    )
    assert run.environment["imported"]["notes"][0].startswith(f"{len(state)} tensors were loaded")
    pixels = torch.randn(2, 3, 112, 112, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(
            _unit(_embedded(run, pixels)), _unit(net(pixels)), atol=1e-6, rtol=0
        )


@pytest.mark.parametrize(
    ("name", "blocks"),
    [("iresnet18", (2, 2, 2, 2)), pytest.param("iresnet50", (3, 4, 14, 3), marks=pytest.mark.slow)],
)
def test_adafaces_networks_come_by_name_out_of_lightnings_file(
    tmp_path: Path, name: str, blocks: Any
) -> None:
    net = _lived(_Ir(blocks))
    state = {f"model.{key}": tensor for key, tensor in net.state_dict().items()}
    head = {
        "head.kernel": torch.randn(DIM, 30),
        "head.t": torch.zeros(1),
        "head.batch_mean": torch.ones(1) * 20,
    }
    torch.save(
        {"epoch": 25, "state_dict": state | head, "hyper_parameters": {"lr": 0.1}},
        tmp_path / "adaface.ckpt",
    )
    run = wb.import_model(tmp_path / "adaface.ckpt", runs_dir=tmp_path / "runs", channels="bgr")
    assert (run.config["backbone"], run.config["embedding_dim"], run.config["channels"]) == (
        name,
        DIM,
        "bgr",
    )
    notes = run.environment["imported"]["notes"]
    assert (
        notes[0] == f"{len(state)} tensors were loaded from 'state_dict' under 'model.', "
        "with the names of AdaFace's IR networks"
    )
    assert (
        notes[1]
        == "3 tensors outside the backbone were left out: head.kernel, head.t, head.batch_mean"
    )
    # In single precision, sums in another order differ by more than 1e-6 after fifty layers.
    pixels = torch.randn(
        2, 3, 112, 112, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    with torch.inference_mode():
        unit, norm = net.double()(pixels)
        torch.testing.assert_close(_unit(_embedded(run, pixels)), unit, atol=1e-6, rtol=0)
        torch.testing.assert_close(_embedded(run, pixels), unit * norm, rtol=1e-6, atol=1e-6)


def test_a_network_of_the_same_names_with_other_layers_is_refused(
    tmp_path: Path, complaint: Any
) -> None:
    state = _Ir((2, 2, 2, 2)).state_dict()
    gates = {
        f"body.{number}.res_layer.6.fc1.weight": torch.zeros(16, 64, 1, 1) for number in range(2)
    }
    torch.save(state | gates, tmp_path / "irse.pth")
    with complaint(
        "fits no known backbone",
        "nearest is 'iresnet18'",
        "unexpected body.0.res_layer.6.fc1.weight",
        "ONNX",
    ):
        wb.import_model(tmp_path / "irse.pth", runs_dir=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_hostile_shapes_are_one_line(tmp_path: Path, complaint: Any) -> None:
    state = _Mbf(1, (1, 1, 1, 1)).state_dict()
    for key, tensor in {
        "layers.0.layers.0.weight": torch.zeros(1, 3, 3, 3),
        "layers.3.layers.9999999.layers.0.layers.0.weight": torch.zeros(()),
        "conv_sep.layers.0.weight": torch.zeros(()),
    }.items():
        torch.save(state | {key: tensor}, tmp_path / "a.pth")
        with complaint("a.pth"):
            wb.import_model(tmp_path / "a.pth", runs_dir=tmp_path / "runs")
    assert np.array_equal(list(tmp_path.iterdir()), [tmp_path / "a.pth"])
