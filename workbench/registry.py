"""Names to factories: `@register("arcface")` in a file of its own, no `if/elif` anywhere."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from workbench.errors import WorkbenchError, unknown_name

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class Registry(Generic[T]):
    """A named table of factories of one kind.

    Args:
        kind: what the entries are, in the singular, for messages ("loss", "backbone").
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._factories: dict[str, Callable[..., T]] = {}

    def register(self, name: str) -> Callable[[F], F]:
        """Decorator: file the class or function under `name`. A name can be taken only once."""

        def decorate(factory: F) -> F:
            known = self._factories.get(name)
            # A notebook cell is run again with an edited class: same place in the code, so it replaces itself.
            if known is not None and _origin(known) != _origin(factory):
                raise WorkbenchError(f"{self.kind} {name!r} is registered already, by {'.'.join(_origin(known))}")
            self._factories[name] = factory
            return factory

        return decorate

    def names(self) -> list[str]:
        """All registered names, sorted."""
        return sorted(self._factories)

    def get(self, name: str) -> Callable[..., T]:
        """The factory filed under `name`.

        Raises:
            WorkbenchError: no such name; the nearest one is suggested.
        """
        try:
            return self._factories[name]
        except (KeyError, TypeError):
            raise unknown_name(self.kind, name, self._factories) from None

    def create(self, name: str, /, **options: Any) -> T:
        """Call the factory with keyword options.

        Raises:
            WorkbenchError: unknown name, or an option or a value that the factory does not take.
        """
        factory = self.get(name)
        accepted = inspect.signature(factory).parameters
        takes_any = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
        for option in options:
            if option not in accepted and not takes_any:
                raise unknown_name(f"option of {self.kind} {name!r}", option, accepted)
        missing = [
            p.name
            for p in accepted.values()
            if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and p.name not in options
        ]
        if missing:
            raise WorkbenchError(f"{self.kind} {name!r} needs {', '.join(missing)}")
        try:
            return factory(**options)
        except WorkbenchError:
            raise
        except (TypeError, ValueError) as error:  # e.g. a text where a number is meant: PyYAML reads 1e-3 as text
            raise WorkbenchError(f"{self.kind} {name!r}: {' '.join(str(error).split())}") from error


def _origin(factory: Callable[..., Any]) -> tuple[str, str]:
    return factory.__module__, factory.__qualname__
