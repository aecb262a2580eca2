"""Tables of the available backbones with their costs, and of the losses with their formulas."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from math import nan
from typing import Any, get_args, get_type_hints

import pandas as pd

from workbench import backbones
from workbench.backbones import cost
from workbench.backbones.base import as_size
from workbench.backbones.registry import BACKBONES
from workbench.errors import WorkbenchError
from workbench.losses.registry import LOSSES, PARTS

Size = int | tuple[int, int]


def backbone_table(
    names: Sequence[str] | None = None, embedding_dim: int = 512, image_size: Size | None = None
) -> pd.DataFrame:
    """Returns a table of backbones and what they cost.

    Args:
        names: Names of backbones, as in `backbones.create`; by default all that are registered. A
            registered backbone that does not support the image size then has NaN as its costs.
        embedding_dim: Length D of an embedding, >= 1.
        image_size: Height and width in pixels; an int means a square. By default it is the default
            of each backbone.

    Returns:
        A row for each backbone with the columns name, size, parameters, multiply_adds (for one
        image; see `backbones.cost.Cost`), heads and paper.

    Raises:
        WorkbenchError: If one of `names` cannot be created, or by default if none can.

    Example:
        >>> table = backbone_table(["smallresnet"], embedding_dim=128)
        >>> table[["name", "size", "heads"]].values.tolist()
        [['smallresnet', '64x64', 'gdc, flatten, gap']]
    """
    rows: list[dict[str, Any]] = []
    last_error = None
    for name in names or sorted(backbones.names(), key=_by_number):
        size = cost.default_size(name) if image_size is None else image_size
        parameters, multiply_adds = nan, nan
        try:
            costs = cost.cost(name, embedding_dim, size)
            parameters, multiply_adds = costs.parameters, costs.multiply_adds
        except WorkbenchError as error:
            if names:
                raise
            last_error = error
        height, width = as_size(size)
        rows.append(
            {
                "name": name,
                "size": f"{height}x{width}",
                "parameters": parameters,
                "multiply_adds": multiply_adds,
                "heads": ", ".join(_heads(name)),
                "paper": _text(_factory(name), "paper"),
            }
        )
    table = pd.DataFrame(rows)
    if last_error is not None and table["parameters"].isna().all():
        raise last_error
    return table


def loss_table() -> pd.DataFrame:
    """Returns a table of all registered losses and parts.

    Returns:
        A row for each with the columns name, kind ("loss" or "part"), formula, defaults (of the
        options) and paper.

    Example:
        >>> loss_table().set_index("name").loc["cosface", "defaults"]
        's=64, m=0.35'
    """
    rows = []
    for registry, kind in ((LOSSES, "loss"), (PARTS, "part")):
        for name in registry.names():
            factory = registry.get(name)
            rows.append(
                {
                    "name": name,
                    "kind": kind,
                    "formula": _text(factory, "formula"),
                    "defaults": ", ".join(
                        f"{option}={_format(value)}" for option, value in _defaults(factory).items()
                    ),
                    "paper": _text(factory, "paper"),
                }
            )
    return pd.DataFrame(rows)


def markdown(table: pd.DataFrame) -> str:
    """Formats a table as Markdown, with names, formulas and defaults as code.

    docs/guide/losses.md contains the table of losses in this form.

    Args:
        table: The table.

    Returns:
        Lines of Markdown.

    Example:
        >>> print(markdown(pd.DataFrame({"name": ["a"], "size": [1]})))
        | name | size |
        | --- | --- |
        | `a` | 1 |
    """
    code_columns = table.columns.intersection(["name", "formula", "defaults"])
    cells = table.astype(str).apply(lambda column: column.str.replace("|", "\\|", regex=False))
    for column in code_columns:
        cells[column] = cells[column].where(cells[column] == "", "`" + cells[column] + "`")
    rows = [list(cells.columns), ["---"] * len(cells.columns), *cells.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _by_number(name: str) -> list[str | int]:
    """Sorts numbers in names by value: iresnet18 before iresnet100."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _factory(name: str) -> Callable[..., Any]:
    library, colon, _ = name.partition(":")
    return backbones.external.LIBRARIES.get(library) if colon else BACKBONES.get(name)


def _heads(name: str) -> list[str]:
    """Returns the heads that a backbone supports, the default first."""
    factory = _factory(name)
    default = _defaults(factory).get("head")
    function = factory.__init__ if inspect.isclass(factory) else factory
    hints = get_type_hints(function)
    return sorted(get_args(hints.get("head")), key=lambda head: (head != default, head))


def _defaults(factory: Callable[..., Any]) -> dict[str, Any]:
    """Returns the options that have a default, with that default."""
    parameters = inspect.signature(factory).parameters.values()
    return {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.default is not parameter.empty
    }


def _text(factory: Callable[..., Any], attribute: str) -> str:
    """Returns a text attribute of a class, or "" if it has none."""
    return str(getattr(factory, attribute, ""))


def _format(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
