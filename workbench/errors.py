"""The one error a user is meant to read, and the did-you-mean that goes with it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class WorkbenchError(ValueError):
    """Bad input: one line that says what is wrong, where, and what would be right.

    The command line prints it without a traceback and exits with code 2; the dashboard shows it in a box.
    """


def unknown_name(kind: str, name: object, choices: Iterable[str]) -> WorkbenchError:
    """The error for a name that is not among `choices`, with the nearest one suggested."""
    known = sorted(choices)
    near = get_close_matches(str(name), known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    listed = ", ".join(known) if known else "none"
    return WorkbenchError(f"unknown {kind} {name!r}: {hint}known: {listed}")
