"""Commands in the names of data (`pipe:...`): run if somebody typed them on this machine, not because a file of a run says so."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

from workbench.cache import cache_folder
from workbench.errors import WorkbenchError

_stored: ContextVar[bool] = ContextVar("stored", default=False)


@contextmanager
def stored_names() -> Iterator[None]:
    """What is opened within has its name from a file, e.g. the config.yaml of a run, which may be a stranger's."""
    token = _stored.set(True)
    try:
        yield
    finally:
        _stored.reset(token)


def allow(command: str) -> None:
    """Remember a command that was typed; refuse one that a file has and nobody typed here before.

    Raises:
        WorkbenchError: it is refused.
    """
    known = (
        cache_folder()
        / "commands"
        / hashlib.sha256(command.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    )
    if not _stored.get():
        with suppress(OSError):
            known.parent.mkdir(parents=True, exist_ok=True)
            known.touch()
    elif not known.is_file():
        raise WorkbenchError(
            f"a file says to run {command[:200]!r} for its data, which was never typed on this machine; if you trust it, open it "
            "once yourself, with `workbench data info`"
        )
