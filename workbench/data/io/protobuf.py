"""Finds the values of the features in TensorFlow's `Example` message, without copying the images.

Only what an Example consists of is parsed
(https://protobuf.dev/programming-guides/encoding): Example.features = 1, Features.feature = 1 (a
map with key = 1 and value = 2), Feature: bytes_list = 1, float_list = 2, int64_list = 3, each of
them with value = 1.
"""

from __future__ import annotations

from collections.abc import Iterator

BYTES, FLOATS, INTEGERS = 1, 2, 3
VARINT, FIXED64, SPAN, FIXED32 = 0, 1, 2, 5

Feature = tuple[int, int, int]
"""Kind of the values (`BYTES`, `FLOATS` or `INTEGERS`), begin and end of the list of values."""

Field = tuple[int, int, int, int]
"""A field of a message: its number, its wire type, begin and end of its value."""


def features(data: bytes) -> dict[bytes, Feature]:
    """Returns the features of an Example by name.

    Raises:
        ValueError: if the bytes are not an Example message.
    """
    by_name: dict[bytes, Feature] = {}
    for _, _, begin, end in _spans(data, 0, len(data), 1):
        for _, _, entry, entry_end in _spans(data, begin, end, 1):
            name, feature = _map_entry(data, entry, entry_end)
            if feature is not None:
                by_name[name] = feature
    return by_name


def _map_entry(data: bytes, begin: int, end: int) -> tuple[bytes, Feature | None]:
    """Returns name and feature of an entry of the map; None if the entry has no feature."""
    name, feature = b"", None
    for number, _, value, value_end in _spans(data, begin, end, 1, 2):
        if number == 1:
            name = data[value:value_end]
            continue
        lists = _spans(data, value, value_end, BYTES, FLOATS, INTEGERS)
        for kind, _, values, values_end in lists:
            feature = (kind, values, values_end)
    return name, feature


def first_bytes(data: bytes, feature: Feature) -> tuple[int, int]:
    """Returns begin and end of the first value of a list of bytes.

    Raises:
        ValueError: if the feature holds no bytes.
    """
    kind, begin, end = feature
    if kind == BYTES:
        for _, _, value, value_end in _spans(data, begin, end, 1):
            return value, value_end
    raise ValueError("it holds no bytes")


def first_integer(data: bytes, feature: Feature) -> int:
    """Returns the first value of a list of 64-bit integers.

    Raises:
        ValueError: if the feature holds no integers.
    """
    kind, begin, end = feature
    if kind == INTEGERS:
        for number, wire, value, value_end in _fields(data, begin, end):
            # The values are stored one by one (VARINT) or packed into one field (SPAN).
            if number == 1 and wire in (VARINT, SPAN) and value < value_end:
                integer, _ = _varint(data, value, value_end)
                return integer - 2**64 if integer >= 2**63 else integer
    raise ValueError("it holds no whole numbers")


def _spans(data: bytes, begin: int, end: int, *numbers: int) -> Iterator[Field]:
    """Yields the fields with these numbers, each of which must be of wire type `SPAN`."""
    for field in _fields(data, begin, end):
        number, wire, _, _ = field
        if number in numbers:
            if wire != SPAN:
                raise ValueError(f"field {number} is of wire type {wire}")
            yield field


def _fields(data: bytes, begin: int, end: int) -> Iterator[Field]:
    """Yields the fields of the message in data[begin:end]."""
    at = begin
    while at < end:
        tag, at = _varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            _, value_end = _varint(data, at, end)
        elif wire == SPAN:
            length, at = _varint(data, at, end)
            value_end = at + length
        elif wire == FIXED64:
            value_end = at + 8
        elif wire == FIXED32:
            value_end = at + 4
        else:
            raise ValueError(f"wire type {wire}")
        if number == 0:
            raise ValueError("field number 0")
        if value_end > end:
            raise ValueError("a field ends after its message")
        yield number, wire, at, value_end
        at = value_end


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Returns a number of up to 64 bits and where it ends: 7 bits a byte, the lowest first."""
    value = 0
    for place in range(10):
        if at + place >= end:
            raise ValueError("a number is truncated")
        byte = data[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value & (2**64 - 1), at + place + 1
    raise ValueError("a number of more than 10 bytes")
