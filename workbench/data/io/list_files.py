"""What all readers of lists share: the lines of a text file, and the image files that it names."""

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
"""Largest list that is read. The 17 million paths of Glint360K take a quarter of it."""
MOST_COMPARED = 20_000
"""Names in a folder with which the name of a missing file is compared to suggest another one."""
FIRST_NAMES = 20
"""Lines of a list from which a common folder around all images is found."""


# Lines


def read_lines(file: Path) -> list[tuple[int, str]]:
    """Reads the lines of a text file that are not blank.

    The line ends of Windows, Unix and old Macs, a byte order mark, and UTF-16 with one are
    understood. Bytes that are not UTF-8 are kept as Python keeps them in file names
    (`surrogateescape`), so that files with such names are found.

    Args:
        file: the text file.

    Returns:
        Pairs of the number of a line, from 1, and its text without the line end.

    Raises:
        WorkbenchError: if there is no such file, it is larger than any list, or it is not text.
    """
    text = _text(file)
    line_end = "\n" if "\n" in text else "\r"
    lines = [(number, line.rstrip("\r")) for number, line in enumerate(text.split(line_end), 1)]
    return [(number, line) for number, line in lines if line.strip()]


def _text(file: Path) -> str:
    try:
        size = os.path.getsize(file)
    except OSError as error:
        raise WorkbenchError(f"{file}: cannot be read ({error.strerror})") from None
    if size > MOST_BYTES:
        raise WorkbenchError(f"{file}: has {size / 1e9:,.1f} GB, more than any list of images")
    data = images.read_bytes(file)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # from Excel and PowerShell
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
    """Splits a line at a mark; fields may be in quotes.

    Raises:
        csv.Error: if a quote is not closed, or a field is too long.

    Example:
        >>> fields_of('"Doe, Jane",7', ",")
        ['Doe, Jane', '7']
    """
    return next(csv.reader([line], delimiter=mark, skipinitialspace=mark != "\t", strict=True), [])


_UP_TO_SUFFIX = re.compile(r".*?\.\w+(?=\s|$)", re.DOTALL)
NUMBERS = re.compile(r"(?:[-+]?[0-9]+(?:\.[0-9]*)?\s+)*")
"""Numbers before a path."""


def fields_by_spaces(line: str, front: re.Pattern[str] | None = None) -> list[str]:
    """Splits a line at spaces; paths of images may contain spaces.

    A path ends with the extension of an image file.

    Args:
        line: a line of a list.
        front: matches the fields before the first path; None if the line begins with a path.

    Returns:
        The fields.

    Raises:
        csv.Error: if a quote is not closed.

    Example:
        >>> fields_by_spaces("my holiday/1.jpg anna")
        ['my holiday/1.jpg', 'anna']
    """
    line = line.strip()
    if '"' in line:
        return [value for value in fields_of(line, " ") if value]
    begin = 0
    if front is not None and (match := front.match(line)):
        begin = match.end()
    fields = line[:begin].split()
    while path := next(filter(is_image, _possible_paths(line, begin)), ""):
        fields.append(path)
        begin += len(path)
        begin += len(line[begin:]) - len(line[begin:].lstrip())
    return [*fields, *line[begin:].split()]


def _possible_paths(line: str, begin: int) -> Iterator[str]:
    """Yields what a path that begins there could be: up to each word with an extension."""
    end = begin
    while match := _UP_TO_SUFFIX.match(line, end):
        end = match.end()
        yield line[begin:end]


# Files


def is_image(name: str) -> bool:
    """Returns whether a name has the extension of an image file."""
    return os.path.splitext(name.strip())[1].lower() in images.SUFFIXES


class Place:
    """The folder, or the zip archive, that the names in a list are relative to.

    A name may have "/" or Windows' "\\" between folders, "./" before it and spaces around it. It
    may be an absolute path below the folder, and may be in another Unicode normalisation than the
    name of the file (macOS writes "é" as two characters).

    Args:
        root: the folder or zip archive.
        loose: whether links in the folder are followed wherever they lead, and one folder may be
            around all images, as `lfw/` is in a zip archive of LFW. Otherwise a link that leads out
            of the folder is not followed.
    """

    def __init__(self, root: Path, loose: bool = False) -> None:
        self.root, self.loose = root, loose
        self._members: dict[str, str] | None = None
        if not root.is_dir():
            members = names_in(root)
            # Exact names take precedence over names in another spelling.
            self._members = {plain(member): member for member in reversed(members)}
            self._members |= {member: member for member in members}
        self.around = ""
        self._listings: dict[str, dict[str, str]] = {}

    def find(self, name: str) -> str | None:
        """Returns the file that a list calls `name`.

        Returns:
            Its path relative to the root, as it is spelt there; None if there is no such file or it
            lies outside of the root.
        """
        for spelling in _spellings(name):
            below = self._below(spelling)
            if below is None:
                continue
            # An absolute path contains the folder around all images, a relative one may not.
            for around in dict.fromkeys((self.around, "")):
                file = self._existing(f"{around}{below}")
                if file is not None:
                    return file
        return None

    def leads_out(self, name: str) -> bool:
        """Returns whether a name is that of a file outside of the root."""
        *_, spelling = _spellings(name)
        has_drive = re.match("[A-Za-z]:", spelling) is not None
        return "\0" in name or self._below(spelling) is None or has_drive

    def look_around(self, names: Iterable[str]) -> None:
        """Finds out, from the first names of a list, whether one folder is around all images."""
        for name in dict.fromkeys(names):
            for around in ("", *self._folders()):
                self.around = around
                if self.find(name) is not None:
                    return
        self.around = ""

    def pictures(self, not_listed: NotListed) -> list[str]:
        """Returns the names of all images below the root, sorted.

        Args:
            not_listed: counts what is passed over.
        """
        if self._members is None:
            return sorted(pictures_below(self.root, not_listed))
        files = {member for member in self._members.values() if not member.endswith("/")}
        return sorted(filter(not_listed.takes, files))

    def _folders(self) -> list[str]:
        """Returns the folders directly in the root, each with a "/" at its end."""
        if self._members is None:
            folders = {entry.name for entry in os.scandir(self.root) if entry.is_dir()}
        else:
            folders = {member.partition("/")[0] for member in self._members if "/" in member}
            folders -= {"", ".", ".."}
        return [f"{folder}/" for folder in sorted(folders)]

    def _below(self, name: str) -> str | None:
        """Returns the name relative to the root, or None if it leads out of it."""
        if not self.loose or (name.startswith("/") and self._members is None):
            return inside(self.root, name)
        normal = posixpath.normpath(name)
        return None if normal.startswith(("/", "../")) or normal == ".." else normal

    def _existing(self, name: str) -> str | None:
        """Returns the name of an existing file as it is spelt there."""
        if self._members is not None:
            member = self._members.get(name) or self._members.get(plain(name))
            return None if member is None or member.endswith("/") else member
        if os.path.isfile(os.path.join(self.root, name)):
            return name
        return self._in_other_normalisation(name)

    def _in_other_normalisation(self, name: str) -> str | None:
        """Returns the file of this name in another Unicode normalisation."""
        if name.isascii():
            return None
        path = ""
        for part in name.split("/"):
            if os.path.lexists(os.path.join(self.root, path, part)):
                actual: str | None = part
            else:
                actual = self._listing(path).get(plain(part))
            if actual is None:
                return None
            path = f"{path}/{actual}" if path else actual
        allowed = self.loose or inside(self.root, path) is not None
        return path if allowed and os.path.isfile(os.path.join(self.root, path)) else None

    def _listing(self, folder: str) -> dict[str, str]:
        """Returns what is in a folder, by its plain names."""
        if folder not in self._listings:
            entries = _entries(os.path.join(self.root, folder))
            self._listings[folder] = {plain(entry): entry for entry in entries}
        return self._listings[folder]

    def hint(self, name: str) -> str:
        """Returns the end of an error message: what may have been meant by a missing name.

        Returns:
            A text that begins with "; "; empty if nothing is similar.
        """
        *_, spelling = _spellings(name)
        first, slash, rest = spelling.partition("/")
        if slash and self.find(rest) is not None:
            return f"; it exists without {first + '/'!r}: open the folder above instead"
        if not _is_utf8(name):
            return "; the list is not in UTF-8, save it in UTF-8"
        similar = self._similar(spelling)
        return "" if similar is None else f"; did you mean {similar[:120]!r}?"

    def _similar(self, name: str) -> str | None:
        """Returns an existing file with a similar name.

        It is in the same folder, or has the same name in a folder with a similar name.
        """
        if self._members is not None:
            members = list(self._members)[:MOST_COMPARED]
            close = get_close_matches(self.around + name, members, n=1, cutoff=0.8)
            return close[0] if close else None
        folder, file = os.path.split(name)
        for part, rest, parent in (
            (file, "", folder),
            (os.path.basename(folder), file, os.path.dirname(folder)),
        ):
            if not part or (parent and self._below(parent) is None):
                continue
            entries = _entries(os.path.join(self.root, self.around, parent))
            without_case = {entry.lower(): entry for entry in entries}
            for close_name in get_close_matches(part.lower(), without_case, n=3, cutoff=0.6):
                path = os.path.join(parent, without_case[close_name], rest).rstrip("/")
                if self.find(path) is not None:
                    return path
        return None

    def missing(
        self, file: Path, names: dict[str, int], total: int, unit: str = "line"
    ) -> WorkbenchError:
        """Returns the error for images of a list that do not exist.

        Args:
            file: the list.
            names: name of each missing image, with the number of the first line that has it.
            total: number of images in the list.
            unit: what the numbers count.
        """
        name, line = next(iter(names.items()))
        return WorkbenchError(
            f"{file}, {unit} {line}: {name[:120]!r} is not in {self.root}; {len(names):,} of the "
            f"{total:,} images that {file.name} lists are missing{self.hint(name)}"
        )

    def outside(self, where: str, name: str) -> WorkbenchError:
        """Returns the error for a name that leads out of the root.

        Args:
            where: file and line that have the name.
            name: the name.
        """
        return WorkbenchError(
            f"{where}: {name[:120]!r} leads out of {self.root}; paths must be relative to it or "
            "lie below it"
        )


def _spellings(name: str) -> Iterator[str]:
    """Yields the name as it is, without spaces around it, and with "/" for Windows' "\\"."""
    yield name
    if (stripped := name.strip()) != name:
        yield stripped
    if "\\" in stripped:
        yield stripped.replace("\\", "/")


def plain(name: str) -> str:
    """Returns a form of a name that is the same for all its spellings.

    It has "/" between folders, no "./" before it, and is in the Unicode normalisation NFC.
    """
    return unicodedata.normalize("NFC", name.replace("\\", "/").removeprefix("./"))


def _entries(folder: str) -> list[str]:
    """Returns the first names in a folder; none if it cannot be read."""
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
