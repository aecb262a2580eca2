"""TensorFlow's `Example` message as it lies in a file: where each feature's values are, without a copy of the pictures.

Only what an Example is made of is read (https://protobuf.dev/programming-guides/encoding): Example.features = 1,
Features.feature = 1 (a map: key = 1, value = 2), Feature: bytes_list = 1, float_list = 2, int64_list = 3, each with value = 1.
"""

from __future__ import annotations

from collections.abc import Iterator

BYTES, FLOATS, INTEGERS = 1, 2, 3
VARINT, FIXED64, SPAN, FIXED32 = 0, 1, 2, 5

Feature = tuple[int, int, int]
"""Kind of its values (`BYTES`, ...), begin and end of the list of them."""


def features(data: bytes) -> dict[bytes, Feature]:
    """The features of an Example by their names. Raises ValueError for bytes that are none."""
    found: dict[bytes, Feature] = {}
    for _, _, begin, end in _spans(data, 0, len(data), 1):
        for _, _, entry, entry_end in _spans(data, begin, end, 1):
            name, feature = b"", None
            for number, _, value, value_end in _spans(data, entry, entry_end, 1, 2):
                if number == 1:
                    name = data[value:value_end]
                else:
                    for kind, _, values, values_end in _spans(
                        data, value, value_end, BYTES, FLOATS, INTEGERS
                    ):
                        feature = (kind, values, values_end)
            if feature:
                found[name] = feature
    return found


def first_bytes(data: bytes, feature: Feature) -> tuple[int, int]:
    """Begin and end of the first value of a list of bytes. Raises ValueError where there is none."""
    kind, begin, end = feature
    if kind == BYTES:
        for _, _, value, value_end in _spans(data, begin, end, 1):
            return value, value_end
    raise ValueError("no bytes in it")


def first_integer(data: bytes, feature: Feature) -> int:
    """The first value of a list of 64-bit integers. Raises ValueError where there is none."""
    kind, begin, end = feature
    if kind == INTEGERS:
        for number, wire, value, value_end in _fields(data, begin, end):
            if (
                number == 1 and wire in (VARINT, SPAN) and value < value_end
            ):  # one by one, or packed
                integer, _ = _varint(data, value, value_end)
                return integer - 2**64 if integer >= 2**63 else integer
    raise ValueError("no whole numbers in it")


def _spans(data: bytes, begin: int, end: int, *numbers: int) -> Iterator[tuple[int, int, int, int]]:
    """The fields with these numbers, all of which have a length."""
    for field in _fields(data, begin, end):
        if field[0] in numbers:
            if field[1] != SPAN:
                raise ValueError(f"field {field[0]} is of wire type {field[1]}")
            yield field


def _fields(data: bytes, begin: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, begin and end of the value of each field of a message."""
    at = begin
    while at < end:
        tag, at = _varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            _, after = _varint(data, at, end)
        elif wire == SPAN:
            length, at = _varint(data, at, end)
            after = at + length
        elif wire in (FIXED64, FIXED32):
            after = at + (8 if wire == FIXED64 else 4)
        else:
            raise ValueError(f"wire type {wire}")
        if after > end or not number:
            raise ValueError("a field ends behind its message" if number else "field number 0")
        yield number, wire, at, after
        at = after


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """A number of up to 64 bits, 7 in each byte, the lowest first; and where it ends."""
    value = 0
    for place in range(10):
        if at + place >= end:
            raise ValueError("a number is cut off")
        byte = data[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value & (2**64 - 1), at + place + 1
    raise ValueError("a number of more than 10 bytes")
