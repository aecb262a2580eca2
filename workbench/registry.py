"""Tables that map names to factories, such as "arcface" to the class of the loss."""

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
    """A table of factories of one kind, by name.

    Args:
        kind: What the factories make, in the singular, for messages ("loss", "backbone").

    Example:
        >>> from workbench.registry import Registry
        >>> SHAPES = Registry("shape")
        >>> @SHAPES.register("square")
        ... class Square:
        ...     def __init__(self, side: float = 1.0):
        ...         self.side = side
        >>> SHAPES.create("square", side=2.0).side
        2.0
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._factories: dict[str, Callable[..., T]] = {}

    def register(self, name: str) -> Callable[[F], F]:
        """Returns a decorator that registers a class or function under a name.

        A class or function that is defined again at the same place, as when a notebook cell is
        run twice, replaces its former version.

        Args:
            name: The name. It must not be registered yet.

        Returns:
            The decorator; it returns the class or function unchanged.

        Raises:
            WorkbenchError: when the decorator is applied, if another class or function has the
                name.
        """

        def decorate(factory: F) -> F:
            existing = self._factories.get(name)
            if existing is not None and _origin(existing) != _origin(factory):
                raise WorkbenchError(
                    f"{self.kind} {name!r} is registered already, by {'.'.join(_origin(existing))}"
                )
            self._factories[name] = factory
            return factory

        return decorate

    def names(self) -> list[str]:
        """Returns all registered names, sorted."""
        return sorted(self._factories)

    def get(self, name: str) -> Callable[..., T]:
        """Returns the factory registered under a name.

        Args:
            name: The name.

        Raises:
            WorkbenchError: if the name is not registered; the message suggests the nearest one.
        """
        try:
            return self._factories[name]
        except (KeyError, TypeError):  # TypeError: the name is not hashable
            raise unknown_name(self.kind, name, self._factories) from None

    def create(self, name: str, /, **options: Any) -> T:
        """Calls a factory with keyword arguments, after checking them against its signature.

        Args:
            name: The name of the factory.
            options: Its keyword arguments.

        Returns:
            The object that the factory makes.

        Raises:
            WorkbenchError: if the name is not registered, if an option is missing or unknown, or
                if a value has the wrong type.
        """
        factory = self.get(name)
        parameters = inspect.signature(factory).parameters
        takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        for option in options:
            if option not in parameters and not takes_any:
                raise unknown_name(f"option of {self.kind} {name!r}", option, parameters)
        missing = [
            p.name
            for p in parameters.values()
            if p.default is p.empty
            and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
            and p.name not in options
        ]
        if missing:
            raise WorkbenchError(f"{self.kind} {name!r} needs {', '.join(missing)}")
        of = f"{self.kind} {name!r}"
        try:
            made = factory(**options)
        except WorkbenchError:  # the factory's own message is more specific than the type check
            raise
        except (TypeError, ValueError) as error:  # for example a text instead of a number
            check_options(of, factory, options)
            raise WorkbenchError(f"{of}: {' '.join(str(error).split())}") from error
        # A value of the wrong type may not raise an error before it is used.
        check_options(of, factory, options)
        return made


def check_options(of: str, factory: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Checks the values of options against the type hints of a factory.

    Only plain types are checked: bool, int, float, str, None, Literal, tuples and unions of
    these. Values with other type hints are accepted.

    Args:
        of: What the options belong to, for messages, such as "loss 'arcface'".
        factory: The class or function.
        options: The options by name.

    Raises:
        WorkbenchError: if a value has another type, is not finite, or is not among the choices
            (the message suggests the nearest one).
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
    """Returns the type hints of the parameters, or none if they cannot be evaluated."""
    function = factory.__init__ if isinstance(factory, type) else factory  # type: ignore[misc]
    try:
        return get_type_hints(function)
    except (NameError, TypeError):  # names imported only under TYPE_CHECKING
        return {}


def _fits(value: object, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in inner)
    if origin is tuple:
        return _fits_tuple(value, inner)
    test = _PLAIN.get(hint) if isinstance(hint, type) else None
    return test is None or test(value)


def _fits_tuple(value: object, hints: tuple[Any, ...]) -> bool:
    """Whether a list or tuple has the length and the types of `tuple[A, B]` or `tuple[A, ...]`."""
    if isinstance(value, Sized) and hints[1:] == (...,):
        hints = hints[:1] * len(value)
    return (
        isinstance(value, tuple | list)
        and len(value) == len(hints)
        and all(map(_fits, value, hints))
    )


_PLAIN: dict[type, Callable[[Any], bool]] = {
    bool: lambda value: isinstance(value, bool),
    int: lambda value: isinstance(value, Integral) and not isinstance(value, bool),
    float: lambda value: (
        isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    ),
    str: lambda value: isinstance(value, str),
    NoneType: lambda value: value is None,
}
"""The types that are checked. A bool is not accepted as a number; an int is accepted as a float."""


def _in_words(hint: Any) -> str:
    """Returns a type hint in words, for messages."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(map(_in_words, inner))
    if origin is Literal:
        return f"one of {', '.join(map(repr, inner))}"
    if origin is tuple:
        if inner[1:] == (...,):
            return f"a list of {_in_words(inner[0])}, ..."
        return f"[{', '.join(map(_in_words, inner))}]"
    names = {
        bool: "true or false",
        int: "a whole number",
        float: "a finite number",
        str: "a text",
        NoneType: "null",
    }
    return names.get(hint, str(hint))


def _origin(factory: Callable[..., Any]) -> tuple[str, str]:
    return factory.__module__, factory.__qualname__
