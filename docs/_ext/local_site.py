"""Keeps the site usable without a network: formulas become MathML, and pages load nothing remote."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

REMOTE = re.compile(
    r"""<(?:script|img|iframe|source|video|audio)\b[^>]*\bsrc=["'](?:https?:)?//[^"']+"""
    r"""|<link\b(?=[^>]*\brel=["'](?:stylesheet|preload|preconnect|icon))[^>]*\bhref=["'](?:https?:)?//[^"']+""",
    re.IGNORECASE,
)
REMOTE_STYLE = re.compile(r"""(?:@import\s+|url\()\s*["']?(?:https?:)?//[^"')]+""", re.IGNORECASE)


def refuse_remote_files(app: Sphinx, exception: Exception | None) -> None:
    """Fails the build if a page or a style sheet loads a file from the network."""
    if exception is not None or app.builder.format != "html":
        return
    folder = Path(app.outdir)
    loads = [
        f"{path.relative_to(folder)}: {match.group(0)[-120:]}"
        for pattern, kind in ((REMOTE, "*.html"), (REMOTE_STYLE, "*.css"))
        for path in sorted(folder.rglob(kind))
        for match in pattern.finditer(path.read_text(encoding="utf-8"))
    ]
    if loads:
        raise ExtensionError("pages load files from the network:\n" + "\n".join(loads))


def _mathml(latex: str, display: bool) -> str:
    return tex2mathml(latex, as_block=display)


def visit_math(self: Any, node: Any) -> None:
    """Writes a formula in a line of text."""
    self.body.append(_mathml(node.astext(), display=False))
    raise nodes.SkipNode


def visit_math_block(self: Any, node: Any) -> None:
    """Writes a formula in a line of its own."""
    self.body.append(f'<div class="math" title="{escape(node.astext())}">')
    self.body.append(_mathml(node.astext(), display=True) + "</div>")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the extension."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    app.config.html_math_renderer = "mathml"
    app.add_lexer("mermaid", TextLexer)  # GitHub draws these diagrams; the site shows their text
    app.connect("build-finished", refuse_remote_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
