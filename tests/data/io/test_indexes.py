"""An index from the cache always describes the current contents of the files."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from workbench.data.io import indexes

HOUR_AGO = time.time() - 3600


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file from an hour ago, and a cache that also keeps indexes that are made quickly."""
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(indexes, "KEPT_SECONDS", -1.0)
    path = tmp_path / "large.bin"
    path.write_bytes(b"first")
    os.utime(path, (HOUR_AGO, HOUR_AGO))
    return path


def contents(path: Path) -> bytes:
    """Returns the contents of the file from its index, through `cached_index`."""
    made = indexes.cached_index(
        "test", [path], [], lambda: {"bytes": np.frombuffer(path.read_bytes(), np.uint8)}
    )
    return made["bytes"].tobytes()


def kept(path: Path) -> int:
    return len(list((path.parent / "cache").rglob("*.npz")))


def test_an_index_is_made_once(file: Path) -> None:
    assert contents(file) == b"first"
    again = indexes.cached_index("test", [file], [], lambda: pytest.fail("made again"))
    assert again["bytes"].tobytes() == b"first"


def test_a_replaced_file_of_the_same_size_and_time_is_noticed(file: Path) -> None:
    assert contents(file) == b"first"
    file.with_name("other").write_bytes(b"other")
    os.utime(file.with_name("other"), (HOUR_AGO, HOUR_AGO))
    os.replace(file.with_name("other"), file)
    assert contents(file) == b"other"


def test_a_file_overwritten_in_place_with_its_time_set_back_is_noticed(file: Path) -> None:
    before = file.stat()
    assert contents(file) == b"first"
    time.sleep(0.05)  # longer than the steps of a file system's clock
    file.write_bytes(b"other")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert contents(file) == b"other"


def test_nothing_is_kept_of_a_file_that_was_written_a_moment_ago(file: Path) -> None:
    file.write_bytes(b"fresh")
    assert contents(file) == b"fresh"
    assert kept(file) == 0
    os.utime(file, (HOUR_AGO, HOUR_AGO))
    assert contents(file) == b"fresh"
    assert kept(file) == 1


def test_nothing_is_kept_of_a_file_that_changes_while_it_is_read(file: Path) -> None:
    def make() -> dict[str, np.ndarray]:  # type: ignore[type-arg]
        content = np.frombuffer(file.read_bytes(), np.uint8)
        file.write_bytes(b"changed")
        return {"bytes": content}

    indexes.cached_index("test", [file], [], make)
    assert kept(file) == 0
    assert contents(file) == b"changed"


def test_a_cache_that_cannot_be_written_is_not_an_error(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(file))
    assert contents(file) == b"first"
