"""The tables of what there is: backbones with what they cost, losses with their formulas."""

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
    """A row a backbone: name, size, parameters, multiply_adds (of one image, see `backbones.cost.Cost`), heads, paper.

    Args:
        names: as in `backbones.create`; by default all that are registered. Of those, one that cannot take the size has NaN
            for its costs.
        embedding_dim: D.
        image_size: pixels; by default each architecture's own.

    Raises:
        WorkbenchError: one of `names` cannot be made, or by default none can.
    """
    rows, refused = [], None
    for name in names or sorted(backbones.names(), key=_by_number):
        size = cost.default_size(name) if image_size is None else image_size
        parameters, multiply_adds = nan, nan
        try:
            found = cost.cost(name, embedding_dim, size)
            parameters, multiply_adds = found.parameters, found.multiply_adds
        except WorkbenchError as error:
            if names:
                raise
            refused = error
        height, width = as_size(size)
        rows.append(
            {
                "name": name,
                "size": f"{height}x{width}",
                "parameters": parameters,
                "multiply_adds": multiply_adds,
                "heads": ", ".join(_heads(name)),
                "paper": _said(_factory(name), "paper"),
            }
        )
    table = pd.DataFrame(rows)
    if refused is not None and table["parameters"].isna().all():
        raise refused
    return table


def loss_table() -> pd.DataFrame:
    """A row a registered loss or part of one: name, kind (loss, part), formula, defaults of its options, paper."""
    rows = []
    for registry, kind in ((LOSSES, "loss"), (PARTS, "part")):
        for name in registry.names():
            factory = registry.get(name)
            rows.append(
                {
                    "name": name,
                    "kind": kind,
                    "formula": _said(factory, "formula"),
                    "defaults": ", ".join(
                        f"{option}={_plain(value)}" for option, value in _defaults(factory).items()
                    ),
                    "paper": _said(factory, "paper"),
                }
            )
    return pd.DataFrame(rows)


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown, formulas and defaults as code; docs/LOSSES.md holds that of the losses."""
    code = table.columns.intersection(["name", "formula", "defaults"])
    cells = table.astype(str).apply(lambda column: column.str.replace("|", "\\|", regex=False))
    for column in code:
        cells[column] = cells[column].where(cells[column] == "", "`" + cells[column] + "`")
    rows = [list(cells.columns), ["---"] * len(cells.columns), *cells.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _by_number(name: str) -> list[str | int]:
    """iresnet18 before iresnet100."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _factory(name: str) -> Callable[..., Any]:
    library, colon, _ = name.partition(":")
    return backbones.external.LIBRARIES.get(library) if colon else BACKBONES.get(name)


def _heads(name: str) -> list[str]:
    """Names of the heads that a backbone takes, the default first."""
    factory = _factory(name)
    default = _defaults(factory).get("head")
    hints = (
        get_type_hints(factory.__init__) if inspect.isclass(factory) else get_type_hints(factory)
    )
    return sorted(get_args(hints.get("head")), key=lambda head: (head != default, head))


def _defaults(factory: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(factory).parameters.values()
    return {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.default is not parameter.empty
    }


def _said(factory: Callable[..., Any], attribute: str) -> str:
    return str(getattr(factory, attribute, ""))


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
