"""Scale, rotation, shift, aspect, corners and crops, against torchvision, SciPy and by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from workbench import augmentation
from workbench.augmentation.affine import Affine
from workbench.augmentation.crop import crop
from workbench.augmentation.rectangles import draw_rectangles
from workbench.augmentation.stages import resample
from workbench.augmentation.warp import Warp, _homographies

SIZES = [(32, 32), (40, 28), (21, 33)]


def image(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(1, 3, 6, 6, generator=generator) * 255
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return smooth.clamp(0, 255).to(torch.uint8)


def close(first: Tensor, second: Tensor) -> bool:
    """Whether images agree but for rounding."""
    return int((first.int() - second.int()).abs().max()) <= 1


def uniform(*values: float) -> Tensor:
    return torch.tensor([values])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("share", [0.0, 0.2, 0.9])
def test_affine_is_torchvisions(size: tuple[int, int], share: float) -> None:
    """Random numbers `share` lead to known values, which torchvision applies."""
    height, width = size
    picture = image(height, width)
    affine = Affine(scale=(0.8, 1.25), rotation=30.0, shift=0.1)
    result = resample(picture, affine.matrices(uniform(*[share] * 5), size))
    expected = tv.affine(
        picture,
        angle=-30 + 60 * share,
        translate=[width * (0.2 * share - 0.1), height * (0.2 * share - 0.1)],
        scale=math.exp(math.log(0.8) + share * math.log(1.25 / 0.8)),
        shear=[0.0, 0.0],
        interpolation=tv.InterpolationMode.BILINEAR,
        fill=None,  # with a colour, torchvision makes the pixels at the edge twice as dark
    )
    assert close(result, expected)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("ratio", [0.6, 1.5])
def test_aspect_is_scipys(size: tuple[int, int], ratio: float) -> None:
    height, width = size
    picture = image(height, width)
    result = resample(picture, Affine(aspect=(ratio, ratio)).matrices(uniform(*[0.5] * 5), size))
    wider = math.sqrt(ratio)
    steps = np.array([wider, 1 / wider])  # a step in the new image, in pixels of the old one
    centre = (np.array(size) - 1) / 2
    for channel in range(3):
        expected = ndimage.affine_transform(
            picture[0, channel].double().numpy(),
            np.diag(steps),
            centre - steps * centre,
            order=1,
            mode="grid-constant",
        )
        assert np.abs(result[0, channel].numpy() - expected).max() <= 0.51


@pytest.mark.parametrize("size", SIZES)
def test_warp_is_torchvisions_perspective(size: tuple[int, int]) -> None:
    height, width = size
    picture = image(height, width)
    numbers = torch.rand(1, 8, generator=torch.Generator().manual_seed(2))
    result = resample(picture, Warp(distance=0.2).matrices(numbers, size))
    # torchvision counts from the centre of the first pixel, so the corners are at -0.5.
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]]) - 0.5
    moved = (0.4 * numbers.double().view(4, 2).numpy() - 0.2) * [width, height]
    expected = tv.perspective(
        picture,
        startpoints=None,
        endpoints=None,
        interpolation=tv.InterpolationMode.BILINEAR,
        fill=None,
        coefficients=_coefficients(corners + moved, corners),
    )
    assert close(result, expected)


def _coefficients(start: np.ndarray, end: np.ndarray) -> list[float]:
    """The homography from `start` to `end`, by the null space of 8 x 9 homogeneous equations.

    torchvision's own solver is exact only for whole coordinates. Its coefficients count from the
    upper left corner, half a pixel away.
    """
    rows = []
    for (x, y), (u, v) in zip(start + 0.5, end + 0.5, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y, -u])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y, -v])
    solution = np.linalg.svd(np.array(rows))[2][-1]
    return (solution / solution[-1])[:8].tolist()


def test_homographies_map_the_points() -> None:
    generator = torch.Generator().manual_seed(3)
    start, end = torch.rand(2, 50, 4, 2, generator=generator, dtype=torch.float64)
    matrices = _homographies(start, end)
    mapped = torch.cat([start, torch.ones(50, 4, 1)], -1) @ matrices.mT
    torch.testing.assert_close(mapped[..., :2] / mapped[..., 2:], end, rtol=1e-6, atol=1e-6)


def test_the_largest_distance_keeps_corners_convex() -> None:
    generator = torch.Generator().manual_seed(4)
    numbers = torch.randint(0, 2, (500, 8), generator=generator).float()  # the extreme positions
    matrices = Warp(distance=0.24).matrices(numbers, (100, 100))
    corners = torch.tensor([[-50, -50, 1], [50, -50, 1], [50, 50, 1], [-50, 50, 1]]).double()
    moved = torch.cat(
        [corners[:, :2] + (numbers.view(-1, 4, 2) * 2 - 1) * 24, torch.ones(500, 4, 1)], -1
    )
    # The denominator of a homography has one sign on a convex quadrilateral.
    assert ((moved @ matrices.mT)[..., 2] > 0).all()


def test_neighbours_are_one_resampling_in_the_order_of_the_list() -> None:
    picture = image(64, 64)
    shift = Affine(shift=0.25).matrices(uniform(0.5, 0.5, 1.0, 0.5, 0.5), (64, 64))
    turn = Affine(rotation=90.0).matrices(uniform(0.5, 1.0, 0.5, 0.5, 0.5), (64, 64))
    one_pass = resample(picture, shift @ turn)
    two_passes = resample(resample(picture, shift), turn)
    assert torch.equal(one_pass, two_passes)
    assert not torch.equal(one_pass, resample(picture, turn @ shift))
    # A pixel that was at the centre moves to the right, and then turns clockwise: it is below.
    point = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    point[:, :, 31:33, 31:33] = 255
    moved = resample(point, shift @ turn)[0, 0].nonzero().double().mean(0)
    assert moved.tolist() == [31.5 + 16, 31.5]


def test_identity_keeps_the_bits() -> None:
    picture = image(33, 20)
    steps: list[dict[str, Any]] = [
        {"affine": {"rotation": 0.0, "scale": [1, 1], "aspect": [1, 1]}},
        {"warp": {"distance": 0.0}},
        {"crop": {"probability": 1.0, "area": [1, 1], "ratio": [20 / 33] * 2, "resize": True}},
    ]
    result = augmentation.create(steps)(picture, torch.Generator().manual_seed(0))
    assert torch.equal(result, picture)


def test_quarter_turns_keep_the_bits() -> None:
    picture = image(24, 24)
    turn = Affine(rotation=90.0).matrices(uniform(0.5, 1.0, 0.5, 0.5, 0.5), (24, 24))
    assert torch.equal(resample(picture, turn), picture.rot90(-1, (2, 3)))


@pytest.mark.parametrize("size", SIZES)
def test_a_resized_crop_is_torchvisions(size: tuple[int, int]) -> None:
    step = crop(1.0, area=(0.3, 0.8), resize=True)
    assert isinstance(step, augmentation.GeometricStep)
    numbers = torch.rand(1, 4, generator=torch.Generator().manual_seed(5))
    box = draw_rectangles(numbers, size, (0.3, 0.8), (0.75, 4 / 3))
    picture = image(*size)
    result = resample(picture, step.matrices(numbers, size))
    expected = tv.resized_crop(
        picture, *(int(side) for side in box), size=list(size), antialias=False
    )
    # At the edge of the crop, torchvision repeats the last pixel instead of using the next one.
    assert close(result[..., 3:-3, 3:-3], expected[..., 3:-3, 3:-3])


def test_a_crop_in_place_keeps_one_rectangle_of_the_drawn_area() -> None:
    white = torch.full((300, 3, 50, 40), 255, dtype=torch.uint8)
    spec = [{"crop": {"probability": 1.0, "area": [0.2, 1.0]}}]
    result = augmentation.create(spec)(white, torch.Generator().manual_seed(6))
    kept = result[:, 0] > 0
    rows, columns = kept.any(2).sum(1), kept.any(1).sum(1)
    assert torch.equal(kept.sum((1, 2)), rows * columns)  # a rectangle
    share = kept.float().mean((1, 2))
    assert 0.18 < float(share.min()) < 0.25
    assert float(share.max()) > 0.9
    assert set(result.unique().tolist()) == {0, 255}


def test_rectangles_have_the_area_the_ratio_and_lie_inside() -> None:
    numbers = torch.rand(500, 4, generator=torch.Generator().manual_seed(7))
    box = draw_rectangles(numbers, (100, 150), (0.1, 0.4), (0.5, 2.0))
    area = (box.height * box.width).double() / (100 * 150)
    ratio = box.width.double() / box.height
    assert 0.095 < float(area.min()) < 0.11
    assert 0.38 < float(area.max()) < 0.41
    assert abs(float(ratio.log().mean())) < 0.1  # a ratio and its reciprocal are equally likely
    assert (box.top >= 0).all()
    assert (box.left >= 0).all()
    assert (box.top + box.height <= 100).all()
    assert (box.left + box.width <= 150).all()
    assert int((box.left + box.width == 150).sum()) > 0
    mask = box.inside((100, 150), torch.device("cpu"))
    assert torch.equal(mask.sum((1, 2, 3)), box.height * box.width)
