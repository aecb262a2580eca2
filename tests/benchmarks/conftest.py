"""Imports a benchmark script as a module, so that its functions can be tested."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def import_script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """`import_script("heads.py")` returns the script as a module."""

    def imported(file: str) -> Any:
        monkeypatch.syspath_prepend(FOLDER)
        name = f"benchmark_{Path(file).stem}"
        spec = importlib.util.spec_from_file_location(name, FOLDER / file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return imported
