"""RecordIO files of an independent writer are read; damage is a one-line error."""

from __future__ import annotations

import math
import os
import pickle
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import data
from workbench.data.dataset import encoded_image
from workbench.data.io import indexes
from workbench.data.io.reading import SharedFile
from workbench.data.sources import recordio
from workbench.data.sources.recordio import read_record
from workbench.images import to_png

MAGIC = struct.pack("<I", 0xCED7230A)


def framed(payload: bytes) -> bytes:
    """Returns a record as dmlc-core writes it.

    It is split where an aligned word is the magic number, and each part is padded to 4 bytes.
    """
    cuts = [at for at in range(0, len(payload) - 3, 4) if payload[at : at + 4] == MAGIC]
    parts = [
        payload[a:b]
        for a, b in zip([0, *(at + 4 for at in cuts)], [*cuts, len(payload)], strict=True)
    ]
    kinds = [0] if len(parts) == 1 else [1, *[2] * (len(parts) - 2), 3]
    return b"".join(
        MAGIC + struct.pack("<I", kind << 29 | len(part)) + part + bytes(-len(part) % 4)
        for kind, part in zip(kinds, parts, strict=True)
    )


def packed(label: float | Sequence[float], image: bytes = b"", key: int = 0) -> bytes:
    """Returns the payload of a record, with one label in the header or several after it."""
    if isinstance(label, Sequence):
        return (
            struct.pack("<IfQQ", len(label), 0.0, key, 0)
            + struct.pack(f"<{len(label)}f", *label)
            + image
        )
    return struct.pack("<IfQQ", 0, label, key, 0) + image


def write(folder: Path, records: Sequence[tuple[int, bytes]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    offset, lines, rec = 0, [], []
    for key, payload in records:
        lines.append(f"{key}\t{offset}\n")
        rec.append(framed(payload))
        offset += len(rec[-1])
    (folder / "train.rec").write_bytes(b"".join(rec))
    (folder / "train.idx").write_text("".join(lines))
    return folder


def picture(number: int) -> bytes:
    return to_png(np.full((6, 5, 3), number, dtype=np.uint8))


LABELS = (7, 7, 3, 3, 3, 12)
RANGES = ((1, 3), (3, 6), (6, 7))


def with_ranges(
    header: Sequence[float] = (7, 10), ranges: Sequence[Sequence[float]] = RANGES
) -> list[tuple[int, bytes]]:
    shown = [(key, packed(label, picture(key), key)) for key, label in enumerate(LABELS, 1)]
    return [(0, packed(header)), *shown, *((7 + i, packed(span)) for i, span in enumerate(ranges))]


def check(dataset: data.Dataset) -> None:
    """Checks that there are the six images: key k has colour k and label LABELS[k - 1]."""
    assert dataset.identity_names == ["3", "7", "12"]
    assert len(dataset) == 6
    shown = {
        int(dataset.images[i][0, 0, 0]): dataset.identity_names[dataset.identities[i]]
        for i in range(6)
    }
    assert shown == {key: str(label) for key, label in enumerate(LABELS, 1)}


def test_record_0_and_identity_ranges_are_followed(tmp_path: Path) -> None:
    check(data.open(f"recordio:{write(tmp_path / 'a', with_ranges())}"))


@pytest.mark.parametrize("first_key", [0, 1])
def test_without_record_0_all_keys_are_images(first_key: int, tmp_path: Path) -> None:
    records = [(first_key + i, packed(label, picture(i + 1))) for i, label in enumerate(LABELS)]
    check(data.open(f"recordio:{write(tmp_path / 'a', records[::-1])}"))


@pytest.mark.parametrize("label", [(7.0,), 7.0, (6.0,), (0.0,), (3e38,), (math.nan,)])
def test_a_record_0_of_one_label_is_no_image(
    label: float | Sequence[float], tmp_path: Path
) -> None:
    dataset = data.open(
        f"recordio:{write(tmp_path / 'a', [(0, packed(label)), *with_ranges()[1:7]])}"
    )
    check(dataset)
    if label in (7.0, (7.0,)):  # records after it need not be images
        check(
            data.open(f"recordio:{write(tmp_path / 'b', [(0, packed(label)), *with_ranges()[1:]])}")
        )


def test_a_record_0_alone_is_an_error(tmp_path: Path, complaint: Callable[..., Any]) -> None:
    with complaint("train.rec", "only record 0"):
        data.open(f"recordio:{write(tmp_path / 'a', [(0, packed(1.0))])}")


def test_a_key_at_two_places_is_an_error(tmp_path: Path, complaint: Callable[..., Any]) -> None:
    folder = write(tmp_path / "a", with_ranges()[1:7])
    idx = folder / "train.idx"
    lines = idx.read_text().splitlines()
    idx.write_text("\n".join([*lines, "", lines[2]]))  # a repeated line is harmless
    check(data.open(f"recordio:{folder}"))
    idx.write_text("\n".join([*lines, "", f"3\t{lines[0].split()[1]}"]))
    with complaint("train.idx, lines 3 and 8: key 3 is at two places"):
        data.open(f"recordio:{folder}")
    idx.write_text("\n".join([*lines[:5], f"6\t{lines[0].split()[1]}"]))
    with complaint("train.idx: keys 1 and 6 both lead to the record at byte 0 of train.rec"):
        data.open(f"recordio:{folder}")


@pytest.mark.parametrize("mark", [" ", "   ", " \t"])
def test_an_index_may_be_separated_by_spaces(mark: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "a", with_ranges())
    (folder / "train.idx").write_text((folder / "train.idx").read_text().replace("\t", mark))
    check(data.open(f"recordio:{folder}"))


def test_of_several_labels_the_first_is_the_identity(tmp_path: Path) -> None:
    records = [
        (key, packed((label, 30.5, -1), picture(key))) for key, label in enumerate(LABELS, 1)
    ]
    check(data.open(f"recordio:{write(tmp_path / 'a', records)}"))


def test_an_identity_without_images_is_passed_over(tmp_path: Path) -> None:
    records = [*with_ranges(header=(7, 11)), (10, packed((3, 3)))]
    check(data.open(f"recordio:{write(tmp_path / 'a', records)}"))


def test_images_in_no_range_are_labelled_by_their_own_records(tmp_path: Path) -> None:
    check(
        data.open(f"recordio:{write(tmp_path / 'a', with_ranges(ranges=((2, 3), (4, 6), (6, 7))))}")
    )
    check(
        data.open(f"recordio:{write(tmp_path / 'b', with_ranges(ranges=((1, 3), (3, 4), (6, 6))))}")
    )


def test_keys_that_float32_rounds_lead_to_the_right_identities(tmp_path: Path) -> None:
    """In Glint360K the last identities have keys above 2^24; float32 represents only even ones."""
    last = 2**24
    shown = {last - 2: 5, last - 1: 5, last: 8, last + 1: 8, last + 2: 8, last + 3: 9, last + 4: 9}
    spans = ((last - 2, last), (last, last + 3), (last + 3, last + 5))
    begin = last + 5
    records = [
        (0, packed((begin, begin + 3))),
        *((key, packed(label, picture(label))) for key, label in shown.items()),
    ]
    records += [(begin + i, packed(span)) for i, span in enumerate(spans)]
    dataset = data.open(f"recordio:{write(tmp_path / 'a', records)}")
    assert [dataset.identity_names[who] for who in dataset.identities] == [
        "5",
        "5",
        "8",
        "8",
        "8",
        "9",
        "9",
    ]
    assert [int(dataset.images[i][0, 0, 0]) for i in range(7)] == [5, 5, 8, 8, 8, 9, 9]


def test_a_payload_that_contains_the_magic_is_joined_from_its_parts(tmp_path: Path) -> None:
    payloads = [
        packed(1, MAGIC),
        packed(1, b"abcd" + MAGIC + b"xyz"),
        packed(1, MAGIC * 3 + b"1"),
        packed(1, b"a" + MAGIC + b"bc"),
    ]
    write(tmp_path, list(enumerate(payloads, 1)))
    offsets = [
        int(line.split("\t")[1]) for line in (tmp_path / "train.idx").read_text().splitlines()
    ]
    kinds = {
        struct.unpack_from("<I", (tmp_path / "train.rec").read_bytes(), offset + 4)[0] >> 29
        for offset in offsets
    }
    assert kinds == {0, 1}
    file = SharedFile(tmp_path / "train.rec")
    for payload, offset in zip(payloads, offsets, strict=True):
        for expected in (0, 9, 40, 2**15):
            assert read_record(file, offset, "here", expected).payload == payload[24:]


def test_a_split_image_is_read(tmp_path: Path) -> None:
    shown = picture(7) + MAGIC * 2 + bytes(8)  # after the end of the PNG
    records = [(1, packed(3, picture(1))), (2, packed(3, shown)), (3, packed(5, picture(3)))]
    dataset = data.open(f"recordio:{write(tmp_path / 'a', records)}")
    assert [int(dataset.images[i][0, 0, 0]) for i in range(3)] == [1, 7, 3]
    assert encoded_image(dataset.images, 1) == shown


def test_another_name_than_train_is_found_or_given(
    tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    folder = write(tmp_path / "a", with_ranges())
    for suffix in ("rec", "idx"):
        (folder / f"train.{suffix}").rename(folder / f"val.{suffix}")
    check(data.open(f"recordio:{folder}"))
    check(data.open(f"recordio:{folder / 'val.rec'}"))
    assert data.open(f"recordio:{folder}").name == "a"
    assert data.open(f"recordio:{folder / 'val.rec'}").name == "val"
    (folder / "other.rec").touch()
    with complaint("other.rec, val.rec", "name one of them"):
        data.open(f"recordio:{folder}")
    with complaint("other.idx is missing"):
        data.open(f"recordio:{folder / 'other.rec'}")
    write(folder, with_ranges())
    check(data.open(f"recordio:{folder}"))


def test_keys_with_gaps_and_places_in_any_order_are_followed(tmp_path: Path) -> None:
    keys = [2, 30, 31, 400, 401, 5000]
    records = [
        (key, packed(label, picture(i + 1)))
        for i, (key, label) in enumerate(zip(keys, LABELS, strict=True))
    ]
    folder = write(tmp_path / "a", [records[i] for i in (3, 0, 5, 1, 4, 2)])
    dataset = data.open(f"recordio:{folder}")
    check(dataset)
    assert dataset.images.where(3).endswith("record 400")  # type: ignore[attr-defined]
    (folder / "train.idx").write_bytes((folder / "train.idx").read_bytes().replace(b"\n", b"\r\n"))
    check(data.open(f"recordio:{folder}"))


def test_an_index_is_the_same_in_pieces_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "a", with_ranges())
    for size in (1, 7, 16, 1000):
        monkeypatch.setattr(recordio, "CHUNK", size)
        monkeypatch.setattr(recordio, "GROUP", size)
        check(data.open(f"recordio:{folder}"))
        monkeypatch.setattr(recordio, "DENSE", 0)  # reads each label on its own
        check(data.open(f"recordio:{folder}"))


def test_labels_are_read_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(indexes, "KEPT_SECONDS", -1)
    monkeypatch.setattr(indexes, "SETTLED_SECONDS", -1)
    folder = write(tmp_path / "a", with_ranges()[1:7])
    check(data.open(f"recordio:{folder}"))
    (kept,) = (tmp_path / "cache").rglob("*.npz")
    with monkeypatch.context() as patch:
        patch.setattr(recordio, "_labels", lambda *_: pytest.fail("read again"))
        check(data.open(f"recordio:{folder}"))
    whole = kept.read_bytes()
    for damaged in (whole[:50], b"", whole[:200] + b"\x99" + whole[201:]):
        kept.write_bytes(damaged)
        check(data.open(f"recordio:{folder}"))
        assert len(kept.read_bytes()) == len(whole)
    write(folder, [(key, packed(label + 1, picture(key))) for key, label in enumerate(LABELS, 1)])
    os.utime(folder / "train.rec", ns=(1, 1))
    assert data.open(f"recordio:{folder}").identity_names == ["4", "8", "13"]


def test_a_truncated_or_deleted_file_is_an_error(
    tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    folder = write(tmp_path / "a", with_ranges())
    dataset = data.open(f"recordio:{folder}")
    os.truncate(folder / "train.rec", 100)
    with complaint("train.rec, record 6", "truncated"):
        _ = dataset.images[5]
    (folder / "train.rec").unlink()
    with complaint("train.rec", "cannot be read"):
        _ = pickle.loads(pickle.dumps(dataset)).images[0]


def test_the_real_files_hold_the_same_forty_people(workbench_data: Path) -> None:
    def seen(name: str) -> dict[str, set[bytes]]:
        dataset = data.open(f"recordio:{workbench_data / 'recordio' / name}")
        assert len(dataset) == 400
        people: dict[str, set[bytes]] = {}
        for i in range(len(dataset)):
            pixels = dataset.images[i]
            assert pixels.shape == (112, 112, 3)
            people.setdefault(dataset.identity_names[dataset.identities[i]], set()).add(
                pixels.tobytes()
            )
        return people

    ordered, shuffled = seen("faces_lfw40"), seen("faces_lfw40_shuffled")
    assert len(ordered) == 40
    assert {len(pictures) for pictures in ordered.values()} == {10}
    assert ordered == shuffled


def test_a_missing_file_is_named(tmp_path: Path, complaint: Callable[..., Any]) -> None:
    with complaint("nowhere", "no such folder"):
        data.open(f"recordio:{tmp_path / 'nowhere'}")
    with complaint("train.rec is missing"):
        data.open(f"recordio:{tmp_path}")
    (tmp_path / "train.rec").touch()
    with complaint("train.idx is missing"):
        data.open(f"recordio:{tmp_path}")


@pytest.mark.parametrize("ranges", [True, False])
def test_a_truncated_rec_is_an_error_that_says_so(
    ranges: bool, tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    folder = write(tmp_path, with_ranges() if ranges else with_ranges()[1:7])
    whole = (folder / "train.rec").read_bytes()
    for length in (0, 3, 20, len(whole) // 2, len(whole) - 5):
        (folder / "train.rec").write_bytes(whole[:length])
        with complaint("train.rec", "truncated"):
            data.open(f"recordio:{folder}")


def test_a_wrong_magic_is_an_error(tmp_path: Path, complaint: Callable[..., Any]) -> None:
    write(tmp_path, with_ranges())
    rec = tmp_path / "train.rec"
    rec.write_bytes(b"\x00" * 4 + rec.read_bytes()[4:])
    with complaint("train.rec, record 0", "magic"):
        data.open(f"recordio:{tmp_path}")


INDEX = {
    "empty": b"",
    "blank": b"\n\n",
    "one column": b"0\n1\n",
    "three columns": b"0\t0\t0\n",
    "words": b"zero\t0\n",
    "fractions": b"0.5\t0\n",
    "infinite": b"0\tinf\n",
    "exponent": b"0\t1e300\n",
    "negative": b"0\t-8\n",
    "ragged": b"0\t0\n1\n",
    "binary": bytes(range(256)),
    "past the end": b"1\t99999999\n",
    "past any end": b"1\t9223372036854775807\n",
    "past 64 bits": b"1\t99999999999999999999\n",
}


@pytest.mark.parametrize("index", INDEX.values(), ids=INDEX)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_malformed_index_is_an_error(
    index: bytes, tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    write(tmp_path, with_ranges())
    (tmp_path / "train.idx").write_bytes(index)
    with complaint("train."):
        data.open(f"recordio:{tmp_path}")


@pytest.mark.usefixtures("modest_memory")
@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("header", "ranges"),
    [
        ((math.nan, 10), RANGES),
        ((7, math.nan), RANGES),
        ((7, math.inf), RANGES),
        ((-math.inf, 10), RANGES),
        ((7, 3e38), RANGES),
        ((-3e38, 3e38), RANGES),
        ((7, 7), RANGES),
        ((10, 7), RANGES),
        ((7, 10), ((1, 3), (3, 3e38), (6, 7))),
        ((7, 10), ((1, 3), (math.nan, 6), (6, 7))),
        ((7, 10), ((1, 3), (3, math.inf), (6, 7))),
        ((7, 10), ((1, 3), (-3e38, 6), (6, 7))),
        ((7, 10), ((1, 3), (6, 3), (6, 7))),
        ((7, 10), ((1, 3), (3,), (6, 7))),
        ((3e38, 3.3e38), RANGES),
        ((7, 10), ((1, 7), (1, 7), (1, 7))),
        ((7, 10), ((1, 3), (2, 4), (6, 7))),
    ],
)
def test_hostile_ranges_are_errors(
    header: Sequence[float],
    ranges: Sequence[Sequence[float]],
    tmp_path: Path,
    complaint: Callable[..., Any],
) -> None:
    with complaint():
        data.open(f"recordio:{write(tmp_path / 'a', with_ranges(header, ranges))}")


@pytest.mark.usefixtures("modest_memory")
@pytest.mark.timeout(30)
def test_overlapping_ranges_do_not_multiply(tmp_path: Path, complaint: Callable[..., Any]) -> None:
    """20,000 identities with 20,000 images each, in an .idx of 40,000 lines for three records."""
    half = 20_000
    header, image, span = (framed(packed(x)) for x in ((half + 1, 2 * half), 5, (1, half + 1)))
    (tmp_path / "train.rec").write_bytes(header + image + span)
    first = len(header)
    offsets = [0, *[first] * half, *[first + len(image)] * half]
    (tmp_path / "train.idx").write_text(
        "".join(f"{key}\t{offset}\n" for key, offset in enumerate(offsets))
    )
    with complaint("train.rec"):
        data.open(f"recordio:{tmp_path}")


@pytest.mark.parametrize("label", [math.nan, math.inf, -math.inf, 3e38, 0.5, -1.0])
@pytest.mark.filterwarnings("error")
def test_a_label_that_is_no_number_of_a_person_is_an_error(
    label: float, tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    with complaint("train.rec", "label"):
        data.open(
            f"recordio:"
            f"{write(tmp_path / 'a', [(1, packed(2, picture(1))), (2, packed(label, picture(2)))])}"
        )


def test_more_labels_than_the_record_holds_is_an_error(
    tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    payload = struct.pack("<IfQQ", 2**32 - 1, 0.0, 0, 0) + b"1234"
    with complaint("train.rec, record 1", "labels"):
        data.open(f"recordio:{write(tmp_path / 'a', [(1, payload)])}")
    with complaint("train.rec, record 1", "header"):
        data.open(f"recordio:{write(tmp_path / 'b', [(1, b'short')])}")


def test_a_broken_picture_is_named_by_its_key(
    tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    dataset = data.open(f"recordio:{write(tmp_path / 'a', [(5, packed(1, b'no picture'))])}")
    with complaint("train.rec, record 5", "not an image"):
        dataset[0]


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    which=st.sampled_from(["train.rec", "train.idx"]),
    ranges=st.booleans(),
)
@pytest.mark.filterwarnings("ignore")
def test_a_mutated_file_is_read_or_a_readable_error(
    seed: int,
    which: str,
    ranges: bool,
    mutate: Callable[[bytes, int], bytes],
    at_worst_complaint: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = write(
        tmp_path_factory.mktemp("mutated"), with_ranges() if ranges else with_ranges()[1:7]
    )
    (folder / which).write_bytes(mutate((folder / which).read_bytes(), seed))
    with at_worst_complaint("train."):
        dataset = data.open(f"recordio:{folder}")
        assert 1 <= len(dataset) <= 10
        for i in range(len(dataset)):
            assert dataset.images[i].dtype == np.uint8
