"""Fixtures: an own cache folder, and a renderer of plain squares for `workbench.synthfaces`."""

from __future__ import annotations

from pathlib import Path

import fake_faces
import pytest

from workbench.data.rendered import benchmarks as synthfaces_benchmarks
from workbench.data.rendered import rendering, synthfaces


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def squares(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces the images of `synthfaces` by plain squares, which are made in this process."""
    monkeypatch.setattr(synthfaces, "faces", lambda: fake_faces)
    monkeypatch.setattr(synthfaces_benchmarks, "faces", lambda: fake_faces)
    monkeypatch.setattr(rendering, "cores", lambda: 0)


@pytest.fixture(scope="session")
def common_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rendered")


@pytest.fixture
def common_cache(common_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that is shared by tests that only read from it."""
    monkeypatch.setenv("WORKBENCH_CACHE", str(common_folder))
