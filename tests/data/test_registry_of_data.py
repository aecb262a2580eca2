"""Specs of data, KIND:PATH or a known name, and the errors for misspelt ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workbench import data
from workbench.data.registry import BENCHMARKS, SOURCES


def test_the_known_kinds_are_listed() -> None:
    assert {"folder", "recordio", "orl", "fashion-mnist", "synthfaces", "synthfaces-mini"} <= set(
        SOURCES.names()
    )
    assert {"bin", "pairs", "orl", "fashion-mnist", "synthfaces-pose", "synthfaces-id"} <= set(
        BENCHMARKS.names()
    )


@pytest.mark.parametrize(
    ("spec", "meant"),
    [("foldr:x", "folder"), ("RecordIO:x", "recordio"), ("fashion_mnist", "fashion-mnist")],
)
def test_the_nearest_source_is_suggested(
    spec: str, meant: str, complaint: Callable[..., Any]
) -> None:
    with complaint("unknown data source", f"did you mean {meant!r}"):
        data.open(spec)


@pytest.mark.parametrize(
    ("spec", "meant"), [("bim:x", "bin"), ("pair:x", "pairs"), ("foldr:x", "folder")]
)
def test_the_nearest_benchmark_is_suggested(
    spec: str, meant: str, complaint: Callable[..., Any]
) -> None:
    with complaint("unknown benchmark", f"did you mean {meant!r}"):
        data.benchmark(spec)


@pytest.mark.parametrize("call", [data.open, data.benchmark])
def test_a_path_without_a_kind_is_recognised(
    call: Callable[[str], Any], tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    with complaint(tmp_path, "is a path", f"folder:{tmp_path}"):
        call(str(tmp_path))


@pytest.mark.parametrize("call", [data.open, data.benchmark])
@pytest.mark.parametrize("spec", ["", None, 7, Path("photos")])
def test_invalid_names_are_refused(
    call: Callable[[Any], Any], spec: Any, complaint: Callable[..., Any]
) -> None:
    with complaint("KIND:PATH", repr(spec)):
        call(spec)


@pytest.mark.parametrize("call", [data.open, data.benchmark])
@pytest.mark.parametrize(
    "spec",
    [
        ":",
        ":x",
        "~nobody-of-that-name/x",
        "a" * 300,
        "a\0b",
        "folder:~nobody-of-that-name/x",
        "folder:a\0b",
    ],
)
def test_an_odd_name_is_an_error_of_one_line(
    call: Callable[[str], Any], spec: str, complaint: Callable[..., Any]
) -> None:
    with complaint():
        call(spec)


@pytest.mark.parametrize("call", [data.open, data.benchmark])
@pytest.mark.parametrize("kind", ["folder", "recordio"])
def test_a_path_too_long_for_the_file_system_is_missing(
    call: Callable[[str], Any], kind: str, complaint: Callable[..., Any]
) -> None:
    with complaint("no such folder"):
        call(f"{kind}:{'a' * 300}")


def test_a_benchmark_cannot_be_trained_on(complaint: Callable[..., Any]) -> None:
    with complaint("bin:x.bin", "is a benchmark", "folder:DIR"):
        data.open("bin:x.bin")


def test_the_home_folder_may_be_abbreviated(
    identity_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(identity_folder.parent))
    assert len(data.open("folder:~/people")) == 6


def test_pairs_are_drawn_from_a_source(identity_folder: Path) -> None:
    (identity_folder / "dan").mkdir()
    for number in range(2):
        (identity_folder / "dan" / f"{number}.png").write_bytes(
            (identity_folder / "ann" / f"{number}.png").read_bytes()
        )
    bench = data.benchmark(f"folder:{identity_folder}")
    assert isinstance(bench, data.Benchmark)
    assert bench.name == "people"
    assert bench.folds.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_a_mistake_in_a_join_or_in_options_is_named(
    identity_folder: Path, complaint: Callable[..., Any]
) -> None:
    with complaint(
        "'nothing' after the + is not a data set", f"folder:{identity_folder}+KIND:PATH"
    ):
        data.open(f"folder:{identity_folder}+nothing")
    with complaint("all options must follow one @, @2x1,min=2"):
        data.open(f"folder:{identity_folder}@2x1@min=2")


def test_a_file_is_told_from_a_folder(identity_folder: Path, complaint: Callable[..., Any]) -> None:
    (identity_folder / "a.zip").write_bytes(b"PK")
    with complaint("is a file, expected a folder; unpack it"):
        data.open(f"folder:{identity_folder}/a.zip")
    with complaint("is a folder, expected a file"):
        data.benchmark(f"bin:{identity_folder}")


def test_what_is_opened_prints_as_one_line(identity_folder: Path) -> None:
    dataset = data.open(f"folder:{identity_folder}")
    assert repr(dataset) == "<Dataset people: 6 images of 3 identities>"
    pairs = data.Benchmark(
        "b", dataset.images, np.array([[0, 1], [0, 2]]), np.array([True, False]), np.array([0, 1])
    )
    assert repr(pairs) == "<Benchmark b: 1 genuine and 1 impostor pairs>"
