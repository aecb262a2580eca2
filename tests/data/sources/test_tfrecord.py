"""TFRecord files of an independent writer are read; damage is a one-line error."""

from __future__ import annotations

import gzip
import pickle
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tfrecord import TFRecordWriter, example_pb2

from workbench import data
from workbench.data.io import indexes, protobuf
from workbench.data.sources import tfrecord
from workbench.images import to_png

LABELS = (7, -7, 2**40, 7, 12)


def picture(number: int) -> bytes:
    return to_png(np.full((6, 5, 3), number, dtype=np.uint8))


def write(file: Path, rows: Sequence[dict[str, tuple[Any, str]]]) -> Path:
    writer = TFRecordWriter(str(file))
    for row in rows:
        writer.write(row)
    writer.close()
    return file


def row(number: int, label: int, **more: tuple[Any, str]) -> dict[str, tuple[Any, str]]:
    named = f"é{number}.png".encode()
    return {
        "image/encoded": (picture(number), "byte"),
        "image/source_id": (label, "int"),
        "image/filename": (named, "byte"),
        **more,
    }


def faces(folder: Path, name: str = "faces.tfrecord") -> Path:
    return write(folder / name, [row(number, label) for number, label in enumerate(LABELS)])


def framed(payload: bytes) -> bytes:
    length = struct.pack("<Q", len(payload))
    return length + TFRecordWriter.masked_crc(length) + payload + TFRecordWriter.masked_crc(payload)


def test_identities_are_the_source_ids(tmp_path: Path) -> None:
    dataset = data.open(f"tfrecord:{faces(tmp_path)}")
    assert dataset.name == "faces"
    assert dataset.identity_names == ["-7", "7", "12", str(2**40)]
    assert [dataset.identity_names[i] for i in dataset.identities] == [
        str(label) for label in LABELS
    ]
    assert list(dataset.attributes["file"]) == [f"é{number}.png" for number in range(5)]
    assert [int(dataset.images[i][0, 0, 0]) for i in range(5)] == [0, 1, 2, 3, 4]
    assert dataset.images.encoded(2) == picture(2)  # type: ignore[attr-defined]


def test_insightface_tf_has_names_of_its_own(tmp_path: Path) -> None:
    rows = [{"image_raw": (picture(n), "byte"), "label": (n // 2, "int")} for n in range(4)]
    dataset = data.open(f"tfrecord:{write(tmp_path / 'tran.tfrecords', rows)}")
    assert dataset.identities.tolist() == [0, 0, 1, 1]
    assert int(dataset.images[3][0, 0, 0]) == 3


def test_several_files_are_one_set(tmp_path: Path) -> None:
    for part in range(3):
        write(tmp_path / f"part-{part}", [row(10 * part + n, part % 2) for n in range(2)])
    dataset = data.open(f"tfrecord:{tmp_path}/part-*")
    assert dataset.name == tmp_path.name
    assert dataset.identities.tolist() == [0, 0, 1, 1, 0, 0]
    assert [int(dataset.images[i][0, 0, 0]) for i in range(6)] == [0, 1, 10, 11, 20, 21]


def test_of_many_files_few_stay_open(tmp_path: Path) -> None:
    for part in range(40):
        write(tmp_path / f"part-{part:02d}", [row(part, 1)])
    images = data.open(f"tfrecord:{tmp_path}/part-*").images
    assert [int(images[i][0, 0, 0]) for i in (*range(40), 0)] == [*range(40), 0]
    assert len(images.files._recent) == 32  # type: ignore[attr-defined]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    assert len(data.open(f"tfrecord:{faces(tmp_path, 'faces[1].tfrecord')}")) == 5


def test_the_real_file(workbench_data: Path) -> None:
    dataset = data.open(f"tfrecord:{workbench_data / 'tfrecord' / 'lfw10_bin.tfrecord'}")
    assert (len(dataset), dataset.num_identities) == (100, 10)
    assert {dataset.images[i].shape for i in range(0, 100, 9)} == {(112, 112, 3)}
    people = [name.rpartition("_")[0] for name in dataset.attributes["file"]]
    assert len(set(zip(people, dataset.identities.tolist(), strict=True))) == 10


def linked(folder: Path, *paths: str) -> Path:
    rows = [
        {
            "image/img_path": (path.encode(), "byte"),
            "image/filename": (b"a/0.png", "byte"),
            "image/source_id": (n, "int"),
        }
        for n, path in enumerate(paths)
    ]
    return write(folder / "links.tfrecord", rows)


def test_a_path_is_relative_to_the_record_file(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.png").write_bytes(picture(9))
    paths = ("a/0.png", "./a/0.png", "a/../a/0.png", str(tmp_path / "a" / "0.png"))
    dataset = data.open(f"tfrecord:{linked(tmp_path, *paths)}")
    assert [int(dataset.images[i][0, 0, 0]) for i in range(4)] == [9] * 4


def test_a_path_that_leads_out_is_refused(tmp_path: Path, complaint: Callable[..., Any]) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "secret.png").write_bytes(picture(1))
    (tmp_path / "set" / "link.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "set" / "up").symlink_to(tmp_path)
    paths = (
        "../secret.png",
        str(tmp_path / "secret.png"),
        "link.png",
        "up/secret.png",
        "a/../../secret.png",
        ".",
        "",
    )
    file = linked(tmp_path / "set", *paths)
    dataset = data.open(f"tfrecord:{file}")
    for number in range(len(paths)):
        with complaint(file, "leads out", "images=DIR"):
            dataset.images[number]


def test_a_path_from_another_machine_is_replaced_by_the_name_in_a_folder(
    tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    (tmp_path / "pictures" / "a").mkdir(parents=True)
    (tmp_path / "pictures" / "a" / "0.png").write_bytes(picture(9))
    file = linked(tmp_path, "/home/bob/ms1m/a/0.png", "missing.png")
    dataset = data.open(f"tfrecord:{file},images={tmp_path / 'pictures'}")
    assert int(dataset.images[0][0, 0, 0]) == 9
    with complaint("missing.png", "cannot be read"):
        data.open(f"tfrecord:{file}").images[1]
    with complaint("no such folder"):
        data.open(f"tfrecord:{file},images={tmp_path / 'nowhere'}")
    with complaint("did you mean 'images'"):
        data.open(f"tfrecord:{file},image={tmp_path / 'pictures'}")


def test_it_can_be_pickled(tmp_path: Path) -> None:
    images = pickle.loads(pickle.dumps(data.open(f"tfrecord:{faces(tmp_path)}").images))
    assert int(images[4][0, 0, 0]) == 4


@pytest.mark.parametrize("cut", [1, 4, 8, 12, 13, 100])
def test_a_truncated_file_is_an_error(
    cut: int, tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    file = faces(tmp_path)
    file.write_bytes(file.read_bytes()[: -cut if cut > 12 else cut])
    with complaint(file, "truncated"):
        data.open(f"tfrecord:{file}")


@pytest.mark.usefixtures("modest_memory")
@pytest.mark.parametrize("length", [2**64 - 1, 2**63, 2**40, 100])
def test_a_length_past_the_end_takes_no_memory(
    length: int, tmp_path: Path, complaint: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(struct.pack("<QI", length, 0) + b"x" * 50)
    with complaint("record 0", "checksum"):
        data.open(f"tfrecord:{tmp_path / 'a'}")
    monkeypatch.setattr(tfrecord, "_has_checksum", lambda *_: True)
    with complaint("record 0", "truncated"):
        data.open(f"tfrecord:{tmp_path / 'a'}")


@pytest.mark.usefixtures("modest_memory")
def test_a_huge_record_in_a_sparse_file_is_refused(
    tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    header = struct.pack("<Q", 2**33)
    with (tmp_path / "a").open("wb") as file:
        file.write(header + TFRecordWriter.masked_crc(header))
        file.truncate(2**33 + 16)
    with complaint("record 0", "more than an image may have"):
        data.open(f"tfrecord:{tmp_path / 'a'}")


def test_damage_is_found_by_the_checksums(tmp_path: Path, complaint: Callable[..., Any]) -> None:
    file = faces(tmp_path)
    whole = file.read_bytes()
    dataset = data.open(f"tfrecord:{file}")
    damaged = bytearray(whole)
    damaged[60] ^= 1
    file.write_bytes(damaged)
    with complaint(file, "record at byte 0", "checksum"):
        dataset.images[0]
    assert int(dataset.images[1][0, 0, 0]) == 1
    with complaint(f"{file}, record 0", "checksum"):
        data.open(f"tfrecord:{file}")
    file.write_bytes(whole[:90])
    with complaint(file, "truncated"):
        dataset.images[0]
    file.unlink()
    with complaint(file, "cannot be read"):
        pickle.loads(pickle.dumps(dataset.images))[0]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"image/encoded": (b"x", "byte")}], "'image/encoded'; expected image/source_id"),
        ([{"label": (1, "int")}], "'label'; expected"),
        ([{}], "nothing; expected"),
        ([row(1, 1) | {"image/source_id": (b"ann", "byte")}], "wrong type"),
        ([row(1, 1) | {"image/source_id": (1.5, "float")}], "wrong type"),
        ([row(1, 1) | {"image/source_id": ([], "int")}], "wrong type"),
        ([row(1, 1) | {"image/filename": (3, "int")}], "wrong type"),
        ([row(1, 1) | {"image/encoded": (3, "int")}], "wrong type"),
        ([row(1, 1) | {"image/encoded": ([], "byte")}], "wrong type"),
        ([], "no images"),
    ],
)
def test_records_of_something_else_are_an_error(
    rows: list[dict[str, tuple[Any, str]]],
    message: str,
    tmp_path: Path,
    complaint: Callable[..., Any],
) -> None:
    with complaint("odd", message):
        data.open(f"tfrecord:{write(tmp_path / 'odd', rows)}")


def test_what_is_no_picture_is_named_when_it_is_read(
    tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    dataset = data.open(
        f"tfrecord:{write(tmp_path / 'a', [row(1, 1) | {'image/encoded': (b'none', 'byte')}])}"
    )
    with complaint("record at byte 0", "é1.png", "not an image"):
        dataset.images[0]


def test_a_compressed_file_is_an_error(tmp_path: Path, complaint: Callable[..., Any]) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(faces(tmp_path).read_bytes()))
    with complaint("gunzip"):
        data.open(f"tfrecord:{tmp_path / 'a.gz'}")


def test_missing_files_are_an_error(tmp_path: Path, complaint: Callable[..., Any]) -> None:
    for name in ("nothing", "part-*"):
        with complaint("no such file"):
            data.open(f"tfrecord:{tmp_path / name}")
    with complaint("tfrecord:FILE"):
        data.open("tfrecord:")


def test_the_index_is_kept_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setattr(indexes, "KEPT_SECONDS", -1.0)
    monkeypatch.setattr(indexes, "SETTLED_SECONDS", -1.0)
    file = faces(tmp_path)
    first = data.open(f"tfrecord:{file}")
    (kept,) = (cache / "indexes").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(tfrecord, "_index", lambda files: pytest.fail("looked through again"))
        again = data.open(f"tfrecord:{file}")
    assert again.fingerprint() == first.fingerprint()
    assert list(again.attributes["file"]) == list(first.attributes["file"])
    assert np.array_equal(again.images[3], first.images[3])
    kept.write_bytes(kept.read_bytes()[:100])
    assert data.open(f"tfrecord:{file}").fingerprint() == first.fingerprint()
    write(file, [row(1, 1), row(2, 2)])
    assert len(data.open(f"tfrecord:{file}")) == 2


LISTS = st.one_of(
    st.builds(
        lambda v: example_pb2.Feature(bytes_list=example_pb2.BytesList(value=v)),
        st.lists(st.binary(max_size=300)),
    ),
    st.builds(
        lambda v: example_pb2.Feature(int64_list=example_pb2.Int64List(value=v)),
        st.lists(st.integers(-(2**63), 2**63 - 1)),
    ),
    st.builds(
        lambda v: example_pb2.Feature(float_list=example_pb2.FloatList(value=v)),
        st.lists(st.floats(width=32, allow_nan=False)),
    ),
)


def first_values(payload: bytes) -> dict[str, object]:
    values: dict[str, object] = {}
    for name, feature in protobuf.features(payload).items():
        try:
            if feature[0] == protobuf.INTEGERS:
                values[name.decode()] = protobuf.first_integer(payload, feature)
            elif feature[0] == protobuf.BYTES:
                begin, end = protobuf.first_bytes(payload, feature)
                values[name.decode()] = payload[begin:end]
            else:
                values[name.decode()] = "floats"
        except ValueError:
            values[name.decode()] = None
    return values


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(max_size=20), LISTS, max_size=5))
def test_messages_are_read_as_protobuf_reads_them(features: dict[str, Any]) -> None:
    payload = example_pb2.Example(
        features=example_pb2.Features(feature=features)
    ).SerializeToString()
    kinds = {name: feature.WhichOneof("kind") for name, feature in features.items()}
    values = {name: list(getattr(features[name], kind).value) for name, kind in kinds.items()}
    expected = {
        name: "floats" if kinds[name] == "float_list" else next(iter(values[name]), None)
        for name in features
    }
    assert first_values(payload) == expected


def test_integers_need_not_be_packed() -> None:
    feature = bytes([0x08, 0x85, 0x01])  # value: 133, not packed, as older writers store it
    entry = (
        b"\x0a\x05label"
        + b"\x12"
        + bytes([2 + len(feature)])
        + b"\x1a"
        + bytes([len(feature)])
        + feature
    )
    payload = b"\x0a" + bytes([2 + len(entry)]) + b"\x0a" + bytes([len(entry)]) + entry
    assert example_pb2.Example.FromString(payload).features.feature["label"].int64_list.value == [
        133
    ]
    assert first_values(payload) == {"label": 133}


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), checked=st.booleans(), sealed=st.booleans())
def test_a_mutated_file_is_read_or_a_readable_error(
    seed: int,
    checked: bool,
    sealed: bool,
    mutate: Callable[[bytes, int], bytes],
    at_worst_complaint: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The change is anywhere in the file, or in a message with the right checksum."""
    folder = tmp_path_factory.mktemp("mutated")
    file = faces(folder, "mutated.tfrecord")
    whole = file.read_bytes()
    first = struct.unpack_from("<Q", whole)[0]
    sealed_one = framed(mutate(whole[12 : 12 + first], seed)) + whole[16 + first :]
    file.write_bytes(sealed_one if sealed else mutate(whole, seed))
    with pytest.MonkeyPatch.context() as patch, at_worst_complaint("mutated"):
        if not checked:  # to skip the checksums
            patch.setattr(tfrecord, "_has_checksum", lambda *_: True)
        dataset = data.open(f"tfrecord:{file}")
        assert 1 <= len(dataset) <= 6
        for i in range(len(dataset)):
            assert dataset.images[i].dtype == np.uint8


def test_paths_of_windows_are_followed(tmp_path: Path) -> None:
    (tmp_path / "ann lee").mkdir()
    (tmp_path / "ann lee" / "é.png").write_bytes(picture(9))
    paths = [
        "ann lee\\é.png",
        "./ann lee/é.png",
        "ann lee/e\u0301.png",
        f"{tmp_path}/ann lee/é.png",
    ]
    rows = [
        {"image/img_path": (path.encode(), "byte"), "image/source_id": (number, "int")}
        for number, path in enumerate(paths)
    ]
    dataset = data.open(f"tfrecord:{write(tmp_path / 'links.tfrecord', rows)}")
    assert [int(dataset.images[number][0, 0, 0]) for number in range(4)] == [9] * 4
