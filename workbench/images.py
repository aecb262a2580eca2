"""Bytes to pixels, the one place where image files of any origin are decoded and brought to size."""

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
"""Larger pictures are refused before a single pixel is decoded: a 60-megapixel RGB image takes 180 MB."""
MAX_SCANNED = 20 * MAX_PIXELS
"""Pixels times scans of a JPEG: ten scans are usual, and a thousand of 77 bytes each would take minutes."""

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
"""The formats of Pillow that are read, and no others: every reader is code that a stranger's file runs through."""
HEIF = "HEIF"
HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
"""Of iPhones and newer cameras; read with the package pillow-heif, which is an extra of this one."""
HEIF_HINT = "pip install 'margin-workbench[heic]' reads them"


_KINDS = {*FORMATS, MpoImagePlugin.MpoImageFile.format}  # MPO is read by Pillow's reader of JPEG
SUFFIXES = (
    frozenset(suffix for suffix, kind in Image.EXTENSION.items() if kind in _KINDS) | HEIF_SUFFIXES
)
"""What image files end in, in small letters, as Pillow knows it. Those of HEIC are among them; `can_read` asks for its package."""
DARK = 4096
"""A 16-bit picture without a value from here on uses 12 bits or fewer and would come out black, or nearly so."""
_ORIENTATION, _BITS, _PHOTOMETRIC, _SUBFILE = 0x0112, 258, 262, 254  # tags of EXIF and TIFF
_XMP_ORIENTATION = re.compile(rb"""tiff:Orientation\s*(?:=\s*["']|>\s*)([1-8])""")
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_AVIF_BRANDS = {b"avif", b"avis"}
_JP2 = b"\0\0\0\x0cjP  \r\n\x87\n"
_JP2_METADATA = {
    bytes.fromhex("be7acfcb97a942e89c71999491e3afac"): "xmp",
    b"JpgTiffExif->JP2": "exif",
}
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
    "I": "pixels are 32-bit or signed whole numbers",
    "F": "pixels are floating-point numbers",
}


def is_image_name(name: str) -> bool:
    """Whether a file is called like an image file, in small or capital letters."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def can_read(suffix: str) -> bool:
    """Whether files of this suffix (".jpg", in any case) can be read on this machine: HEIC needs pillow-heif."""
    suffix = suffix.lower()
    return suffix in SUFFIXES and (
        suffix not in HEIF_SUFFIXES or find_spec("pillow_heif") is not None
    )


def decode(data: bytes, where: str = "image", max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode an encoded image to upright RGB.

    The orientation that EXIF, XMP, or the file format itself states is applied. Grey, CMYK and palettes become RGB,
    transparency is laid on white, 16-bit values are scaled to 8 bits. Of an animation the first frame is taken, of a file with
    several pictures (a gain map, a depth map, a preview) the main one. Colour profiles are not applied.

    Args:
        data: the bytes of a file in one of `FORMATS`, or HEIC where pillow-heif is installed.
        where: what to call the image in an error (a path, a record's key).
        max_pixels: width times height that is still decoded.

    Returns:
        (H, W, 3) uint8.

    Raises:
        WorkbenchError: empty, truncated, not an image of a known format, too large, or with pixels whose range is not known
            (floating-point numbers, 32-bit numbers, 16-bit files that use only the lowest 12 bits), which would come out black
            or white.
    """
    if not data:
        raise WorkbenchError(f"{where}: empty (0 bytes), expected an image file")
    if (quick := _plain_jpeg(data, max_pixels)) is not None:
        return quick
    try:
        with warnings.catch_warnings():
            # Pillow warns from 89 megapixels on; the limit is lower and is an error.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return np.asarray(
                _by_pillow(data, where, max_pixels)
            )  # when all but the result is freed
    except UnidentifiedImageError:
        raise WorkbenchError(f"{where}: {_unknown(data)}") from None
    except Image.DecompressionBombError:
        raise WorkbenchError(
            f"{where}: more than {max_pixels / 1e6:.0f} megapixels; shrink it first"
        ) from None
    except WorkbenchError:
        raise
    except Exception as error:  # Pillow's plugins raise OSError, SyntaxError, struct.error, EOFError, ... on broken files
        raise WorkbenchError(
            f"{where}: broken image file ({str(error) or type(error).__name__})"
        ) from None


def _plain_jpeg(data: bytes, max_pixels: int) -> NDArray[np.uint8] | None:
    """The usual case, three times as fast as by Pillow and with the same pixels: a sound RGB JPEG that is not turned.

    Everything else, and whatever is to be complained of, is left to Pillow: None.
    """
    if not data.startswith(b"\xff\xd8\xff") or _may_be_turned(data):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if (
            width * height > max_pixels
            or colours not in ("YCbCr", "Gray")
            or _scanned(data, width * height) > MAX_SCANNED
        ):
            return None
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data)
    except ValueError:
        return None
    return pixels


def _may_be_turned(data: bytes) -> bool:
    """Whether a JPEG or PNG has metadata that can state an orientation: EXIF, XMP, or ImageMagick's way to keep them in a PNG."""
    return any(
        mark in data
        for mark in (
            b"Exif\0\0",
            b"ns.adobe.com/xap",
            b"eXIf",
            b"XML:com.adobe.xmp",
            b"Raw profile type",
        )
    )


def is_plain(data: bytes) -> bool:
    """Whether any program that reads JPEG and PNG gets from a file the pixels that `decode` gives.

    It does not where an orientation is stated, or where a PNG is transparent or of 16 bits, or a JPEG of four colours.
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
    """The suffix of an image file, from its first bytes."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ".webp"
    if brands := _brands(data):
        return ".avif" if brands & _AVIF_BRANDS else ".heic"
    return next(
        (suffix for begin, (_, suffix) in _SIGNATURES.items() if data.startswith(begin)), ".ppm"
    )


def _brands(data: bytes) -> set[bytes]:
    """What a file of the ISO container format (AVIF, HEIC, also MP4) says that it is; nothing of other files."""
    if data[4:8] != b"ftyp":
        return set()
    length = int.from_bytes(data[:4], "big")
    return {data[8:12], *(data[at : at + 4] for at in range(16, min(length, len(data), 512), 4))}


def _is_heif(data: bytes) -> bool:
    brands = _brands(data)
    return bool(brands & _HEIF_BRANDS) and not brands & _AVIF_BRANDS


@cache
def _heif_reader() -> bool:
    """Make Pillow know HEIC, if pillow-heif is installed. It is imported when the first such picture is read."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def _unknown(data: bytes) -> str:
    """What is wrong with a file that no reader takes."""
    kind = next((kind for begin, (kind, _) in _SIGNATURES.items() if data.startswith(begin)), None)
    if brands := _brands(data):
        kind = "AVIF" if brands & _AVIF_BRANDS else "HEIC" if brands & _HEIF_BRANDS else None
    if kind:
        return f"a {kind} file that is damaged, or of a rare kind that cannot be read; save it anew, e.g. as PNG with 8 bits"
    return f"not an image; known formats: {', '.join((*FORMATS, HEIF))}"


def _scanned(data: bytes, pixels: int) -> int:
    """Pixels that a JPEG makes its decoder go through: a progressive one all of them in each of its scans."""
    return data.count(b"\xff\xda") * pixels


def _by_pillow(data: bytes, where: str, max_pixels: int) -> Image.Image:
    formats: tuple[str, ...] = FORMATS
    if _is_heif(data):
        if not _heif_reader():
            raise WorkbenchError(
                f"{where}: a HEIC picture, for which a package is missing: pip install 'margin-workbench[heic]'"
            )
        formats = (HEIF,)
    with Image.open(io.BytesIO(data), formats=formats) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise WorkbenchError(
                f"{where}: {width} x {height} is {width * height / 1e6:.0f} megapixels, "
                f"more than the {max_pixels / 1e6:.0f} that are decoded; shrink it first"
            )
        if image.format in ("JPEG", "MPO") and _scanned(data, width * height) > MAX_SCANNED:
            raise WorkbenchError(
                f"{where}: a JPEG of {width} x {height} in too many scans; save it anew"
            )
        try:
            _check_kind(image)
            _scale_transparency(image)
            _turn_upright(image, data)
            return _rgb(image)
        except _UnknownRangeError as error:
            raise WorkbenchError(f"{where}: {error}") from None


class _UnknownRangeError(ValueError):
    """Pixels that cannot be brought to 8 bits without a guess."""


def _check_kind(image: ImageFile.ImageFile) -> None:
    """Refuse, before anything is decoded, pixels whose range nothing tells, or that are not those of the main picture."""
    if isinstance(image, TiffImagePlugin.TiffImageFile) and int(image.tag_v2.get(_SUBFILE, 0)) & 1:
        raise _UnknownRangeError(
            "the first picture in this TIFF is only a preview of another one; save it anew"
        )
    if image.mode in _RANGE_UNKNOWN and (image.mode, image.format) != (
        "I",
        "PPM",
    ):  # Pillow scales those of PPM to 16 bits
        raise _UnknownRangeError(
            f"{_RANGE_UNKNOWN[image.mode]}, and nothing says which of them is black or white; save it with 8 or 16 bits"
        )
    if image.mode == "LAB":
        raise _UnknownRangeError("the colours are CIELAB, which is not converted; save it as RGB")


def _scale_transparency(image: ImageFile.ImageFile) -> None:
    """Pillow keeps the transparent colour of a PNG in the file's bits, and compares it with pixels of 8 bits."""
    clear = image.info.get("transparency")
    stored = image.tile[0].args if image.format == "PNG" and image.tile else None
    if isinstance(clear, int) and stored in ("L;2", "L;4"):
        image.info["transparency"] = clear * (85 if stored == "L;2" else 17)
    elif isinstance(clear, tuple) and stored == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in clear)


def _turn_upright(image: Image.Image, data: bytes) -> None:
    """Apply the orientation, in place: a copy of 50 megapixels would be 200 MB more. Pillow knows that of EXIF and most XMP."""
    if image.format == "PNG":
        image.load()  # its metadata may stand behind the pixels
    elif image.format == "AVIF":
        image.info.pop(
            "xmp", None
        )  # the container says how it is turned, and Pillow has put that into EXIF
    elif image.format == "JPEG2000":
        image.info.update(_jp2_metadata(data))
    exif = image.getexif()
    xmp = image.info.get("xmp") or image.info.get("Raw profile type xmp") or b""
    if isinstance(xmp, str):
        xmp = _unhexed(xmp)
    if _ORIENTATION not in exif and (found := _XMP_ORIENTATION.search(xmp)):
        exif[_ORIENTATION] = int(found[1])
    ImageOps.exif_transpose(image, in_place=True)


def _unhexed(profile: str) -> bytes:
    """A text as bytes; one that ImageMagick wrote into a PNG is a name, a length and hexadecimal digits."""
    try:
        return bytes.fromhex("".join(profile.split("\n")[3:])) or profile.encode()
    except ValueError:
        return profile.encode("utf-8", "replace")


def _jp2_metadata(data: bytes) -> dict[str, bytes]:
    """EXIF and XMP of a JPEG 2000 file, which Pillow does not look for: boxes "uuid" with an agreed number in front."""
    found: dict[str, bytes] = {}
    at = 0 if data.startswith(_JP2) else len(data)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        header = 8
        if length == 1 and at + 16 <= len(data):
            (length,) = struct.unpack_from(">Q", data, at + 8)
            header = 16
        end = at + length if length else len(data)
        if end < at + header:
            break
        name = _JP2_METADATA.get(data[at + header : at + header + 16])
        if kind == b"uuid" and name:
            found[name] = data[at + header + 16 : end]
        at = end
    return found


def _rgb(image: Image.Image) -> Image.Image:
    """Eight bits of red, green and blue, from pixels of any kind."""
    if image.mode.startswith("I;16") or image.mode == "I":
        image = _eight_bits(image)
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        layer = image if image.mode == "RGBA" else image.convert("RGBA")
        flat = Image.new("RGB", layer.size, "white")
        flat.paste(layer, mask=layer)
        return flat
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey, or fewer bits of a TIFF, as 8-bit grey: the full range of the file becomes 0..255."""
    stored = np.asarray(image)
    levels = stored.astype(
        np.int32
    )  # changed in place below: a copy of 50 megapixels would be 200 MB more
    white = 65535
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        white = 2 ** int(image.tag_v2.get(_BITS, (16,))[0]) - 1
        if image.tag_v2.get(_PHOTOMETRIC) == 0:  # zero is white, which Pillow heeds in 8 bits alone
            np.subtract(white, levels, out=levels)
    if white == 65535 and 0 < stored.max() < DARK:
        raise _UnknownRangeError(
            f"16 bits a pixel, of which the lowest are used alone (values up to {stored.max()} of {white}): it would be black; "
            "scale the values to the full range, or save it with 8 bits"
        )
    if isinstance(clear := image.info.get("transparency"), int):
        levels[stored == clear] = white
    levels *= 255
    levels += white // 2
    levels //= white
    return Image.fromarray(levels.astype(np.uint8))


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
    return np.asarray(
        ImageOps.fit(Image.fromarray(image), (width, height), method=Image.Resampling.BILINEAR)
    )


def to_png(image: NDArray[np.uint8]) -> bytes:
    """Encode an (H, W, 3) uint8 image as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()
