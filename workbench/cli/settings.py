"""The options of `workbench train` for the settings of `TrainConfig`, made from its fields."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from workbench.cli.options import name_value_pairs, nested, quoted, sides
from workbench.errors import WorkbenchError
from workbench.runs import read_yaml
from workbench.training.config import GROUPS, TrainConfig
from workbench.training.overriding import OPTIONS_OF, with_overrides

METAVARS = {"integer": "INTEGER", "number": "NUMBER", "string": "TEXT", "array": "LIST"}
"""{JSON type: placeholder for a value in the help}."""


def parameters() -> list[inspect.Parameter]:
    """Returns a parameter for each setting of `TrainConfig`, for the signature of a command.

    The groups of settings are the panels of the help, and their descriptions are its texts. The
    value of a parameter is None if the option is not given.
    """
    schemas = TrainConfig.model_json_schema()["properties"]
    return [
        _parameter(name, schemas[name], panel=group.capitalize())
        for group, names in GROUPS.items()
        for name in names
    ]


def _parameter(name: str, schema: Mapping[str, Any], panel: str) -> inspect.Parameter:
    field = TrainConfig.model_fields[name]
    flag = f"--{name.replace('_', '-')}"
    kind: Any = str | None
    metavar: str | None = _metavar(schema)
    description = " ".join((field.description or "").split())
    if name == "image_size":
        metavar = "SIZE"
        description += " Give it as SIDE or HEIGHTxWIDTH, such as 112 or 112x96."
    if name in OPTIONS_OF.values():
        flag, kind, metavar = _option_of(name), list[str] | None, "NAME=VALUE"
        description += " Give one option as NAME=VALUE; repeat it for more."
    elif schema.get("type") == "boolean":
        flag, kind, metavar = f"{flag}/--no-{flag.removeprefix('--')}", bool | None, None
    if isinstance(field.default, bool):
        description += f" [default: {'yes' if field.default else 'no'}]"
    elif isinstance(field.default, int | float | str):
        description += f" [default: {field.default}]"
    option = typer.Option(
        flag, help=description, metavar=metavar, show_default=False, rich_help_panel=panel
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option]
    )


def _option_of(name: str) -> str:
    """Returns the option that sets one of the options of a loss, backbone, ...: --loss-option."""
    return f"--{name.removesuffix('s').replace('_', '-')}"


def _metavar(schema: Mapping[str, Any]) -> str:
    """Returns the placeholder for a value, such as INTEGER or TEXT|LIST."""
    kinds = [_metavar(one) for one in schema.get("anyOf", ()) if one.get("type") != "null"]
    return "|".join(dict.fromkeys(kinds)) or METAVARS.get(schema.get("type", ""), "YAML")


def as_settings(values: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings that the options of a command line set.

    Args:
        values: The values of the options by the name of the setting, None if they are not given.
        base: The settings that they replace, of a config file or a preset. An option such as
            --loss-option m=0.4 is added to the options of its loss there.

    Returns:
        The settings by name.

    Raises:
        WorkbenchError: if a value cannot be read.

    Example:
        >>> as_settings(
        ...     {"epochs": "3", "loss_options": ["m=0.4"], "lr": None},
        ...     base={"loss": "arcface", "loss_options": {"s": 32, "m": 0.5}},
        ... )
        {'epochs': 3, 'loss_options': {'s': 32, 'm': 0.4}}
    """
    schemas = TrainConfig.model_json_schema()["properties"]
    given = {name: value for name, value in values.items() if value is not None}
    settings = {
        name: _value(name, value, schemas[name])
        for name, value in given.items()
        if name not in OPTIONS_OF.values()
    }
    remaining = with_overrides(base, settings)
    for name in OPTIONS_OF.values():
        if name in given:
            flag = _option_of(name)
            added = nested(name_value_pairs(given[name], flag), flag)
            settings[name] = _merged(remaining.get(name) or {}, added)
    return settings


def _value(name: str, value: str | bool, schema: Mapping[str, Any]) -> Any:
    """Reads the text of an option.

    A text stays as it is, a list can also be given as A,B, and any other value is YAML.
    """
    if isinstance(value, bool):
        return value
    if name == "image_size":
        return sides(value)
    types = {one.get("type") for one in schema.get("anyOf", [schema])}
    if value == "null" and "null" in types:
        return None
    if "array" in types and value[:1] != "[" and "string" not in types:
        return [one.strip() for one in value.split(",")]
    if "string" in types and not ("array" in types and value[:1] == "["):
        return value
    try:
        return read_yaml(value)
    except ValueError:
        flag = f"--{name.replace('_', '-')}"
        raise WorkbenchError(f"{flag} {quoted(value)}: the value is not valid YAML") from None


def _merged(options: Mapping[str, Any], added: Mapping[str, Any]) -> dict[str, Any]:
    """Adds options to others; those of a part of a loss are added to those of the same part."""
    merged = dict(options)
    for name, value in added.items():
        both = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = _merged(merged[name], value) if both else value
    return merged
