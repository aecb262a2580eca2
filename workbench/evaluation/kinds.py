"""The base class of all results, and the registry of the kinds of results that can be read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple, Self, TypeVar, cast

from numpy.typing import NDArray

from workbench.registry import Registry

R = TypeVar("R", bound="Result")


class Headline(NamedTuple):
    """The one figure by which results of a kind are compared first.

    Attributes:
        column: name of its column in the leaderboard, such as "accuracy".
        title: its name in headings, such as "Rank-1".
        value: the figure.
        interval: its 95 % confidence interval (low, high); None where there is none.
        error_unit: unit of a mean error, such as "years", of which less is better; None for a
            share from 0 to 1, of which more is better.
    """

    column: str
    title: str
    value: float
    interval: tuple[float, float] | None
    error_unit: str | None = None

    @property
    def score(self) -> float:
        """The figure with the sign with which more is better."""
        return self.value if self.error_unit is None else -self.value


@dataclass(frozen=True)
class Result(ABC):
    """What one evaluation of a run on a benchmark measured.

    A subclass is a frozen dataclass decorated with `@register_result`. It defines what the command
    line prints, what the leaderboard shows, and how the result is stored and read again.

    Attributes:
        kind: name under which the result is stored.
        description: what a benchmark of this kind consists of, as the end of a sentence that begins
            with the benchmark's name.
        name: name of the evaluation in the run directory.
        note: what a reader of the figures must know; empty if there is nothing.
        protocol: how the figures were made, one entry per choice.
    """

    kind: ClassVar[str]
    description: ClassVar[str]
    name: str = field(default="", kw_only=True)
    note: str = field(default="", kw_only=True)
    protocol: dict[str, Any] = field(default_factory=dict, kw_only=True)

    @property
    @abstractmethod
    def headline(self) -> Headline:
        """The figure by which results of this kind are compared first."""

    @abstractmethod
    def summary(self) -> str:
        """The result in one line, without the name of the run and the benchmark."""

    @abstractmethod
    def figures(self) -> dict[str, Any]:
        """What is stored in the .json file, beyond the name, the note and the protocol."""

    @abstractmethod
    def arrays(self) -> dict[str, NDArray[Any]]:
        """What is stored in the .npz file."""

    @classmethod
    @abstractmethod
    def from_stored(cls, figures: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Build the result from stored figures and arrays, without name, note and protocol.

        A missing or unreadable entry may raise KeyError, TypeError, ValueError or AttributeError.
        """

    def annotated(self, *, name: str, note: str, protocol: dict[str, Any]) -> Self:
        """Return the result with another name, note and protocol."""
        return replace(self, name=name, note=note, protocol=protocol)

    def columns(self) -> dict[str, Any]:
        """The figures of the leaderboard's row; by default the headline with its interval."""
        headline = self.headline
        column = headline.column
        low, high = headline.interval or (float("nan"), float("nan"))
        return {column: headline.value, f"{column}_low": low, f"{column}_high": high}

    def details(self) -> dict[str, Any]:
        """The protocol as the dashboard shows it; a subclass may add the number of comparisons."""
        return self.protocol

    def remark(self) -> str:
        """What the figures show that a reader must know; empty if there is nothing."""
        return ""


KINDS: Registry[Result] = Registry("kind of result")


def register_result(result_type: type[R]) -> type[R]:
    """Class decorator: register a type of result under its `kind`, so that it can be read again.

    Raises:
        WorkbenchError: if another class is already registered for the kind.
    """
    return KINDS.register(result_type.kind)(result_type)


def result_type(kind: str) -> type[Result]:
    """Return the type of result that is registered for a kind.

    Raises:
        WorkbenchError: if no type is registered for it.
    """
    return cast(type[Result], KINDS.get(kind))


def of_type(results: Mapping[str, Result], wanted: type[R]) -> dict[str, R]:
    """Return the results of one type, in their order."""
    return {name: result for name, result in results.items() if isinstance(result, wanted)}


def interval_in_words(interval: tuple[float, float] | None) -> str:
    """Return "[low, high]" in percent; "[nan%, nan%]" where there is no interval."""
    low, high = interval or (float("nan"), float("nan"))
    return f"[{low:.2%}, {high:.2%}]"


def tar_columns(
    tar_at_far: Mapping[float, float], supported: Callable[[float], bool]
) -> dict[str, Any]:
    """Return the leaderboard's columns for each FAR: the TAR, and whether the data support it."""
    rates: dict[str, Any] = {f"tar@{far:g}": tar for far, tar in tar_at_far.items()}
    return rates | {f"tar@{far:g}_supported": supported(far) for far in tar_at_far}


def rates_in_words(
    title: str, rates: Mapping[float, float], supported: Callable[[float], bool]
) -> str:
    """Return "TITLE 0.1: 99.0%, ..." for the supported rates; an empty text if none is."""
    words = ", ".join(f"{at:g}: {rate:.1%}" for at, rate in rates.items() if supported(at))
    return f"{title} {words}" if words else ""


def joined(*parts: str) -> str:
    """Join the parts that are not empty with commas."""
    return ", ".join(part for part in parts if part)
