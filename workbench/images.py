"""Decodes image files of any origin to upright RGB pixels, and brings images to a size."""

from __future__ import annotations

import io
import os
import re
import struct
import warnings
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    ImageOps,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from workbench.errors import WorkbenchError

MAX_PIXELS = 50_000_000
"""Images with more pixels are refused before they are decoded. 60 megapixels of RGB take 180 MB."""
MAX_SCANNED = 20 * MAX_PIXELS
"""Limit of the pixels of a JPEG file times its scans. Ten scans are usual. A malicious file may
have a thousand scans of 77 bytes each, which take minutes to decode."""

_READERS = (
    JpegImagePlugin.JpegImageFile,
    PngImagePlugin.PngImageFile,
    WebPImagePlugin.WebPImageFile,
    AvifImagePlugin.AvifImageFile,
    Jpeg2KImagePlugin.Jpeg2KImageFile,
    TiffImagePlugin.TiffImageFile,
    GifImagePlugin.GifImageFile,
    BmpImagePlugin.BmpImageFile,
    PpmImagePlugin.PpmImageFile,
)
FORMATS = tuple(reader.format for reader in _READERS)
"""The formats that are read. Pillow reads more, but each decoder is code that processes untrusted
files."""
HEIF = "HEIF"
HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
"""Suffixes of files of iPhones and newer cameras. They need pillow-heif, an optional extra."""
HEIF_HINT = "pip install 'margin-workbench[heic]' reads them"

# Pillow reads MPO files with its reader of JPEG.
_KINDS = {*FORMATS, MpoImagePlugin.MpoImageFile.format}
SUFFIXES = (
    frozenset(suffix for suffix, kind in Image.EXTENSION.items() if kind in _KINDS) | HEIF_SUFFIXES
)
"""Suffixes of image files in lower case, including those of HEIC; see `can_read`."""
DARK = 4096
"""A 16-bit image whose values are all smaller uses at most 12 bits, and would be nearly black."""
# Tags of EXIF and TIFF.
_ORIENTATION, _BITS, _PHOTOMETRIC, _SUBFILE = 0x0112, 258, 262, 254
_XMP_ORIENTATION = re.compile(rb"""tiff:Orientation\s*(?:=\s*["']|>\s*)([1-8])""")
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_AVIF_BRANDS = {b"avif", b"avis"}
_JP2 = b"\0\0\0\x0cjP  \r\n\x87\n"
_JP2_METADATA = {
    bytes.fromhex("be7acfcb97a942e89c71999491e3afac"): "xmp",
    b"JpgTiffExif->JP2": "exif",
}
# The first bytes of a file, with the name and the suffix of its format.
_SIGNATURES = {
    b"\xff\xd8\xff": ("JPEG", ".jpg"),
    b"\x89PNG": ("PNG", ".png"),
    b"GIF8": ("GIF", ".gif"),
    b"II*\0": ("TIFF", ".tif"),
    b"MM\0*": ("TIFF", ".tif"),
    _JP2: ("JPEG 2000", ".jp2"),
    b"\xff\x4f\xff\x51": ("JPEG 2000", ".j2k"),
    b"BM": ("BMP", ".bmp"),
}
_RANGE_UNKNOWN = {
    "I": "pixels are 32-bit or signed integers",
    "F": "pixels are floating-point numbers",
}


def is_image_name(name: str) -> bool:
    """Returns whether a file name has the suffix of an image file, in lower or upper case.

    Args:
        name: name or path of the file.

    Example:
        >>> is_image_name("holiday/IMG_1.JPG"), is_image_name("notes.txt")
        (True, False)
    """
    return os.path.splitext(name)[1].lower() in SUFFIXES


def can_read(suffix: str) -> bool:
    """Returns whether files with a suffix can be read on this machine.

    HEIC needs the package pillow-heif.

    Args:
        suffix: suffix of a file with its dot, in lower or upper case.

    Example:
        >>> can_read(".jpg")
        True
    """
    suffix = suffix.lower()
    return suffix in SUFFIXES and (
        suffix not in HEIF_SUFFIXES or find_spec("pillow_heif") is not None
    )


def decode(data: bytes, where: str = "image", max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decodes an image file to upright RGB.

    The orientation in EXIF, in XMP or in the file format itself is applied. Grey, CMYK and palette
    images become RGB, transparent pixels are composed onto white, and 16-bit values are scaled to 8
    bits. Of an animation, the first frame is used; of a file with several images (a gain map, a
    depth map, a preview), the main one. Colour profiles are not applied.

    Args:
        data: content of a file in one of `FORMATS`, or of a HEIC file if pillow-heif is installed.
        where: name of the image in an error message, such as a path or the key of a record.
        max_pixels: largest width times height that is decoded.

    Returns:
        (H, W, 3) uint8.

    Raises:
        WorkbenchError: if the data are empty, truncated, too large or not an image in a known
            format, or if the range of the pixels is unknown, since they could become black or
            white. The range is unknown for floating-point numbers, 32-bit numbers, and 16-bit files
            that use only the lowest 12 bits.

    Example:
        >>> decode(to_png(np.zeros((2, 3, 3), dtype=np.uint8))).shape
        (2, 3, 3)
    """
    if not data:
        raise WorkbenchError(f"{where}: empty (0 bytes), expected an image file")
    if (pixels := _plain_jpeg(data, max_pixels)) is not None:
        return pixels
    try:
        with warnings.catch_warnings():
            # Pillow warns above 89 megapixels; the limit here is lower and raises an error.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            # The array is made when only the finished image is left in memory.
            return np.asarray(_decode_with_pillow(data, where, max_pixels))
    except UnidentifiedImageError:
        raise WorkbenchError(f"{where}: {_describe_unknown(data)}") from None
    except Image.DecompressionBombError:
        raise WorkbenchError(
            f"{where}: more than {max_pixels / 1e6:.0f} megapixels; shrink it first"
        ) from None
    except WorkbenchError:
        raise
    except Exception as error:  # Pillow raises OSError, SyntaxError, struct.error, EOFError, ...
        reason = str(error) or type(error).__name__
        raise WorkbenchError(f"{where}: broken image file ({reason})") from None


def _plain_jpeg(data: bytes, max_pixels: int) -> NDArray[np.uint8] | None:
    """Decodes an RGB or grey JPEG file without an orientation; None for every other file.

    This is the most frequent case. libjpeg-turbo is three times as fast as Pillow and gives the
    same pixels. Pillow also reports what is wrong with a broken file.
    """
    if not data.startswith(b"\xff\xd8\xff") or _may_be_turned(data):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if (
            width * height > max_pixels
            or colours not in ("YCbCr", "Gray")
            or _scanned_pixels(data, width * height) > MAX_SCANNED
        ):
            return None
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data)
    except ValueError:
        return None
    return pixels


def _may_be_turned(data: bytes) -> bool:
    """Whether a JPEG or PNG file has metadata that can hold an orientation.

    These are EXIF and XMP; "Raw profile type" is how ImageMagick stores them in a PNG file.
    """
    marks = (
        b"Exif\0\0",
        b"ns.adobe.com/xap",
        b"eXIf",
        b"XML:com.adobe.xmp",
        b"Raw profile type",
    )
    return any(mark in data for mark in marks)


def is_plain(data: bytes) -> bool:
    """Returns whether every program decodes a JPEG or PNG file to the pixels of `decode`.

    This is not the case for a file with an orientation, for a PNG file with transparency or 16
    bits, and for a JPEG file with four channels.

    Args:
        data: content of the file.

    Example:
        >>> is_plain(to_png(np.zeros((2, 3, 3), dtype=np.uint8)))
        True
    """
    if data.startswith(b"\x89PNG"):
        return (
            not _may_be_turned(data)
            and data[24:25] <= b"\x08"
            and data[25:26] in (b"\0", b"\2", b"\3")
            and b"tRNS" not in data
        )
    if not data.startswith(b"\xff\xd8\xff") or _may_be_turned(data):
        return False
    try:
        return simplejpeg.decode_jpeg_header(data)[2] in ("YCbCr", "Gray", "RGB")
    except ValueError:
        return False


def suffix_of(data: bytes) -> str:
    """Returns the suffix of an image file, which follows from its first bytes.

    Args:
        data: content of the file. A file that is not recognised counts as PPM.

    Example:
        >>> suffix_of(to_png(np.zeros((2, 3, 3), dtype=np.uint8)))
        '.png'
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ".webp"
    if brands := _brands(data):
        return ".avif" if brands & _AVIF_BRANDS else ".heic"
    for signature, (_, suffix) in _SIGNATURES.items():
        if data.startswith(signature):
            return suffix
    return ".ppm"


def _brands(data: bytes) -> set[bytes]:
    """The brands of a file in the ISO container format (AVIF, HEIC, also MP4), else none."""
    if data[4:8] != b"ftyp":
        return set()
    length = int.from_bytes(data[:4], "big")
    return {data[8:12], *(data[at : at + 4] for at in range(16, min(length, len(data), 512), 4))}


def _is_heif(data: bytes) -> bool:
    """Whether a file is in the HEIC format."""
    brands = _brands(data)
    return bool(brands & _HEIF_BRANDS) and not brands & _AVIF_BRANDS


@cache
def _register_heif() -> bool:
    """Registers HEIC in Pillow when the first such image is read; False without pillow-heif."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def _describe_unknown(data: bytes) -> str:
    """The error message for a file that no decoder accepts."""
    brands = _brands(data)
    kind = ""
    if brands & _AVIF_BRANDS:
        kind = "AVIF"
    elif brands & _HEIF_BRANDS:
        kind = "HEIC"
    elif not brands:
        kinds = [kind for start, (kind, _) in _SIGNATURES.items() if data.startswith(start)]
        kind = kinds[0] if kinds else ""
    if kind:
        return (
            f"a {kind} file that is damaged, or of a rare kind that cannot be read; "
            "save it again, e.g. as PNG with 8 bits"
        )
    return f"not an image; known formats: {', '.join((*FORMATS, HEIF))}"


def _scanned_pixels(data: bytes, pixels: int) -> int:
    """Pixels that a JPEG decoder processes: a progressive file has all of them in each scan."""
    return data.count(b"\xff\xda") * pixels


def _decode_with_pillow(data: bytes, where: str, max_pixels: int) -> Image.Image:
    """Decodes a file to an upright RGB image, after all checks."""
    formats: tuple[str, ...] = FORMATS
    if _is_heif(data):
        if not _register_heif():
            raise WorkbenchError(
                f"{where}: a HEIC image, for which a package is missing: "
                "pip install 'margin-workbench[heic]'"
            )
        formats = (HEIF,)
    with Image.open(io.BytesIO(data), formats=formats) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise WorkbenchError(
                f"{where}: {width} x {height} is {width * height / 1e6:.0f} megapixels, "
                f"more than the {max_pixels / 1e6:.0f} that are decoded; shrink it first"
            )
        if image.format in ("JPEG", "MPO") and _scanned_pixels(data, width * height) > MAX_SCANNED:
            raise WorkbenchError(
                f"{where}: a JPEG of {width} x {height} in too many scans; save it again"
            )
        try:
            _check_kind(image)
            _scale_transparency(image)
            _turn_upright(image, data)
            return _rgb(image)
        except _UnknownRangeError as error:
            raise WorkbenchError(f"{where}: {error}") from None


class _UnknownRangeError(ValueError):
    """The range of the pixels is unknown, so that they cannot be converted to 8 bits."""


def _check_kind(image: ImageFile.ImageFile) -> None:
    """Raises an error if the range of the pixels is unknown, or if they are only a preview.

    This happens before the pixels are decoded.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile) and int(image.tag_v2.get(_SUBFILE, 0)) & 1:
        raise _UnknownRangeError(
            "the first image in this TIFF file is only a preview of another one; save it again"
        )
    # Pillow scales the 32-bit values of a PPM file to 16 bits.
    is_scaled = image.mode == "I" and image.format == "PPM"
    if image.mode in _RANGE_UNKNOWN and not is_scaled:
        raise _UnknownRangeError(
            f"{_RANGE_UNKNOWN[image.mode]}, and the file does not define which of them is black "
            "or white; save it with 8 or 16 bits"
        )
    if image.mode == "LAB":
        raise _UnknownRangeError("the colours are CIELAB, which is not supported; save it as RGB")


def _scale_transparency(image: ImageFile.ImageFile) -> None:
    """Converts the transparent colour of a PNG file to 8 bits, as Pillow does with the pixels."""
    transparent = image.info.get("transparency")
    stored = image.tile[0].args if image.format == "PNG" and image.tile else None
    if isinstance(transparent, int) and stored in ("L;2", "L;4"):
        image.info["transparency"] = transparent * (85 if stored == "L;2" else 17)
    elif isinstance(transparent, tuple) and stored == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in transparent)


def _turn_upright(image: Image.Image, data: bytes) -> None:
    """Applies the orientation in place, since a copy of 50 megapixels would need 200 MB.

    Pillow recognises the orientation in EXIF and in most XMP.
    """
    if image.format == "PNG":
        image.load()  # The metadata may follow the pixels.
    elif image.format == "AVIF":
        # The orientation is in the container, and Pillow has copied it to EXIF.
        image.info.pop("xmp", None)
    elif image.format == "JPEG2000":
        image.info.update(_jp2_metadata(data))
    exif = image.getexif()
    xmp = image.info.get("xmp") or image.info.get("Raw profile type xmp") or b""
    if isinstance(xmp, str):
        xmp = _profile_bytes(xmp)
    if _ORIENTATION not in exif and (match := _XMP_ORIENTATION.search(xmp)):
        exif[_ORIENTATION] = int(match[1])
    ImageOps.exif_transpose(image, in_place=True)


def _profile_bytes(profile: str) -> bytes:
    """A profile as bytes. ImageMagick stores it as a name, a length and hexadecimal digits."""
    try:
        return bytes.fromhex("".join(profile.split("\n")[3:])) or profile.encode()
    except ValueError:
        return profile.encode("utf-8", "replace")


def _jp2_metadata(data: bytes) -> dict[str, bytes]:
    """EXIF and XMP of a JPEG 2000 file, which Pillow does not read.

    They are in boxes of the type "uuid", which begin with a fixed number.
    """
    metadata: dict[str, bytes] = {}
    start = 0 if data.startswith(_JP2) else len(data)
    while start + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, start)
        header = 8
        if length == 1 and start + 16 <= len(data):
            (length,) = struct.unpack_from(">Q", data, start + 8)
            header = 16
        end = start + length if length else len(data)
        if end < start + header:
            break
        name = _JP2_METADATA.get(data[start + header : start + header + 16])
        if kind == b"uuid" and name:
            metadata[name] = data[start + header + 16 : end]
        start = end
    return metadata


def _rgb(image: Image.Image) -> Image.Image:
    """Converts pixels of any kind to 8-bit RGB."""
    if image.mode.startswith("I;16") or image.mode == "I":
        image = _eight_bits(image)
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        layer = image if image.mode == "RGBA" else image.convert("RGBA")
        on_white = Image.new("RGB", layer.size, "white")
        on_white.paste(layer, mask=layer)
        return on_white
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scales 16-bit grey, or fewer bits of a TIFF file, to 8 bits.

    Zero becomes 0 and the largest value of the file's format becomes 255.
    """
    stored = np.asarray(image)
    # Changed in place below, since another copy of 50 megapixels would need 200 MB.
    levels = stored.astype(np.int32)
    white = 65535
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        white = 2 ** int(image.tag_v2.get(_BITS, (16,))[0]) - 1
        # In some files zero is white, which Pillow considers only for 8 bits.
        if image.tag_v2.get(_PHOTOMETRIC) == 0:
            np.subtract(white, levels, out=levels)
    if white == 65535 and 0 < stored.max() < DARK:
        raise _UnknownRangeError(
            f"16 bits per pixel, of which only the lowest are used (values up to {stored.max()} of "
            f"{white}), so that it would be black; scale the values to the full range, or save it "
            "with 8 bits"
        )
    if isinstance(transparent := image.info.get("transparency"), int):
        levels[stored == transparent] = white
    levels *= 255
    levels += white // 2
    levels //= white
    return Image.fromarray(levels.astype(np.uint8))


def read(path: str | Path) -> NDArray[np.uint8]:
    """Reads and decodes an image file.

    Args:
        path: path of the file.

    Returns:
        (H, W, 3) uint8, upright RGB.

    Raises:
        WorkbenchError: if the file cannot be read, or as for `decode`.
    """
    return decode(read_bytes(path), where=str(path))


def read_bytes(path: str | Path) -> bytes:
    """Returns the content of a file.

    Args:
        path: path of the file.

    Raises:
        WorkbenchError: if the file cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise WorkbenchError(f"{path}: cannot be read ({error.strerror})") from None


def fit(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Brings an image to a size: crops it centrally to the proportions, then resamples it.

    The resampling is bilinear and antialiased.

    Args:
        image: (H, W, 3) uint8.
        size: (height, width) of the result in pixels.

    Returns:
        (height, width, 3) uint8; `image` itself if it already has the size.

    Example:
        >>> fit(np.zeros((40, 60, 3), dtype=np.uint8), (112, 112)).shape
        (112, 112, 3)
    """
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(
        ImageOps.fit(Image.fromarray(image), (width, height), method=Image.Resampling.BILINEAR)
    )


def to_png(image: NDArray[np.uint8]) -> bytes:
    """Encodes an image as PNG.

    Args:
        image: (H, W, 3) uint8.

    Returns:
        Content of the file.

    Example:
        >>> to_png(np.zeros((2, 3, 3), dtype=np.uint8))[:4]
        b'\\x89PNG'
    """
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()
