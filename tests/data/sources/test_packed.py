"""The packed format, JPEGs end to end with an index of their ranges; damage is a one-line error."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import data
from workbench.images import to_png

LABELS = (0, 0, 1, 10, 2, 1)


def picture(number: int) -> bytes:
    return to_png(np.full((6, 5, 3), number, dtype=np.uint8))


def write(folder: Path, end: str = "\r\n", labels: Sequence[int] = LABELS) -> Path:
    pictures, lines, offset = b"", [], 0
    for number, label in enumerate(labels):
        pictures += picture(number)
        lines.append(f"set/{label} é/a ({number}).jpg\t{label}\t{offset}\t{len(pictures)}{end}")
        offset = len(pictures)
    (folder / "faces.bin").write_bytes(pictures)
    (folder / "faces.idx").write_bytes("".join(lines).encode())
    return folder / "faces"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_label_is_the_class(end: str, tmp_path: Path) -> None:
    dataset = data.open(f"packed:{write(tmp_path, end)}")
    assert dataset.name == "faces"
    assert dataset.identity_names == ["0", "1", "2", "10"]
    assert dataset.identities.tolist() == [0, 0, 1, 3, 2, 1]
    assert dataset.attributes["file"][3] == "set/10 é/a (3).jpg"
    assert [int(dataset.images[i][0, 0, 0]) for i in range(6)] == list(range(6))
    assert dataset.images.encoded(-1) == picture(5)  # type: ignore[attr-defined]


def test_either_file_names_both_and_the_last_line_need_not_end(tmp_path: Path) -> None:
    prefix = write(tmp_path)
    index = tmp_path / "faces.idx"
    index.write_bytes(index.read_bytes().removesuffix(b"\r\n"))
    for path in (f"{prefix}.bin", f"{prefix}.idx"):
        assert len(data.open(f"packed:{path}")) == 6


def test_the_real_file(workbench_data: Path) -> None:
    dataset = data.open(f"packed:{workbench_data / 'packed' / 'gender_test'}")
    assert dataset.name == "gender_test"
    assert len(dataset) == 418
    assert dataset.identity_names == ["0", "1"]
    assert {dataset.images[i].shape for i in range(0, 418, 20)} == {(224, 224, 3)}
    folders = {
        (str(name).split("/")[1], label)
        for name, label in zip(dataset.attributes["file"], dataset.identities, strict=True)
    }
    assert folders == {("0_male", 0), ("1_female", 1)}


def test_a_million_lines_are_opened_at_once(tmp_path: Path) -> None:
    count = 1_000_000
    lines = (
        f"ms1m/{i // 100:07d}/{i % 100:03d}.jpg\t{i // 100}\t{i}\t{i + 1}\r\n" for i in range(count)
    )
    (tmp_path / "large.idx").write_text("".join(lines), newline="")
    with (tmp_path / "large.bin").open("wb") as file:
        file.truncate(count)
    begun = time.process_time()
    dataset = data.open(f"packed:{tmp_path / 'large'}")
    assert time.process_time() - begun < 20
    assert (len(dataset), dataset.num_identities) == (count, count // 100)
    assert dataset.attributes["file"][-1] == "ms1m/0009999/099.jpg"


def test_it_can_be_pickled(tmp_path: Path) -> None:
    images = pickle.loads(pickle.dumps(data.open(f"packed:{write(tmp_path)}").images))
    assert int(images[4][0, 0, 0]) == 4


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (0, "a\t0\t0", "line 1: expected"),
        (2, "a\t0\t0\t1\t2", "line 3: expected"),
        (2, "", "line 3: expected"),
        (1, "a b 0 0 1", "line 2: expected"),
        (1, "a\tmale\t0\t1", "line 2: expected"),
        (1, "a\t-1\t0\t1", "line 2: expected"),
        (1, "a\t0\t0\t1e3", "line 2: expected"),
        (1, "a\t0\t0\t" + "9" * 30, "line 2: expected"),
        (5, "a\t0\t5\t999999", "line 6: bytes 5 to 999999, but faces.bin has"),
        (5, "a\t0\t9\t" + "9" * 18, "truncated"),
        (5, "a\t0\t9\t10", "ends at byte 10, but"),
        (0, "a\t0\t5\t5", "no image"),
        (0, "a\t0\t9\t5", "no image"),
        (1, "a\t0\t3\t9", "line 2: bytes 3 to 9, which begins before"),
    ],
)
def test_a_wrong_line_is_named(
    line: int, text: str, message: str, tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    prefix = write(tmp_path, "\n")
    lines = (tmp_path / "faces.idx").read_text().splitlines()
    lines[line] = text
    (tmp_path / "faces.idx").write_text("\n".join(lines))
    with complaint("faces.idx", message):
        data.open(f"packed:{prefix}")


def test_a_field_too_many_and_one_too_few_do_not_cancel_out(
    tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    (tmp_path / "faces.bin").write_bytes(bytes(100))
    (tmp_path / "faces.idx").write_text("1\t2\t3\t4\t5\n6\t7\t8\n")
    with complaint("faces.idx, line 1: expected"):
        data.open(f"packed:{tmp_path / 'faces'}")


@pytest.mark.parametrize("content", ["", "\n", "\r\n"])
def test_an_empty_index_is_an_error(
    content: str, tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    (tmp_path / "faces.bin").write_bytes(b"x")
    (tmp_path / "faces.idx").write_text(content, newline="")
    with complaint("faces.idx, line 1: expected"):
        data.open(f"packed:{tmp_path / 'faces'}")


def test_a_shortened_file_is_an_error(tmp_path: Path, complaint: Callable[..., Any]) -> None:
    prefix = write(tmp_path)
    dataset = data.open(f"packed:{prefix}")
    whole = (tmp_path / "faces.bin").read_bytes()
    (tmp_path / "faces.bin").write_bytes(whole[:-1])
    with complaint("faces.bin, image 5", "a (5).jpg", "truncated"):
        dataset.images[5]
    with complaint("faces.idx, line 6", f"faces.bin has {len(whole) - 1} bytes"):
        data.open(f"packed:{prefix}")
    (tmp_path / "faces.bin").write_bytes(b"x" * len(whole))
    with complaint("faces.bin, image 5", "not an image"):
        dataset.images[5]
    (tmp_path / "faces.bin").unlink()
    with complaint("faces.bin", "cannot be read"):
        pickle.loads(pickle.dumps(dataset.images))[5]


def test_a_shortened_index_is_an_error(tmp_path: Path, complaint: Callable[..., Any]) -> None:
    prefix = write(tmp_path)
    lines = (tmp_path / "faces.idx").read_bytes().splitlines(keepends=True)
    (tmp_path / "faces.idx").write_bytes(b"".join(lines[:-1]))
    with complaint("faces.idx: ends at byte", "faces.bin has"):
        data.open(f"packed:{prefix}")


def test_a_range_longer_than_any_picture_is_refused(
    tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    with (tmp_path / "faces.bin").open("wb") as file:
        file.truncate(2**40)
    (tmp_path / "faces.idx").write_text(f"a\t0\t0\t{2**40}\n")
    with complaint("faces.idx, line 1", "more than"):
        data.open(f"packed:{tmp_path / 'faces'}")


def test_missing_files_are_an_error(tmp_path: Path, complaint: Callable[..., Any]) -> None:
    prefix = write(tmp_path)
    (tmp_path / "faces.idx").unlink()
    with complaint("faces.idx: no such file"):
        data.open(f"packed:{prefix}")
    for spec in ("packed:", "packed:.bin"):
        with complaint("packed:PREFIX"):
            data.open(spec)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), which=st.sampled_from([".bin", ".idx"]))
def test_a_mutated_file_is_read_or_a_readable_error(
    seed: int,
    which: str,
    mutate: Callable[[bytes, int], bytes],
    at_worst_complaint: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    prefix = write(tmp_path_factory.mktemp("mutated"))
    file = prefix.with_suffix(which)
    file.write_bytes(mutate(file.read_bytes(), seed))
    with at_worst_complaint("faces."):
        dataset = data.open(f"packed:{prefix}")
        assert 1 <= len(dataset) <= 6
        for i in range(len(dataset)):
            assert dataset.images[i].dtype == np.uint8


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_an_index_may_be_parted_by_spaces_throughout(end: str, tmp_path: Path) -> None:
    prefix = write(tmp_path, end)
    index = tmp_path / "faces.idx"
    index.write_bytes(
        b"\xef\xbb\xbf" + index.read_bytes().replace(b"\t", b"  ").replace(b"set/", b"set\\")
    )
    dataset = data.open(f"packed:{prefix}")
    assert dataset.identities.tolist() == [0, 0, 1, 3, 2, 1]
    assert dataset.attributes["file"][3] == "set\\10 é/a (3).jpg"
