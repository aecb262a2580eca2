"""Which files below a folder, or in an archive, are pictures that can be read; and what was left out, so that it is said."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from workbench import images
from workbench.errors import WorkbenchError, WorkbenchWarning

SYSTEM_FOLDERS = frozenset(
    {
        *(
            "@eadir",
            "@tmp",
            "#recycle",
            "#snapshot",
            "@recycle",
            "@recently-snapshot",
        ),  # of Synology and QNAP
        *("__macosx", "$recycle.bin", "system volume information", "lost+found"),
    }
)
"""Folders that storage systems make and fill with previews or with what was thrown away, in small letters."""
SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini"})
MOST_KINDS, MOST_NAMES = 8, 10


class LeftOutWarning(WorkbenchWarning):
    """Pictures or people of a source may have been left out."""


@dataclass
class NotListed:
    """What was passed over where pictures were looked for.

    Attributes:
        flat: files directly in the folder that was opened are what is looked for, too, as people are not told by folders.
        suffixes: how many files of each suffix (in small letters, "" for none) are not read.
        beside: the same for files that lie directly in the folder that was opened, unless it is flat.
        hidden: how often each name of a hidden or a system's file or folder was met; names that begin with a dot count as "hidden".
        nowhere: links to pictures that are not there.
        links: links to folders that were looked through already, or that lead in a circle.
        folders: names of the folders that lie directly in the one that was opened.
        loose: pictures directly in it, where they belong to nobody.
        lost: those of `folders` in which there is no picture that can be read.
        alike: names that several of `folders` have, in different Unicode normalisations.
        hint: where the people may be instead.
    """

    flat: bool = False
    suffixes: Counter[str] = field(default_factory=Counter)
    beside: Counter[str] = field(default_factory=Counter)
    hidden: Counter[str] = field(default_factory=Counter)
    nowhere: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    loose: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    alike: list[str] = field(default_factory=list)
    hint: str = ""

    def takes(self, path: str) -> bool:
        """Whether a file is a picture that can be read, by its path with "/" between folders; one that is not is counted."""
        *folders, name = path.split("/")
        if any(self.passes_over(folder) for folder in folders) or self.passes_over(name):
            return False
        suffix = os.path.splitext(name)[1].lower()
        if not images.can_read(suffix):
            (self.suffixes if folders or self.flat else self.beside)[suffix] += 1
            return False
        return True

    def passes_over(self, name: str) -> bool:
        """Whether a file or folder is hidden or a system's own, which is counted."""
        odd = name.lower() in SYSTEM_FOLDERS or name.lower() in SYSTEM_FILES
        if odd or name.startswith("."):
            self.hidden[name if odd else "hidden"] += 1
            return True
        return False

    @property
    def important(self) -> list[str]:
        """What may be missed, in words: files that are no pictures and lie beside the folders are not among it."""
        said = [f"left out: {_counted(self.suffixes)}"] if self.suffixes else []
        if self.loose:
            count = f"{len(self.loose):,} picture{'s' * (len(self.loose) != 1)}"
            said.append(
                f"{count} directly in the folder {'belong' if len(self.loose) != 1 else 'belongs'} to nobody and left out"
            )
        if self.lost:
            said.append(f"folders without a picture that can be read: {_first(self.lost)}")
        if self.alike:
            said.append(
                f"names that several folders have, in different Unicode normalisations, which are taken for different people: "
                f"{_first(self.alike)}"
            )
        if self.nowhere:
            said.append(f"links that lead nowhere: {_first(self.nowhere)}")
        if self.links:
            said.append(
                f"links to folders that are looked through already are not followed: {_first(self.links)}"
            )
        return said + [self.hint] * bool(self.hint)

    def __str__(self) -> str:
        """All of it, in a line; empty where there is nothing."""
        said = self.important
        if self.beside:
            said.append(f"left out beside the folders: {_counted(self.beside)}")
        if self.hidden:
            names = sorted(name for name in self.hidden if name != "hidden")
            which = f" ({_first(names)})" if names else ""
            said.append(f"hidden or the system's own, left out: {self.hidden.total():,}{which}")
        return "; ".join(said)

    def warn(self, spec: str) -> None:
        """Say what is important, as a `LeftOutWarning` that begins with the source's name."""
        if said := self.important:
            warnings.warn(f"{spec}: {'; '.join(said)}", LeftOutWarning, stacklevel=3)


def pictures_below(root: str | Path, left: NotListed) -> Iterator[str]:
    """Paths, relative to a folder and with "/" in them, of the pictures at any depth, in no order.

    Links to folders are followed, after all others and in the order of their names; no folder is looked through twice, so that
    a link in a circle does no harm, and no picture of a person turns up as another's.

    Args:
        root: folder.
        left: is told what is passed over.

    Raises:
        WorkbenchError: a folder cannot be read.
    """
    seen: set[tuple[int, int]] = set()
    waiting, links = [(os.fspath(root), "")], dict[str, str]()
    while waiting or links:
        linked = not waiting
        name = min(links) if linked else waiting[-1][1]
        folder = links.pop(name) if linked else waiting.pop()[0]
        if not _first_time(folder, seen):
            left.links.append(name)
            continue
        for entry in _entries(folder):
            path = f"{name}/{entry.name}" if name else entry.name
            if entry.is_dir():
                if left.passes_over(entry.name):
                    continue
                if not name:
                    left.folders.append(entry.name)
                if entry.is_symlink():
                    links[path] = entry.path
                else:
                    waiting.append((entry.path, path))
            elif left.takes(path):
                if entry.is_file():
                    yield path
                else:
                    left.nowhere.append(path)


def _first_time(folder: str, seen: set[tuple[int, int]]) -> bool:
    try:
        status = os.stat(folder)
    except OSError as error:
        raise WorkbenchError(f"{folder}: cannot be read ({error.strerror})") from None
    known = (status.st_dev, status.st_ino)
    if known in seen:
        return False
    seen.add(known)
    return True


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """What is in a folder. `os.scandir` knows without a look at each file what it is, which pathlib asks for."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise WorkbenchError(f"{folder}: cannot be read ({error.strerror})") from None


def _counted(suffixes: Counter[str]) -> str:
    """ "12 .heic (how to read them), 3 .mov, 1 without extension", the most frequent first."""
    said = []
    kinds = sorted(suffixes.items(), key=lambda item: (-item[1], item[0]))
    for suffix, count in kinds[:MOST_KINDS]:
        hint = f" ({images.HEIF_HINT})" if suffix in images.HEIF_SUFFIXES else ""
        said.append(f"{count:,} {suffix[:20] or 'without extension'}{hint}")
    if rest := kinds[MOST_KINDS:]:
        said.append(f"{sum(count for _, count in rest):,} with {len(rest)} other extensions")
    return ", ".join(said)


def _first(names: Sequence[str]) -> str:
    shown = ", ".join(name[:60] for name in names[:MOST_NAMES])
    return shown + (f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else "")
