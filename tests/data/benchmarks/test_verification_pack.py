"""InsightFace's packs: all forms of pickles that they use are read, and no code is executed."""

from __future__ import annotations

import codecs
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import data
from workbench.images import to_png

SAME = [True, False, True]


def encoded_image(number: int) -> bytes:
    return to_png(np.full((4, 3, 3), number, dtype=np.uint8))


ENCODED = [encoded_image(number) for number in range(6)]


def opened(folder: Path, content: bytes) -> data.Benchmark:
    (folder / "odd.bin").write_bytes(content)
    bench = data.benchmark(f"bin:{folder / 'odd.bin'}")
    assert isinstance(bench, data.Benchmark)
    return bench


def check(bench: data.Benchmark) -> None:
    assert bench.name == "odd"
    assert bench.pairs.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert bench.same.dtype == bool
    assert bench.same.tolist() == SAME
    assert bench.folds.tolist() == [0, 1, 2]
    assert [int(bench.images[i][0, 0, 0]) for i in range(6)] == list(range(6))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "same",
    [
        SAME,
        [np.bool_(x) for x in SAME],
        np.array(SAME),
        np.array(SAME, dtype=np.uint8),
        [int(x) for x in SAME],
        tuple(SAME),
    ],
    ids=["bools", "numpy bools", "bool array", "uint8 array", "ints", "tuple"],
)
@pytest.mark.parametrize("arrays", [False, True], ids=["bytes", "arrays"])
def test_every_form_is_read(protocol: int, same: Any, arrays: bool, tmp_path: Path) -> None:
    entries = [np.frombuffer(entry, dtype=np.uint8) if arrays else entry for entry in ENCODED]
    check(opened(tmp_path, pickle.dumps((entries, same), protocol=protocol)))


@pytest.mark.parametrize("numpy_core", [b"numpy.core", b"numpy._core"])
def test_the_module_names_of_old_and_new_numpy_are_read(numpy_core: bytes, tmp_path: Path) -> None:
    content = pickle.dumps(
        ([np.frombuffer(entry, np.uint8) for entry in ENCODED], [np.bool_(x) for x in SAME]),
        protocol=2,
    )
    check(
        opened(
            tmp_path, content.replace(b"numpy._core", numpy_core).replace(b"numpy.core", numpy_core)
        )
    )


def string(value: bytes) -> bytes:
    """A Python 2 str: SHORT_BINSTRING, or BINSTRING from 256 bytes on."""
    if len(value) < 256:
        return b"U" + bytes([len(value)]) + value
    return b"T" + struct.pack("<i", len(value)) + value


def python_2_array(value: bytes) -> bytes:
    dtype = (
        b"cnumpy\ndtype\n"
        + string(b"u1")
        + b"K\x00K\x01\x87R(K\x03"
        + string(b"|")
        + b"NNN"
        + b"J\xff\xff\xff\xff" * 2
        + b"K\x00tb"
    )
    empty = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"
        + string(b"b")
        + b"\x87R"
    )
    return (
        empty
        + b"(K\x01M"
        + struct.pack("<H", len(value))
        + b"\x85"
        + dtype
        + b"\x89"
        + string(value)
        + b"tb"
    )


@pytest.mark.parametrize("entry", [string, python_2_array])
@pytest.mark.parametrize("padding", [0, 400])
def test_a_pack_of_python_2_is_read(
    entry: Callable[[bytes], bytes], padding: int, tmp_path: Path
) -> None:
    images = b"".join(entry(value + bytes(padding)) for value in ENCODED)
    check(opened(tmp_path, b"\x80\x02](" + images + b"e](\x88\x89\x88e\x86."))


def test_a_real_pack_is_read(workbench_data: Path) -> None:
    bench = data.benchmark(f"bin:{workbench_data / 'bin' / 'lfw_200pairs.bin'}")
    assert isinstance(bench, data.Benchmark)
    assert bench.name == "lfw_200pairs"
    assert len(bench.images) == 400
    assert bench.same.shape == (200,)
    assert 0 < bench.same.sum() < 200
    assert np.bincount(bench.folds).tolist() == [20] * 10
    assert all(bench.images[i].shape == (112, 112, 3) for i in range(0, 400, 37))


def test_a_real_pack_of_arrays_is_read(workbench_data: Path) -> None:
    bench = data.benchmark(f"bin:{workbench_data / 'bin' / 'lfw_20pairs_ndarray.bin'}")
    assert isinstance(bench, data.Benchmark)
    assert (len(bench.images), len(bench.pairs)) == (40, 20)
    assert all(bench.images[i].shape == (112, 112, 3) for i in range(40))


WRONG: dict[str, Any] = {
    "one image too few": (ENCODED[:5], SAME),
    "one pair too many": (ENCODED, [*SAME, True]),
    "nothing": ([], []),
    "one pair": (ENCODED[:2], [True]),
    "numpy labels of other numbers": (ENCODED, [np.int64(2), np.int64(0), np.int64(0)]),
    "raw and encoded images": ([*ENCODED[:5], np.zeros((4, 4, 3), np.uint8)], SAME),
    "raw images of four colours": ([np.zeros((4, 4, 4), np.uint8)] * 6, SAME),
    "raw images without pixels": ([np.zeros((0, 4, 3), np.uint8)] * 6, SAME),
    "a stack of stacks": (np.zeros((6, 1, 2, 2, 3), np.uint8), SAME),
    "three parts": (ENCODED, SAME, 1),
    "only the images": ENCODED,
    "a dictionary": {"images": ENCODED, "same": SAME},
    "a number": 7,
    "text for images": (["a"] * 6, SAME),
    "text for labels": (ENCODED, ["yes", "no", "yes"]),
    "nothing for labels": (ENCODED, [None, None, None]),
    "other numbers for labels": (ENCODED, [1, 2, 3]),
    "float images": ([np.zeros((4, 4))] * 6, SAME),
    "object images": ([np.array([1, None], dtype=object)] * 6, SAME),
    "no list for labels": (ENCODED, 5),
}


@pytest.mark.parametrize("content", WRONG.values(), ids=WRONG)
def test_other_contents_are_errors(
    content: Any, tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    with complaint():
        opened(tmp_path, pickle.dumps(content))


PIXELS = [
    np.random.default_rng(number).integers(0, 256, (5, 4, 3), dtype=np.uint8) for number in range(6)
]


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize(
    "entries",
    [
        PIXELS,
        tuple(PIXELS),
        np.stack(PIXELS),
        [np.asfortranarray(pixels) for pixels in PIXELS],
        [np.ascontiguousarray(pixels.transpose(2, 0, 1)) for pixels in PIXELS],
    ],
    ids=["list", "tuple", "array", "by columns", "colours first"],
)
def test_raw_pixels_are_read_and_the_note_states_their_order(
    entries: Any, protocol: int, tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    bench = opened(tmp_path, pickle.dumps((entries, np.array(SAME)), protocol=protocol))
    assert bench.same.tolist() == SAME
    assert "raw pixels, read as RGB" in bench.note
    assert "channels=bgr" in bench.note
    for number, pixels in enumerate(PIXELS):
        np.testing.assert_array_equal(bench.images[number], pixels)
    turned = data.benchmark(f"bin:{tmp_path / 'odd.bin'},channels=bgr")
    assert isinstance(turned, data.Benchmark)
    assert turned.note == "raw pixels, read as BGR as stated"
    np.testing.assert_array_equal(turned.images[3], PIXELS[3][:, :, ::-1])
    with complaint("'bgrr'", "did you mean 'bgr'"):
        data.benchmark(f"bin:{tmp_path / 'odd.bin'},channels=bgrr")


def test_grey_pixels_become_rgb(tmp_path: Path) -> None:
    bench = opened(tmp_path, pickle.dumps(([pixels[:, :, 0].copy() for pixels in PIXELS], SAME)))
    np.testing.assert_array_equal(bench.images[2], np.repeat(PIXELS[2][:, :, :1], 3, axis=2))


@pytest.mark.parametrize("shape", [(-1, 1), (1, -1), (-1,)])
@pytest.mark.parametrize("kind", [list, tuple])
def test_encoded_images_come_in_arrays_of_any_shape(
    shape: tuple[int, ...], kind: Any, tmp_path: Path
) -> None:
    bench = opened(
        tmp_path,
        pickle.dumps(
            (kind(np.frombuffer(entry, np.uint8).reshape(shape) for entry in ENCODED), SAME)
        ),
    )
    check(bench)
    assert bench.note == ""


def test_channels_of_encoded_images_cannot_be_stated(
    tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    opened(tmp_path, pickle.dumps((ENCODED, SAME)))
    with complaint("odd.bin", "leave out channels="):
        data.benchmark(f"bin:{tmp_path / 'odd.bin'},channels=bgr")


def test_one_pair_cannot_be_cut_into_folds(tmp_path: Path, complaint: Callable[..., Any]) -> None:
    with complaint("odd.bin: has a single pair", "at least 2"):
        opened(tmp_path, pickle.dumps((ENCODED[:2], [True])))
    assert opened(tmp_path, pickle.dumps((ENCODED[:4], [True, False]))).folds.tolist() == [0, 1]


def test_a_file_that_is_not_a_pickle_is_an_error(
    tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    for content in (b"", b"hello", b"\x00" * 100, ENCODED[0], b"\x80\x04.", b"."):
        with complaint("odd.bin"):
            opened(tmp_path, content)


def test_a_truncated_pack_is_an_error(tmp_path: Path, complaint: Callable[..., Any]) -> None:
    content = pickle.dumps((ENCODED, SAME))
    for length in range(1, len(content), 23):
        with complaint("odd.bin"):
            opened(tmp_path, content[:length])


def test_a_broken_image_is_named(tmp_path: Path, complaint: Callable[..., Any]) -> None:
    bench = opened(tmp_path, pickle.dumps(([*ENCODED[:5], b"no image"], SAME)))
    with complaint("odd.bin, image 5", "not an image"):
        bench.images[5]


class Call:
    """An object whose pickle calls `function(*arguments)` when it is read."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.order = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.order


reconstruct: Any = np.zeros(1).__reduce__()[0]  # Its module depends on the release of NumPy.
scalar: Any = np.bool_(True).__reduce__()[0]
BIG = 2**31


def doubled(times: int) -> Any:
    value: Any = b"x"
    for _ in range(times):
        value = Call(codecs.encode, value, "hex")
    return value


HOSTILE: dict[str, Callable[[str], Any]] = {
    "a shell command": lambda file: Call(os.system, f"touch {file}"),
    "eval": lambda file: Call(eval, f"open({file!r}, 'w')"),
    "exec": lambda file: Call(exec, f"open({file!r}, 'w')"),
    "open": lambda file: Call(open, file, "w"),
    "getattr": lambda file: Call(getattr, "x", "upper"),
    "in an object array": lambda file: np.array([Call(os.system, f"touch {file}")], dtype=object),
    "in an array's state": lambda file: Call(
        reconstruct, np.ndarray, (0,), b"b", state=Call(os.system, f"touch {file}")
    ),
    "in a memmap": lambda file: Call(np.memmap, file, "u1", "w+", 0, (4,)),
    "an unfilled array": lambda file: Call(reconstruct, np.ndarray, (BIG,), b"b"),
    "an array called for": lambda file: Call(np.ndarray, (BIG // 8,), "O"),
    "an array whose state lies": lambda file: Call(
        reconstruct, np.ndarray, (0,), b"b", state=(1, (BIG,), np.dtype("u1"), False, b"1234")
    ),
    "a huge scalar": lambda file: Call(scalar, np.dtype(f"V{BIG - 1}")),
    "a text codec": lambda file: Call(codecs.encode, "x" * 100, "idna"),
    "doubling by a codec": lambda file: doubled(28),
}


@pytest.mark.usefixtures("modest_memory")
@pytest.mark.timeout(20)
@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("place", ["image", "label", "labels", "all"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_hostile_pickle_is_refused(
    hostile: Callable[[str], Any],
    place: str,
    protocol: int,
    tmp_path: Path,
    complaint: Callable[..., Any],
) -> None:
    attack = hostile(str(tmp_path / "hacked"))
    content = {
        "image": ([attack, *ENCODED[1:]], SAME),
        "label": (ENCODED, [attack, *SAME[1:]]),
        "labels": (ENCODED, attack),
        "all": attack,
    }[place]
    with complaint("odd.bin"):
        opened(tmp_path, pickle.dumps(content, protocol=protocol))
    assert not (tmp_path / "hacked").exists()


RAW = {
    "a memo of 2 GB": b"\x80\x02]r" + struct.pack("<I", 2**27) + b".",
    "bytes of 4 EB": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.",
    "bytes of 3 GB": b"\x80\x04\x8e" + struct.pack("<Q", 3 * 2**30) + b"x.",
    "a frame of 3 GB": b"\x80\x04\x95" + struct.pack("<Q", 3 * 2**30) + b"N.",
    "a persistent id": b"\x80\x02Pos.system\n.",
    "an extension": b"\x80\x02\x82\x01.",
    "a number of a million digits": b"\x80\x02L" + b"9" * 1_000_000 + b"L\n.",
    "a dictionary with itself": b"\x80\x02}q\x00h\x00h\x00s.",
    "a deep key": b"\x80\x02}" + b"N" + b"\x85" * 1_000_000 + b"Ns.",
    "deep lists": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "a list of itself": b"\x80\x02]q\x00h\x00a]\x88a\x86.",
}


@pytest.mark.usefixtures("modest_memory")
@pytest.mark.timeout(20)
@pytest.mark.parametrize("content", RAW.values(), ids=RAW)
def test_hostile_opcodes_are_refused(
    content: bytes, tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    with complaint("odd.bin"):
        opened(tmp_path, content)


@pytest.mark.usefixtures("modest_memory")
def test_an_array_that_is_referenced_many_times_is_not_copied(tmp_path: Path) -> None:
    entry = np.zeros(1_000_000, dtype=np.uint8)
    assert (
        len(opened(tmp_path, pickle.dumps(([entry] * 2000, [True] * 1000), protocol=2)).images)
        == 2000
    )


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), arrays=st.booleans(), protocol=st.integers(2, 5))
@pytest.mark.filterwarnings("ignore")
def test_a_mutated_pack_is_read_or_a_readable_error(
    seed: int,
    arrays: bool,
    protocol: int,
    mutate: Callable[[bytes, int], bytes],
    at_worst_complaint: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    entries = [np.frombuffer(entry, dtype=np.uint8) if arrays else entry for entry in ENCODED]
    folder = tmp_path_factory.mktemp("mutated")
    with at_worst_complaint("odd.bin"):
        bench = opened(
            folder,
            mutate(pickle.dumps((entries, [np.bool_(x) for x in SAME]), protocol=protocol), seed),
        )
        assert len(bench.images) == 2 * len(bench.pairs)
        for i in range(len(bench.images)):
            assert bench.images[i].dtype == np.uint8
