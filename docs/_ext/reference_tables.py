"""Directives that list the settings of `TrainConfig`, the presets and the commands."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.application import Sphinx


def _literal(text: str) -> nodes.literal:
    return nodes.literal(text, text)


OPTION = re.compile(r"(?<![`\w-])(--[a-z][a-z-]*)")
STATED_DEFAULT = re.compile(r" \[default: (.*)\]$")
"""The default at the end of the help of an option that is made from a setting."""


def _text(text: str) -> list[nodes.Node]:
    """Returns a text in which options, and pieces between backticks, are code."""
    pieces = OPTION.sub(r"`\1`", text).split("`")
    return [_literal(one) if n % 2 else nodes.Text(one) for n, one in enumerate(pieces) if one]


def _table(titles: list[str], rows: list[list[list[nodes.Node]]], widths: list[int]) -> nodes.table:
    table = nodes.table()
    group = nodes.tgroup(cols=len(titles))
    table += group
    group += [nodes.colspec(colwidth=width) for width in widths]
    head, body = nodes.thead(), nodes.tbody()
    group += [head, body]
    head += _row([[nodes.Text(title)] for title in titles])
    body += [_row(row) for row in rows]
    return table


def _row(cells: list[list[nodes.Node]]) -> nodes.row:
    row = nodes.row()
    for cell in cells:
        row += nodes.entry("", nodes.paragraph("", "", *cell))
    return row


class TrainSettings(Directive):
    """A table of the settings of each group: name, values, default, description."""

    def run(self) -> list[nodes.Node]:
        from workbench.training import TrainConfig
        from workbench.training.config import GROUPS

        properties = TrainConfig.model_json_schema()["properties"]
        tables: list[nodes.Node] = []
        for group, names in GROUPS.items():
            rows = []
            for name in names:
                field = TrainConfig.model_fields[name]
                default = (
                    nodes.Text("required") if field.is_required() else _literal(repr(field.default))
                )
                values = nodes.Text(_values(properties[name]))
                rows.append([[_literal(name)], [values], [default], _text(field.description or "")])
            tables.append(nodes.rubric("", group.capitalize()))
            tables.append(
                _table(["setting", "values", "default", "meaning"], rows, [20, 22, 16, 42])
            )
        return tables


class PresetTable(Directive):
    """A table of the presets: name, and what it is with the settings that describe it."""

    def run(self) -> list[nodes.Node]:
        from workbench import presets

        rows = []
        for preset in presets.table().itertuples():
            settings = (
                f"{preset.image_size} pixels; updates with {preset.images:,} images; "
                f"{preset.epochs} epochs; {preset.optimizer} with lr {preset.lr:g}, "
                f"{preset.schedule}"
            )
            rows.append(
                [[_literal(preset.name)], [nodes.Text(preset.about)], [nodes.Text(settings)]]
            )
        return [_table(["preset", "what it is", "settings"], rows, [30, 35, 35])]


def _values(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_values(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(schema["enum"])
    name = {
        "integer": "whole number",
        "number": "number",
        "string": "text",
        "boolean": "true or false",
        "object": "mapping",
        "null": "none",
        "array": "list",
    }.get(schema.get("type", ""), "value")
    signs = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
    limits = [
        f"{sign} {schema[key]:g}"
        for key, sign in signs.items()
        if key in schema and abs(schema[key]) < 2**31
    ]
    return " ".join([name, ", ".join(limits)]).strip()


class Commands(Directive):
    """A section for each command of `workbench`, with its help text and a table of its options."""

    def run(self) -> list[nodes.Node]:
        import typer

        from workbench.cli import app

        sections: list[nodes.Node] = []
        for words, command in _commands("workbench", typer.main.get_command(app)):
            section = nodes.section(ids=[nodes.make_id(words)], names=[words])
            section += nodes.title("", "", _literal(words))
            text = OPTION.sub(r"`\1`", (command.help or "").replace("\b", ""))
            lines = StringList(text.splitlines(), source="help")
            self.state.nested_parse(lines, 0, section)
            params = [one for one in _params(command) if not getattr(one, "hidden", False)]
            rows = [_option(one) for one in params]
            if rows:
                section += _table(["argument or option", "default", "meaning"], rows, [26, 16, 58])
            sections.append(section)
        return sections


def _commands(words: str, command: Any) -> list[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        return [(words, command)]
    return [
        pair
        for name, one in command.commands.items()
        if not one.hidden
        for pair in _commands(f"{words} {name}", one)
    ]


def _params(command: Any) -> list[Any]:
    """Returns the arguments and options of a command, without --help."""
    from typer import Context

    return [one for one in command.get_params(Context(command)) if one.name != "help"]


def _option(parameter: Any) -> list[list[nodes.Node]]:
    if parameter.param_type_name == "argument":
        name = parameter.name.upper()
    else:
        name = ", ".join([*parameter.opts, *parameter.secondary_opts])
    default = parameter.default
    empty = default is None or default is False or callable(default) or default in ((), [], ...)
    shown = "" if empty else str(getattr(default, "value", default))
    if parameter.required:
        shown = "required"
    help_text = getattr(parameter, "help", None) or ""
    stated = STATED_DEFAULT.search(help_text)
    if stated:
        help_text, shown = help_text[: stated.start()], stated[1]
    return [
        [_literal(name)],
        [_literal(shown)] if shown and shown != "required" else [nodes.Text(shown)],
        _text(help_text),
    ]


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the directives."""
    app.add_directive("train-settings", TrainSettings)
    app.add_directive("preset-table", PresetTable)
    app.add_directive("workbench-commands", Commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
