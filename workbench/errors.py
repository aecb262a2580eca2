"""The one error a user is meant to read, and the did-you-mean that goes with it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

LONGEST = 590
"""Letters of a message."""


class WorkbenchError(ValueError):
    """Bad input: one line that says what is wrong, where, and what would be right.

    The command line prints it without a traceback and exits with code 2; the dashboard shows it in a box. Names out of files may
    be in it as they are: what cannot be printed (line feeds, a terminal's commands) is shown by its code, and a long one is cut.
    """

    def __init__(self, message: str) -> None:
        line = printable(message)
        super().__init__(
            line
            if len(line) <= LONGEST
            else f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 + 5 :]}"
        )


def printable(text: str) -> str:
    """Text that every terminal and JSON reader takes: what cannot be printed, and bytes that are no UTF-8, by codes."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


class WorkbenchWarning(UserWarning):
    """What a user should know though the work goes on; the command line prints it as one line."""

    def __init__(self, message: str) -> None:
        super().__init__(str(WorkbenchError(message)))


def unknown_name(kind: str, name: object, choices: Iterable[str]) -> WorkbenchError:
    """The error for a name that is not among `choices`, with the nearest one suggested."""
    known = sorted(choices)
    without_case = {choice.lower(): choice for choice in known}
    near = get_close_matches(str(name).lower(), without_case, n=1)
    hint = f"did you mean {without_case[near[0]]!r}? " if near else ""
    listed = ", ".join(known) if known else "none"
    shown = repr(name) if len(repr(name)) <= 80 else f"{repr(name)[:80]}..."
    return WorkbenchError(f"unknown {kind} {shown}: {hint}known: {listed}")


def missing_extra(package: str, extra: str, what: str) -> WorkbenchError:
    """Makes the error for an optional package that is not installed.

    Args:
        package: The package that could not be imported, such as "onnx".
        extra: The extra of `margin-workbench` that installs it, such as "onnx".
        what: What needs the package; the message begins with it, such as "reading an ONNX file".

    Returns:
        An error that names the package and the command that installs it.

    Example:
        >>> print(missing_extra("timm", "timm", "the backbone timm:resnet18"))
        the backbone timm:resnet18 needs timm: pip install 'margin-workbench[timm]'
    """
    return WorkbenchError(f"{what} needs {package}: pip install 'margin-workbench[{extra}]'")
