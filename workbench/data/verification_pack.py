"""`bin:FILE` - InsightFace's verification packs (lfw.bin, agedb_30.bin, cfp_fp.bin, ...): pickled JPEGs and pair labels."""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.data.benchmark import Benchmark, consecutive_folds
from workbench.data.dataset import EncodedImages
from workbench.data.registry import BENCHMARKS, existing
from workbench.errors import WorkbenchError

_OPCODES = """
    PROTO FRAME STOP MARK EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 NONE NEWTRUE NEWFALSE
    INT BININT BININT1 BININT2 LONG LONG1 STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
    UNICODE BINUNICODE SHORT_BINUNICODE PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET
    GLOBAL STACK_GLOBAL REDUCE BUILD
"""
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

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, shape, self.dtype, _fortran, self.data = state
        if not all(isinstance(side, int) for side in shape):  # a product of lists would fill the memory
            raise ValueError("an array whose shape is not of whole numbers")
        if isinstance(self.dtype, _DType) and math.prod(shape[:4]) * self.dtype.size != len(self.data):
            raise ValueError(f"an array of shape {shape[:4]} with {len(self.data)} bytes")

    def values(self) -> NDArray[Any]:
        """The numbers in the array, without its shape."""
        code = self.dtype.code if isinstance(self.dtype, _DType) else "nothing"
        if not re.fullmatch("b1|[iu][1248]", code) or not isinstance(self.data, bytes | bytearray):
            raise ValueError(f"an array of {code[:20]!r}")
        return np.frombuffer(self.data, np.dtype(code))


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _frombuffer(data: object, dtype: object, *_: object) -> _Array:
    array = _Array()
    array.dtype, array.data = dtype, data
    return array


def _scalar(dtype: object, data: bytes) -> bool:
    return bool(_frombuffer(data, dtype).values()[0])


class _PackUnpickler(pickle.Unpickler):
    """Knows what a pack is made of - lists, bytes, bools, numpy arrays - and nothing that could run code or fill the memory."""

    def __init__(self, data: bytes) -> None:
        allowed = frozenset(_OPCODES.split())
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count > MOST_ORDERS:  # a list takes a byte in the file and 64 in memory
                raise pickle.UnpicklingError(f"it has more than {MOST_ORDERS:,} orders")
            if opcode.name not in allowed:
                raise pickle.UnpicklingError(f"{opcode.name} is in it, which no verification pack needs")
            if opcode.name.endswith("PUT") and int(argument or 0) > len(data):
                raise pickle.UnpicklingError(f"it asks for room for {argument} objects")
        super().__init__(io.BytesIO(data), encoding="bytes")
        self._left_to_encode = len(data)

    def _encode(self, text: str, encoding: str) -> bytes:
        """How protocol 2 writes bytes. Other codecs, or the same text over and over, could be made to fill the memory."""
        self._left_to_encode -= len(text)
        if encoding != "latin1" or self._left_to_encode < 0:
            raise pickle.UnpicklingError("it does with _codecs.encode what no verification pack needs")
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
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no verification pack needs")
        return known[name]


@dataclass(frozen=True)
class HeldImages(EncodedImages):
    """Encoded images held in memory."""

    name: str
    held: list[bytes | bytearray]

    def __len__(self) -> int:
        return len(self.held)

    def encoded(self, index: int) -> bytes:
        return bytes(self.held[index])

    def where(self, index: int) -> str:
        return f"{self.name}, image {index}"


@BENCHMARKS.register("bin")
def open_bin(path: str) -> Benchmark:
    """Pair i is images 2i and 2i + 1; the pairs are cut into 10 consecutive folds, fewer where there are fewer than 10."""
    file = existing(path, "bin", "file")
    encoded, same = _unpack(file)
    pairs = np.arange(len(encoded), dtype=np.int64).reshape(-1, 2)
    return Benchmark(file.stem, HeldImages(file.name, encoded), pairs, same, consecutive_folds(len(pairs), min(10, len(pairs))))


def _unpack(file: Path) -> tuple[list[bytes | bytearray], NDArray[np.bool_]]:
    try:
        content = _PackUnpickler(file.read_bytes()).load()
    # A hostile or cut-off pickle can raise nearly anything on its way to failing.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise WorkbenchError(f"{file}: not a verification pack ({reason or type(error).__name__})") from None
    if not isinstance(content, tuple | list) or len(content) != 2 or not isinstance(content[0], list):
        raise WorkbenchError(f"{file}: expected a pickled pair (images, issame), found {type(content).__name__}")
    try:
        labels = content[1].values().tolist() if isinstance(content[1], _Array) else list(content[1])
    except (TypeError, ValueError):
        labels = [None]
    if not all(isinstance(label, int) and label in (0, 1) for label in labels):
        raise WorkbenchError(f"{file}: the second part is not a list of booleans")
    same = np.array(labels, dtype=bool)
    if len(content[0]) != 2 * len(same) or not len(same):
        raise WorkbenchError(f"{file}: {len(content[0])} images for {len(same)} pairs, expected two a pair")
    encoded = [_as_bytes(entry, file, number) for number, entry in enumerate(content[0])]
    return encoded, same


def _as_bytes(entry: Any, file: Path, number: int) -> bytes | bytearray:
    held = entry.data if isinstance(entry, _Array) and isinstance(entry.dtype, _DType) and entry.dtype.code == "u1" else entry
    if isinstance(held, bytes | bytearray):
        return held
    raise WorkbenchError(
        f"{file}, image {number}: expected encoded bytes or a uint8 array, found {type(entry).__name__.lstrip('_')}"
    )
