"""`folder:DIR` - one folder per identity, as CASIA-WebFace, VGGFace2 and most own collections come."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from workbench import images
from workbench.data.dataset import Dataset, EncodedImages, number_identities
from workbench.data.registry import SOURCES, existing
from workbench.errors import WorkbenchError


@dataclass(frozen=True)
class Files(EncodedImages):
    """Image files, read when asked for."""

    root: Path
    names: list[str]

    def __len__(self) -> int:
        return len(self.names)

    def encoded(self, index: int) -> bytes:
        return images.read_bytes(self.root / self.names[index])

    def where(self, index: int) -> str:
        return str(self.root / self.names[index])


@SOURCES.register("folder")
def open_folder(path: str) -> Dataset:
    """The images below DIR/IDENTITY/, at any depth; other files and hidden ones are passed over."""
    root = existing(path, "folder", "folder")
    # rglob follows no links below its start; starting at each identity keeps those that are links to folders elsewhere.
    identities_and_files = [file for entry in root.iterdir() for file in ([entry] if entry.is_file() else entry.rglob("*"))]
    found = sorted(
        file.relative_to(root)
        for file in identities_and_files
        if file.suffix.lower() in images.SUFFIXES
        and not any(part.startswith(".") for part in file.relative_to(root).parts)
        and file.is_file()
    )
    inside = [file for file in found if len(file.parts) > 1]
    if not inside:
        where = "only beside, not inside, identity folders" if found else "none"
        raise WorkbenchError(f"folder:{path}: expected images in DIR/IDENTITY/, found {where}")
    identities, names = number_identities([file.parts[0] for file in inside])
    files = [file.as_posix() for file in inside]
    return Dataset(root.resolve().name, Files(root, files), identities, names, {"file": files})
