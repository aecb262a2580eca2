"""Full and read-only disks end in one line, before the long part where they can."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import IO, NamedTuple

import pytest

from workbench import files
from workbench.errors import WorkbenchError


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def _write(path: Path, error: Exception) -> None:
    with files.atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error


def test_a_full_disk_is_one_line_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(
        WorkbenchError, match=r"file\.txt: cannot be written \(No space left on device\)"
    ):
        _write(tmp_path / "file.txt", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert os.listdir(tmp_path) == []


def test_an_error_about_another_file_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        _write(
            tmp_path / "file.txt", FileNotFoundError(errno.ENOENT, "No such file", "elsewhere.txt")
        )


def test_writers_with_words_of_their_own_are_understood_where_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RuntimeError, match="PytorchStreamWriter"):
        _write(tmp_path / "file.txt", RuntimeError("PytorchStreamWriter failed writing file"))
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _folder: Usage(10, 10, 0))
    with pytest.raises(WorkbenchError, match="the disk is full"):
        _write(tmp_path / "file.txt", RuntimeError("PytorchStreamWriter failed writing file"))


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkbenchError, match="cannot be written"):
        _write(tmp_path / "file" / "below.txt", ValueError())
    with pytest.raises(WorkbenchError, match="is a file, expected a folder"):
        files.check_writable(tmp_path / "file" / "below")


def test_space_is_checked_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.check_writable(tmp_path / "not" / "there" / "yet", needed_bytes=1000)
    assert os.listdir(tmp_path) == []
    monkeypatch.setattr(
        files.shutil, "disk_usage", lambda _folder: Usage(10 << 20, 6 << 20, 4 << 20)
    )
    files.check_writable(tmp_path, 2 << 20)
    with pytest.raises(
        WorkbenchError, match=r"4\.0 MiB are free on this disk, about 6\.0 MiB are needed"
    ):
        files.check_writable(tmp_path, 5 << 20)


def test_a_folder_without_permission_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(files.tempfile, "NamedTemporaryFile", refuse)  # root may write anywhere
    with pytest.raises(WorkbenchError, match="cannot be written \\(Permission denied\\)"):
        files.check_writable(tmp_path)


def test_a_file_that_is_still_held_open_takes_no_room_after_a_failure(tmp_path: Path) -> None:
    held: list[IO[bytes]] = []

    def fail() -> None:
        with files.atomic_path(tmp_path / "large.bin") as temporary:
            held.append(temporary.open("wb"))
            held[0].write(b"0" * 100_000)
            held[0].flush()
            raise RuntimeError("no room")

    with pytest.raises(RuntimeError):
        fail()
    assert os.fstat(held[0].fileno()).st_size == 0
    held[0].close()
    assert os.listdir(tmp_path) == []
