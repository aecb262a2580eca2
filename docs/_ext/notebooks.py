"""Copies notebooks/ next to the tutorials' index, which is where Sphinx reads them."""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

DOCS = Path(__file__).parents[1]
NOTEBOOKS = DOCS.parent / "notebooks"
COPIES = DOCS / "tutorials" / "notebooks"


def copy_notebooks(app: Sphinx) -> None:
    """Copies each notebook whose copy differs, and removes copies of notebooks that are gone.

    Links such as `../docs/guide/data.md` are written for notebooks/ and become `../../guide/data.md`.
    """
    COPIES.mkdir(exist_ok=True)
    names = {path.name for path in NOTEBOOKS.glob("*.ipynb")}
    for copy in COPIES.glob("*.ipynb"):
        if copy.name not in names:
            copy.unlink()
    for name in sorted(names):
        text = (NOTEBOOKS / name).read_text(encoding="utf-8")
        text = re.sub(r"\]\(\.\./docs/", "](../../", text)
        copy = COPIES / name
        if not copy.exists() or copy.read_text(encoding="utf-8") != text:
            copy.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the extension."""
    app.connect("builder-inited", copy_notebooks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
