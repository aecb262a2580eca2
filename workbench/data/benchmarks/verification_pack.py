"""`bin:FILE` - InsightFace's verification packs (lfw.bin, agedb_30.bin, cfp_fp.bin, ...): pickled JPEGs and pair labels."""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench import images
from workbench.data.benchmark import Benchmark, consecutive_folds
from workbench.data.dataset import Images
from workbench.data.io.paths import with_options
from workbench.data.io.readers import HeldImages, HeldPixels
from workbench.data.registry import BENCHMARKS, existing
from workbench.errors import WorkbenchError, unknown_name

_OPCODES = """
    PROTO FRAME STOP MARK EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 NONE NEWTRUE NEWFALSE
    INT BININT BININT1 BININT2 LONG LONG1 STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
    UNICODE BINUNICODE SHORT_BINUNICODE PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET
    GLOBAL STACK_GLOBAL REDUCE BUILD
"""
MOST_SIDES = 4
"""Dimensions of an array: images, height, width, colours."""
CHANNELS = ("rgb", "bgr")
MOST_ORDERS = 2_000_000
"""Opcodes of a pickle; the 14,000 arrays of the largest pack take some 300,000."""
_MODULES = re.compile(r"numpy|numpy\._?core\.(multiarray|numeric)|_codecs")


class _DType:
    """Stands in for numpy.dtype: the code alone ("u1", "b1")."""

    def __init__(self, code: str | bytes, *_: object) -> None:
        self.code = code.decode("latin1") if isinstance(code, bytes) else code
        self.size = int(self.code[1:])

    def __setstate__(self, state: object) -> None:
        """The state is about byte order and fields, of which single bytes have none."""


class _Array:
    """Stands in for numpy.ndarray: the bytes as the pickle has them. NumPy itself would allocate whatever a pickle claims."""

    dtype: object = None
    data: Any = None
    shape: tuple[int, ...] | None = None
    by_columns = False

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, shape, dtype, by_columns, data = state
        self._fill(data, dtype, shape, by_columns)

    def _fill(self, data: Any, dtype: object, shape: Any, by_columns: object) -> None:
        if not isinstance(shape, tuple) or not all(
            isinstance(side, int) for side in shape
        ):  # products of lists fill the memory
            raise ValueError("an array whose shape is not of whole numbers")
        if len(shape) > MOST_SIDES or min(shape, default=1) < 0:
            raise ValueError(f"an array of shape {shape[:MOST_SIDES]}")
        if isinstance(dtype, _DType) and math.prod(shape) * dtype.size != len(data):
            raise ValueError(f"an array of shape {shape} with {len(data)} bytes")
        self.data, self.dtype, self.shape, self.by_columns = (
            data,
            dtype,
            shape,
            by_columns in (True, "F", b"F"),
        )

    @property
    def is_bytes(self) -> bool:
        """Whether it holds nothing but bytes."""
        return (
            isinstance(self.dtype, _DType)
            and self.dtype.code == "u1"
            and isinstance(self.data, bytes | bytearray)
        )

    def pixels(self) -> NDArray[np.uint8]:
        """Its bytes in their shape."""
        return np.frombuffer(self.data, np.uint8).reshape(
            self.shape or -1, order="F" if self.by_columns else "C"
        )

    def values(self) -> NDArray[Any]:
        """The numbers in the array, without its shape."""
        code = self.dtype.code if isinstance(self.dtype, _DType) else "nothing"
        if not re.fullmatch("b1|[iu][1248]", code) or not isinstance(self.data, bytes | bytearray):
            raise ValueError(f"an array of {code[:20]!r}")
        return np.frombuffer(self.data, np.dtype(code))


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _frombuffer(data: Any, dtype: object, shape: Any = None, order: object = "C") -> _Array:
    """How protocol 5 writes arrays."""
    array = _Array()
    if not isinstance(data, bytes | bytearray):
        array.data = data
        return array
    size = dtype.size if isinstance(dtype, _DType) else 1
    array._fill(data, dtype, (len(data) // size,) if shape is None else shape, order)
    return array


def _scalar(dtype: object, data: bytes) -> int:
    return int(_frombuffer(data, dtype).values()[0])


class _PackUnpickler(pickle.Unpickler):
    """Knows what a pack is made of - lists, bytes, bools, numpy arrays - and nothing that could run code or fill the memory."""

    def __init__(self, data: bytes) -> None:
        allowed = frozenset(_OPCODES.split())
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count > MOST_ORDERS:  # a list takes a byte in the file and 64 in memory
                raise pickle.UnpicklingError(f"it has more than {MOST_ORDERS:,} orders")
            if opcode.name not in allowed:
                raise pickle.UnpicklingError(
                    f"{opcode.name} is in it, which no verification pack needs"
                )
            if opcode.name.endswith("PUT") and int(argument or 0) > len(data):
                raise pickle.UnpicklingError(f"it asks for room for {argument} objects")
        super().__init__(io.BytesIO(data), encoding="bytes")
        self._left_to_encode = len(data)

    def _encode(self, text: str, encoding: str) -> bytes:
        """How protocol 2 writes bytes. Other codecs, or the same text over and over, could be made to fill the memory."""
        self._left_to_encode -= len(text)
        if encoding != "latin1" or self._left_to_encode < 0:
            raise pickle.UnpicklingError(
                "it does with _codecs.encode what no verification pack needs"
            )
        return text.encode(encoding)

    def find_class(self, module: str, name: str) -> Any:
        known = {
            "ndarray": _Array,
            "dtype": _DType,
            "_reconstruct": _reconstruct,
            "_frombuffer": _frombuffer,
            "scalar": _scalar,
            "encode": self._encode,
        }
        if not _MODULES.fullmatch(module) or name not in known:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, which no verification pack needs"
            )
        return known[name]


@BENCHMARKS.register("bin")
def open_bin(path: str) -> Benchmark:
    """Pair i is images 2i and 2i + 1; the pairs are cut into 10 consecutive folds, fewer where there are fewer than 10.

    Images are encoded files, or raw pixels: nothing in a pack says whether these are RGB or BGR (OpenCV's), so they are taken as
    RGB, which is said, unless `,channels=bgr` states the other.
    """
    place, options = with_options(path, "bin", ("channels",))
    channels = options.get("channels", "rgb")
    if channels not in CHANNELS:
        raise unknown_name("order of channels", channels[:40], CHANNELS)
    file = existing(place, "bin", "file")
    entries, same = _unpack(file)
    reader, note = _reader(file, entries, channels, "channels" in options)
    pairs = np.arange(len(entries), dtype=np.int64).reshape(-1, 2)
    if len(pairs) < 2:
        raise WorkbenchError(
            f"{file}: one pair alone, which cannot be cut into folds; at least 2 pairs are needed"
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
    """The images as the pickle has them, and which pairs are genuine."""
    try:
        content = _PackUnpickler(images.read_bytes(file)).load()
        entries = _entries(content)
    # A hostile or cut-off pickle can raise nearly anything on its way to failing.
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
        labels = (
            content[1].values().tolist() if isinstance(content[1], _Array) else list(content[1])
        )
    except (TypeError, ValueError):
        labels = [None]
    if not all(isinstance(label, int) and label in (0, 1) for label in labels):
        raise WorkbenchError(f"{file}: the second part is not a list of booleans")
    same = np.array(labels, dtype=bool)
    if len(entries) != 2 * len(same) or not len(same):
        raise WorkbenchError(
            f"{file}: {len(entries)} images for {len(same)} pairs, expected two a pair"
        )
    return entries, same


def _entries(content: Any) -> list[Any] | None:
    """The first part of a pack as a list: a list, a tuple, or one array of all pictures; None where there is no such part."""
    if not isinstance(content, tuple | list) or len(content) != 2:
        return None
    first = content[0]
    if isinstance(first, _Array) and first.is_bytes and len(first.shape or ()) == MOST_SIDES:
        return list(first.pixels())
    return list(first) if isinstance(first, tuple | list) else None


def _reader(file: Path, entries: list[Any], channels: str, stated: bool) -> tuple[Images, str]:
    """A reader of the images, and what to say of them."""
    held = [_as_image(entry, file, number) for number, entry in enumerate(entries)]
    pixels = [image for image in held if isinstance(image, np.ndarray)]
    if not pixels:
        if stated:
            raise WorkbenchError(
                f"{file}: holds encoded images, of which the order of channels is known; leave out channels="
            )
        return HeldImages(
            file.name, [image for image in held if not isinstance(image, np.ndarray)]
        ), ""
    if len(pixels) < len(held):
        number = next(
            number
            for number, image in enumerate(held)
            if isinstance(image, np.ndarray) != isinstance(held[0], np.ndarray)
        )
        raise WorkbenchError(
            f"{file}, image {number}: of images 0 and {number} one is raw pixels and one is encoded, expected one kind"
        )
    said = f"raw pixels, {'stated' if stated else 'taken'} as {channels.upper()}"
    hint = "" if stated else f" (if they are OpenCV's BGR, bin:{file},channels=bgr)"
    return HeldPixels(file.name, pixels, channels == "bgr"), said + hint


def _as_image(entry: Any, file: Path, number: int) -> bytes | bytearray | NDArray[np.uint8]:
    """The bytes of an encoded image, or the pixels of one that is not."""
    if isinstance(entry, bytes | bytearray):
        return entry
    if isinstance(entry, np.ndarray):
        pixels = entry
    elif isinstance(entry, _Array) and entry.is_bytes:
        if sum(side > 1 for side in entry.shape or ()) < 2:  # OpenCV's encoded images are (N, 1)
            held: bytes | bytearray = entry.data
            return held
        pixels = entry.pixels()
    else:
        found = (
            f"an array of {entry.dtype.code[:20]!r}"
            if isinstance(entry, _Array) and isinstance(entry.dtype, _DType)
            else ""
        )
        raise WorkbenchError(
            f"{file}, image {number}: expected encoded bytes or a uint8 array, found {found or type(entry).__name__.lstrip('_')}"
        )
    if (
        pixels.size
        and pixels.size <= 3 * images.MAX_PIXELS
        and (pixels.ndim == 2 or (pixels.ndim == 3 and 3 in pixels.shape[::2]))
    ):
        return pixels
    raise WorkbenchError(
        f"{file}, image {number}: an array of shape {pixels.shape}, expected (H, W, 3), (3, H, W) or (H, W)"
    )
