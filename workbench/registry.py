"""Names to factories: `@register("arcface")` in a file of its own, no `if/elif` anywhere."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sized
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Generic, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

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
                raise WorkbenchError(
                    f"{self.kind} {name!r} is registered already, by {'.'.join(_origin(known))}"
                )
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
            if p.default is p.empty
            and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
            and p.name not in options
        ]
        if missing:
            raise WorkbenchError(f"{self.kind} {name!r} needs {', '.join(missing)}")
        of = f"{self.kind} {name!r}"
        try:
            made = factory(**options)
        except WorkbenchError:  # what a factory itself says of a value says more than its type
            raise
        except (TypeError, ValueError) as error:  # e.g. a text where a number is meant
            check_options(of, factory, options)
            raise WorkbenchError(f"{of}: {' '.join(str(error).split())}") from error
        check_options(
            of, factory, options
        )  # a value of another type may do until it is used, or be taken for true
        return made


def check_options(of: str, factory: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Check the values of options against the types that a factory's signature states.

    Only plain types are looked at: bool, int, float, str, None, Literal, tuples and unions of these. Anything else fits.

    Args:
        of: what the options belong to, for the message: "loss 'arcface'".

    Raises:
        WorkbenchError: a value is of another type, not finite, or not among the choices (the nearest is suggested).
    """
    hints = _hints(factory)
    for option, value in options.items():
        hint = hints.get(option, Any)
        if _fits(value, hint):
            continue
        choices = get_args(hint)
        if (
            get_origin(hint) is Literal
            and isinstance(value, str)
            and all(isinstance(choice, str) for choice in choices)
        ):
            raise unknown_name(f"{option} of {of}", value, choices)
        raise WorkbenchError(f"{of}: option {option!r} is {value!r}, expected {_in_words(hint)}")


def _hints(factory: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(factory.__init__ if isinstance(factory, type) else factory)  # type: ignore[misc]
    except (
        NameError,
        TypeError,
    ):  # of somebody's own factory: names that are imported for the type checker alone
        return {}


def _fits(value: object, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in inner)
    if origin is tuple:
        inner = (
            inner[:1] * len(value) if isinstance(value, Sized) and inner[1:] == (...,) else inner
        )
        return (
            isinstance(value, tuple | list)
            and len(value) == len(inner)
            and all(map(_fits, value, inner))
        )
    test = _PLAIN.get(hint) if isinstance(hint, type) else None
    return test is None or test(value)


_PLAIN: dict[type, Callable[[Any], bool]] = {
    bool: lambda value: isinstance(value, bool),
    int: lambda value: isinstance(value, Integral) and not isinstance(value, bool),
    float: lambda value: (
        isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    ),
    str: lambda value: isinstance(value, str),
    NoneType: lambda value: value is None,
}
"""Types that are looked at, and what is one: true is no number here, and a whole number will do for any."""


def _in_words(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(map(_in_words, inner))
    if origin is Literal:
        return f"one of {', '.join(map(repr, inner))}"
    if origin is tuple:
        return (
            f"a list of {_in_words(inner[0])}, ..."
            if inner[1:] == (...,)
            else f"[{', '.join(map(_in_words, inner))}]"
        )
    return {
        bool: "true or false",
        int: "a whole number",
        float: "a finite number",
        str: "a text",
        NoneType: "null",
    }.get(hint, str(hint))


def _origin(factory: Callable[..., Any]) -> tuple[str, str]:
    return factory.__module__, factory.__qualname__
