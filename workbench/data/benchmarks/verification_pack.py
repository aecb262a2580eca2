"""`bin:FILE` - InsightFace's verification packs, such as lfw.bin, agedb_30.bin and cfp_fp.bin.

A pack is a pickled pair: a list of images, which are usually JPEG files, and a list of booleans,
one for every two images. A pickle can contain instructions to run any code or to allocate any
amount of memory, so packs are read by an unpickler that accepts only lists, bytes, booleans and
arrays of bytes.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from workbench import images
from workbench.data.benchmark import Benchmark, consecutive_folds
from workbench.data.dataset import Images
from workbench.data.io.paths import with_options
from workbench.data.io.readers import HeldImages, HeldPixels
from workbench.data.registry import BENCHMARKS, existing
from workbench.errors import WorkbenchError, unknown_name

_ALLOWED_OPCODES = """
    PROTO FRAME STOP MARK EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 NONE
    NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 STRING BINSTRING SHORT_BINSTRING BINBYTES
    SHORT_BINBYTES BINBYTES8 BYTEARRAY8 UNICODE BINUNICODE SHORT_BINUNICODE PUT BINPUT LONG_BINPUT
    MEMOIZE GET BINGET LONG_BINGET GLOBAL STACK_GLOBAL REDUCE BUILD
"""
MOST_DIMENSIONS = 4
"""Most dimensions of an array: images, height, width and colours."""
CHANNELS = ("rgb", "bgr")
MOST_OPCODES = 2_000_000
"""Most opcodes in a pickle. The 14,000 arrays of the largest pack need about 300,000."""
_MODULES = re.compile(r"numpy|numpy\._?core\.(multiarray|numeric)|_codecs")


# The unpickler


class _DType:
    """Replaces numpy.dtype while a pack is read; only its code is kept, such as "u1" or "b1"."""

    def __init__(self, code: str | bytes, *_: object) -> None:
        self.code = code.decode("latin1") if isinstance(code, bytes) else code
        self.size = int(self.code[1:])

    def __setstate__(self, state: object) -> None:
        """Ignore the state: it holds byte order and fields, which single bytes do not have."""


class _Array:
    """Replaces numpy.ndarray while a pack is read; holds the bytes that are in the pickle.

    NumPy itself would allocate as much memory as a pickle states.
    """

    dtype: object = None
    data: Any = None
    shape: tuple[int, ...] | None = None
    column_major = False

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, shape, dtype, column_major, data = state
        self._fill(data, dtype, shape, column_major)

    def _fill(self, data: Any, dtype: object, shape: Any, order: object) -> None:
        """Set the contents after checking that the bytes fill the shape.

        Args:
            data: The bytes.
            dtype: The type of the values.
            shape: A tuple of whole numbers.
            order: True, "F" or b"F" for column-major order.
        """
        # The product of other objects, such as lists, could fill the memory.
        if not isinstance(shape, tuple) or not all(isinstance(side, int) for side in shape):
            raise ValueError("an array whose shape is not of whole numbers")
        if len(shape) > MOST_DIMENSIONS or min(shape, default=1) < 0:
            raise ValueError(f"an array of shape {shape[:MOST_DIMENSIONS]}")
        if isinstance(dtype, _DType) and math.prod(shape) * dtype.size != len(data):
            raise ValueError(f"an array of shape {shape} with {len(data)} bytes")
        self.data, self.dtype, self.shape = data, dtype, shape
        self.column_major = order in (True, "F", b"F")

    @property
    def is_bytes(self) -> bool:
        """Whether this is an array of uint8."""
        return (
            isinstance(self.dtype, _DType)
            and self.dtype.code == "u1"
            and isinstance(self.data, bytes | bytearray)
        )

    def pixels(self) -> NDArray[np.uint8]:
        """Return an array of uint8 in its shape."""
        order: Literal["F", "C"] = "F" if self.column_major else "C"
        return np.frombuffer(self.data, np.uint8).reshape(self.shape or -1, order=order)

    def values(self) -> NDArray[Any]:
        """Return the whole numbers or booleans in the array, without its shape."""
        code = self.dtype.code if isinstance(self.dtype, _DType) else "nothing"
        if not re.fullmatch("b1|[iu][1248]", code) or not isinstance(self.data, bytes | bytearray):
            raise ValueError(f"an array of {code[:20]!r}")
        return np.frombuffer(self.data, np.dtype(code))


def _reconstruct(*_: object) -> _Array:
    """Replace numpy.core.multiarray._reconstruct, which makes an array to be filled later."""
    return _Array()


def _frombuffer(data: Any, dtype: object, shape: Any = None, order: object = "C") -> _Array:
    """Replace numpy.core.numeric._frombuffer, which makes the arrays of protocol 5."""
    array = _Array()
    if not isinstance(data, bytes | bytearray):
        array.data = data
        return array
    size = dtype.size if isinstance(dtype, _DType) else 1
    if shape is None:
        shape = (len(data) // size,)
    array._fill(data, dtype, shape, order)
    return array


def _scalar(dtype: object, data: bytes) -> int:
    """Replace numpy.core.multiarray.scalar."""
    return int(_frombuffer(data, dtype).values()[0])


class _PackUnpickler(pickle.Unpickler):
    """Reads lists, bytes, booleans and NumPy arrays, and refuses everything else.

    What it accepts can neither run code nor fill the memory.

    Args:
        data: The pickle.

    Raises:
        pickle.UnpicklingError: If it contains an opcode that no pack needs, or too many opcodes.
    """

    def __init__(self, data: bytes) -> None:
        allowed = frozenset(_ALLOWED_OPCODES.split())
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count > MOST_OPCODES:  # A list needs one byte in the file and 64 in memory.
                raise pickle.UnpicklingError(f"it has more than {MOST_OPCODES:,} opcodes")
            if opcode.name not in allowed:
                raise pickle.UnpicklingError(
                    f"it contains {opcode.name}, which no verification pack needs"
                )
            if opcode.name.endswith("PUT") and int(argument or 0) > len(data):
                raise pickle.UnpicklingError(f"it requests memory for {argument} objects")
        super().__init__(io.BytesIO(data), encoding="bytes")
        self._encodable = len(data)  # The number of characters that `_encode` may still encode.

    def _encode(self, text: str, encoding: str) -> bytes:
        """Replace _codecs.encode, by which protocol 2 stores bytes.

        Other codecs, or the same text over and over, could be used to fill the memory.
        """
        self._encodable -= len(text)
        if encoding != "latin1" or self._encodable < 0:
            raise pickle.UnpicklingError(
                "it calls _codecs.encode in a way that no verification pack needs"
            )
        return text.encode(encoding)

    def find_class(self, module: str, name: str) -> Any:
        """Return the replacement for a class or function that the pickle names."""
        replacements = {
            "ndarray": _Array,
            "dtype": _DType,
            "_reconstruct": _reconstruct,
            "_frombuffer": _frombuffer,
            "scalar": _scalar,
            "encode": self._encode,
        }
        if not _MODULES.fullmatch(module) or name not in replacements:
            raise pickle.UnpicklingError(
                f"it requests {module}.{name}, which no verification pack needs"
            )
        return replacements[name]


# Opening a pack


@BENCHMARKS.register("bin")
def open_bin(path: str) -> Benchmark:
    """Open a verification pack.

    Pair i consists of images 2i and 2i + 1. The pairs are cut into 10 consecutive folds, or into a
    fold for each pair if there are fewer than 10.

    Args:
        path: The file. Its images are encoded files or raw pixels. A pack does not state whether
            raw pixels are RGB, or BGR as in OpenCV. They are read as RGB, which the note of the
            benchmark states; the option `,channels=bgr` reads them as BGR.

    Returns:
        The benchmark, named after the file.

    Raises:
        WorkbenchError: If there is no such file, it is not a verification pack, it has fewer than
            two pairs, or `channels` is stated for encoded images.

    Example:
        >>> from workbench import data
        >>> data.benchmark("bin:faces_emore/lfw.bin")  # doctest: +SKIP
        <Benchmark lfw: 3,000 genuine and 3,000 impostor pairs>
    """
    file_path, options = with_options(path, "bin", ("channels",))
    channels = options.get("channels", "rgb")
    if channels not in CHANNELS:
        raise unknown_name("order of channels", channels[:40], CHANNELS)
    file = existing(file_path, "bin", "file")
    entries, same = _unpack(file)
    reader, note = _reader(file, entries, channels, "channels" in options)
    pairs = np.arange(len(entries), dtype=np.int64).reshape(-1, 2)
    if len(pairs) < 2:
        raise WorkbenchError(
            f"{file}: has a single pair, which cannot be cut into folds; at least 2 pairs are "
            "needed"
        )
    return Benchmark(
        file.stem,
        reader,
        pairs,
        same,
        consecutive_folds(len(pairs), min(10, len(pairs))),
        note=note,
    )


def _unpack(file: Path) -> tuple[list[Any], NDArray[np.bool_]]:
    """Return the images as they are in the pickle, and which pairs are genuine."""
    try:
        content = _PackUnpickler(images.read_bytes(file)).load()
        entries = _entries(content)
    # A malicious or truncated pickle can raise almost any error.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise WorkbenchError(
            f"{file}: not a verification pack ({reason or type(error).__name__})"
        ) from None
    if entries is None:
        raise WorkbenchError(
            f"{file}: expected a pickled pair (images, issame), found {type(content).__name__}"
        )
    try:
        stored = content[1]
        labels = stored.values().tolist() if isinstance(stored, _Array) else list(stored)
    except (TypeError, ValueError):
        labels = [None]
    if not all(isinstance(label, int) and label in (0, 1) for label in labels):
        raise WorkbenchError(f"{file}: the second part is not a list of booleans")
    same = np.array(labels, dtype=bool)
    if len(entries) != 2 * len(same) or not len(same):
        raise WorkbenchError(
            f"{file}: {len(entries)} images for {len(same)} pairs, expected two images for each "
            "pair"
        )
    return entries, same


def _entries(content: Any) -> list[Any] | None:
    """Return the first part of a pack as a list; None if there is no such part.

    It may be a list, a tuple, or one array of the pixels of all images.
    """
    if not isinstance(content, tuple | list) or len(content) != 2:
        return None
    first = content[0]
    if isinstance(first, _Array) and first.is_bytes and len(first.shape or ()) == MOST_DIMENSIONS:
        return list(first.pixels())
    return list(first) if isinstance(first, tuple | list) else None


# The images


def _reader(file: Path, entries: list[Any], channels: str, stated: bool) -> tuple[Images, str]:
    """Return a reader of the images, and a note about them.

    Args:
        file: The pack, for error messages.
        entries: The images as they are in the pickle, at least one.
        channels: "rgb" or "bgr", the order of the channels of raw pixels.
        stated: Whether the user stated `channels`.
    """
    contents = [_content(entry, file, number) for number, entry in enumerate(entries)]
    pixels = [content for content in contents if isinstance(content, np.ndarray)]
    encoded = [content for content in contents if not isinstance(content, np.ndarray)]
    if pixels and encoded:
        are_pixels = [isinstance(content, np.ndarray) for content in contents]
        number = are_pixels.index(not are_pixels[0])
        raise WorkbenchError(
            f"{file}, image {number}: of images 0 and {number} one is raw pixels and one is "
            "encoded, expected one kind"
        )
    if encoded:
        if stated:
            raise WorkbenchError(
                f"{file}: has encoded images, whose order of channels is known; leave out channels="
            )
        return HeldImages(file.name, encoded), ""
    if stated:
        note = f"raw pixels, read as {channels.upper()} as stated"
    else:
        note = (
            f"raw pixels, read as {channels.upper()} (if they are BGR, as in OpenCV, open "
            f"bin:{file},channels=bgr)"
        )
    return HeldPixels(file.name, pixels, channels == "bgr"), note


def _content(entry: Any, file: Path, number: int) -> bytes | bytearray | NDArray[np.uint8]:
    """Return the bytes of an encoded image, or the pixels of one that is not encoded."""
    if isinstance(entry, bytes | bytearray):
        return entry
    if isinstance(entry, np.ndarray):
        pixels = entry
    elif isinstance(entry, _Array) and entry.is_bytes:
        if sum(side > 1 for side in entry.shape or ()) < 2:  # OpenCV's encoded images are (N, 1).
            encoded: bytes | bytearray = entry.data
            return encoded
        pixels = entry.pixels()
    else:
        kind = type(entry).__name__.lstrip("_")
        if isinstance(entry, _Array) and isinstance(entry.dtype, _DType):
            kind = f"an array of {entry.dtype.code[:20]!r}"
        raise WorkbenchError(
            f"{file}, image {number}: expected encoded bytes or a uint8 array, found {kind}"
        )
    has_image_shape = pixels.ndim == 2 or (pixels.ndim == 3 and 3 in pixels.shape[::2])
    if not has_image_shape or not 0 < pixels.size <= 3 * images.MAX_PIXELS:
        raise WorkbenchError(
            f"{file}, image {number}: an array of shape {pixels.shape}, expected (H, W, 3), "
            "(3, H, W) or (H, W)"
        )
    return pixels
