"""Images of every pixel type and every way to store an orientation.

Each one must give the right pixels or an error: it must be neither black nor rotated. PNG and TIFF
files are written by hand here, so that Pillow is not compared with itself.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from workbench import images


def ramp(most: int, kind: str = "<u2") -> NDArray[Any]:
    """8 x 16 values from 0 to `most`."""
    return np.linspace(0, most, 128).round().astype(kind).reshape(8, 16)


def to_eight(values: NDArray[Any], most: int) -> NDArray[np.uint8]:
    """(H, W) values in 0..most as (H, W, 3) values in 0..255."""
    grey = (values.astype(float) / most * 255).round().astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def close(decoded: NDArray[np.uint8], expected: NDArray[np.uint8], within: int = 1) -> bool:
    return (
        decoded.shape == expected.shape
        and int(np.abs(decoded.astype(int) - expected.astype(int)).max()) <= within
    )


def chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png(
    rows: bytes,
    width: int,
    height: int,
    bits: int,
    colour: int,
    before: bytes = b"",
    after: bytes = b"",
    bytes_a_row: int = 0,
) -> bytes:
    """A PNG file of unfiltered rows, with chunks before and after the pixels."""
    length = bytes_a_row or len(rows) // height
    filtered = b"".join(b"\0" + rows[at : at + length] for at in range(0, len(rows), length))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + before
        + chunk(b"IDAT", zlib.compress(filtered))
        + after
        + chunk(b"IEND", b"")
    )


def tiff(
    pixels: bytes,
    width: int,
    height: int,
    bits: tuple[int, ...],
    *,
    photometric: int = 1,
    sample_format: int = 1,
    order: str = "<",
    more: dict[int, tuple[int, bytes]] | None = None,
    deflate: bool = False,
) -> bytes:
    """A TIFF file with one strip. `more` maps a tag to its type and its value in bytes."""
    content = zlib.compress(pixels) if deflate else pixels

    def short(*values: int) -> tuple[int, bytes]:
        return 3, struct.pack(f"{order}{len(values)}H", *values)

    def long(*values: int) -> tuple[int, bytes]:
        return 4, struct.pack(f"{order}{len(values)}I", *values)

    tags = {
        256: long(width),
        257: long(height),
        258: short(*bits),
        259: short(8 if deflate else 1),
        262: short(photometric),
        273: long(8),
        277: short(len(bits)),
        278: long(height),
        279: long(len(content)),
        339: short(*[sample_format] * len(bits)),
        **(more or {}),
    }
    start = 8 + len(content) + len(content) % 2
    far_at = start + 2 + 12 * len(tags) + 4
    entries, far = b"", b""
    sizes = {1: 1, 2: 1, 3: 2, 4: 4, 7: 1}
    for tag in sorted(tags):
        kind, value = tags[tag]
        count = len(value) // sizes[kind]
        if len(value) > 4:
            place = struct.pack(f"{order}I", far_at + len(far))
            far += value + b"\0" * (len(value) % 2)
        else:
            place = value.ljust(4, b"\0")
        entries += struct.pack(f"{order}HHI", tag, kind, count) + place
    mark = b"II*\0" if order == "<" else b"MM\0*"
    directory = struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
    return (
        mark
        + struct.pack(f"{order}I", start)
        + content
        + b"\0" * (len(content) % 2)
        + directory
        + far
    )


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


# Number types


def test_16_bit_grey_png() -> None:
    values = ramp(65535)
    assert close(
        images.decode(png(values.astype(">u2").tobytes(), 16, 8, 16, 0)), to_eight(values, 65535), 0
    )


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (6, 4)], ids=["RGB", "RGBA"])
def test_16_bit_colour_png(colour: int, channels: int) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (8, 16, channels))
    values[..., 3:] = 65535
    decoded = images.decode(png(values.astype(">u2").tobytes(), 16, 8, 16, colour))
    assert close(decoded, (values[..., :3] / 257).round().astype(np.uint8))


def test_16_bit_grey_png_with_alpha_is_laid_on_white() -> None:
    values = np.stack([ramp(65535), np.full((8, 16), 32768)], axis=-1)
    expected = to_eight((values[..., 0] + 65535) / 2, 65535)
    assert close(images.decode(png(values.astype(">u2").tobytes(), 16, 8, 16, 4)), expected, 2)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_of_grey_png(bits: int) -> None:
    values = np.tile(np.arange(2**bits, dtype=np.uint8), (4, 16 // 2**bits))[:, :16]
    packed = np.packbits(
        np.unpackbits(values[..., None], axis=-1)[..., -bits:].reshape(4, -1), axis=-1
    )
    assert close(
        images.decode(png(packed.tobytes(), 16, 4, bits, 0)), to_eight(values, 2**bits - 1), 0
    )


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_the_transparent_grey_of_a_png_becomes_white(bits: int) -> None:
    most = 2**bits - 1
    clear = most // 3
    values = np.tile(np.linspace(0, most, 4).round().astype(np.int64), (4, 4))
    if bits < 8:
        spread = np.unpackbits(values.astype(np.uint8)[..., None], axis=-1)[..., -bits:]
        rows = np.packbits(spread.reshape(4, -1), axis=-1).tobytes()
    else:
        rows = values.astype(">u2" if bits == 16 else "u1").tobytes()
    expected = to_eight(np.where(values == clear, most, values), most)
    decoded = images.decode(
        png(rows, 16, 4, bits, 0, before=chunk(b"tRNS", struct.pack(">H", clear)))
    )
    assert close(decoded, expected, 0)


@pytest.mark.parametrize("bits", [8, 16])
def test_the_transparent_colour_of_a_png_becomes_white(bits: int) -> None:
    colours = (
        np.array([[10, 20, 30], [200, 100, 0], [10, 20, 31], [0, 0, 0]])
        * (256 if bits == 16 else 1)
        + (bits == 16) * 77
    )
    values = np.tile(colours, (4, 1, 1)).reshape(4, 4, 3)
    before = chunk(b"tRNS", struct.pack(">HHH", *colours[1].tolist()))
    expected = np.where(
        (values == colours[1]).all(axis=-1, keepdims=True),
        255,
        values // (256 if bits == 16 else 1),
    )
    decoded = images.decode(
        png(values.astype(">u2" if bits == 16 else "u1").tobytes(), 4, 4, bits, 2, before=before)
    )
    assert close(decoded, expected.astype(np.uint8))


def test_a_palette_whose_entries_are_transparent_in_part() -> None:
    palette, alpha = bytes([250, 0, 0, 0, 0, 250]), bytes([255, 51])
    rows = bytes([0, 1] * 8) * 4
    decoded = images.decode(
        png(rows, 16, 4, 8, 3, before=chunk(b"PLTE", palette) + chunk(b"tRNS", alpha))
    )
    expected = np.tile(np.array([[250, 0, 0], [204, 204, 254]], dtype=np.uint8), (4, 8, 1))
    assert close(decoded, expected)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("deflate", [False, True])
def test_16_bit_tiff(order: str, deflate: bool) -> None:
    values = ramp(65535)
    pixels = values.astype(f"{order}u2").tobytes()
    data = tiff(pixels, 16, 8, (16,), order=order, deflate=deflate)
    assert close(images.decode(data), to_eight(values, 65535), 0)
    colours = np.random.default_rng(1).integers(0, 65536, (8, 16, 3))
    data = tiff(
        colours.astype(f"{order}u2").tobytes(),
        16,
        8,
        (16,) * 3,
        photometric=2,
        order=order,
        deflate=deflate,
    )
    assert close(images.decode(data), (colours / 257).round().astype(np.uint8))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("deflate", [False, True])
def test_a_tiff_in_which_zero_is_white(bits: int, deflate: bool) -> None:
    most = 2**bits - 1
    values = ramp(most)
    data = tiff(
        values.astype(f"<u{bits // 8}").tobytes(), 16, 8, (bits,), photometric=0, deflate=deflate
    )
    assert close(images.decode(data), to_eight(most - values.astype(int), most), 0)


def test_12_bit_tiff_is_scaled_by_its_own_range() -> None:
    values = ramp(4095)
    bits = np.unpackbits(values.astype(">u2").view(np.uint8).reshape(8, 16, 2), axis=-1)[..., 4:]
    data = tiff(np.packbits(bits.reshape(8, -1), axis=-1).tobytes(), 16, 8, (12,))
    assert close(images.decode(data), to_eight(values, 4095), 0)


@pytest.mark.parametrize("most", [255, 1023, 4095])
def test_16_bit_files_that_use_only_the_lowest_bits_are_refused(
    most: int, complaint: Callable[..., Any]
) -> None:
    rows = ramp(most).astype(">u2").tobytes()
    for data in (png(rows, 16, 8, 16, 0), tiff(rows, 16, 8, (16,), order=">")):
        with complaint("camera.img", f"up to {most} of 65535", "would be black", "8 bits"):
            images.decode(data, "camera.img")


def test_a_black_image_is_black() -> None:
    assert (images.decode(png(bytes(2 * 128), 16, 8, 16, 0)) == 0).all()


@pytest.mark.parametrize(
    ("kind", "bits", "sample_format", "message"),
    [
        ("<f4", 32, 3, "floating-point"),
        ("<u4", 32, 1, "32-bit or signed"),
        ("<i4", 32, 2, "32-bit or signed"),
        ("<i2", 16, 2, "32-bit or signed"),
    ],
)
@pytest.mark.parametrize("most", [1, 255, 30000])
def test_numbers_with_an_unknown_range_are_refused(
    kind: str, bits: int, sample_format: int, message: str, most: int, complaint: Callable[..., Any]
) -> None:
    data = tiff(ramp(most, kind).tobytes(), 16, 8, (bits,), sample_format=sample_format)
    with complaint("depth.tif", message, "save it with 8 or 16 bits"):
        images.decode(data, "depth.tif")


@pytest.mark.parametrize(
    "data",
    [
        tiff(ramp(1, "<f8").tobytes(), 16, 8, (64,), sample_format=3),
        tiff(
            np.zeros((8, 16, 3), dtype="<f4").tobytes(),
            16,
            8,
            (32,) * 3,
            photometric=2,
            sample_format=3,
        ),
    ],
    ids=["64-bit float", "float colours"],
)
def test_the_error_for_an_unsupported_tiff_names_its_format(
    data: bytes, complaint: Callable[..., Any]
) -> None:
    with complaint("odd.tif", "a TIFF file that is damaged, or of a rare kind"):
        images.decode(data, "odd.tif")


def test_cielab_is_refused(complaint: Callable[..., Any]) -> None:
    with complaint("lab.tif", "CIELAB", "save it as RGB"):
        images.decode(tiff(bytes(8 * 16 * 3), 16, 8, (8,) * 3, photometric=8), "lab.tif")


def test_a_tiff_that_begins_with_a_preview_is_refused(complaint: Callable[..., Any]) -> None:
    with complaint("raw.tif", "only a preview"):
        images.decode(
            tiff(bytes(128), 16, 8, (8,), more={254: (4, struct.pack("<I", 1))}), "raw.tif"
        )


@pytest.mark.parametrize("extra", [1, 2], ids=["associated", "unassociated"])
@pytest.mark.parametrize("channels", [1, 3])
def test_tiffs_with_alpha_are_laid_on_white(extra: int, channels: int) -> None:
    colour, alpha = 90, 128
    stored = round(colour * alpha / 255) if extra == 1 else colour
    pixels = np.full((8, 16, channels + 1), stored, dtype=np.uint8)
    pixels[..., -1] = alpha
    data = tiff(
        pixels.tobytes(),
        16,
        8,
        (8,) * (channels + 1),
        photometric=1 if channels == 1 else 2,
        more={338: (3, struct.pack("<H", extra))},
    )
    expected = np.full((8, 16, 3), round(colour * alpha / 255 + 255 - alpha), dtype=np.uint8)
    assert close(images.decode(data), expected, 2)


def test_cmyk_tiff() -> None:
    pixels = np.tile(np.array([0, 255, 255, 0], dtype=np.uint8), (8, 16, 1))
    decoded = images.decode(tiff(pixels.tobytes(), 16, 8, (8,) * 4, photometric=5))
    assert close(decoded, np.tile(np.array([255, 0, 0], dtype=np.uint8), (8, 16, 1)))


@pytest.mark.parametrize("most", [1, 100, 255, 1023, 4095, 65535])
def test_pgm_of_any_range(most: int) -> None:
    values = ramp(most)
    body = values.astype(">u2" if most > 255 else "u1").tobytes()
    assert close(images.decode(b"P5 16 8 %d\n" % most + body), to_eight(values, most))


def test_pbm_and_pfm(complaint: Callable[..., Any]) -> None:
    assert close(images.decode(b"P4 8 1\n\xaa"), to_eight(1 - np.array([[1, 0] * 4]), 1), 0)
    with complaint("depth.pfm", "floating-point"):
        images.decode(b"Pf\n16 8\n-1.0\n" + ramp(1, "<f4").tobytes(), "depth.pfm")


@pytest.mark.parametrize("most", [255, 65535])
def test_grey_jpeg_2000_of_8_and_16_bits(most: int) -> None:
    values = ramp(most, "<u2" if most > 255 else "u1")
    assert close(
        images.decode(encoded(Image.fromarray(values), "JPEG2000", irreversible=False)),
        to_eight(values, most),
        0,
    )


# JPEG by two decoders


def face() -> NDArray[np.uint8]:
    """48 x 64, smooth, with a different brightness and colour in each quarter."""
    y, x = np.mgrid[:48, :64]
    return (
        np.stack([40 + 3 * x, 30 + 4 * y, 200 - 2 * x - y], axis=-1).clip(0, 255).astype(np.uint8)
    )


@pytest.mark.parametrize("subsampling", ["444", "422", "420", "440", "411", "Gray"])
def test_both_decoders_of_jpeg_agree(subsampling: str) -> None:
    grey = subsampling == "Gray"
    shown = np.repeat(face()[..., :1], 3, axis=2) if grey else face()
    data = simplejpeg.encode_jpeg(
        np.ascontiguousarray(shown[..., : 1 if grey else 3]),
        95,
        "GRAY" if grey else "RGB",
        subsampling,
    )
    quick = images._plain_jpeg(data, images.MAX_PIXELS)
    pillow = images._decode_with_pillow(data, "x", images.MAX_PIXELS)
    assert quick is not None
    assert np.array_equal(quick, np.asarray(pillow))
    assert close(quick, shown, 12)


def test_both_decoders_agree_on_a_progressive_jpeg() -> None:
    data = encoded(Image.fromarray(face()), "JPEG", progressive=True)
    quick = images._plain_jpeg(data, images.MAX_PIXELS)
    pillow = images._decode_with_pillow(data, "x", images.MAX_PIXELS)
    assert quick is not None
    assert np.array_equal(quick, np.asarray(pillow))


def test_cmyk_jpeg_of_adobe() -> None:
    """Pillow stores it inverted, as Adobe does: no ink is white, and full black ink is black."""
    for ink, colour in (((0, 0, 0, 0), 255), ((0, 0, 0, 255), 0), ((0, 0, 0, 128), 127)):
        decoded = images.decode(encoded(Image.new("CMYK", (16, 8), ink), "JPEG", quality=95))
        assert close(decoded, np.full((8, 16, 3), colour, dtype=np.uint8), 4)


def test_an_rgb_jpeg_is_not_decoded_as_ycc() -> None:
    data = encoded(Image.fromarray(face()), "JPEG", quality=95, keep_rgb=True)
    assert close(images.decode(data), face(), 12)


# Orientation: stored rotated, with the orientation in each place that a file may have


def upright() -> NDArray[np.uint8]:
    """32 x 48 with a different colour in each quarter."""
    pixels = np.zeros((32, 48, 3), dtype=np.uint8)
    pixels[:16, :24], pixels[:16, 24:], pixels[16:, :24], pixels[16:, 24:] = (
        (250, 0, 0),
        (0, 250, 0),
        (0, 0, 250),
        (250, 250, 250),
    )
    return pixels


def stored() -> Image.Image:
    """As a rotated camera stores it: orientation 6, to be rotated clockwise."""
    return Image.fromarray(np.ascontiguousarray(np.rot90(upright(), 1)))


def exif(orientation: int = 6) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def xmp(orientation: int = 6, form: str = 'tiff:Orientation="{}"') -> bytes:
    content = form.format(orientation)
    inside = f"<rdf:Description>{content}</rdf:Description>"
    if "=" in content:
        inside = f"<rdf:Description {content}/>"
    packet = f"<x:xmpmeta><rdf:RDF>{inside}</rdf:RDF></x:xmpmeta>"
    return f'<?xpacket begin=""?>{packet}<?xpacket end="w"?>'.encode()


FORMS = [
    'tiff:Orientation="{}"',
    "tiff:Orientation = '{}'",
    "<tiff:Orientation>{}</tiff:Orientation>",
    "<tiff:Orientation> {} </tiff:Orientation>",
]


def plain_png(before: bytes = b"", after: bytes = b"") -> bytes:
    pixels = np.asarray(stored())
    return png(pixels.tobytes(), pixels.shape[1], pixels.shape[0], 8, 2, before, after)


def itxt(text: bytes) -> bytes:
    return chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + text)


def magick(kind: str, content: bytes) -> bytes:
    """A profile as ImageMagick stores it in a PNG file."""
    text = f"\n{kind}\n{len(content):8}\n{content.hex()}\n".encode()
    return chunk(b"zTXt", f"Raw profile type {kind}".encode() + b"\0\0" + zlib.compress(text))


def plain_tiff(**more: Any) -> bytes:
    pixels = np.asarray(stored())
    return tiff(pixels.tobytes(), pixels.shape[1], pixels.shape[0], (8,) * 3, photometric=2, **more)


def tag(orientation: int = 6) -> tuple[int, bytes]:
    return 3, struct.pack("<H", orientation)


def with_boxes(jp2: bytes, *boxes: tuple[bytes, bytes]) -> bytes:
    """A JPEG 2000 file with boxes of the type "uuid" after the one that names the format."""
    at = 12 + int.from_bytes(jp2[12:16], "big")
    uuids = b"".join(
        struct.pack(">I4s", 24 + len(content), b"uuid") + number + content
        for number, content in boxes
    )
    return jp2[:at] + uuids + jp2[at:]


def jp2() -> bytes:
    return encoded(stored(), "JPEG2000", irreversible=False)


XMP_BOX, EXIF_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac"), b"JpgTiffExif->JP2"


def heif(**options: Any) -> bytes:
    from pillow_heif import from_pillow

    buffer = io.BytesIO()
    from_pillow(stored()).save(buffer, quality=100, chroma=444, **options)
    return buffer.getvalue()


def rotated_by_xmp(form: str) -> bytes:
    return encoded(stored(), "JPEG", xmp=xmp(6, form), quality=95, subsampling=0)


def mpo() -> bytes:
    return encoded(
        stored(),
        "MPO",
        exif=exif(),
        quality=95,
        subsampling=0,
        save_all=True,
        append_images=[Image.new("RGB", (8, 8))],
    )


ROTATED: dict[str, Callable[[], bytes]] = {
    "JPEG, EXIF": lambda: encoded(stored(), "JPEG", exif=exif(), quality=95, subsampling=0),
    **{f"JPEG, XMP {form}": partial(rotated_by_xmp, form) for form in FORMS},
    "JPEG, EXIF and XMP": lambda: encoded(
        stored(), "JPEG", exif=exif(), xmp=xmp(), quality=95, subsampling=0
    ),
    "JPEG, EXIF before XMP": lambda: encoded(
        stored(), "JPEG", exif=exif(), xmp=xmp(3), quality=95, subsampling=0
    ),
    "PNG, eXIf": lambda: plain_png(before=chunk(b"eXIf", exif()[6:])),
    "PNG, eXIf after the pixels": lambda: plain_png(after=chunk(b"eXIf", exif()[6:])),
    "PNG, XMP": lambda: plain_png(before=itxt(xmp())),
    "PNG, XMP after the pixels": lambda: plain_png(after=itxt(xmp(6, FORMS[1]))),
    "PNG, eXIf and XMP": lambda: plain_png(before=itxt(xmp()), after=chunk(b"eXIf", exif()[6:])),
    "PNG, EXIF of ImageMagick": lambda: plain_png(before=magick("exif", exif())),
    "PNG, XMP of ImageMagick": lambda: plain_png(before=magick("xmp", xmp())),
    "WebP, EXIF": lambda: encoded(stored(), "WEBP", exif=exif(), lossless=True),
    "WebP, XMP": lambda: encoded(stored(), "WEBP", xmp=xmp(), lossless=True),
    "TIFF, tag": lambda: plain_tiff(more={274: tag()}),
    "TIFF, tag, deflate": lambda: plain_tiff(more={274: tag()}, deflate=True),
    "TIFF, XMP": lambda: plain_tiff(more={700: (1, xmp())}),
    "TIFF, XMP, other syntax": lambda: plain_tiff(more={700: (1, xmp(6, FORMS[1]))}),
    "TIFF, tag and XMP": lambda: plain_tiff(more={274: tag(), 700: (1, xmp())}),
    "TIFF, tag and XMP, other syntax": lambda: plain_tiff(
        more={274: tag(), 700: (1, xmp(6, FORMS[1]))}
    ),
    "JPEG 2000, EXIF": lambda: with_boxes(jp2(), (EXIF_BOX, exif()[6:])),
    "JPEG 2000, XMP": lambda: with_boxes(jp2(), (XMP_BOX, xmp())),
    "JPEG 2000, XMP after another box": lambda: with_boxes(
        jp2(), (bytes(16), b"x"), (XMP_BOX, xmp(6, FORMS[1]))
    ),
    "AVIF, irot": lambda: encoded(stored(), "AVIF", exif=exif(), quality=100, subsampling="4:4:4"),
    "AVIF, irot and XMP": lambda: encoded(
        stored(), "AVIF", exif=exif(), xmp=xmp(3), quality=100, subsampling="4:4:4"
    ),
    "HEIC, irot": lambda: heif(exif=exif()),
    "HEIC, irot and XMP": lambda: heif(exif=exif(), xmp=xmp()),
    "MPO, EXIF": mpo,
}


@pytest.mark.parametrize("kind", ROTATED)
def test_a_rotated_image_becomes_upright(kind: str) -> None:
    decoded = images.decode(ROTATED[kind]())
    assert close(decoded, upright(), 40)
    assert close(images.decode(images.to_png(decoded)), decoded, 0)


@pytest.mark.parametrize("kind", [name for name in ROTATED if name.startswith(("JPEG,", "PNG"))])
def test_a_rotated_image_is_not_plain(kind: str) -> None:
    assert not images.is_plain(ROTATED[kind]())


def test_an_upright_image_is_unchanged() -> None:
    plain = Image.fromarray(upright())
    for data in (
        # Decoders of AVIF ignore XMP.
        encoded(plain, "AVIF", xmp=xmp(), quality=100, subsampling="4:4:4"),
        encoded(plain, "JPEG", exif=exif(1), xmp=xmp(), quality=95, subsampling=0),
        encoded(plain, "PNG", exif=exif(1)),
        encoded(plain, "JPEG", xmp=xmp(0), quality=95, subsampling=0),
        encoded(plain, "WEBP", exif=exif(9), lossless=True),
    ):
        assert close(images.decode(data), upright(), 40)


# Several images in one file


def test_the_main_image_of_a_file_with_a_gain_map_is_used() -> None:
    main, gain = Image.fromarray(upright()), Image.new("L", (24, 16), 128)
    several = encoded(main, "MPO", save_all=True, append_images=[gain], quality=95, subsampling=0)
    appended = encoded(
        main, "JPEG", xmp=b'<x hdrgm:Version="1.0"/>', quality=95, subsampling=0
    ) + encoded(gain, "JPEG")
    for data in (several, appended):
        assert close(images.decode(data), upright(), 40)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "AVIF", "GIF"])
def test_the_first_of_several_frames_is_used(kind: str) -> None:
    frames = [Image.new("RGB", (16, 8), colour) for colour in ("red", "lime", "blue")]
    decoded = images.decode(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert close(decoded, np.full((8, 16, 3), (255, 0, 0), dtype=np.uint8), 12)


def test_the_primary_image_of_a_heic_is_used() -> None:
    from pillow_heif import HeifFile

    several = HeifFile()
    for colour in ("red", "lime"):
        several.add_from_pillow(Image.new("RGB", (64, 48), colour))
    buffer = io.BytesIO()
    several.save(buffer, primary_index=1, quality=90)
    assert close(
        images.decode(buffer.getvalue()), np.full((48, 64, 3), (0, 255, 0), dtype=np.uint8), 12
    )


# File types


def test_the_suffixes_of_cameras_and_programs_are_recognised() -> None:
    for suffix in (
        "jpg",
        "jpeg",
        "jpe",
        "jfif",
        "mpo",
        "png",
        "apng",
        "avif",
        "heic",
        "heif",
        "webp",
        "gif",
        "bmp",
        "tiff",
        "jp2",
        "pgm",
        "pnm",
    ):
        assert images.is_image_name(f"holiday.{suffix.upper()}")
        assert images.can_read(f".{suffix}")
    for name in ("notes.txt", "clip.mov", "raw.cr2", "jpg", ".jpg", "page.pdf", "figure.eps"):
        assert not images.is_image_name(name)


@pytest.mark.parametrize("kind", ["AVIF", "JPEG2000", "MPO"])
def test_newer_formats_are_read(kind: str) -> None:
    decoded = images.decode(encoded(Image.fromarray(face()), kind))
    assert close(decoded, face(), 40)


def test_heic_needs_an_extra_which_the_error_names(
    monkeypatch: pytest.MonkeyPatch, complaint: Callable[..., Any]
) -> None:
    data = heif()
    assert close(images.decode(data), np.asarray(stored()), 12)
    monkeypatch.setattr(images, "_register_heif", lambda: False)
    monkeypatch.setattr(images, "find_spec", lambda name: None)
    with complaint("IMG_1.HEIC", "HEIC", "pip install 'margin-workbench[heic]'"):
        images.decode(data, "IMG_1.HEIC")
    assert not images.can_read(".HEIC")
    assert images.can_read(".JPG")


def test_a_large_heic_is_refused_before_it_is_decoded(complaint: Callable[..., Any]) -> None:
    with complaint("big.heic", "megapixels"):
        images.decode(heif(), "big.heic", max_pixels=100)


SUFFIX_OF = {
    "JPEG": "jpg",
    "PNG": "png",
    "AVIF": "avif",
    "JPEG2000": "jp2",
    "TIFF": "tif",
    "GIF": "gif",
    "WEBP": "webp",
}


@pytest.mark.parametrize("kind", SUFFIX_OF)
def test_the_suffix_follows_from_the_first_bytes(kind: str) -> None:
    assert images.suffix_of(encoded(Image.fromarray(face()), kind)) == f".{SUFFIX_OF[kind]}"


def test_the_suffix_of_heic() -> None:
    assert images.suffix_of(heif()) == ".heic"


def test_plain_files_are_those_that_all_programs_decode_alike() -> None:
    plain = Image.fromarray(face())
    assert images.is_plain(encoded(plain, "JPEG"))
    assert images.is_plain(encoded(plain, "PNG"))
    assert images.is_plain(encoded(plain.convert("L"), "JPEG"))
    for odd in (
        encoded(plain.convert("CMYK"), "JPEG"),
        encoded(plain.convert("RGBA"), "PNG"),
        encoded(Image.fromarray(ramp(65535)), "PNG"),
        encoded(plain.convert("P"), "PNG", transparency=1),
        encoded(plain, "WEBP"),
        b"\xff\xd8\xff",
    ):
        assert not images.is_plain(odd)


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(["AVIF", "JPEG2000", "MPO", "HEIC"]), seed=st.integers(0, 2**32))
@pytest.mark.filterwarnings("ignore")
def test_a_mutated_file_of_a_newer_format_is_an_image_or_a_readable_error(
    kind: str,
    seed: int,
    mutate: Callable[[bytes, int], bytes],
    at_worst_complaint: Callable[..., Any],
) -> None:
    data = heif() if kind == "HEIC" else encoded(Image.fromarray(upright()), kind)
    if kind == "JPEG2000":
        data = with_boxes(data, (XMP_BOX, xmp()), (EXIF_BOX, exif()[6:]))
    with at_worst_complaint("odd.img: "):
        decoded = images.decode(mutate(data, seed), where="odd.img")
        assert decoded.dtype == np.uint8
        assert decoded.ndim == 3
        assert decoded.shape[2] == 3
