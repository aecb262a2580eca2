"""Bytes to pixels, the one place where image files of any origin are decoded and brought to size."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from workbench.errors import WorkbenchError

MAX_PIXELS = 50_000_000
"""Larger pictures are refused before a single pixel is decoded: a 60-megapixel RGB image takes 180 MB."""
MAX_SCANNED = 20 * MAX_PIXELS
"""Pixels times scans of a JPEG: ten scans are usual, and a thousand of 77 bytes each would take minutes."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})


def decode(data: bytes, where: str = "image", max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode an encoded image to upright RGB.

    EXIF orientation is applied, grey and CMYK become RGB, transparency is laid on white, of an animation the first frame
    is taken, and 16-bit grey is scaled to 8 bits.

    Args:
        data: the bytes of a file in one of `FORMATS`.
        where: what to call the image in an error (a path, a record's key).
        max_pixels: width times height that is still decoded.

    Returns:
        (H, W, 3) uint8.

    Raises:
        WorkbenchError: empty, truncated, not an image of a known format, or too large.
    """
    if not data:
        raise WorkbenchError(f"{where}: empty (0 bytes), expected an image file")
    if (quick := _plain_jpeg(data, max_pixels)) is not None:
        return quick
    try:
        with warnings.catch_warnings():
            # Pillow warns from 89 megapixels on; the limit is lower and is an error.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return np.asarray(_by_pillow(data, where, max_pixels))  # when all but the result is freed
    except UnidentifiedImageError:
        raise WorkbenchError(f"{where}: not an image; known formats: {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise WorkbenchError(f"{where}: more than {max_pixels / 1e6:.0f} megapixels; shrink it first") from None
    except WorkbenchError:
        raise
    except Exception as error:  # Pillow's plugins raise OSError, SyntaxError, struct.error, EOFError, ... on broken files
        raise WorkbenchError(f"{where}: broken image file ({str(error) or type(error).__name__})") from None


def _plain_jpeg(data: bytes, max_pixels: int) -> NDArray[np.uint8] | None:
    """The usual case, three times as fast as by Pillow and with the same pixels: a sound RGB JPEG that is not turned.

    Everything else, and whatever is to be complained of, is left to Pillow: None.
    """
    if not data.startswith(b"\xff\xd8\xff") or b"Exif\0\0" in data:
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if width * height > max_pixels or colours not in ("YCbCr", "Gray") or _scanned(data, width * height) > MAX_SCANNED:
            return None
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data)
    except ValueError:
        return None
    return pixels


def _scanned(data: bytes, pixels: int) -> int:
    """Pixels that a JPEG makes its decoder go through: a progressive one all of them in each of its scans."""
    return data.count(b"\xff\xda") * pixels


def _by_pillow(data: bytes, where: str, max_pixels: int) -> Image.Image:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise WorkbenchError(
                f"{where}: {width} x {height} is {width * height / 1e6:.0f} megapixels, "
                f"more than the {max_pixels / 1e6:.0f} that are decoded; shrink it first"
            )
        if image.format in ("JPEG", "MPO") and _scanned(data, width * height) > MAX_SCANNED:
            raise WorkbenchError(f"{where}: a JPEG of {width} x {height} in too many scans; save it anew")
        return _upright_rgb(image)


def _upright_rgb(image: Image.Image) -> Image.Image:
    ImageOps.exif_transpose(image, in_place=True)  # a copy of 50 megapixels would be 200 MB more
    if image.mode in ("I;16", "I;16B", "I;16L", "I"):
        grey = np.clip(np.asarray(image), 0, 65535).astype(np.int32, copy=False)
        grey += 128
        grey //= 257
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image if image.mode == "RGBA" else image.convert("RGBA")
        flat = Image.new("RGB", layer.size, "white")
        flat.paste(layer, mask=layer)
        return flat
    return image.convert("RGB")


def read(path: str | Path) -> NDArray[np.uint8]:
    """Decode an image file: (H, W, 3) uint8. Raises WorkbenchError as `decode` does, and when the file cannot be read."""
    return decode(read_bytes(path), where=str(path))


def read_bytes(path: str | Path) -> bytes:
    """A file's bytes. Raises WorkbenchError when it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise WorkbenchError(f"{path}: cannot be read ({error.strerror})") from None


def fit(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Bring an image to `size`: cut centrally to the wanted proportions, then resample (bilinear, antialiased).

    Args:
        image: (H, W, 3) uint8.
        size: wanted (height, width) in pixels.

    Returns:
        (height, width, 3) uint8; `image` itself where the size is right already.
    """
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(ImageOps.fit(Image.fromarray(image), (width, height), method=Image.Resampling.BILINEAR))


def to_png(image: NDArray[np.uint8]) -> bytes:
    """Encode an (H, W, 3) uint8 image as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()
