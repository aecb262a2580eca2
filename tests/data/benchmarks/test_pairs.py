"""Pair lists in LFW's format, with images in folders and in zip archives, also malicious ones."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from workbench import data, images
from workbench.data.io.zipped import ZippedImages
from workbench.images import to_png

PEOPLE = {"Ann_Lee": 3, "Bob": 2, "Çağ": 2}
PAIRS = "2\t1\nAnn_Lee\t1\t3\nAnn_Lee\t2\tBob\t1\nBob\t1\t2\nBob\t2\tÇağ\t1\n"


def colour(person: str, number: int) -> int:
    return 50 * list(PEOPLE).index(person) + number


def encoded_images(suffix: str = ".png", inside: str = "") -> dict[str, bytes]:
    return {
        f"{inside}{person}/{person}_{number:04d}{suffix}": to_png(
            np.full((5, 4, 3), colour(person, number), dtype=np.uint8)
        )
        for person, count in PEOPLE.items()
        for number in range(1, count + 1)
    }


def in_folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def in_zip(file: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file


def in_zip_or_folder(folder: Path, files: dict[str, bytes], zipped: bool) -> Path:
    return in_zip(folder / "faces.zip", files) if zipped else in_folder(folder / "faces", files)


def opened(folder: Path, root: Path, text: str = PAIRS) -> data.Benchmark:
    (folder / "list.txt").write_text(text, encoding="utf-8")
    bench = data.benchmark(f"pairs:{folder / 'list.txt'}@{root}")
    assert isinstance(bench, data.Benchmark)
    return bench


def check(bench: data.Benchmark) -> None:
    assert bench.same.tolist() == [True, False, True, False]
    assert bench.folds.tolist() == [0, 0, 1, 1]
    shown = [[int(bench.images[i][0, 0, 0]) for i in pair] for pair in bench.pairs]
    expected = [
        ("Ann_Lee", 1, "Ann_Lee", 3),
        ("Ann_Lee", 2, "Bob", 1),
        ("Bob", 1, "Bob", 2),
        ("Bob", 2, "Çağ", 1),
    ]
    assert shown == [[colour(a, i), colour(b, j)] for a, i, b, j in expected]
    assert bench.identities is not None
    names = [[bench.identity_names[bench.identities[i]] for i in pair] for pair in bench.pairs]
    assert names == [[a, b] for a, _, b, _ in expected]


@pytest.mark.parametrize("inside", ["", "lfw/"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".PNG"])
@pytest.mark.parametrize("zipped", [False, True])
def test_images_are_found(inside: str, suffix: str, zipped: bool, tmp_path: Path) -> None:
    files = {
        **encoded_images(suffix, inside),
        "README.txt": b"hello",
        f"{inside}Ann_Lee/Ann_Lee_0001.txt": b"notes",
    }
    check(opened(tmp_path, in_zip_or_folder(tmp_path, files, zipped)))


def test_images_in_linked_folders_are_found_once(tmp_path: Path) -> None:
    store = in_folder(tmp_path / "store", encoded_images())
    root = in_folder(tmp_path / "faces", {"Bob/Bob_0001.png": encoded_images()["Bob/Bob_0001.png"]})
    (root / "Bob" / "Bob_0002.png").symlink_to(store / "Bob" / "Bob_0002.png")
    for person in ("Ann_Lee", "Çağ"):
        (root / person).symlink_to(store / person)
    (root / "again").symlink_to(root)
    check(opened(tmp_path, root))


@pytest.mark.parametrize("zipped", [False, True])
def test_copies_in_system_folders_are_ignored(zipped: bool, tmp_path: Path) -> None:
    files = encoded_images()
    for folder in ("@eaDir", "__MACOSX", ".thumbnails"):
        files |= encoded_images(".jpg", f"{folder}/")
    check(opened(tmp_path, in_zip_or_folder(tmp_path, files, zipped)))


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("second", [".jpg", ".JFIF"])
def test_two_files_of_one_stem_are_an_error(
    second: str, zipped: bool, tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    files = encoded_images() | {f"Bob/Bob_0001{second}": b"x"}
    root = in_zip_or_folder(tmp_path, files, zipped)
    with complaint("list.txt, line 3", "Bob/Bob_0001.png", f"Bob/Bob_0001{second}", "keep one"):
        opened(tmp_path, root)


def test_missing_images_of_a_type_that_cannot_be_read_are_counted(
    tmp_path: Path, complaint: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if pillow-heif were not installed.
    monkeypatch.setattr(images, "find_spec", lambda name: None)
    files = encoded_images()
    files["Bob/Bob_0002.HEIC"] = files.pop("Bob/Bob_0002.png")
    with complaint("1 of the 6", "1 .heic", "margin-workbench[heic]"):
        opened(tmp_path, in_folder(tmp_path / "faces", files))


def test_the_benchmark_is_named_after_its_images(tmp_path: Path) -> None:
    assert opened(tmp_path, in_zip(tmp_path / "faces.zip", encoded_images())).name == "faces"


def test_blank_lines_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    root = in_folder(tmp_path / "faces", encoded_images())
    check(opened(tmp_path, root, PAIRS.replace("\n", "\r\n") + "\r\n\r\n"))


@pytest.mark.parametrize("zipped", [False, True])
def test_missing_images_are_counted_and_one_is_named(
    zipped: bool, tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    files = encoded_images()
    del files["Ann_Lee/Ann_Lee_0003.png"], files["Bob/Bob_0002.png"]
    root = in_zip_or_folder(tmp_path, files, zipped)
    with complaint(root, "2 of the 6", "list.txt", "Ann_Lee/Ann_Lee_0003.jpg"):
        opened(tmp_path, root)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 1),
        ("two 1\n", 1),
        ("1 2 3\n", 1),
        ("-1 2\n", 1),
        ("²\n", 1),
        (f"{'9' * 5000}\n", 1),
        (PAIRS.replace("Bob\t1\t2", "Bob\t1\ttwo"), 4),
        (PAIRS.replace("Bob\t1\t2", "Bob\t1\t²"), 4),
        (PAIRS.replace("Bob\t1\t2", f"Bob\t1\t{'9' * 5000}"), 4),
        (PAIRS.replace("Bob\t1\t2", "\nBob\t1"), 5),
        (PAIRS.replace("Bob\t1\t2", "Bob\t1\tBob\t2"), 4),
        (PAIRS.replace("Ann_Lee\t2\tBob\t1", "Ann_Lee\t1\t2"), 3),
        (PAIRS.replace("Ann_Lee\t2\tBob\t1", "Ann Lee\t2\tBob\t1"), 3),
    ],
)
def test_a_malformed_line_is_named_by_its_number(
    text: str, line: int, tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    with complaint("list.txt", f"line {line}:"):
        opened(tmp_path, in_folder(tmp_path / "faces", encoded_images()), text)


@pytest.mark.parametrize("header", ["2 2", "3 1", "1 1", "0 0", "0 4", "7", "999999999 999999999"])
def test_a_wrong_count_is_an_error(
    header: str, tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    with complaint("list.txt", "announces", "4 follow"):
        opened(
            tmp_path, in_folder(tmp_path / "faces", encoded_images()), PAIRS.replace("2\t1", header)
        )


def test_a_binary_list_is_an_error(tmp_path: Path, complaint: Callable[..., Any]) -> None:
    (tmp_path / "list.txt").write_bytes(bytes(range(256)))
    with complaint("list.txt"):
        data.benchmark(f"pairs:{tmp_path / 'list.txt'}@{tmp_path}")


def test_both_paths_are_needed(tmp_path: Path, complaint: Callable[..., Any]) -> None:
    (tmp_path / "list.txt").write_text(PAIRS)
    with complaint("@ROOT"):
        data.benchmark(f"pairs:{tmp_path / 'list.txt'}")
    with complaint("nowhere.zip"):
        data.benchmark(f"pairs:{tmp_path / 'list.txt'}@{tmp_path / 'nowhere.zip'}")
    with complaint("no such file"):
        data.benchmark(f"pairs:{tmp_path / 'none.txt'}@{tmp_path}")
    with complaint("@ROOT"):
        data.benchmark(f"pairs:{tmp_path / 'list.txt'}@")


@pytest.mark.parametrize("header", ["20", "1 20"])
def test_a_single_set_is_cut_into_ten_balanced_folds(header: str, tmp_path: Path) -> None:
    files = {f"P/P_{number:04d}.png": b"x" for number in range(1, 42)} | {"Q/Q_0001.png": b"x"}
    lines = [
        header,
        *(f"P {i} {i + 20}" for i in range(1, 21)),
        *(f"P {i} Q 1" for i in range(1, 21)),
    ]
    bench = opened(tmp_path, in_folder(tmp_path / "faces", files), "\n".join(lines))
    assert np.bincount(bench.folds, minlength=10).tolist() == [4] * 10
    assert np.bincount(bench.folds[bench.same], minlength=10).tolist() == [2] * 10


def test_the_official_list_and_all_its_images(workbench_data: Path) -> None:
    bench = data.benchmark(
        f"pairs:{workbench_data / 'lfw' / 'pairs.txt'}@{workbench_data / 'lfw' / 'lfw_112.zip'}"
    )
    assert isinstance(bench, data.Benchmark)
    assert bench.name == "lfw_112"
    assert bench.pairs.shape == (6000, 2)
    assert len(bench.images) == 7701
    assert np.bincount(bench.folds).tolist() == [600] * 10
    assert np.bincount(bench.folds[bench.same]).tolist() == [300] * 10
    assert bench.identities is not None
    identities = bench.identities[bench.pairs]
    assert np.array_equal(identities[:, 0] == identities[:, 1], bench.same)
    assert bench.identity_names[identities[0, 0]] == "Abel_Pacheco"
    assert bench.images[0].shape == (112, 112, 3)
    assert bench.images[7700].shape == (112, 112, 3)


def test_the_original_photos_of_a_single_set(workbench_data: Path) -> None:
    bench = data.benchmark(
        f"pairs:{workbench_data / 'lfw' / 'pairs_300.txt'}"
        f"@{workbench_data / 'lfw' / 'lfw_250_300pairs.zip'}"
    )
    assert isinstance(bench, data.Benchmark)
    assert len(bench.images) == 444
    assert np.bincount(bench.folds[bench.same]).tolist() == [15] * 10
    assert np.bincount(bench.folds[~bench.same]).tolist() == [15] * 10
    assert bench.images[5].shape == (250, 250, 3)


def test_a_zip_that_climbs_out_writes_and_reads_nothing_outside(
    tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    outside = in_folder(tmp_path, encoded_images(inside="outside/")) / "outside"
    files = {f"../outside/{name}": content for name, content in encoded_images().items()}
    before = sorted(tmp_path.rglob("*"))
    inner = tmp_path / "outside"
    with complaint("6 of the 6"):
        opened(inner, in_zip(inner / "faces.zip", files))
    (inner / "list.txt").unlink()
    (inner / "faces.zip").unlink()
    assert sorted(tmp_path.rglob("*")) == before
    assert outside == inner


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "..", "a/../../b"])
def test_a_list_that_climbs_out_finds_nothing(
    name: str, tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    in_folder(tmp_path, {f"outside/{key}": value for key, value in encoded_images().items()})
    root = in_folder(tmp_path / "faces", encoded_images())
    with complaint("are missing"):
        opened(tmp_path, root, PAIRS.replace("Bob", name))


@pytest.mark.usefixtures("modest_memory")
@pytest.mark.parametrize("honest", [True, False])
@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_bomb_in_a_zip_is_refused(
    honest: bool, method: int, tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    name = "Bob/Bob_0001.png"
    size = 700_000_000 if method == zipfile.ZIP_DEFLATED else 60_000_000
    file = tmp_path / "bomb.zip"
    with (
        zipfile.ZipFile(file, "w", method, compresslevel=1) as archive,
        archive.open(name, "w") as member,
    ):
        for _ in range(size // 10_000_000):
            member.write(bytes(10_000_000))
    if not honest:
        content = file.read_bytes()
        assert content.count(struct.pack("<I", size)) == 2
        file.write_bytes(content.replace(struct.pack("<I", size), struct.pack("<I", 1000)))
    with complaint("bomb.zip", name):
        ZippedImages(file, [name])[0]


def test_an_encrypted_member_is_an_error(tmp_path: Path, complaint: Callable[..., Any]) -> None:
    file = in_zip(tmp_path / "faces.zip", {"Bob/Bob_0001.png": b"secret"})
    content = bytearray(file.read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + at] |= 1
    file.write_bytes(content)
    with complaint("faces.zip, Bob/Bob_0001.png", "encrypted"):
        ZippedImages(file, ["Bob/Bob_0001.png"])[0]


def test_a_damaged_zip_is_an_error(tmp_path: Path, complaint: Callable[..., Any]) -> None:
    file = in_zip(tmp_path / "faces.zip", encoded_images())
    for content in (
        b"",
        b"no zip",
        file.read_bytes()[:-30],
        file.read_bytes()[len(file.read_bytes()) // 2 :][:-20],
    ):
        (tmp_path / "bad.zip").write_bytes(content)
        with complaint("bad.zip", "not a zip"):
            opened(tmp_path, tmp_path / "bad.zip")


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32))
@pytest.mark.filterwarnings("ignore")
def test_a_mutated_zip_is_read_or_a_readable_error(
    seed: int,
    mutate: Callable[[bytes, int], bytes],
    at_worst_complaint: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("mutated")
    file = in_zip(folder / "faces.zip", encoded_images())
    file.write_bytes(mutate(file.read_bytes(), seed))
    with at_worst_complaint("faces.zip"):
        bench = opened(folder, file)
        for i in range(len(bench.images)):
            assert bench.images[i].shape == (5, 4, 3)


def first_channel(image: Any) -> int:
    return int(image[0][0, 0, 0])


def test_a_zip_is_read_by_loader_processes_and_after_pickling(tmp_path: Path) -> None:
    bench = opened(tmp_path, in_zip(tmp_path / "faces.zip", encoded_images()))
    # This opens the archive in this process.
    alone = [int(bench.images[i][0, 0, 0]) for i in range(len(bench.images))]
    loader: DataLoader[Any] = DataLoader(
        bench.images, batch_size=1, num_workers=2, collate_fn=first_channel
    )  # type: ignore[arg-type]
    assert list(loader) == alone
    again = pickle.loads(pickle.dumps(bench.images))
    assert [int(again[i][0, 0, 0]) for i in range(len(again))] == alone
