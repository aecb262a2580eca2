"""Mean and standard deviation of pixels: one number or three, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from workbench.data.batches import to_network
from workbench.scaling import as_text, formula, per_channel, read_per_channel

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def test_numbers_and_lists_of_three_are_taken() -> None:
    assert (per_channel(127.5, "it"), per_channel(3, "it")) == (127.5, 3.0)
    assert per_channel(list(MEAN), "it") == per_channel(MEAN, "it") == MEAN
    assert per_channel(-1.0, "it") == -1.0


@pytest.mark.parametrize(
    "value",
    [
        None,
        "127.5",
        True,
        [],
        [1.0],
        [1, 2],
        [1, 2, 3, 4],
        {"r": 1},
        [1, 2, None],
        float("nan"),
        10**400,
    ],
)
def test_other_values_are_one_line(value: Any, complaint: Any) -> None:
    with complaint("pixel_mean must be a number, or a list of three"):
        per_channel(value, "pixel_mean")


@pytest.mark.parametrize("value", [0, -1.0, [1, 2, 0], [1, float("inf"), 2]])
def test_a_standard_deviation_is_positive(value: Any, complaint: Any) -> None:
    with complaint("pixel_std must be a positive number, or a list of three"):
        per_channel(value, "pixel_std", positive=True)


def test_text_is_read_as_it_was_written(complaint: Any) -> None:
    for value in (127.5, 0.1 + 0.2, MEAN):
        assert read_per_channel(as_text(value), "it") == value
    assert read_per_channel(" 1, 2 ,3", "it") == (1.0, 2.0, 3.0)
    for text in ("", "much", "1,2", "1,2,3,4", "1;2;3"):
        with complaint(
            "--pixel-mean",
            "expected a number such as 127.5, or three such as 123.675,116.28,103.53",
        ):
            read_per_channel(text, "--pixel-mean")


def test_the_formula_can_be_read() -> None:
    assert formula(127.5, 128.0) == "(x - 127.5) / 128"
    assert formula(MEAN, 255.0) == "(x - [123.675, 116.28, 103.53]) / 255"


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
def test_each_channel_of_the_input_has_its_own_numbers(channels: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3), dtype=np.uint8)
    found = to_network(torch.from_numpy(pixels).permute(0, 3, 1, 2), MEAN, STD, channels).numpy()
    for place, colour in enumerate((0, 1, 2) if channels == "rgb" else (2, 1, 0)):
        expected = (pixels[..., colour].astype(np.float64) - MEAN[place]) / STD[place]
        np.testing.assert_allclose(found[:, place], expected, atol=1e-5)


def test_imagenets_convention_is_torchvisions() -> None:
    from torchvision.transforms.v2.functional import normalize, to_dtype

    pixels = torch.randint(
        0, 256, (2, 3, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    theirs = normalize(
        to_dtype(pixels, torch.float32, scale=True), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    )
    torch.testing.assert_close(
        to_network(pixels, MEAN, STD), theirs, atol=1e-5, rtol=0, check_stride=False
    )
