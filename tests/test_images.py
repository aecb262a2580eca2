"""Decoding of image files of any origin to upright RGB, and the errors for those that fail."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from workbench import images


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def four_colours() -> NDArray[np.uint8]:
    """32 x 48 with a different colour in each quarter, so that each rotation changes it."""
    pixels = np.zeros((32, 48, 3), dtype=np.uint8)
    pixels[:16, :24] = (250, 0, 0)
    pixels[:16, 24:] = (0, 250, 0)
    pixels[16:, :24] = (0, 0, 250)
    pixels[16:, 24:] = (250, 250, 250)
    return pixels


def noise() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


def png_header(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    )


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF"])
def test_lossless_formats_come_back_pixel_by_pixel(kind: str) -> None:
    decoded = images.decode(encoded(Image.fromarray(noise()), kind))
    assert decoded.dtype == np.uint8
    assert np.array_equal(decoded, noise())


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", b"\x00" * 5000, b"%PDF-1.7 ...", b"<svg/>"],
    ids=["empty", "text", "zeros", "pdf", "svg"],
)
def test_data_that_are_no_image_are_refused(data: bytes, complaint: Callable[..., Any]) -> None:
    with complaint("holiday/7.jpg", "image"):
        images.decode(data, where="holiday/7.jpg")


def test_sixty_megapixels_are_refused(complaint: Callable[..., Any]) -> None:
    data = encoded(Image.new("1", (10_000, 6_000)), "PNG")
    with complaint("big.png", "10000 x 6000", "60 megapixels", "50"):
        images.decode(data, where="big.png")


@pytest.mark.usefixtures("modest_memory")
@pytest.mark.parametrize("side", [8_000, 100_000, 2**31 - 1])
def test_a_decompression_bomb_is_refused_unread(side: int, complaint: Callable[..., Any]) -> None:
    rows = zlib.compress(bytes(1_000_000))
    with complaint("bomb.png"):
        images.decode(
            png_header(side, side) + struct.pack(">I", len(rows)) + b"IDAT" + rows, where="bomb.png"
        )


def test_the_pixel_limit_can_be_set(complaint: Callable[..., Any]) -> None:
    data = encoded(Image.new("RGB", (20, 10)), "PNG")
    assert images.decode(data, max_pixels=200).shape == (10, 20, 3)
    with complaint("20 x 10"):
        images.decode(data, max_pixels=199)


def test_cmyk_jpeg_becomes_rgb() -> None:
    decoded = images.decode(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"))
    assert decoded.shape == (16, 16, 3)
    assert np.abs(decoded.astype(int) - (255, 0, 0)).max() <= 4


def test_the_first_frame_of_an_animation_is_used() -> None:
    frames = [Image.new("RGB", (9, 7), colour) for colour in ("red", "lime", "blue")]
    decoded = images.decode(
        encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50)
    )
    assert decoded.shape == (7, 9, 3)
    assert (decoded == (255, 0, 0)).all()


STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),  # to be rotated clockwise, so it is stored rotated the other way
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(STORED[orientation](four_colours()))
    decoded = images.decode(
        encoded(Image.fromarray(stored), "JPEG", exif=exif, quality=95, subsampling=0)
    )
    assert decoded.shape == (32, 48, 3)
    assert np.abs(decoded.astype(int) - four_colours()).max() < 40


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "PPM"])
def test_grey_becomes_three_equal_channels(kind: str) -> None:
    grey = np.repeat(np.arange(0, 256, 8, dtype=np.uint8)[None], 16, axis=0)
    decoded = images.decode(encoded(Image.fromarray(grey), kind))
    assert decoded.shape == (16, 32, 3)
    assert (decoded == decoded[:, :, :1]).all()
    assert np.abs(decoded[:, :, 0].astype(int) - grey).max() <= 3


@pytest.mark.parametrize(("mode", "colour"), [("RGBA", (200, 100, 0, 0)), ("LA", (30, 0))])
def test_transparent_pixels_become_white(mode: str, colour: tuple[int, ...]) -> None:
    assert (images.decode(encoded(Image.new(mode, (4, 4), colour), "PNG")) == 255).all()


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [("RGBA", (200, 100, 0, 128), (227, 177, 127)), ("LA", (55, 128), (155, 155, 155))],
)
def test_half_transparent_pixels_are_mixed_with_white(
    mode: str, colour: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    decoded = images.decode(encoded(Image.new(mode, (4, 4), colour), "PNG"))
    assert np.abs(decoded.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_palette_with_a_transparent_colour(kind: str) -> None:
    image = Image.new("P", (6, 4), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(0, (0, 0, 3, 4))
    decoded = images.decode(encoded(image, kind, transparency=0))
    assert (decoded[:, :3] == 255).all()
    assert (decoded[:, 3:] == (0, 0, 255)).all()


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    levels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    decoded = images.decode(encoded(Image.fromarray(levels * 257), "PNG"))
    assert np.array_equal(decoded, np.repeat(levels.astype(np.uint8)[:, :, None], 3, axis=2))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
@pytest.mark.parametrize("part", [0.02, 0.3, 0.7])
def test_a_cut_off_file_is_an_error(kind: str, part: float, complaint: Callable[..., Any]) -> None:
    data = encoded(Image.fromarray(noise()), kind)
    with complaint("cut.img"):
        images.decode(data[: int(len(data) * part)], where="cut.img")


@pytest.mark.parametrize("data", [b"P5 0 0 255\n", b"P6 4 0 255\n", b"P5 -1 4 255\n", b"P5 x"])
def test_an_image_without_pixels_is_an_error(data: bytes, complaint: Callable[..., Any]) -> None:
    with complaint("none.pgm"):
        images.decode(data, where="none.pgm")


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM"]),
    seed=st.integers(0, 2**32),
)
@pytest.mark.filterwarnings("ignore")  # Pillow warns about broken files
def test_a_mutated_file_is_an_image_or_a_readable_error(
    kind: str,
    seed: int,
    mutate: Callable[[bytes, int], bytes],
    at_worst_complaint: Callable[..., Any],
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif} if kind in ("JPEG", "PNG", "WEBP", "TIFF") else {}
    with at_worst_complaint("odd.jpg: "):
        decoded = images.decode(
            mutate(encoded(Image.fromarray(four_colours()), kind, **options), seed), where="odd.jpg"
        )
        assert decoded.dtype == np.uint8
        assert decoded.ndim == 3
        assert decoded.shape[2] == 3
        assert decoded.size > 0


def test_reading_a_file_and_a_missing_file(tmp_path: Path, complaint: Callable[..., Any]) -> None:
    Image.fromarray(noise()).save(tmp_path / "a.png")
    assert np.array_equal(images.read(tmp_path / "a.png"), noise())
    with complaint(tmp_path / "b.png", "No such file"):
        images.read(tmp_path / "b.png")
    with complaint(tmp_path):
        images.read(tmp_path)


@pytest.mark.parametrize("size", [(112, 112), (112, 96), (5, 200), (1, 1)])
def test_fit_returns_the_requested_size(size: tuple[int, int]) -> None:
    assert images.fit(noise(), size).shape == (*size, 3)


def test_fit_leaves_an_image_of_the_right_size_alone() -> None:
    image = noise()
    assert images.fit(image, (40, 56)) is image


def test_fit_keeps_proportions_and_crops_the_sides() -> None:
    y, x = np.mgrid[:100, :200]
    disc = ((y - 49.5) ** 2 + (x - 99.5) ** 2 < 30**2) * np.uint8(255)
    small = (
        images.fit(np.repeat(disc[:, :, None], 3, axis=2).astype(np.uint8), (50, 50))[:, :, 0] > 127
    )
    assert np.array_equal(small, small[::-1])
    assert abs(int(small.any(axis=0).sum()) - 30) <= 1  # as wide
    assert abs(int(small.any(axis=1).sum()) - 30) <= 1  # as high: still a disc, at half the size


def test_to_png_is_decoded_to_the_same_pixels() -> None:
    assert np.array_equal(images.decode(images.to_png(noise())), noise())
