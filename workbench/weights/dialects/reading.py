"""A state_dict of another program under the names of this package, and how names are replaced."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from workbench.weights.state_dict import StateDict

Rule = tuple[str, Callable[[re.Match[str]], str]]
"""A pattern for the beginning of a name, and the function that makes the new beginning."""


@dataclass(frozen=True)
class Reading:
    """A state_dict under the names of a backbone of this package.

    Attributes:
        state: The tensors by name.
        origin: The program whose names were translated; empty if the names are as in the file.
        backbone: Name of the backbone, if the names and shapes determine it.
        options: Options of the backbone that follow from the names and shapes.
        added: Number of tensors that are not from the file; they take the place of layers that
            have no weights in the other program. A negative number means that tensors of the file
            were merged into others.
        unused: Names of tensors in the file that the network does not need to embed an image.
        by_order: Whether the tensors were matched by their order, not by their names.
    """

    state: StateDict
    origin: str = ""
    backbone: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    added: int = 0
    unused: Sequence[str] = ()
    by_order: bool = False


def prefix_before(state: StateDict, name: str) -> str | None:
    """Returns the prefix of the first name that ends in `name`.

    Args:
        state: The tensors by name.
        name: The name of a tensor without its prefix.

    Returns:
        The prefix, which may be empty; None if no name ends in `name`.

    Example:
        >>> import torch
        >>> prefix_before({"model.fc.weight": torch.zeros(1)}, "fc.weight")
        'model.'
    """
    for key in state:
        if key == name or key.endswith(f".{name}"):
            return key.removesuffix(name)
    return None


def renamed(state: StateDict, prefix: str, rules: Sequence[Rule]) -> StateDict:
    """Applies to each name, after the prefix, the first rule that matches. The prefix stays.

    Args:
        state: The tensors by name.
        prefix: Prefix of the names that are replaced; names without it stay.
        rules: The rules.

    Returns:
        The same tensors by their new names.
    """

    def name_of(key: str) -> str:
        if not key.startswith(prefix):
            return key
        rest = key.removeprefix(prefix)
        for pattern, make_name in rules:
            if match := re.match(pattern, rest):
                return f"{prefix}{make_name(match)}{rest[match.end() :]}"
        return key

    return {name_of(key): tensor for key, tensor in state.items()}
