from __future__ import annotations

from typing import Any

import pytest
import torch

import workbench as wb
from workbench.backbones.cost import cost


def test_it_has_the_size_of_arcface_torchs_mbf() -> None:
    found = cost("mobilefacenet", 512, 112)
    assert found.parameters / 1e6 == pytest.approx(2.06, abs=0.005)
    assert found.multiply_adds / 1e9 == pytest.approx(
        0.45, abs=0.015
    )  # "mobilefacenet-0.45G" there


def test_of_width_one_it_is_the_papers() -> None:
    """Chen et al., section 3.2: 0.99 million parameters and 221 million multiply-adds.

    The paper's numbers are for 112 pixels and D = 128.
    """
    found = cost("mobilefacenet", 128, 112, width=1)
    assert found.parameters / 1e6 == pytest.approx(0.99, rel=0.02)
    assert found.multiply_adds / 1e6 == pytest.approx(221, abs=0.5)


def test_its_layers_are_those_of_table_1() -> None:
    net = wb.backbones.create("mobilefacenet", width=1, image_size=112)
    shapes: list[tuple[int, ...]] = []
    with torch.no_grad():
        x = torch.zeros(1, 3, 112, 112)
        for layer in net.eval().features:  # type: ignore[union-attr]
            x = layer(x)
            if not shapes or tuple(x.shape[1:]) != shapes[-1]:
                shapes.append(tuple(x.shape[1:]))
    assert shapes == [(64, 56, 56), (64, 28, 28), (128, 14, 14), (128, 7, 7), (512, 7, 7)]
    assert len(net.features) == 2 + 1 + 4 + 1 + 6 + 1 + 2 + 1  # type: ignore[arg-type]


def test_blocks_and_width_count() -> None:
    plain = cost("mobilefacenet", 8, 64)
    assert cost("mobilefacenet", 8, 64, blocks=(1, 5, 6, 2)).parameters > plain.parameters
    assert cost("mobilefacenet", 8, 64, blocks=(2, 4, 6, 2)).parameters > plain.parameters
    assert cost("mobilefacenet", 8, 64, width=4).parameters > 1.5 * plain.parameters
    assert cost("mobilefacenet", 8, 64, blocks=[1, 4, 6, 2]) == plain  # YAML has lists


@pytest.mark.parametrize(
    "options",
    [
        {"width": 0},
        {"width": "wide"},
        {"width": 1.5},
        {"blocks": (1, 4, 6)},
        {"blocks": (1, 4, 6, 0)},
        {"blocks": 3},
        {"dropout": 1.5},
    ],
)
def test_an_option_out_of_range_is_one_line(options: dict[str, Any]) -> None:
    with pytest.raises(wb.WorkbenchError) as caught:
        wb.backbones.create("mobilefacenet", embedding_dim=8, image_size=16, **options)
    assert "\n" not in str(caught.value)
