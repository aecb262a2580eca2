"""The examples in the docstrings of the package give what they show."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WITH_EXAMPLES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "workbench").rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_a_module_give_what_they_show(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    try:
        module = import_module(name)
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "workbench":
            raise
        pytest.skip(f"an optional package is missing: {error}")
    monkeypatch.chdir(tmp_path)
    differences: list[str] = []
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    for examples in doctest.DocTestFinder(exclude_empty=True).find(module, name):
        runner.run(examples, out=differences.append)
    assert runner.failures == 0, "".join(differences)
    assert runner.tries > 0, "none of its examples is in the docstring of a function or class"
