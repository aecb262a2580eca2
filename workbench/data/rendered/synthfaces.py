"""`synthfaces` - training sets of synthetic people (`workbench.synthfaces`), each rendered once, when it is first opened.

`synthfaces` has 200 people x 40 pictures, `synthfaces-mini` 20 x 10, `synthfaces-large` 10,000 x 50, and any other size is
named like `synthfaces:500x20,seed=3,size=64`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from workbench.data.dataset import Dataset
from workbench.data.registry import SOURCES
from workbench.data.rendered.rendering import ensure
from workbench.data.rendered.store import RenderSettings, open_packed
from workbench.errors import WorkbenchError, unknown_name
from workbench.registry import Registry

PRESETS = {"synthfaces": (200, 40), "synthfaces-mini": (20, 10), "synthfaces-large": (10_000, 50)}
"""People, and pictures of each."""
SETS: Registry[tuple[RenderSettings, ...]] = Registry("rendered set")
"""What is rendered for a source or benchmark."""


def faces() -> ModuleType:
    """The renderer, imported only by those who ask for its pictures."""
    from workbench import synthfaces

    return synthfaces


def open_set(settings: RenderSettings, name: str, spec: str) -> Dataset:
    """The pictures of a set, rendered first where they are missing; `spec` is what `workbench data render` knows it by."""
    ensure(settings)
    return open_packed(settings, name, f"make it again with `workbench data render {spec} --again`")


def render(
    spec: str, *, workers: int | None = None, again: bool = False, progress: bool = True
) -> list[Path]:
    """Render what a spec reads from, ahead of time; else that is done when it is first opened.

    Args:
        spec: `synthfaces`, `synthfaces:500x20`, `synthfaces-pose`, ...
        workers: processes; 0 renders in this one. As many as there are cores by default.
        again: throw away what is there, e.g. because it is damaged.
        progress: say what is rendered and where, and show a bar.

    Returns:
        The folders in the cache.

    Raises:
        WorkbenchError: unknown name or options, no room on the disk, or the folder cannot be written.
    """
    kind, _, path = str(spec).partition(":")
    return [
        ensure(one, workers=workers, again=again, progress=progress)
        for one in SETS.create(kind, path=path)
    ]


def parse(kind: str, path: str) -> RenderSettings:
    """What `KIND:PATH` asks for.

    Args:
        kind: one of `PRESETS`, which says what the path leaves open.
        path: options with commas between them: `PEOPLExIMAGES` (as the first), `people=`, `images=`, `seed=`, `size=`.

    Raises:
        WorkbenchError: an option is unknown, given twice, no number, or out of its range.
    """
    ranges = {"people": (1, faces().TEST_PEOPLE), "images": (1, 1000), "seed": (0, 2**32 - 1)}
    ranges["size"] = (faces().SMALLEST, faces().LARGEST)
    given: dict[str, Any] = {}
    fields = path.split(",") if path else []
    if fields and (both := re.fullmatch("([^=x]*)x([^=x]*)", fields[0])):
        fields[:1] = [f"people={both[1]}", f"images={both[2]}"]
    for field in fields:
        option, equals, value = field.partition("=")
        if not equals:
            wanted = f"PEOPLExIMAGES or NAME=NUMBER, as in {kind}:500x20,seed=3,size=64"
            raise WorkbenchError(f"{kind}: expected {wanted}, found {field[:40]!r}")
        if option not in ranges:
            raise unknown_name(f"option of {kind}", option[:40], ranges)
        if option in given:
            raise WorkbenchError(f"{kind}: {option} is given twice")
        low, high = ranges[option]
        if not re.fullmatch("[0-9]{1,12}", value) or not low <= int(value) <= high:
            raise WorkbenchError(
                f"{kind}: {option} must be a whole number from {low} to {high:,}, got {value[:40]!r}"
            )
        given[option] = int(value)
    people, images = PRESETS[kind]
    return replace(RenderSettings(people, images, renderer=faces().__name__), **given)


def spec_of(settings: RenderSettings) -> str:
    """The shortest spec of a training set, from which `parse` makes the same settings."""
    size = (settings.people, settings.images)
    kind = next((kind for kind, preset in PRESETS.items() if preset == size), None)
    options = [] if kind else ["{}x{}".format(*size)]
    options += [f"seed={settings.seed}"] * (settings.seed != RenderSettings.seed)
    options += [f"size={settings.size}"] * (settings.size != RenderSettings.size)
    return ":".join(
        [kind or "synthfaces", ",".join(options)] if options else [kind or "synthfaces"]
    )


def _register(kind: str) -> None:
    def which(path: str = "") -> tuple[RenderSettings, ...]:
        return (parse(kind, path),)

    def open_source(path: str = "") -> Dataset:
        (settings,) = which(path)
        spec = spec_of(settings)
        return open_set(settings, re.sub("[:,]", "-", spec.replace("=", "")), spec)

    SETS.register(kind)(which)
    SOURCES.register(kind)(open_source)


for _kind in PRESETS:
    _register(_kind)
