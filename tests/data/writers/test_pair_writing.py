"""Verification packs and lists of pairs as they are written: read by InsightFace's own way, and in
the folds they were drawn in.
"""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from helpers import Complaint
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold

from workbench import data
from workbench.data.dataset import encoded_image
from workbench.data.io.readers import Files
from workbench.data.writers.pairs import even_folds, write_bin, write_pair_list, write_pairs
from workbench.images import to_png


def photos(
    root: Path, counts: list[int], name: str = "{person}_{number:04d}.png", first: int = 1
) -> Path:
    """Person i has counts[i] pictures of a colour of their own."""
    for person, count in enumerate(counts):
        folder = root / f"p{person}"
        folder.mkdir(parents=True)
        for number in range(first, first + count):
            pixels = np.full((4, 4, 3), (person, number, 7), dtype=np.uint8)
            (folder / name.format(person=f"p{person}", number=number)).write_bytes(to_png(pixels))
    return root


def people_of(bench: data.Benchmark) -> np.ndarray:
    """(P, 2) who is on the images, from their colour."""
    return np.array(
        [[int(bench.images[int(image)][0, 0, 0]) for image in pair] for pair in bench.pairs]
    )


def check_folds(bench: data.Benchmark) -> None:
    """The folds that scikit-learn cuts have nobody in common, and half of each are genuine
    pairs.
    """
    people = people_of(bench)
    assert np.array_equal(people[:, 0] == people[:, 1], bench.same)
    seen: list[set[int]] = []
    for _, test in KFold(10, shuffle=False).split(people):
        assert bench.same[test].sum() * 2 == len(test)
        seen.append(set(people[test].ravel().tolist()))
    assert sum(map(len, seen)) == len(set.union(*seen))


@pytest.mark.parametrize("out", ["pairs.bin", "pairs.txt"])
@pytest.mark.parametrize("name", ["{person}_{number:04d}.png", "{number} a.png"])
def test_folds_read_again_are_those_with_nobody_in_two(out: str, name: str, tmp_path: Path) -> None:
    root = photos(tmp_path / "photos", [5, 2, 3, 9, 2, 2, 4, 1] * 3, name)
    written = write_pairs(
        data.open(f"folder:{root}"), tmp_path / out, per_fold=5, seed=3, progress=False
    )
    assert (written.path, written.broken, written.note) == (tmp_path / out, [], "")
    spec = f"bin:{tmp_path / out}" if out.endswith("bin") else f"pairs:{tmp_path / out}@{root}"
    bench = data.benchmark(spec)
    assert isinstance(bench, data.Benchmark)
    assert len(np.unique(bench.folds)) == 10
    check_folds(bench)
    assert written.bytes == (tmp_path / out).stat().st_size
    assert written.identities == len(np.unique(people_of(bench)))


def test_a_pack_is_what_insightface_unpickles(tmp_path: Path) -> None:
    bench = data.draw_pairs(data.open(f"folder:{photos(tmp_path / 'photos', [3] * 20)}"))
    write_bin(bench, tmp_path / "a.bin", progress=False)
    with (tmp_path / "a.bin").open("rb") as file:
        bins, issame = pickle.load(file, encoding="bytes")
    assert isinstance(bins, list)
    assert issame == bench.same.tolist()
    assert bins == [encoded_image(bench.images, int(image)) for image in bench.pairs.ravel()]
    with pytest.raises(ValueError, match="is there already"):
        write_bin(bench, tmp_path / "a.bin", progress=False)


def test_a_pack_of_lfw_is_the_pack_it_was_made_of(workbench_data: Path, tmp_path: Path) -> None:
    theirs = data.benchmark(f"bin:{workbench_data / 'bin' / 'lfw_200pairs.bin'}")
    assert isinstance(theirs, data.Benchmark)
    written = write_bin(theirs, tmp_path / "lfw.bin", progress=False)
    assert (written.images, written.identities, written.note) == (400, 0, "")
    again = data.benchmark(f"lfw:{tmp_path}")
    assert isinstance(again, data.Benchmark)
    assert again.fingerprint() == theirs.fingerprint()
    assert [encoded_image(again.images, n) for n in range(400)] == [
        encoded_image(theirs.images, n) for n in range(400)
    ]


def test_pairs_come_in_the_order_of_their_folds(tmp_path: Path) -> None:
    images = np.arange(40, dtype=np.uint8)[:, None, None, None] * np.ones((2, 2, 3), dtype=np.uint8)
    pairs, folds = np.arange(40).reshape(20, 2), np.arange(20) % 10
    bench = data.Benchmark("odd", images, pairs, np.arange(20) % 3 == 0, folds)
    assert write_bin(bench, tmp_path / "a.bin", progress=False).note == ""
    again = data.benchmark(f"bin:{tmp_path / 'a.bin'}")
    assert isinstance(again, data.Benchmark)
    order = np.argsort(folds, kind="stable")
    assert people_of(again).tolist() == pairs[order].tolist()
    assert again.same.tolist() == bench.same[order].tolist()
    fewer = data.Benchmark("odd", images, pairs, bench.same, np.arange(20) % 4)
    assert (
        "odd has 4 folds of 5 to 5 pairs"
        in write_bin(fewer, tmp_path / "b.bin", progress=False).note
    )


@pytest.mark.parametrize("out", ["pairs.bin", "paths.txt", "lfw.txt"])
def test_fewer_folds_than_are_read_are_told(out: str, tmp_path: Path) -> None:
    name = "{person}_{number:04d}.png" if out == "lfw.txt" else "{number}.png"
    root = photos(tmp_path / "photos", [4] * 10, name)
    written = write_pairs(data.open(f"folder:{root}"), tmp_path / out, per_fold=6, progress=False)
    if out == "lfw.txt":  # which says how many folds it has
        assert written.note == ""
        bench = data.benchmark(f"pairs:{tmp_path / out}@{root}")
        assert isinstance(bench, data.Benchmark)
        assert np.bincount(bench.folds).tolist() == [12] * 5
    else:
        assert (
            "in 10 folds of consecutive pairs, but photos has 5 folds of 12 to 12" in written.note
        )


@pytest.mark.parametrize("out", ["pairs.bin", "pairs.txt"])
def test_broken_images_are_in_no_pair_when_asked(
    out: str, tmp_path: Path, complaint: Complaint
) -> None:
    root = photos(tmp_path / "photos", [4] * 20)
    broken = [root / f"p{person}" / f"p{person}_0002.png" for person in range(0, 20, 3)]
    for file in broken:
        file.write_bytes(file.read_bytes()[:40])
    dataset = data.open(f"folder:{root}")
    with complaint("_0002.png", "broken"):
        write_pairs(dataset, tmp_path / out, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
    written = write_pairs(dataset, tmp_path / out, broken="skip", progress=False)
    assert {where for where, _ in written.broken} == {str(file) for file in broken}
    bench = data.benchmark(
        f"bin:{tmp_path / out}" if out.endswith("bin") else f"pairs:{tmp_path / out}@{root}"
    )
    assert isinstance(bench, data.Benchmark)
    check_folds(bench)
    assert len(bench.pairs) >= 10 * 2 * 6  # the genuine pairs of two people with three images left


def test_pairs_of_a_benchmark_with_a_broken_image_are_left_out(
    tmp_path: Path, complaint: Complaint
) -> None:
    root = photos(tmp_path / "photos", [3] * 20)
    dataset = data.open(f"folder:{root}")
    bench = data.draw_pairs(dataset)
    (root / "p4" / "p4_0001.png").write_bytes(b"")
    with complaint("p4_0001.png"):
        write_bin(bench, tmp_path / "a.bin", progress=False)
    written = write_bin(bench, tmp_path / "a.bin", broken="skip", progress=False)
    assert len(written.broken) == 1
    assert "a person can be in two" in written.note
    lost = (bench.pairs == dataset.attributes["file"].index("p4/p4_0001.png")).any(axis=1).sum()
    assert written.images == 2 * (len(bench.pairs) - lost) < 2 * len(bench.pairs)


def test_folds_are_cut_to_the_poorest(complaint: Complaint) -> None:
    images = np.zeros((9, 1, 1, 3), dtype=np.uint8)
    pairs = np.array([[0, n % 8 + 1] for n in range(14)])
    same = np.array([0, 1, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 0, 1], dtype=bool)
    folds = np.repeat([0, 1], 7)
    even = even_folds(data.Benchmark("a", images, pairs, same, folds))
    assert even.same.tolist() == [True] * 3 + [False] * 3 + [True] * 3 + [False] * 3
    assert even.folds.tolist() == [0] * 6 + [1] * 6
    assert even.pairs[:, 1].tolist() == [
        pairs[n, 1] for n in (1, 2, 3, 0, 4, 5, 7, 8, 13, 9, 10, 11)
    ]
    with complaint("a: a fold has no genuine or no impostor pairs"):
        even_folds(data.Benchmark("a", images, pairs, np.arange(14) < 7, folds))


def test_a_list_of_pairs_in_the_format_of_lfw(tmp_path: Path) -> None:
    root = photos(tmp_path / "photos", [2] * 4)
    dataset = data.open(f"folder:{root}")
    bench = even_folds(data.draw_pairs(dataset, folds=2, per_fold=1))
    write_pair_list(bench, dataset.attributes["file"], tmp_path / "a.txt")
    rows = [line.split("\t") for line in (tmp_path / "a.txt").read_text().splitlines()]
    assert rows[0] == ["2", "1"]
    assert [len(row) for row in rows[1:]] == [3, 4, 3, 4]
    again = data.benchmark(f"pairs:{tmp_path / 'a.txt'}@{root}")
    assert isinstance(again, data.Benchmark)
    assert np.array_equal(people_of(again), people_of(bench))


@pytest.mark.parametrize(
    ("out", "hint"),
    [
        ("a.csv", "NAME.bin"),
        ("a", "NAME.txt"),
        ("there.bin", "is there already"),
        ("there.bin/a.bin", "cannot be"),
    ],
)
def test_where_nothing_can_be_written(
    out: str, hint: str, tmp_path: Path, complaint: Complaint
) -> None:
    dataset = data.open(f"folder:{photos(tmp_path / 'photos', [2] * 4)}")
    (tmp_path / "there.bin").touch()
    with complaint(out.split("/", maxsplit=1)[0], hint):
        write_pairs(dataset, tmp_path / out, progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "there.bin"]


def test_a_list_is_of_files_in_one_folder(tmp_path: Path, complaint: Complaint) -> None:
    first, second = (f"folder:{photos(tmp_path / name, [2] * 4)}" for name in "ab")
    with complaint("a+b", "several places", "NAME.bin"):
        write_pairs(data.open(f"{first}+{second}"), tmp_path / "a.txt", progress=False)
    pixels = data.Dataset(
        "p", np.zeros((8, 1, 1, 3), dtype=np.uint8), np.arange(8) // 2, list("abcd")
    )
    with complaint("p: ", "are not files"):
        write_pairs(pixels, tmp_path / "a.txt", progress=False)
    assert write_pairs(data.open(f"{first}@*x2"), tmp_path / "a.txt", progress=False).images
    with complaint("at least 4"):
        write_pairs(data.open(f"{first}@3x2"), tmp_path / "b.bin", progress=False)


# Odd names


def drawn(root: Path) -> data.Benchmark:
    return even_folds(data.draw_pairs(data.open(f"folder:{root}"), folds=2, per_fold=3))


def check_round_trip(root: Path, out: Path) -> None:
    """A list of pairs, written and read again, names the same files with the same labels."""
    bench = drawn(root)
    out.unlink(missing_ok=True)
    files = list(data.open(f"folder:{root}").attributes["file"])
    write_pair_list(bench, files, out)
    again = data.benchmark(f"pairs:{out}@{root}")
    assert isinstance(again, data.Benchmark)
    assert again.same.tolist() == bench.same.tolist()
    assert isinstance(again.images, Files)
    read = [[again.images.names[image] for image in pair] for pair in again.pairs.tolist()]
    assert read == [[files[image] for image in pair] for pair in bench.pairs.tolist()]


PIECES = [
    *"#\"' \t,;@+=%\\|é",
    "\x85",
    "\u2028",
    "\ufeff",
    "\x1c",
    "e\u0301",
    "1",
    "0",
    "same",
    "a.png",
    "_0001",
    "\u0660",
    "\x1b[2J",
    "..",
    "~",
]
BYTES = st.lists(
    st.sampled_from([*(piece.encode() for piece in PIECES), b"\xff", b"\xfe", b"\xe9"]),
    min_size=1,
    max_size=5,
).map(b"".join)


def usable(name: bytes) -> bool:
    return not name.startswith(b".") and name.strip(b".") != b""


@settings(max_examples=80, deadline=None)
@given(
    people=st.lists(BYTES.filter(usable), min_size=4, max_size=5, unique=True),
    shots=st.lists(BYTES.filter(usable), min_size=2, max_size=3, unique=True),
    as_lfw=st.booleans(),
)
def test_lists_of_odd_names_are_read_as_they_were_written(
    people: list[bytes], shots: list[bytes], as_lfw: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("odd")
    root = folder / "@ photos"
    for person in people:
        os.makedirs(os.path.join(os.fsencode(root), person))
        for number, shot in enumerate(shots, 1):
            name = person + b"_%04d" % number if as_lfw else shot
            Path(os.fsdecode(os.path.join(os.fsencode(root), person, name + b".png"))).write_bytes(
                b"x"
            )
    check_round_trip(root, folder / "pairs.txt")


def test_files_that_differ_in_their_suffix_are_told_apart(
    tmp_path: Path, complaint: Complaint
) -> None:
    root = photos(tmp_path / "photos", [2] * 4)
    for person in range(4):
        (root / f"p{person}" / f"p{person}_0001.jpg").write_bytes(b"x")
    check_round_trip(root, tmp_path / "pairs.txt")
    assert "\t1\t" not in (tmp_path / "pairs.txt").read_text()
    (tmp_path / "lfw.txt").write_text("2\np0 1 2\np1 1 2\np0 2 p1 2\np2 2 p3 2\n")
    with complaint("lfw.txt, line 2: 'p0_0001' is at two places", "p0_0001.jpg", "p0_0001.png"):
        data.benchmark(f"pairs:{tmp_path / 'lfw.txt'}@{root}")


def test_a_line_end_in_a_name_is_refused(tmp_path: Path, complaint: Complaint) -> None:
    root = photos(tmp_path / "photos", [2] * 4)
    (root / "p2").rename(root / "p\n2")
    with complaint("pairs.txt", r"p\n2/p2_000", "NAME.bin"):
        check_round_trip(root, tmp_path / "pairs.txt")
    assert not (tmp_path / "pairs.txt").exists()
