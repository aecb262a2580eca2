"""What all readers of lists share: the lines of a text file, whatever program wrote it, and the image files that it names."""

from __future__ import annotations

import codecs
import csv
import os
import posixpath
import re
import unicodedata
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path

from workbench import images
from workbench.data.io.not_listed import NotListed, pictures_below
from workbench.data.io.paths import inside
from workbench.data.io.zipped import names_in
from workbench.errors import WorkbenchError

MOST_BYTES = 4_000_000_000
"""Bytes of a list; the paths of the 17 million images of Glint360K take a quarter of it."""
MOST_COMPARED = 20_000
"""Names in a folder among which a missing one is looked for under a similar spelling."""
FIRST_NAMES = 20
"""Lines of a list by which the one folder is found that may be around all images."""


# Lines


def read_lines(file: Path) -> list[tuple[int, str]]:
    """The lines of a text that are not blank, without their ends, each with its number, which begins at 1.

    Windows', Unix' and old Macs' line ends, a byte order mark, and UTF-16 with one are understood. Bytes that are not UTF-8 are
    kept as names of files are (`surrogateescape`), so that files with such names are found.

    Raises:
        WorkbenchError: there is no such file, it is larger than any list, or it is not text.
    """
    text = _text(file)
    end = "\n" if "\n" in text else "\r"
    lines = [(number, line.rstrip("\r")) for number, line in enumerate(text.split(end), 1)]
    return [(number, line) for number, line in lines if line.strip()]


def _text(file: Path) -> str:
    try:
        if (size := os.path.getsize(file)) > MOST_BYTES:
            raise WorkbenchError(f"{file}: has {size / 1e9:,.1f} GB, more than any list of images")
    except OSError as error:
        raise WorkbenchError(f"{file}: cannot be read ({error.strerror})") from None
    data = images.read_bytes(file)
    if data.startswith(
        (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    ):  # as Excel and PowerShell write text
        try:
            text = data.decode("utf-16")
        except UnicodeDecodeError as error:
            raise WorkbenchError(
                f"{file}: not a text in UTF-8 or UTF-16 ({error.reason} at byte {error.start})"
            ) from None
    else:
        text = data.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    if (at := text.find("\0")) >= 0:
        line = text.count("\n", 0, at) + 1
        raise WorkbenchError(f"{file}, line {line}: holds a zero byte; expected a text in UTF-8")
    return text


def fields_of(line: str, mark: str) -> list[str]:
    """The fields of a line that are parted by a mark, and may be in quotes. Raises csv.Error."""
    return next(csv.reader([line], delimiter=mark, skipinitialspace=mark != "\t", strict=True), [])


_IMAGE = re.compile(r".*?\.\w+(?=\s|$)", re.DOTALL)
NUMBERS = re.compile(r"(?:[-+]?[0-9]+(?:\.[0-9]*)?\s+)*")
"""Numbers in front of a path."""


def fields_by_spaces(line: str, front: re.Pattern[str] | None = None) -> list[str]:
    """The fields of a line that are parted by spaces; paths, which end with the suffix of an image, may hold some.

    Args:
        line: one of a list.
        front: fields that stand in front of the first path; without it that begins with the line.

    Raises:
        csv.Error: a quote is not closed.
    """
    line = line.strip()
    if '"' in line:
        return [value for value in fields_of(line, " ") if value]
    begin = match.end() if front is not None and (match := front.match(line)) else 0
    fields = line[:begin].split()
    while path := next((found for found in _ends(line, begin) if is_image(found)), ""):
        fields.append(path)
        begin += len(path)
        begin += len(line[begin:]) - len(line[begin:].lstrip())
    return [*fields, *line[begin:].split()]


def _ends(line: str, begin: int) -> Iterator[str]:
    """What a path could be that begins there: up to each word with a point in it."""
    end = begin
    while match := _IMAGE.match(line, end):
        end = match.end()
        yield line[begin:end]


# Files


def is_image(name: str) -> bool:
    """Whether a name ends as those of image files do."""
    return os.path.splitext(name.strip())[1].lower() in images.SUFFIXES


class Place:
    """The folder, or the zip, that the names in a list are relative to.

    A name is found with "/" or Windows' "\\" between folders, with "./" before it, with blanks around it, as an absolute path
    below the folder, and in another Unicode normalisation than the disk has it (macOS writes "é" as two characters).

    Args:
        root: the folder or zip.
        loose: links in the folder are followed wherever they lead, and one folder may be around all images, as `lfw/` is in a
            zip of LFW. Otherwise a link that leads out of the folder is not followed.
    """

    def __init__(self, root: Path, loose: bool = False) -> None:
        self.root, self.loose = root, loose
        self._members: dict[str, str] | None = None
        if not root.is_dir():
            members = names_in(root)
            self._members = {plain(member): member for member in reversed(members)} | {
                member: member for member in members
            }
        self.around = ""
        self._listings: dict[str, dict[str, str]] = {}

    def find(self, name: str) -> str | None:
        """The file that a list calls `name`, relative to the root and as it is spelt there.

        None where there is no such file, or it lies outside of the root.
        """
        for spelling in _spellings(name):
            below = self._below(spelling)
            for around in (
                dict.fromkeys((self.around, "")) if below is not None else ()
            ):  # absolute paths name all folders
                if (found := self._there(f"{around}{below}")) is not None:
                    return found
        return None

    def leads_out(self, name: str) -> bool:
        """Whether a name is that of a file outside of the root."""
        *_, plain = _spellings(name)
        return (
            "\0" in name or self._below(plain) is None or re.match("[A-Za-z]:", plain) is not None
        )

    def look_around(self, names: Iterable[str]) -> None:
        """Find out, by the first names of a list, whether one folder is around all images."""
        for name in dict.fromkeys(names):
            for around in ("", *self._folders()):
                self.around = around
                if self.find(name) is not None:
                    return
        self.around = ""

    def pictures(self, left: NotListed) -> list[str]:
        """The names of all pictures below the root, also behind links, sorted; `left` is told what is passed over."""
        if self._members is None:
            return sorted(pictures_below(self.root, left))
        return sorted(
            {
                member
                for member in self._members.values()
                if not member.endswith("/") and left.takes(member)
            }
        )

    def _folders(self) -> list[str]:
        if self._members is None:
            return [
                f"{entry.name}/"
                for entry in sorted(os.scandir(self.root), key=lambda entry: entry.name)
                if entry.is_dir()
            ]
        tops = {member.partition("/")[0] for member in self._members if "/" in member}
        return [f"{top}/" for top in sorted(tops - {"", ".", ".."})]

    def _below(self, name: str) -> str | None:
        if not self.loose or (name.startswith("/") and self._members is None):
            return inside(self.root, name)
        plain = posixpath.normpath(name)
        return None if plain.startswith(("/", "../")) or plain == ".." else plain

    def _there(self, name: str) -> str | None:
        if self._members is not None:
            found = self._members.get(name) or self._members.get(plain(name))
            return None if found is None or found.endswith("/") else found
        return name if os.path.isfile(os.path.join(self.root, name)) else self._respelt(name)

    def _respelt(self, name: str) -> str | None:
        """The file of this name in another Unicode normalisation."""
        if name.isascii():
            return None
        found = ""
        for part in name.split("/"):
            exact = os.path.join(found, part)
            there = os.path.lexists(os.path.join(self.root, exact))
            actual = part if there else self._listing(found).get(plain(part))
            if actual is None:
                return None
            found = f"{found}/{actual}" if found else actual
        allowed = self.loose or inside(self.root, found) is not None
        return found if allowed and os.path.isfile(os.path.join(self.root, found)) else None

    def _listing(self, folder: str) -> dict[str, str]:
        """What is in a folder, by plain names."""
        if folder not in self._listings:
            self._listings[folder] = {
                plain(entry): entry for entry in _entries(os.path.join(self.root, folder))
            }
        return self._listings[folder]

    def hint(self, name: str) -> str:
        """What may have been meant by a name that is not found, to stand at the end of a message; "" where nothing is like it."""
        *_, plain = _spellings(name)
        first, slash, rest = plain.partition("/")
        if slash and self.find(rest) is not None:
            return f"; it is there without {first + '/'!r}: name the folder above"
        if not _is_utf8(name):
            return "; the list is not in UTF-8, save it so"
        near = self._near(plain)
        return "" if near is None else f"; did you mean {near[:120]!r}?"

    def _near(self, name: str) -> str | None:
        """A file with a similar name in the same folder, or of the same name in a folder with a similar one."""
        if self._members is not None:
            known = list(self._members)[:MOST_COMPARED]
            return next(iter(get_close_matches(self.around + name, known, n=1, cutoff=0.8)), None)
        folder, file = os.path.split(name)
        for part, rest, parent in (
            (file, "", folder),
            (os.path.basename(folder), file, os.path.dirname(folder)),
        ):
            if not part or (parent and self._below(parent) is None):
                continue
            without_case = {
                entry.lower(): entry
                for entry in _entries(os.path.join(self.root, self.around, parent))
            }
            for near in get_close_matches(part.lower(), without_case, n=3, cutoff=0.6):
                found = os.path.join(parent, without_case[near], rest).rstrip("/")
                if self.find(found) is not None:
                    return found
        return None

    def missing(
        self, file: Path, names: dict[str, int], total: int, unit: str = "line"
    ) -> WorkbenchError:
        """The error of names that are not found.

        Args:
            file: the list.
            names: of the images that are missing, with the number of the first line that has each.
            total: number of images in the list.
            unit: what the numbers count.
        """
        name, line = next(iter(names.items()))
        return WorkbenchError(
            f"{file}, {unit} {line}: {name[:120]!r} is not in {self.root}; {len(names):,} of the {total:,} images that {file.name} "
            f"lists are missing{self.hint(name)}"
        )

    def outside(self, where: str, name: str) -> WorkbenchError:
        """The error of a name that leads out of the root, in the line that `where` names."""
        return WorkbenchError(
            f"{where}: {name[:120]!r} leads out of {self.root}; paths are relative to it, or lie below it"
        )


def _spellings(name: str) -> Iterator[str]:
    """The name as it is, without blanks around it, and with "/" for Windows' "\\"."""
    yield name
    if (stripped := name.strip()) != name:
        yield stripped
    if "\\" in stripped:
        yield stripped.replace("\\", "/")


def plain(name: str) -> str:
    """A name by which its spellings are the same: with "/" between folders, without "./", in one Unicode normalisation."""
    return unicodedata.normalize("NFC", name.replace("\\", "/").removeprefix("./"))


def _entries(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry, _ in zip(entries, range(MOST_COMPARED), strict=False)]
    except (OSError, ValueError):
        return []


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
