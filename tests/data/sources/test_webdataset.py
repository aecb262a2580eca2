"""Tar shards: from and for the library webdataset, damaged, and at an address."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from workbench import data
from workbench.data.io import indexes, remote
from workbench.data.io.indexes import Texts
from workbench.data.io.shards import Index, look_through
from workbench.data.sources import webdataset
from workbench.data.writers.webdataset import write_webdataset
from workbench.images import to_png

LABELS = (7, 10, 7, 7, 12, 10, -3, 7)
pytestmark = pytest.mark.usefixtures("cache")


def picture(number: int) -> bytes:
    return to_png(np.full((6, 5, 3), number, dtype=np.uint8))


def tar(file: Path, members: Sequence[tuple[str, bytes]]) -> Path:
    """Writes a tar file with Python's own writer, which allows any names."""
    with tarfile.open(file, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file


def shards(folder: Path) -> Path:
    """Writes three shards with the library, with the images 0..7."""
    from webdataset.writer import ShardWriter

    folder.mkdir(parents=True, exist_ok=True)
    with ShardWriter(str(folder / "faces-%06d.tar"), maxcount=3, verbose=0) as writer:
        for number, label in enumerate(LABELS):
            writer.write(
                {
                    "__key__": f"a/{number:04d}",
                    "png": picture(number),
                    "cls": label,
                    "txt": "a caption",
                }
            )
    return folder


def check(dataset: data.Dataset, numbers: Sequence[int] = range(8)) -> None:
    assert [int(dataset.images[i][0, 0, 0]) for i in range(len(dataset))] == list(numbers)
    assert [dataset.identity_names[i] for i in dataset.identities] == [
        str(LABELS[number]) for number in numbers
    ]
    assert dataset.identity_names == [
        str(label) for label in sorted({LABELS[number] for number in numbers})
    ]


def test_shards_are_named_in_several_ways(tmp_path: Path) -> None:
    folder = shards(tmp_path / "set")
    for path in (
        "set",
        "set/faces-{000000..000002}.tar",
        "set/faces-*.tar",
        "set/faces-00000{0,1,2}.tar",
        "set/*{0,1,2}.tar",
    ):
        dataset = data.open(f"webdataset:{tmp_path / path}")
        assert dataset.name == "faces"
        check(dataset)
        assert list(dataset.attributes["file"]) == [f"a/{number:04d}.png" for number in range(8)]
    check(data.open(f"webdataset:{folder}/faces-000002.tar"), (6, 7))
    check(data.open(f"webdataset:{folder}/faces-00000{{2,0}}.tar"), (6, 7, 0, 1, 2))
    (folder / "faces-000001.tar").rename(folder / "1.tar")
    assert data.open(f"webdataset:{folder}/1.tar").name == "set"


def test_a_json_file_may_hold_the_label(tmp_path: Path) -> None:
    def described(**labels: Any) -> bytes:
        return json.dumps(labels).encode()

    members = [
        ("./x/1.json", described(identity="ann", label=3)),
        ("./x/1.JPG", picture(1)),
        ("2.jpg", picture(2)),
        ("2.json", described(label="bob")),
        ("3.jpg", picture(3)),
        ("3.json", described(age=30)),
        ("3.cls", b"7\n"),
        ("4.json", b"[1]"),
        ("__meta__/a.json", b"nonsense"),
        ("notes", b"x"),
        (".hidden.jpg", b"x"),
        ("x" * 200 + ".json", described(label=5)),
        ("x" * 200 + ".left.jpg", b"another picture"),
        ("x" * 200 + ".jpg", picture(4)),
    ]
    dataset = data.open(f"webdataset:{tar(tmp_path / 'a.tar', members)}")
    assert [dataset.identity_names[i] for i in dataset.identities] == ["ann", "bob", "7", "5"]
    assert [int(dataset.images[i][0, 0, 0]) for i in range(4)] == [1, 2, 3, 4]


@pytest.fixture
def faces(identity_folder: Path) -> data.Dataset:
    (identity_folder / "bob").rename(identity_folder / "José 100%")
    return data.open(f"folder:{identity_folder}")


def test_what_is_written_is_read_in_the_same_order(faces: data.Dataset, tmp_path: Path) -> None:
    written = write_webdataset(
        faces, tmp_path / "100%d" / "out.tar", progress=False, images_a_shard=4
    )
    assert (written.path, written.images, written.identities) == (
        tmp_path / "100%d" / "out.tar",
        6,
        3,
    )
    assert written.bytes == sum(file.stat().st_size for file in written.path.iterdir())
    assert sorted(file.name for file in written.path.iterdir()) == [
        "index.npz",
        "out-000000.tar",
        "out-000001.tar",
    ]
    again = data.open(f"webdataset:{written.path}")
    assert again.name == "out"
    assert again.fingerprint() == faces.fingerprint()
    assert list(again.attributes["file"]) == list(faces.attributes["file"])
    assert [again.images.encoded(i) for i in range(6)] == [
        faces.images.encoded(i) for i in range(6)
    ]  # type: ignore[attr-defined]
    assert sorted(again.images.shard_of) == [0] * 4 + [1] * 2  # type: ignore[attr-defined]
    (written.path / "index.npz").unlink()
    opened = data.open(f"webdataset:{written.path}")
    assert opened.identity_names == ["0", "1", "2"]
    by_name = sorted(range(6), key=lambda i: opened.attributes["file"][i])
    assert opened.identities[by_name].tolist() == faces.identities.tolist()
    assert by_name != list(range(6)), "shards hold the images shuffled"


@pytest.mark.filterwarnings("ignore")
def test_the_library_reads_what_is_written(faces: data.Dataset, tmp_path: Path) -> None:
    from webdataset import WebDataset

    write_webdataset(faces, tmp_path / "out", progress=False, images_a_shard=4)
    files = [str(file) for file in sorted((tmp_path / "out").glob("*.tar"))]
    samples = list(WebDataset(files, shardshuffle=False))
    assert {int(sample["__key__"]): (sample["png"], int(sample["cls"])) for sample in samples} == {
        i: (faces.images.encoded(i), int(faces.identities[i]))  # type: ignore[attr-defined]
        for i in range(6)
    }


def test_broken_images_stop_or_are_left_out(
    identity_folder: Path, faces: data.Dataset, tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    broken = [identity_folder / "ann" / f"{number}.png" for number in range(2)]
    for file in broken:
        file.write_bytes(b"x")
    with complaint("ann", "not an image"):
        write_webdataset(faces, tmp_path / "out", progress=False)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["people"]
    written = write_webdataset(faces, tmp_path / "out", broken="skip", progress=False)
    assert (written.images, written.identities) == (4, 2)
    assert sorted(where for where, _ in written.broken) == [str(file) for file in broken]
    again = data.open(f"webdataset:{tmp_path / 'out'}")
    assert again.identity_names == ["José 100%", "cid"]
    assert again.identities.tolist() == [0, 0, 1, 1]
    with complaint("is there already"):
        write_webdataset(faces, tmp_path / "out", progress=False)
    with complaint("images_a_shard"):
        write_webdataset(faces, tmp_path / "other", images_a_shard=0)


def test_pixels_are_written_as_png(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 9, 8, 3), dtype=np.uint8)
    grey = data.Dataset("grey", pixels, np.array([0, 1, 0, 1]), ["a", "b"])
    write_webdataset(grey, tmp_path / "out", progress=False)
    again = data.open(f"webdataset:{tmp_path / 'out'}")
    assert all(np.array_equal(again.images[i], pixels[i]) for i in range(4))
    assert list(again.attributes["file"]) == [f"{i:09d}.png" for i in range(4)]


def test_an_index_of_other_shards_is_not_used(
    faces: data.Dataset, tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    write_webdataset(faces, tmp_path / "out", progress=False, images_a_shard=4)
    index, shard = tmp_path / "out" / "index.npz", tmp_path / "out" / "out-000000.tar"
    shard.write_bytes(shard.read_bytes() + bytes(512))
    with pytest.warns(UserWarning, match="other sizes"):
        assert len(data.open(f"webdataset:{tmp_path / 'out'}")) == 6
    with complaint("index.npz: is the index of shards of other sizes"):
        data.open(f"webdataset:{tmp_path / 'out'},index={index}")
    (tmp_path / "out" / "out-000001.tar").rename(tmp_path / "out" / "new.tar")
    with pytest.warns(UserWarning, match=r"does not have the shard 'new.tar'"):
        assert len(data.open(f"webdataset:{tmp_path / 'out'}")) == 6
    index.write_bytes(index.read_bytes()[:-40])
    with pytest.warns(UserWarning, match="not an index"):
        assert len(data.open(f"webdataset:{tmp_path / 'out'}")) == 6


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("offsets", np.array([-1] * 8)),
        ("offsets", np.array([2**62] * 8)),
        ("sizes", np.array([2**62] * 8)),
        ("sizes", np.array([0] * 8)),
        ("shard_of", np.array([3] * 8)),
        ("shard_of", np.array([-1] * 8)),
        ("identities", np.array([4] * 8)),
        ("identities", np.array([0] * 7)),
        ("identities", np.array([0.0] * 8)),
        ("shard_bytes", np.array([10**6] * 2)),
        ("names_ends", np.array([5] * 8)),
        ("names_ends", np.array([2**60] * 8)),
        ("identity_names_ends", np.array([3, 2, 1, 0])),
        ("sizes", None),
        ("shards", None),
        ("shards", np.array(["pipe:touch /tmp/hello"])),
    ],
)
@pytest.mark.usefixtures("modest_memory")
def test_an_index_that_contradicts_itself_is_refused(
    name: str, value: Any, tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    folder = shards(tmp_path)
    files = sorted(folder.glob("*.tar"))
    arrays = {**look_through([file.name for file in files], files.__getitem__).arrays, name: value}
    indexes.save(
        tmp_path / "own.npz", {key: array for key, array in arrays.items() if array is not None}
    )
    with complaint("own.npz", "index"):
        data.open(f"webdataset:{folder},index={tmp_path / 'own.npz'}")


@pytest.mark.usefixtures("modest_memory")
def test_an_index_that_claims_more_than_it_has_takes_no_memory(
    tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"shape": (2**40,), "fortran_order": False, "descr": "<i8"}
    )
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "index.npz", "w", kind) as archive:
            archive.writestr("offsets.npy", header.getvalue() + bytes(100))
        with complaint("index.npz", "not an index"):
            indexes.load(tmp_path / "index.npz")
    np.savez(tmp_path / "index.npz", a=np.array([{}], dtype=object))
    with complaint("index.npz", "not an index"):
        indexes.load(tmp_path / "index.npz")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("1.jpg", b"x")], "'1.jpg': has no label"),
        ([("1.jpg", b"x"), ("2.cls", b"1")], "'1.jpg': has no label"),
        ([("1.jpg", b"x"), ("1.json", b"{}")], "'1.jpg': has no label"),
        ([("1.jpg", b""), ("1.cls", b"1")], "cannot be an image"),
        ([("1.jpg", b"x"), ("1.cls", b"ann")], "'1.cls': expected a whole number, found 'ann'"),
        ([("1.jpg", b"x"), ("1.cls", b"1.5")], "whole number"),
        ([("1.jpg", b"x"), ("1.cls", b"9" * 30)], "whole number"),
        ([("1.jpg", b"x"), ("1.cls", bytes(2_000_000))], "cannot be a label"),
        ([("1.jpg", b"x"), ("1.json", b"{")], "not JSON"),
        ([("1.jpg", b"x"), ("1.json", b"[" * 100_000)], "not JSON"),
        ([("1.jpg", b"x"), ("1.json", b'{"label": 1.5}')], "whole number or a name"),
        ([("1.jpg", b"x"), ("1.json", b'{"label": true}')], "whole number or a name"),
        ([("1.jpg", b"x"), ("1.json", b'{"label": ""}')], "whole number or a name"),
        ([("1.txt", b"x"), ("1.cls", b"1")], "no images"),
        ([], "no images"),
    ],
)
def test_shards_of_something_else_are_an_error(
    members: list[tuple[str, bytes]], message: str, tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    with complaint("odd", message):
        data.open(f"webdataset:{tar(tmp_path / 'odd.tar', members)}")


@pytest.mark.parametrize(
    "content",
    [b"", b"x", b"x" * 5000, gzip.compress(bytes(1000), mtime=0), bytes(511)],
    ids=["empty", "short", "long", "gzip", "cut"],
)
def test_a_file_that_is_not_a_tar_is_an_error(
    content: bytes, tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    (tmp_path / "odd.tar").write_bytes(content)
    with complaint("odd.tar"):
        data.open(f"webdataset:{tmp_path / 'odd.tar'}")


def test_a_shard_truncated_anywhere_is_an_error(
    tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    members = [
        (f"{number}.{kind}", picture(1) if kind == "png" else b"1")
        for number in range(3)
        for kind in ("cls", "png")
    ]
    whole = tar(tmp_path / "a.tar", members).read_bytes()
    end = 6 * 1024
    assert whole[end:] == bytes(len(whole) - end)
    for cut in (*range(0, end + 1, 256), *range(511, end, 512)):
        (tmp_path / "a.tar").write_bytes(whole[:cut])
        with complaint("a.tar"):
            data.open(f"webdataset:{tmp_path / 'a.tar'}")
    damaged = bytearray(whole)
    damaged[2 * 1024 + 150] ^= 1
    (tmp_path / "a.tar").write_bytes(damaged)
    with complaint("a.tar", "byte 2,048"):
        data.open(f"webdataset:{tmp_path / 'a.tar'}")


def test_a_shard_that_is_truncated_later_is_an_error(
    tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    dataset = data.open(f"webdataset:{shards(tmp_path)}")
    os.truncate(tmp_path / "faces-000002.tar", 600)
    with complaint("faces-000002.tar, 'a/0006.png'", "truncated"):
        dataset.images[6]
    assert int(dataset.images[5][0, 0, 0]) == 5


def test_links_in_a_tar_are_not_followed(tmp_path: Path, complaint: Callable[..., Any]) -> None:
    (tmp_path / "1.jpg").write_bytes(picture(1))
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            member = tarfile.TarInfo("1.jpg")
            member.type, member.linkname = kind, str(tmp_path / "1.jpg")
            archive.addfile(member)
        archive.addfile(tarfile.TarInfo("1.cls"))
    with complaint("expected a whole number"):
        data.open(f"webdataset:{tmp_path / 'a.tar'}")


@pytest.mark.usefixtures("modest_memory")
@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.REGTYPE])
def test_a_member_that_claims_to_be_huge_takes_no_memory(
    kind: bytes, tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    member = tarfile.TarInfo("1.jpg")
    member.type, member.size = kind, 2**40
    (tmp_path / "a.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    with complaint("a.tar"):
        data.open(f"webdataset:{tmp_path / 'a.tar'}")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "needs shards"),
        ("{tmp}", "no .tar file in the folder"),
        ("{tmp}/a-{{0..2}}.tar", "3 of 3 shards are missing"),
        ("{tmp}/a-*.tar", "no such files"),
        ("{tmp}/a-{{0..999999999999}}.tar", "more than 1,000,000"),
        ("{tmp}/a-{{0..99999999999999999999}}.tar", "more than 1,000,000"),
        ("{tmp}/a-{{0..999}}{{0..999}}{{0..9}}.tar", "more than 1,000,000"),
        ("{tmp}/a-{{0..2.tar", "webdataset:"),
        ("s3://bucket/a.tar", "pipe:"),
        ("{tmp}/a.tar,index={tmp}/no.npz", "no such file"),
    ],
)
def test_shards_that_are_not_there_are_an_error(
    path: str, message: str, tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    with complaint(message):
        data.open("webdataset:" + path.format(tmp=tmp_path))


def test_a_shard_given_twice_is_an_error(tmp_path: Path, complaint: Callable[..., Any]) -> None:
    with complaint("two shards have the same name"):
        data.open(f"webdataset:{shards(tmp_path)}/faces-00000{{0,0}}.tar")


@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_mutated_shard_is_read_or_a_readable_error(
    seed: int,
    mutate: Callable[[bytes, int], bytes],
    at_worst_complaint: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    members = [
        (f"{number}.{kind}", picture(1) if kind == "png" else b"1")
        for number in range(3)
        for kind in ("cls", "png")
    ]
    file = tar(tmp_path_factory.mktemp("mutated") / "mutated.tar", members)
    file.write_bytes(mutate(file.read_bytes()[: 7 * 1024], seed))
    with at_worst_complaint("mutated"):
        dataset = data.open(f"webdataset:{file}")
        assert 1 <= len(dataset) <= 3
        for i in range(len(dataset)):
            assert dataset.images[i].dtype == np.uint8


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32))
@pytest.mark.filterwarnings("ignore")
def test_a_mutated_index_is_used_or_a_readable_error(
    seed: int,
    mutate: Callable[[bytes, int], bytes],
    at_worst_complaint: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("mutated")
    file = tar(
        folder / "mutated.tar",
        [("1.png", picture(1)), ("1.cls", b"1"), ("2.png", picture(1)), ("2.cls", b"2")],
    )
    indexes.save(folder / "mutated.npz", look_through([file.name], lambda _: file).arrays)
    (folder / "mutated.npz").write_bytes(mutate((folder / "mutated.npz").read_bytes(), seed))
    with at_worst_complaint("mutated"):
        dataset = data.open(f"webdataset:{file},index={folder / 'mutated.npz'}")
        for i in range(len(dataset)):
            assert dataset.images[i].dtype == np.uint8


def counting(folder: Path, log: Path) -> str:
    """Returns a command that outputs a shard and logs each call."""
    script = folder / "get.sh"
    script.write_text(f'echo "$1" >> {log}; cat {folder}/"$1"\n')
    return f"pipe:sh {script} faces-{{000000..000002}}.tar"


def asked(log: Path) -> list[str]:
    return [line[-5] for line in log.read_text().splitlines()]


def test_shards_behind_a_command_are_fetched_once(tmp_path: Path) -> None:
    spec = f"webdataset:{counting(shards(tmp_path), tmp_path / 'log')}"
    dataset = data.open(spec)
    check(dataset)
    assert dataset.name == "faces"
    assert asked(tmp_path / "log") == ["0", "1", "2"]
    again = pickle.loads(pickle.dumps(dataset.images))
    assert int(again[7][0, 0, 0]) == 7
    assert asked(tmp_path / "log") == ["0", "1", "2"]
    assert webdataset.shards_to_fetch(dataset.images).tolist() == [0, 0, 0, 1, 1, 1, 2, 2]  # type: ignore[union-attr]
    part = dataset.subset("part", np.array([7, 3]))
    assert webdataset.shards_to_fetch(part.images).tolist() == [2, 1]  # type: ignore[union-attr]
    here = data.open(f"webdataset:{tmp_path}")
    assert webdataset.shards_to_fetch(here.images) is None
    assert webdataset.shards_to_fetch(data.join([here, here]).images) is None
    both = data.join([part, here, dataset])
    assert webdataset.shards_to_fetch(both.images).tolist() == [
        2,
        1,
        *[-1] * 8,
        3,
        3,
        3,
        4,
        4,
        4,
        5,
        5,
    ]  # type: ignore[union-attr]


def test_other_processes_fetch_none_twice(tmp_path: Path, cache: Path) -> None:
    dataset = data.open(f"webdataset:{counting(shards(tmp_path), tmp_path / 'log')}")
    for file in (cache / "shards").iterdir():
        file.unlink()
    (tmp_path / "log").unlink()
    seen = [
        int(value)
        for batch in DataLoader(dataset, batch_size=2, num_workers=2)
        for value in batch[0][:, 0, 0, 0]
    ]  # type: ignore[arg-type]
    assert seen == list(range(8))
    assert sorted(asked(tmp_path / "log")) == ["0", "1", "2"]


def test_with_an_index_only_what_is_read_is_fetched(tmp_path: Path) -> None:
    folder = shards(tmp_path)
    files = sorted(folder.glob("*.tar"))
    indexes.save(
        tmp_path / "own.npz", look_through([file.name for file in files], files.__getitem__).arrays
    )
    dataset = data.open(
        f"webdataset:{counting(folder, tmp_path / 'log')},index={tmp_path / 'own.npz'}"
    )
    assert int(dataset.images[7][0, 0, 0]) == 7
    assert asked(tmp_path / "log") == ["2"]


def test_the_most_recently_used_shards_are_kept(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = (shards(tmp_path) / "faces-000000.tar").stat().st_size
    monkeypatch.setenv(remote.ROOM, str(1.5 * size / 1e9))
    monkeypatch.setattr(remote, "OPEN", 1)
    dataset = data.open(f"webdataset:{counting(tmp_path, tmp_path / 'log')}")
    for number in (0, 1, 2, 3, 4, 6, 0):
        assert int(dataset.images[number][0, 0, 0]) == number
        assert sum(file.stat().st_size for file in (cache / "shards").iterdir()) <= 3 * size
    assert asked(tmp_path / "log") == ["0", "1", "2", *"0120"]


def test_an_invalid_size_of_the_cache_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complaint: Callable[..., Any]
) -> None:
    spec = f"webdataset:{counting(shards(tmp_path), tmp_path / 'log')}"
    for text in ("much", "0", "-1", "nan", "inf"):
        monkeypatch.setenv(remote.ROOM, text)
        with complaint("WORKBENCH_SHARDS_GB", text):
            data.open(spec)


def test_a_command_that_fails_is_an_error(
    tmp_path: Path, cache: Path, complaint: Callable[..., Any]
) -> None:
    with complaint("pipe:echo half; exit 3 #a.tar", "cannot be fetched", "exit 3"):
        data.open("webdataset:pipe:echo half; exit 3 #a.tar")
    assert list((cache / "shards").iterdir()) == []
    with complaint("pipe:echo no tar", "truncated"):
        data.open("webdataset:pipe:echo no tar")
    assert list((cache / "shards").iterdir()) == []


def test_a_command_that_only_a_file_contains_is_not_run(
    tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    spec = f"webdataset:{counting(shards(tmp_path), tmp_path / 'log')}"
    with data.stored_names():
        for opened in (data.open, data.benchmark):
            with complaint("nobody typed this command on this machine", "pipe:sh"):
                opened(spec)
    assert not (tmp_path / "log").exists()
    data.open(spec)
    with data.stored_names():
        check(data.open(spec))
        with complaint("nobody typed this command"):
            data.open(f"{spec} ; touch more")
    assert not (tmp_path / "more").exists()


def test_a_shard_that_changed_since_it_was_indexed_is_an_error(
    tmp_path: Path, cache: Path, complaint: Callable[..., Any]
) -> None:
    dataset = data.open(f"webdataset:{counting(shards(tmp_path), tmp_path / 'log')}")
    for file in (cache / "shards").iterdir():
        file.unlink()
    with (tmp_path / "faces-000002.tar").open("ab") as file:
        file.write(bytes(512))
    assert int(dataset.images[0][0, 0, 0]) == 0
    with complaint("faces-000002.tar", "changed after it was indexed"):
        dataset.images[7]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """Address and folder of a local web server, and the paths that were requested."""
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_request(self, *_: Any) -> None:
            asked.append(self.path)

        def log_message(self, *_: Any) -> None:
            pass

    (tmp_path / "www").mkdir()
    with ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Handler, directory=tmp_path / "www")
    ) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", tmp_path / "www", asked
        running.shutdown()


def test_shards_behind_an_address_come_with_their_index(
    server: tuple[str, Path, list[str]], faces: data.Dataset, complaint: Callable[..., Any]
) -> None:
    address, folder, asked = server
    write_webdataset(faces, folder / "out", progress=False, images_a_shard=3)
    spec = f"webdataset:{address}/out/out-{{000000..000001}}.tar"
    dataset = data.open(spec)
    assert asked == ["/out/index.npz"]
    assert dataset.fingerprint() == faces.fingerprint()
    for i in range(6):
        assert np.array_equal(dataset.images[i], faces.images[i])
    assert sorted(asked[1:]) == ["/out/out-000000.tar", "/out/out-000001.tar"]
    assert len(data.open(f"webdataset:{address}/out/out-000001.tar")) == 3
    with complaint("index.npz", "does not have the shard 'out-000002.tar'"):
        data.open(f"webdataset:{address}/out/out-{{000001..000002}}.tar")
    (folder / "out" / "index.npz").write_bytes(b"<html>")
    with complaint("not an index"):
        data.open(spec)


@pytest.mark.filterwarnings("ignore:.*all 3 shards are fetched")
def test_without_an_index_all_are_looked_through(
    server: tuple[str, Path, list[str]], complaint: Callable[..., Any]
) -> None:
    address, folder, _ = server
    shards(folder)
    check(data.open(f"webdataset:{address}/faces-{{000000..000002}}.tar"))
    with (
        complaint("faces-000003.tar", "cannot be fetched"),
        pytest.warns(UserWarning, match="to make an index"),
    ):
        data.open(f"webdataset:{address}/faces-000003.tar")


def test_texts_are_held_in_one_piece() -> None:
    words = ["", "ann", "José", "\udce9", "x" * 1000]
    texts = Texts.of(words)
    assert list(texts) == words
    assert texts[1:3] == words[1:3]
    assert texts[-1] == words[-1]
    assert texts.sound
    assert len(Texts.of([])) == 0
    with pytest.raises(IndexError):
        texts[5]


def test_a_command_keeps_its_backslashes() -> None:
    assert webdataset._expanded(r"pipe:cat my\ faces-{0..1}.tar") == [
        r"pipe:cat my\ faces-0.tar",
        r"pipe:cat my\ faces-1.tar",
    ]


def test_samples_without_an_image_are_counted_and_named(tmp_path: Path) -> None:
    members = [
        ("a.png", picture(0)),
        ("a.cls", b"1"),
        ("b.mov", b"x"),
        ("b.cls", b"2"),
        ("c.cls", b"3"),
        ("d.x.png", b"x"),
        ("d.cls", b"1"),
    ]
    members += [
        ("e.AVIF", picture(1)),
        ("e.cls", b"2"),
        ("e.txt", b"a caption"),
        ("readme", b"x"),
        ("._a.png", b"x"),
    ]
    file = tar(tmp_path / "odd.tar", members)
    message = "left out: 1 without extension, 1 .cls or .json only, 1 .mov, 1 .x.png"
    with pytest.warns(data.LeftOutWarning, match=message):
        dataset = data.open(f"webdataset:{file}")
    assert list(dataset.attributes["file"]) == ["a.png", "e.AVIF"]
    assert dataset.note == message
    kept = look_through(["odd.tar"], lambda _: file)
    assert Index.of(kept.arrays, "kept").left_out == dataset.note
    assert (
        Index.of(
            {name: value for name, value in kept.arrays.items() if name != "left_out"}, "older"
        ).left_out
        == ""
    )


def test_without_the_libraries_the_extra_is_named(
    faces: data.Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    complaint: Callable[..., Any],
) -> None:
    folder = shards(tmp_path / "set")
    extra = "pip install 'margin-workbench[webdataset]'"
    for package in ("braceexpand", "webdataset"):
        monkeypatch.setitem(sys.modules, package, None)
    with complaint("braces needs braceexpand", extra):
        data.open(f"webdataset:{folder}/faces-{{000000..000002}}.tar")
    for address in ("https://localhost/faces-0.tar", f"pipe:cat {folder}/faces-000000.tar"):
        with complaint("fetching shards needs webdataset", extra):
            data.open(f"webdataset:{address}")
    with complaint("writing shards needs webdataset", extra):
        write_webdataset(faces, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_local_shards_are_read_without_the_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shards(tmp_path / "set")
    for package in ("braceexpand", "webdataset"):
        monkeypatch.setitem(sys.modules, package, None)
    check(data.open(f"webdataset:{folder}"))
    check(data.open(f"webdataset:{folder}/faces-*.tar"))
