"""Turns the Markdown of docstrings into reStructuredText, which is what autodoc reads.

The docstrings are in Google style. Only the inline markup and code blocks differ between the two
languages; sections such as `Args:` are left to napoleon, which runs afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sphinx.application import Sphinx

CODE_OR_LINK = re.compile(r"(``.+?``|`[^`]+`|\[[^\]]+\]\(https?://[^)\s]+\))")
FIELDS = (":returns:", ":yields:")
FENCE = re.compile(r"^(\s*)```(\w*)\s*$")
# A description such as "D." after the name of a parameter would be taken for an enumerated list.
LIST_MARK = re.compile(r"^(\s*\w+:\s+)(?=(?:[A-Za-z]|\d+)[.)](?:\s|$))()")
SECTION = re.compile(
    r"^(Args|Arguments|Attributes|Example|Examples|Note|Notes|Raises|Returns|Yields|Warning):$"
)


def inline(text: str) -> str:
    """Returns a line with code, links and emphasis as reStructuredText writes them."""
    pieces = CODE_OR_LINK.split(text)
    converted = [_markup(piece) if n % 2 else _plain(piece) for n, piece in enumerate(pieces)]
    return LIST_MARK.sub(r"\1\\\2", "".join(converted))


def _markup(piece: str) -> str:
    if piece.startswith("["):
        title, address = piece[1:-1].split("](", 1)
        return f"`{title.replace('`', '')} <{address}>`__"
    code = piece.strip("`")
    # A backslash and a space end the markup where a letter follows directly.
    return f"\\ ``{code}``\\ "


def _plain(piece: str) -> str:
    pieces = re.split(
        r"(\*\*[^*\s](?:[^*]*[^*\s])?\*\*|(?<![\w*])\*[^*\s](?:[^*]*[^*\s])?\*(?![\w*]))", piece
    )
    escaped = [re.sub(r"([\\*|`]|_(?!\w))", r"\\\1", one) for one in pieces[::2]]
    pieces[::2] = escaped
    return "".join(pieces)


def convert(lines: list[str]) -> list[str]:
    """Returns the lines of a docstring with Markdown replaced by reStructuredText."""
    return list(_convert(list(_returns_as_field(lines))))


def _returns_as_field(lines: list[str]) -> Iterator[str]:
    """Writes `Returns:` and `Yields:` as fields, because napoleon takes text before a colon in it for a type."""
    inside = first = False
    field = ""
    for line in lines:
        if line in ("Returns:", "Yields:"):
            inside = first = True
            field = line.lower()
            yield ""
        elif inside and line.strip() and not line.startswith(" "):
            inside = False
            yield line
        elif inside and first and line.strip():
            first = False
            yield f":{field} {line.strip()}"
        else:
            yield line


def _convert(lines: list[str]) -> Iterator[str]:
    fenced = doctest = literal = in_section = False
    before = ""
    for line in lines:
        start = FENCE.match(line)
        if start and not fenced:
            yield from ("", f"{start[1]}.. code-block:: {start[2] or 'text'}", "")
        elif start:
            yield ""
        if start:
            fenced = not fenced
            before = line
            continue
        if fenced:
            yield f"    {line}"
            continue
        indented = line.startswith("    ")
        if line and not indented:
            in_section = bool(SECTION.match(line)) or line.startswith(FIELDS)
            literal = False
        doctest = line.lstrip().startswith((">>>", "...")) or (doctest and bool(line.strip()))
        if literal or doctest or SECTION.match(line.strip()):
            yield line
        elif indented and not before.strip() and not in_section:
            literal = True
            yield from ("::", "", line)
        elif line.startswith(FIELDS):
            field, text = line[1:].split(":", 1)
            yield f":{field}: {inline(text.strip())}"
        else:
            if line.lstrip().startswith("- ") and before.strip() and not _in_list(before):
                yield ""
            yield inline(line)
        before = line


def _in_list(line: str) -> bool:
    return line.lstrip().startswith("- ") or line.startswith("  ")


def on_docstring(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Replaces the lines of a docstring in place, as autodoc asks for it."""
    lines[:] = convert(lines)


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the extension ahead of napoleon, whose priority is 500."""
    app.connect("autodoc-process-docstring", on_docstring, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
