"""Template, fit and sampling, compared with formulas, scikit-image and OpenCV."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import Complaint
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from workbench import faces


def _matrix(
    scale: float = 1.0, degrees: float = 0.0, shift: tuple[float, float] = (0.0, 0.0)
) -> NDArray[np.float64]:
    a, b = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    return np.array([(a, -b, shift[0]), (b, a, shift[1])])


def _moved(points: NDArray[Any], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2])


def _smooth(height: int, width: int) -> NDArray[np.uint8]:
    y, x = np.mgrid[:height, :width]
    waves = [127 + 120 * np.sin(x / (7 + c) + y / (11 - c)) for c in range(3)]
    return np.stack(waves, axis=-1).astype(np.uint8)


def _noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


# --- template


def test_the_template_is_arcfaces() -> None:
    published = [
        (38.2946, 51.6963),
        (73.5318, 51.5014),
        (56.0252, 71.7366),
        (41.5493, 92.3655),
        (70.7299, 92.2041),
    ]
    np.testing.assert_allclose(faces.template(), published, atol=1e-9)
    np.testing.assert_allclose(faces.template((112, 96)), np.array(published) - (8, 0), atol=1e-9)


@pytest.mark.parametrize("times", [1, 2, 3, 8])
def test_multiples_of_112_scale_it(times: int) -> None:
    np.testing.assert_allclose(faces.template(112 * times), faces.ARCFACE * times, atol=1e-9)
    np.testing.assert_allclose(
        faces.template((112 * times, 96 * times)), (faces.ARCFACE - (8, 0)) * times, atol=1e-9
    )


@pytest.mark.parametrize("times", [1, 2, 4])
def test_multiples_of_128_scale_it_and_add_a_margin(times: int) -> None:
    np.testing.assert_allclose(
        faces.template(128 * times), (faces.template() + np.array((8, 0))) * times, atol=1e-9
    )


def test_a_multiple_of_both_is_one_of_112_as_in_insightface() -> None:
    np.testing.assert_allclose(faces.template(896), faces.ARCFACE * 8, atol=1e-9)


@pytest.mark.parametrize("size", [160, 64, (200, 150), (96, 112)])
def test_any_other_size_centres_the_template_in_its_width(size: Any) -> None:
    height, width = (size, size) if isinstance(size, int) else size
    expected = (faces.ARCFACE - (56, 0)) * height / 112 + (width / 2, 0)
    np.testing.assert_allclose(faces.template(size), expected, atol=1e-9)


@pytest.mark.parametrize(
    "size", [0, -112, 5000, 112.0, "112", True, (112,), (112, 112, 3), (112, 0), None]
)
def test_an_invalid_size_is_refused(size: Any, complaint: Complaint) -> None:
    for use in (faces.template, lambda size: faces.warp(_noise(9, 9), faces.ARCFACE, size)):
        with complaint("size of a crop", "1..4096"):
            use(size)


# --- fit


@settings(max_examples=60, deadline=None)
@given(
    scale=st.floats(0.01, 100),
    degrees=st.floats(-179, 179),
    x=st.floats(-1e4, 1e4),
    y=st.floats(-1e4, 1e4),
)
def test_a_transformed_template_is_recovered_exactly(
    scale: float, degrees: float, x: float, y: float
) -> None:
    fitted = faces.fit(_moved(faces.ARCFACE, _matrix(scale, degrees, (x, y))), faces.ARCFACE)
    assert fitted.residual < 1e-6
    assert fitted.scale == pytest.approx(1 / scale)
    assert fitted.angle == pytest.approx(degrees, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.sampled_from([112, 128, (112, 96), 224]))
def test_it_is_umeyamas_least_squares(seed: int, size: Any) -> None:
    transform = pytest.importorskip("skimage.transform")
    landmarks = np.random.default_rng(seed).normal(size=(5, 2)) * 30 + 100
    target = faces.template(size)
    fitted = faces.fit(landmarks, target)
    oracle = transform.SimilarityTransform.from_estimate(landmarks, target)
    np.testing.assert_allclose(fitted.matrix, oracle.params[:2], rtol=1e-8, atol=1e-8)


def test_no_similar_matrix_fits_better() -> None:
    rng = np.random.default_rng(1)
    landmarks = faces.ARCFACE + rng.normal(size=(5, 2)) * 4

    def error(matrix: NDArray[np.float64]) -> float:
        return float(np.sum((_moved(landmarks, matrix) - faces.ARCFACE) ** 2))

    fitted = faces.fit(landmarks, faces.ARCFACE)
    a, b, shift = fitted.matrix[0, 0], fitted.matrix[1, 0], fitted.matrix[:, 2]
    for step in rng.normal(size=(50, 4)) * 0.01:
        other = np.array(
            [
                (a + step[0], -b - step[1], shift[0] + step[2]),
                (b + step[1], a + step[0], shift[1] + step[3]),
            ]
        )
        assert error(other) > error(fitted.matrix)
    assert fitted.residual == pytest.approx(np.sqrt(error(fitted.matrix) / 5))


def test_the_residual_is_in_pixels_of_112_whatever_the_size() -> None:
    landmarks = faces.ARCFACE * 3 + np.random.default_rng(2).normal(size=(5, 2)) * 9
    residuals = [
        faces.fit(landmarks, faces.template(size)).residual
        for size in (112, 224, 128, (112, 96), 56)
    ]
    np.testing.assert_allclose(residuals, residuals[0], rtol=1e-9)


def test_a_mirrored_face_is_not_mirrored_back() -> None:
    fitted = faces.fit(faces.ARCFACE * (-1, 1), faces.ARCFACE)
    assert np.linalg.det(fitted.matrix[:, :2]) > 0
    assert fitted.residual > 10


@pytest.mark.parametrize(
    ("landmarks", "text"),
    [
        (np.zeros((5, 2)), "on a line or in one place"),
        (np.full((5, 2), 7e5), "on a line or in one place"),
        (np.stack([np.arange(5), 3 * np.arange(5)], axis=1), "on a line"),
        (np.where(np.eye(5, 2), np.nan, faces.ARCFACE), "not finite"),
        (np.where(np.eye(5, 2), np.inf, faces.ARCFACE), "not finite"),
        (np.zeros((4, 2)), "(4, 2)"),
        (np.zeros(10), "(10,)"),
    ],
)
def test_landmarks_that_determine_no_rotation_are_refused(
    landmarks: NDArray[Any], text: str, complaint: Complaint
) -> None:
    for use in (
        lambda: faces.fit(landmarks, faces.ARCFACE),
        lambda: faces.warp(_noise(9, 9), landmarks),
    ):
        with complaint("landmarks", text):
            use()
    if landmarks.shape == (5, 2):
        assert not faces.can_be_aligned(
            faces.Face(np.zeros(4, dtype=np.float32), landmarks.astype(np.float32), 1.0)
        )


# --- sampling


def test_landmarks_in_place_leave_the_image_unchanged() -> None:
    image = _noise(112, 112)
    np.testing.assert_array_equal(faces.warp(image, faces.ARCFACE), image)
    np.testing.assert_array_equal(faces.transform(image, _matrix(), (112, 112)), image)


def test_a_shift_by_whole_pixels_leaves_black_outside() -> None:
    image = _noise(20, 30)
    moved = faces.transform(image, _matrix(shift=(3, -2)), (20, 30))
    np.testing.assert_array_equal(moved[:18, 3:], image[2:, :27])
    assert not moved[18:].any()
    assert not moved[:, :3].any()


def test_a_rotation_by_90_degrees_moves_whole_pixels() -> None:
    image = _noise(15, 15)
    turned = faces.transform(image, _matrix(degrees=90, shift=(14, 0)), (15, 15))
    np.testing.assert_array_equal(turned, np.rot90(image, -1))


def test_between_pixels_it_is_linear_and_rounded() -> None:
    image = np.array([(10, 11, 20)], dtype=np.uint8)[..., None].repeat(3, axis=2).repeat(4, axis=0)
    row = faces.transform(image, _matrix(shift=(-0.75, 0)), (4, 3))[1, :, 0]
    assert row.tolist() == [11, 18, 5]  # 10.75, 17.75, and a quarter of 20 at the black border


@pytest.mark.parametrize("size", [(112, 112), (112, 96), (96, 130)])
@pytest.mark.parametrize(
    "matrix",
    [_matrix(0.75, 17, (9, -30)), _matrix(1.9, -120, (100, 200)), _matrix(0.55, 2, (60, 50))],
)
def test_it_samples_as_opencv_does(matrix: NDArray[np.float64], size: tuple[int, int]) -> None:
    cv2 = pytest.importorskip("cv2", exc_type=ImportError)
    image = _noise(140, 170)
    peer = cv2.warpAffine(image, matrix, size[::-1], flags=cv2.INTER_LINEAR, borderValue=0)
    gap = np.abs(faces.transform(image, matrix, size).astype(int) - peer)
    assert gap.mean() < 0.5  # older versions of OpenCV round positions to 1/32 of a pixel
    assert np.quantile(gap, 0.99) <= 8


def test_it_samples_as_scikit_image_does() -> None:
    transform = pytest.importorskip("skimage.transform")
    image, matrix = _noise(140, 170), _matrix(0.8, -25, (-10, 45))
    inverse = transform.AffineTransform(matrix=np.vstack([matrix, (0, 0, 1)])).inverse
    peer = transform.warp(
        image.astype(np.float64), inverse, output_shape=(112, 112), order=1, cval=0
    )
    gap = np.abs(faces.transform(image, matrix, (112, 112)) - peer)
    assert gap.max() < 0.51


@pytest.mark.parametrize("scale", [0.5, 0.3, 0.1])
def test_a_large_face_is_averaged_before_sampling(scale: float) -> None:
    """A fine pattern becomes grey without aliasing, and a coarse one stays in its place."""
    side = int(112 / scale)
    fine = (
        ((np.indices((side, side)).sum(0) % 2) * 255).astype(np.uint8)[..., None].repeat(3, axis=2)
    )
    crop = faces.transform(fine, _matrix(scale), (112, 112))[4:-4, 4:-4]
    assert np.abs(crop.astype(int) - 127).max() <= 16
    y, x = np.mgrid[:side, :side]
    slope = np.stack([x, y, x], axis=-1) * 250 / side
    crop = faces.transform(slope.astype(np.uint8), _matrix(scale), (112, 112))[4:-4, 4:-4]
    expected = np.mgrid[4:108, 4:108].transpose(1, 2, 0)[..., [1, 0, 1]] / scale * 250 / side
    assert np.abs(crop - expected).max() < 1.6  # the slope itself is truncated to integers


@pytest.mark.parametrize("scale", [0.9, 0.45, 0.238, 0.202, 0.107])
@pytest.mark.parametrize("degrees", [0, -4, 27])
def test_no_dark_pixels_appear_at_the_border(scale: float, degrees: float) -> None:
    for side in (12, 14, 16):
        factor = scale * np.exp(1j * np.radians(degrees))
        turn = np.array([(factor.real, -factor.imag), (factor.imag, factor.real)])
        matrix = np.column_stack([turn, (side - 1) / 2 - turn @ (150, 150)])
        assert (
            faces.transform(np.full((300, 300, 3), 255, dtype=np.uint8), matrix, (side, side))
            == 255
        ).all()


def test_only_the_visible_part_needs_memory(modest_memory: None) -> None:
    image = np.zeros((6000, 8000, 3), dtype=np.uint8)
    landmarks = faces.template() + np.array((5000, 4000))
    assert faces.warp(image, landmarks).shape == (112, 112, 3)


def test_a_crop_outside_the_image_is_black() -> None:
    for shift in ((500.0, 0.0), (-500.0, 3.0), (0.0, 1e6)):
        assert not faces.transform(_noise(50, 50), _matrix(shift=shift), (40, 30)).any()


def test_the_image_is_unchanged_and_may_be_a_view() -> None:
    image = _noise(120, 120)
    view = image[::-1, ::-1]
    view.setflags(write=False)
    before = image.copy()
    np.testing.assert_array_equal(
        faces.warp(view, faces.ARCFACE), faces.warp(view.copy(), faces.ARCFACE)
    )
    np.testing.assert_array_equal(image, before)


# --- crop


def _box(*corners: float) -> faces.Face:
    return faces.Face(np.array(corners, dtype=np.float32), faces.ARCFACE.astype(np.float32), 1.0)


def test_a_crop_without_margin_is_the_box() -> None:
    image = _noise(60, 80)
    cut = faces.crop(image, _box(9.5, 19.5, 39.5, 49.5), size=30, margin=0)
    np.testing.assert_array_equal(cut, image[20:50, 10:40])


@pytest.mark.parametrize(("size", "margin"), [(60, 0.5), ((60, 40), 0.25), (20, 0.1)])
def test_a_crop_holds_the_box_in_its_middle(size: Any, margin: float) -> None:
    image = np.zeros((200, 200, 3), dtype=np.uint8)
    image[80:120, 90:110] = 255
    cut = faces.crop(image, _box(89.5, 79.5, 109.5, 119.5), size=size, margin=margin)
    height, width = cut.shape[:2]
    assert (height, width) == ((size, size) if isinstance(size, int) else size)
    rows, columns = np.nonzero(cut[..., 0] > 127)
    assert rows.mean() == pytest.approx((height - 1) / 2, abs=0.51)
    assert columns.mean() == pytest.approx((width - 1) / 2, abs=0.51)
    assert np.ptp(rows) + 1 == pytest.approx(height / (1 + 2 * margin), abs=1.1)


@pytest.mark.parametrize("corners", [(5, 5, 5, 9), (5, 5, 3, 9), (np.nan, 0, 9, 9)])
def test_an_empty_box_is_refused(corners: tuple[float, ...], complaint: Complaint) -> None:
    with complaint("box", "x0 < x1"):
        faces.crop(_noise(9, 9), _box(*corners))


@pytest.mark.parametrize("margin", [-0.5, 11, np.nan, "0.2"])
def test_a_margin_out_of_range_is_refused(margin: Any, complaint: Complaint) -> None:
    with complaint("margin"):
        faces.crop(_noise(9, 9), _box(1, 1, 8, 8), margin=margin)
