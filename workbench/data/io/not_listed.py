"""Finds the image files below a folder, and counts what is not among them.

A source reports what it left out, so that a user learns of images that are missing.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from workbench import images
from workbench.errors import WorkbenchError, WorkbenchWarning

_NAS_FOLDERS = (  # of Synology and QNAP
    "@eadir",
    "@tmp",
    "#recycle",
    "#snapshot",
    "@recycle",
    "@recently-snapshot",
)
SYSTEM_FOLDERS = frozenset(
    {*_NAS_FOLDERS, "__macosx", "$recycle.bin", "system volume information", "lost+found"}
)
"""Folders that operating systems and storage devices make, for example for previews and for
deleted files; in lower case."""
SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini"})
MOST_KINDS, MOST_NAMES = 8, 10
"""File extensions, and names, that a message lists."""


class LeftOutWarning(WorkbenchWarning):
    """A source may have left out images or people."""


@dataclass
class NotListed:
    """Counts what is passed over while image files are looked for.

    Attributes:
        flat: whether files directly in the opened folder are wanted, too, because identities do not
            follow from folders.
        suffixes: number of files that cannot be read, by extension in lower case ("" for none).
        in_root: the same for files directly in the opened folder, unless `flat`.
        hidden: how often each name of a hidden or system file or folder occurred; names that begin
            with a dot count as "hidden".
        broken_links: links to images that do not exist.
        repeated_links: links to folders that were searched already, or that lead in a circle.
        folders: names of the folders directly in the opened folder.
        loose_images: images directly in the opened folder, which belong to no identity.
        without_images: those of `folders` that hold no image that can be read.
        same_names: names that several of `folders` have, in different Unicode normalisations.
        hint: a sentence that says where the identities may be instead.
    """

    flat: bool = False
    suffixes: Counter[str] = field(default_factory=Counter)
    in_root: Counter[str] = field(default_factory=Counter)
    hidden: Counter[str] = field(default_factory=Counter)
    broken_links: list[str] = field(default_factory=list)
    repeated_links: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    loose_images: list[str] = field(default_factory=list)
    without_images: list[str] = field(default_factory=list)
    same_names: list[str] = field(default_factory=list)
    hint: str = ""

    def takes(self, path: str) -> bool:
        """Returns whether a file is an image that can be read, and counts it if it is not.

        Args:
            path: path of the file, with "/" between folders. Only the path is looked at.
        """
        *folders, name = path.split("/")
        if any(self.passes_over(folder) for folder in folders) or self.passes_over(name):
            return False
        suffix = os.path.splitext(name)[1].lower()
        if not images.can_read(suffix):
            counter = self.suffixes if folders or self.flat else self.in_root
            counter[suffix] += 1
            return False
        return True

    def passes_over(self, name: str) -> bool:
        """Returns whether a file or folder is hidden or a system's own, and counts it if it is."""
        is_system = name.lower() in SYSTEM_FOLDERS or name.lower() in SYSTEM_FILES
        if is_system or name.startswith("."):
            self.hidden[name if is_system else "hidden"] += 1
            return True
        return False

    @property
    def important(self) -> list[str]:
        """One text for each thing that a user may miss.

        Hidden files, and files that are not images directly in the opened folder, are not among
        them.
        """
        texts = []
        if self.suffixes:
            texts.append(f"left out: {_counted(self.suffixes)}")
        if len(self.loose_images) == 1:
            texts.append("1 image directly in the folder belongs to no identity and is left out")
        elif self.loose_images:
            texts.append(
                f"{len(self.loose_images):,} images directly in the folder belong to no identity "
                "and are left out"
            )
        if self.without_images:
            texts.append(
                f"folders without an image that can be read: {_first(self.without_images)}"
            )
        if self.same_names:
            texts.append(
                "several folders have the same name in different Unicode normalisations and count "
                f"as different people: {_first(self.same_names)}"
            )
        if self.broken_links:
            texts.append(f"links that lead nowhere: {_first(self.broken_links)}")
        if self.repeated_links:
            texts.append(
                "links to folders that were already searched are not followed: "
                f"{_first(self.repeated_links)}"
            )
        if self.hint:
            texts.append(self.hint)
        return texts

    def __str__(self) -> str:
        """Returns everything that was passed over, in one line; empty if there is nothing."""
        texts = self.important
        if self.in_root:
            texts.append(f"left out directly in the folder: {_counted(self.in_root)}")
        if self.hidden:
            names = sorted(name for name in self.hidden if name != "hidden")
            examples = f" ({_first(names)})" if names else ""
            texts.append(f"hidden or system files left out: {self.hidden.total():,}{examples}")
        return "; ".join(texts)

    def warn(self, spec: str) -> None:
        """Issues a `LeftOutWarning` about what is important, if there is anything.

        Args:
            spec: name of the source, with which the warning begins.
        """
        if texts := self.important:
            warnings.warn(f"{spec}: {'; '.join(texts)}", LeftOutWarning, stacklevel=3)


def pictures_below(root: str | Path, not_listed: NotListed) -> Iterator[str]:
    """Yields the image files at any depth below a folder, in no particular order.

    Links to folders are followed after all other folders, in the order of their names. No folder is
    searched twice, so that a circle of links does no harm, and no image appears under two
    identities.

    Args:
        root: the folder.
        not_listed: counts what is passed over.

    Yields:
        Paths relative to `root`, with "/" between folders.

    Raises:
        WorkbenchError: if a folder cannot be read.
    """
    searched: set[tuple[int, int]] = set()
    waiting = [(os.fspath(root), "")]
    links: dict[str, str] = {}
    while waiting or links:
        if not waiting:
            link = min(links)
            waiting.append((links.pop(link), link))
        folder, name = waiting.pop()
        if not _first_time(folder, searched):
            not_listed.repeated_links.append(name)
            continue
        for entry in _entries(folder):
            path = f"{name}/{entry.name}" if name else entry.name
            if entry.is_dir():
                if not_listed.passes_over(entry.name):
                    continue
                if not name:
                    not_listed.folders.append(entry.name)
                if entry.is_symlink():
                    links[path] = entry.path
                else:
                    waiting.append((entry.path, path))
            elif not_listed.takes(path):
                if entry.is_file():
                    yield path
                else:
                    not_listed.broken_links.append(path)


def _first_time(folder: str, searched: set[tuple[int, int]]) -> bool:
    """Returns whether a folder was not searched yet, and adds it to those that were."""
    try:
        status = os.stat(folder)
    except OSError as error:
        raise WorkbenchError(f"{folder}: cannot be read ({error.strerror})") from None
    identity = (status.st_dev, status.st_ino)
    if identity in searched:
        return False
    searched.add(identity)
    return True


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """Returns what is in a folder.

    `os.scandir` knows what kind each entry is; pathlib would ask the disk for each.
    """
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise WorkbenchError(f"{folder}: cannot be read ({error.strerror})") from None


def _counted(suffixes: Counter[str]) -> str:
    """Returns e.g. "12 .heic (how to read them), 3 .mov", the most frequent extension first."""
    texts = []
    kinds = sorted(suffixes.items(), key=lambda item: (-item[1], item[0]))
    for suffix, count in kinds[:MOST_KINDS]:
        hint = f" ({images.HEIF_HINT})" if suffix in images.HEIF_SUFFIXES else ""
        texts.append(f"{count:,} {suffix[:20] or 'without extension'}{hint}")
    if rest := kinds[MOST_KINDS:]:
        texts.append(f"{sum(count for _, count in rest):,} with {len(rest)} other extensions")
    return ", ".join(texts)


def _first(names: Sequence[str]) -> str:
    """Returns the first of the names, and how many more there are."""
    shown = ", ".join(name[:60] for name in names[:MOST_NAMES])
    return shown + (f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else "")
