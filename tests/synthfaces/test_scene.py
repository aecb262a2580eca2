"""Images agree with their ground truth: landmarks, pose, occlusion and light."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import center_of_mass

from workbench import images
from workbench.geometry import ARCFACE
from workbench.synthfaces.anatomy import Anatomy
from workbench.synthfaces.scene import Taken
from workbench.synthfaces.shot import EXPRESSIONS, OCCLUDERS

Camera = Callable[..., Taken]
Luminance = Callable[[bytes], NDArray[np.float64]]
PEOPLE = range(8)


def test_plain_faces_lie_on_the_template(take: Camera) -> None:
    off = np.array([take(number).landmarks - ARCFACE for number in PEOPLE])
    assert np.linalg.norm(off, axis=2).max() < 8
    assert np.linalg.norm(off, axis=2).mean() < 3.5
    assert np.abs(off.mean(axis=(0, 1))).max() < 1
    # Frontal: both eyes have the same height, and the nose is between them.
    marks = np.array([take(number).landmarks for number in PEOPLE])
    assert np.abs(marks[:, 0, 1] - marks[:, 1, 1]).max() < 2.5
    assert np.abs(marks[:, 2, 0] - marks[:, :2, 0].mean(axis=1)).max() < 3


@pytest.mark.parametrize("size", [32, 48, 100, 224])
def test_landmarks_scale_with_the_image(take: Camera, size: int) -> None:
    options = {"yaw": 20.0, "pitch": 5.0, "roll": 4.0, "shift": (1.5, -2.0), "zoom": 1.05}
    small, large = take(2, **options), take(2, size=size, **options)
    assert images.decode(large.jpeg).shape == (size, size, 3)
    assert large.landmarks.dtype == np.float32
    assert np.allclose(large.landmarks / size, small.landmarks / 112, atol=1e-5)


def test_images_of_two_sizes_are_alike(take: Camera) -> None:
    # The same places are equally bright, so the landmarks of one size fit the other size.
    small, large = (
        images.decode(take(1, size=size, hardness=0.4).jpeg).astype(float) for size in (56, 112)
    )
    halved = large.reshape(56, 2, 56, 2, 3).mean(axis=(1, 3))
    assert np.abs(halved - small)[10:46, 10:46].mean() < 6


def _nose_off_the_middle(marks: NDArray[np.float32]) -> tuple[float, float]:
    """Offset of the nose to the right and downwards, in distances between eyes and mouth."""
    eyes, mouth = marks[:2].mean(axis=0), marks[3:].mean(axis=0)
    right, down = (marks[2] - (eyes + mouth) / 2) / np.linalg.norm(mouth - eyes)
    return float(right), float(down)


def test_yaw_turns_to_the_right_of_the_image(take: Camera) -> None:
    for number in PEOPLE:
        right = [
            _nose_off_the_middle(take(number, size=48, yaw=yaw).landmarks)[0]
            for yaw in (-60.0, -30.0, 0.0, 30.0, 60.0)
        ]
        assert (np.diff(right) > 0).all()
        assert right[0] < -0.2
        assert abs(right[2]) < 0.08
        assert right[4] > 0.2


def test_pitch_turns_up(take: Camera) -> None:
    for number in PEOPLE:
        down = [
            _nose_off_the_middle(take(number, size=48, pitch=pitch).landmarks)[1]
            for pitch in (-20.0, 0.0, 20.0)
        ]
        assert (np.diff(down) < -0.03).all()


def test_roll_leans_clockwise(take: Camera) -> None:
    for roll in (-15.0, 0.0, 15.0):
        across = np.array(
            [
                np.diff(take(number, size=48, roll=roll).landmarks[:2], axis=0)[0]
                for number in PEOPLE
            ]
        )
        assert np.degrees(np.arctan2(across[:, 1], across[:, 0])) == pytest.approx(roll, abs=3)


def test_profiles_show_one_side(take: Camera) -> None:
    for yaw in (-90.0, 90.0):
        marks = take(3, yaw=yaw).landmarks
        assert np.isfinite(marks).all()
        assert np.abs(marks[0, 0] - marks[1, 0]) < 0.3 * np.linalg.norm(
            marks[:2].mean(axis=0) - marks[3:].mean(axis=0)
        )


def test_shift_and_zoom_move_the_face(take: Camera) -> None:
    still, moved, near = take(1), take(1, shift=(3.0, -2.0)), take(1, zoom=1.2)
    assert np.allclose(moved.landmarks - still.landmarks, [3, -2], atol=1e-4)
    assert np.ptp(near.landmarks, axis=0) == pytest.approx(
        1.2 * np.ptp(still.landmarks, axis=0), rel=1e-4
    )


@pytest.mark.parametrize(
    "turn", [{}, {"yaw": 25.0}, {"pitch": 12.0, "yaw": -20.0}, {"roll": 12.0, "shift": (3.0, 2.0)}]
)
def test_eyes_are_at_their_landmarks(
    take: Camera, luminance: Luminance, turn: dict[str, float]
) -> None:
    # Two images that differ only in the gaze differ only in the eyes.
    for number in (0, 1, 3):
        left, right = (take(number, size=224, gaze=(gaze, 0.0), **turn) for gaze in (-18.0, 18.0))
        changed = np.abs(luminance(left.jpeg) - luminance(right.jpeg))
        changed[changed < 12] = 0
        marks = left.landmarks[:2]
        column, row = np.meshgrid(np.arange(224) + 0.5, np.arange(224) + 0.5)
        near = np.array([np.hypot(column - x, row - y) < 26 for x, y in marks])
        assert changed[near.any(axis=0)].sum() > 0.95 * changed.sum()
        for eye, mark in zip(near, marks, strict=True):
            down, across = center_of_mass(changed * eye)
            assert np.hypot(across + 0.5 - mark[0], down + 0.5 - mark[1]) < 7  # of 224


def test_irises_are_dark_and_lips_are_red(take: Camera, luminance: Luminance) -> None:
    irises, cheeks, lips, chins = [], [], [], []
    for number in range(12):
        taken = take(number)
        grey, colour = luminance(taken.jpeg), images.decode(taken.jpeg).astype(float)
        red = colour[..., 0] / np.maximum(colour.sum(axis=2), 1)

        def at(picture: NDArray[np.float64], x: float, y: float) -> float:
            return float(picture[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2].mean())

        for x, y in taken.landmarks[:2]:
            irises.append(at(grey, x, y))
            cheeks.append(at(grey, x, y + 20))
        x, y = taken.landmarks[3:].mean(axis=0)
        lips.append(max(at(red, x, y + down) for down in (-2, 0, 2, 4)))
        chins.append(at(red, *(taken.landmarks[2] + taken.landmarks[:2].mean(axis=0)) / 2))
    assert np.mean(irises) < 0.7 * np.mean(cheeks)
    assert np.mean(lips) > np.mean(chins) + 0.01


def test_a_near_camera_makes_noses_large(take: Camera) -> None:
    # The tip of the nose is in front of the eyes, so a near camera enlarges its offset.
    for number in PEOPLE:
        near, far = (
            _nose_off_the_middle(take(number, size=48, distance=d, yaw=30.0).landmarks)[0]
            for d in (4.0, 25.0)
        )
        assert near > 1.05 * far


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_a_panel_covers_the_requested_share(take: Camera, share: float) -> None:
    for number, angle, yaw in [
        (0, 0.0, 0.0),
        (1, 90.0, 0.0),
        (2, 200.0, 0.0),
        (3, 310.0, 30.0),
        (4, 45.0, -75.0),
    ]:
        covered = take(number, size=64, occluder="panel", share=share, angle=angle, yaw=yaw).covered
        assert covered == pytest.approx(share, abs=0.03)


def test_a_panel_comes_from_its_side(take: Camera) -> None:
    open_face = images.decode(take(0).jpeg).astype(float)
    for angle, side in [
        (0.0, np.s_[:, 80:]),
        (90.0, np.s_[80:]),
        (180.0, np.s_[:, :32]),
        (270.0, np.s_[:32]),
    ]:
        change = np.abs(
            images.decode(take(0, occluder="panel", share=0.3, angle=angle).jpeg) - open_face
        ).mean(axis=2)
        assert change[side].mean() > 2 * change[40:72, 40:72].mean()


@pytest.mark.parametrize("occluder", OCCLUDERS)
def test_occluders_hide_something(take: Camera, occluder: str) -> None:
    shares = []
    for number in PEOPLE:
        free, hidden = (
            take(number, occluder=name, share=0.3, angle=20.0, backdrop=number)
            for name in ("", occluder)
        )
        assert free.covered == 0
        shares.append(hidden.covered)
        assert np.allclose(
            hidden.landmarks, free.landmarks
        )  # the ground truth of a hidden face is unchanged
        assert (images.decode(free.jpeg) != images.decode(hidden.jpeg)).mean() > 0.05
    assert 0.03 < np.mean(shares) < 0.8
    assert min(shares) > 0
    assert max(shares) < 0.95


def test_grey_images_are_grey(take: Camera) -> None:
    for blur in (0.0, 1.0):
        pixels = images.decode(take(1, grey=True, grain=3.0, blur=blur).jpeg)
        assert pixels.shape == (112, 112, 3)
        assert np.ptp(pixels.astype(int), axis=2).max() <= 1
    colour = images.decode(take(1, grey=False).jpeg)
    assert np.ptp(colour.astype(int), axis=2).mean() > 8


def _face(picture: NDArray[np.float64]) -> NDArray[np.float64]:
    return picture[40:100, 32:80]


def test_exposure_brightens(take: Camera, luminance: Luminance) -> None:
    for number in (0, 1):
        levels = [
            _face(luminance(take(number, exposure=e).jpeg)).mean()
            for e in (0.4, 0.7, 1.0, 1.5, 2.5)
        ]
        assert (np.diff(levels) > 5).all()


def test_light_comes_from_its_side(take: Camera, luminance: Luminance) -> None:
    for number in range(6):
        hard = {"hardness": 0.9, "fill": (0.0, 40.0, 0.05)}
        right = _face(luminance(take(number, light=(70.0, 0.0), **hard).jpeg))
        left = _face(luminance(take(number, light=(-70.0, 0.0), **hard).jpeg))
        assert right[:, 26:].mean() > right[:, :22].mean() + 20
        assert left[:, :22].mean() > left[:, 26:].mean() + 20
        above, below = (
            luminance(take(number, light=(0.0, up), **hard).jpeg) for up in (60.0, -60.0)
        )
        under_the_nose, bridge = np.s_[77:82, 52:60], np.s_[56:62, 53:58]
        assert (
            above[under_the_nose].mean() - above[bridge].mean()
            < below[under_the_nose].mean() - below[bridge].mean() - 10
        )


def test_warmth_is_yellow(take: Camera) -> None:
    def yellow(warmth: float) -> float:
        pixels = images.decode(take(1, warmth=warmth, hardness=0.9).jpeg).astype(float)[
            40:100, 32:80
        ]
        return float((pixels[..., 0] - pixels[..., 2]).mean())

    assert yellow(-1.0) < yellow(0.0) < yellow(1.0)


def test_blur_and_grain(take: Camera, luminance: Luminance) -> None:
    def rough(**changes: float) -> float:
        return float(np.abs(np.diff(luminance(take(1, **changes).jpeg), axis=1)).mean())

    assert rough(blur=1.5) < 0.8 * rough()
    assert rough(grain=6.0) > 1.3 * rough()
    assert len(take(1, quality=40).jpeg) < len(take(1, quality=90).jpeg)


@pytest.mark.parametrize("expression", [name for name in EXPRESSIONS if name != "neutral"])
def test_expressions_move_the_face(take: Camera, head: Anatomy, expression: str) -> None:
    units: dict[str, float] = {}
    for unit, strength in EXPRESSIONS[expression].items():
        sides = [f"{unit}{side}" for side in ("Left", "Right")]
        units |= dict.fromkeys(sides if f"unit/{sides[0]}" in head.number else [unit], strength)
    still, moved = take(2), take(2, units=units)
    change = np.abs(images.decode(still.jpeg).astype(int) - images.decode(moved.jpeg))[
        30:105, 25:87
    ].mean()
    assert change > 1.5
    if expression == "smile":
        assert np.ptp(moved.landmarks[3:, 0]) > np.ptp(still.landmarks[3:, 0]) + 1


def test_an_image_is_a_function_of_its_shot(take: Camera) -> None:
    once, other, again = (take(4, yaw=yaw, grain=2.0, backdrop=7) for yaw in (10.0, -40.0, 10.0))
    assert once.jpeg == again.jpeg
    assert once.jpeg != other.jpeg
    assert np.array_equal(once.landmarks, again.landmarks)
