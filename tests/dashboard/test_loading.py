"""The cache through which pages read runs."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from workbench import runs
from workbench.dashboard.loading import cached_by_files


def test_a_value_is_read_again_when_its_file_changes(tmp_path: Path) -> None:
    calls = []

    @cached_by_files(lambda run, name: [run.path / name])
    def read(run: runs.Run, name: str) -> str:
        """Reads a file."""
        calls.append(name)
        return (run.path / name).read_text()

    (tmp_path / "a").write_text("one")
    (tmp_path / "b").write_text("other")
    assert [read(runs.Run(tmp_path), "a"), read(runs.Run(tmp_path), "b")] == ["one", "other"]
    assert read(runs.Run(tmp_path), "a") == "one"
    assert calls == ["a", "b"]

    (tmp_path / "a").write_text("changed")
    assert read(runs.Run(tmp_path), "a") == "changed"
    assert calls == ["a", "b", "a"]
    assert read.__doc__ == "Reads a file."


def test_runs_are_identified_by_their_folder(tmp_path: Path) -> None:
    @cached_by_files(lambda chosen: [])
    def names(chosen: list[runs.Run]) -> list[str]:
        return [run.name for run in chosen]

    first, second = runs.Run(tmp_path / "first"), runs.Run(tmp_path / "second")
    assert names([first, second]) == ["first", "second"]
    assert names([second, first]) == ["second", "first"]


def test_a_resource_is_shared(tmp_path: Path) -> None:
    @cached_by_files(lambda run: [run.path / "model"], st.cache_resource, max_entries=2)
    def model(run: runs.Run) -> object:
        return object()

    run = runs.Run(tmp_path)
    shared = model(run)
    assert model(run) is shared
    (tmp_path / "model").write_bytes(b"new")
    assert model(run) is not shared
