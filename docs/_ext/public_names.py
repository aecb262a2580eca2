"""The directive `public-names`: an API reference of everything that a module exports, in groups.

    .. public-names:: workbench.losses

       Functions: create names register
       Losses: ArcFace CosFace

Names of `__all__` that no group lists follow under "Other functions", "Other classes" and
"Constants", so that a new public name is in the reference at once. A name that is not public fails
a strict build. Modules without `__all__` export what they define under a name without underscore.
"""

from __future__ import annotations

import ast
from importlib import import_module
from inspect import cleandoc, isclass, ismodule, isroutine
from pathlib import Path
from types import ModuleType

from docutils import nodes
from docutils.statemachine import StringList
from markdown_docstrings import convert
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

LOGGER = logging.getLogger(__name__)


def public_names(module: ModuleType) -> list[str]:
    """Returns the public names of a module, without those of its submodules."""
    names = getattr(module, "__all__", None)
    if names is None:
        names = [
            name
            for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
        ]
    return [name for name in names if not ismodule(getattr(module, name))]


class PublicNames(SphinxDirective):
    """Documents all public names of a module."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        module = import_module(self.arguments[0])
        names = public_names(module)
        groups = {}
        for line in self.content:
            title, _, listed = line.partition(":")
            if listed:
                groups[title.strip()] = listed.split()
        grouped = {name for listed in groups.values() for name in listed}
        for name in sorted(grouped - set(names)):
            LOGGER.warning(
                "%s.%s is in the reference and is not public",
                module.__name__,
                name,
                location=self.get_location(),
            )
        other = "Other " if groups else ""
        rest = [name for name in names if name not in grouped]
        kinds = {"functions": [], "classes": [], "constants": []}
        for name in sorted(rest, key=str.lower):
            kinds[_kind(getattr(module, name))].append(name)
        groups[f"{other}functions".capitalize()] = kinds["functions"]
        groups[f"{other}classes".capitalize()] = kinds["classes"]
        groups["Constants"] = kinds["constants"]
        return [
            self._group(module, title, [name for name in listed if name in names])
            for title, listed in groups.items()
            if listed
        ]

    def _group(self, module: ModuleType, title: str, names: list[str]) -> nodes.section:
        label = f"{module.__name__} {title.lower()}"
        section = nodes.section(ids=[nodes.make_id(label)], names=[label])
        section += nodes.title(title, title)
        lines = [line for name in names for line in _entry(module, name)]
        self.state.nested_parse(StringList(lines, source=module.__name__), 0, section)
        return section


def _kind(value: object) -> str:
    if isclass(value):
        return "classes"
    return "functions" if isroutine(value) else "constants"


def _entry(module: ModuleType, name: str) -> list[str]:
    """Returns the autodoc directive of one name."""
    path = f"{module.__name__}.{name}"
    value = getattr(module, name)
    kind = _kind(value)
    if kind == "functions":
        return [f".. autofunction:: {path}", ""]
    if kind == "classes":
        return [f".. autoclass:: {path}", "   :members:", ""]
    lines = [f".. py:data:: {name}", f"   :module: {module.__name__}"]
    if isinstance(value, str | int | float) or (isinstance(value, tuple) and len(str(value)) < 100):
        lines.append(f"   :value: {value!r}")
    return [*lines, "", *(f"   {line}" for line in convert(_comment(module, name))), ""]


def _comment(module: ModuleType, name: str) -> list[str]:
    """Returns the string below the assignment of a constant, in the module that assigns it."""
    body = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8")).body
    for statement, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(statement, ast.ImportFrom) and statement.module:
            if any((one.asname or one.name) == name for one in statement.names):
                return _comment(import_module(statement.module), name)
        elif name in _assigned(statement):
            return _docstring(following)
    return []


def _docstring(statement: ast.stmt | None) -> list[str]:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return cleandoc(str(statement.value.value)).splitlines()
    return []


def _assigned(statement: ast.stmt) -> list[str]:
    targets = getattr(statement, "targets", [getattr(statement, "target", None)])
    return [one.id for one in targets if isinstance(one, ast.Name)]


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the directive."""
    app.add_directive("public-names", PublicNames)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
