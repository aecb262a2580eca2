"""The errors and warnings that a user reads: one line each, with a suggestion if possible."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

MAX_LENGTH = 590
"""Largest number of characters in a message; the middle of a longer one is cut out."""


class WorkbenchError(ValueError):
    """An error in what the user gave: a setting, a file, a name or a value.

    The message is one line that says what is wrong, where, and what would be right. The command
    line prints it without a traceback and exits with code 2; the dashboard shows it in a box.

    A message may quote file names and file contents unchanged. Characters that cannot be printed,
    such as line feeds and terminal control codes, are replaced by their escape sequences, and a
    message of more than `MAX_LENGTH` characters is shortened in the middle.

    Args:
        message: The text, in one line.

    Example:
        >>> print(WorkbenchError("name\\n.jpg: is empty"))
        name\\n.jpg: is empty
    """

    def __init__(self, message: str) -> None:
        line = printable(message)
        if len(line) > MAX_LENGTH:
            line = f"{line[: MAX_LENGTH // 2]} ... {line[-MAX_LENGTH // 2 + 5 :]}"
        super().__init__(line)


class WorkbenchWarning(UserWarning):
    """A warning to the user about work that continues; the command line prints it as one line.

    Args:
        message: The text, in one line. It is treated as in `WorkbenchError`.
    """

    def __init__(self, message: str) -> None:
        super().__init__(str(WorkbenchError(message)))


def printable(text: str) -> str:
    """Replaces the characters that a terminal or a JSON reader may not accept.

    Args:
        text: Any text, also one with surrogates, as in file names that are not UTF-8.

    Returns:
        The text with each unprintable character replaced by its escape sequence.

    Example:
        >>> printable("a\\tb")
        'a\\\\tb'
    """
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def unknown_name(kind: str, name: object, choices: Iterable[str]) -> WorkbenchError:
    """Makes the error for a name that is not among the valid ones.

    Args:
        kind: What the name stands for, in the singular, such as "loss".
        name: The name that was given.
        choices: The valid names.

    Returns:
        An error that suggests the most similar valid name and lists all of them.

    Example:
        >>> print(unknown_name("loss", "arcfase", ["arcface", "cosface"]))
        unknown loss 'arcfase': did you mean 'arcface'? known: arcface, cosface
    """
    names = sorted(choices)
    without_case = {choice.lower(): choice for choice in names}
    near = get_close_matches(str(name).lower(), without_case, n=1)
    hint = f"did you mean {without_case[near[0]]!r}? " if near else ""
    listed = ", ".join(names) if names else "none"
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
