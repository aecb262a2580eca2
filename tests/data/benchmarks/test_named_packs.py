"""`lfw`, `cfp_fp` and the others: the folders that are searched, and notes on incomplete packs."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from helpers import Complaint

from workbench import data
from workbench.data.benchmarks import named_packs
from workbench.images import to_png

IMAGE = to_png(np.zeros((2, 2, 3), dtype=np.uint8))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, without a cache and with no folder of benchmarks set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("WORKBENCH_BENCHMARKS", raising=False)
    return tmp_path


def write(file: Path, pairs: int = 10) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pickle.dumps(([IMAGE] * (2 * pairs), [n % 2 == 0 for n in range(pairs)])))
    return file


def opened(spec: str) -> data.Benchmark:
    bench = data.benchmark(spec)
    assert isinstance(bench, data.Benchmark)
    return bench


def test_the_packs_are_known_by_name() -> None:
    assert {"lfw", "cfp_ff", "cfp_fp", "agedb_30", "calfw", "cplfw"} <= set(data.BENCHMARKS.names())


@pytest.mark.parametrize("folder", ["first", "second", "cache/benchmarks", "data"])
def test_the_usual_folders_are_searched(
    folder: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_BENCHMARKS", os.pathsep.join(["first", str(here / "second")]))
    write(here / folder / "agedb_30.bin")
    assert opened("agedb_30").name == "agedb_30"
    write(here / "first" / "agedb_30.bin", 3)
    assert len(opened("agedb_30").pairs) == 3  # The listed folders come before the usual ones.


def test_a_file_or_its_folder_can_be_named(here: Path) -> None:
    write(here / "faces_emore" / "cfp_fp.bin", 4)
    write(here / "other.bin", 5)
    assert [len(opened(spec).pairs) for spec in ("cfp_fp:faces_emore", "cfp_fp:other.bin")] == [
        4,
        5,
    ]
    assert opened("cfp_fp:other.bin").name == "cfp_fp"


def test_a_pack_without_the_whole_protocol_is_noted(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(here / "lfw.bin", 12)
    assert opened(f"lfw:{file}").note == "lfw.bin holds 12 pairs, the protocol of lfw has 6,000"
    monkeypatch.setitem(named_packs.PAIRS, "lfw", 12)
    assert opened(f"lfw:{file}").note == ""
    assert named_packs.PAIRS["cfp_fp"] == named_packs.PAIRS["cfp_ff"] == 7000


def test_the_error_for_a_missing_pack_says_how_to_get_it(
    here: Path, monkeypatch: pytest.MonkeyPatch, complaint: Complaint
) -> None:
    with complaint(
        "no calfw.bin in",
        here / "cache" / "benchmarks",
        "data or $WORKBENCH_BENCHMARKS",
        "calfw:FILE",
        "data pack",
    ):
        data.benchmark("calfw")
    monkeypatch.setenv("WORKBENCH_BENCHMARKS", "packs")
    with complaint("no calfw.bin in packs, "):
        data.benchmark("calfw")
    (here / "empty").mkdir()
    for path in ("empty", "nowhere", "nowhere/calfw.bin"):
        with complaint(f"calfw:{path}: no {path}"):
            data.benchmark(f"calfw:{path}")
    (here / "calfw.bin").write_bytes(b"x")
    with complaint("calfw.bin", "not a verification pack"):
        data.benchmark("calfw:calfw.bin")


@pytest.mark.parametrize(
    ("name", "meant"), [("cfp-fp", "cfp_fp"), ("agedb30", "agedb_30"), ("LFW", "lfw")]
)
def test_the_most_similar_name_is_suggested(name: str, meant: str, complaint: Complaint) -> None:
    with complaint(f"did you mean {meant!r}"):
        data.benchmark(name)


def test_a_pack_cannot_be_trained_on(complaint: Complaint) -> None:
    with complaint("'lfw' is a benchmark"):
        data.open("lfw")
