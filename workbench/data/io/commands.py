"""Shell commands in the names of data sets (`webdataset:pipe:COMMAND`).

A command runs only if a user of this machine has typed it once. A command that is only stored in a
file, for example in the config.yaml of a run that came from somebody else, is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

from workbench.cache import cache_folder
from workbench.errors import WorkbenchError

_name_is_from_a_file: ContextVar[bool] = ContextVar("name_is_from_a_file", default=False)


@contextmanager
def stored_names() -> Iterator[None]:
    """Marks the names of data sets that are opened in this context as read from a file.

    Commands in such names are refused unless the same command was typed on this machine before.

    Example:
        >>> from workbench.data import open, stored_names
        >>> with stored_names():
        ...     dataset = open("folder:faces")  # doctest: +SKIP
    """
    token = _name_is_from_a_file.set(True)
    try:
        yield
    finally:
        _name_is_from_a_file.reset(token)


def allow(command: str) -> None:
    """Records a command that a user typed, or refuses a command that only a file contains.

    Args:
        command: the command as it stands in the name of the data set.

    Raises:
        WorkbenchError: if the name was read from a file (`stored_names`) and nobody typed the
            command on this machine before.
    """
    digest = hashlib.sha256(command.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    record = cache_folder() / "commands" / digest
    if not _name_is_from_a_file.get():
        with suppress(OSError):
            record.parent.mkdir(parents=True, exist_ok=True)
            record.touch()
    elif not record.is_file():
        raise WorkbenchError(
            f"a file asks to run the command {command[:200]!r} for its data, and nobody typed this "
            "command on this machine before; if you trust it, open the data once yourself with "
            "`workbench data info`"
        )
