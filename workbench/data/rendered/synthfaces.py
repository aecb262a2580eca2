"""`synthfaces`: training sets of synthetic people, rendered when they are first opened.

`synthfaces` has 200 people with 40 images each, `synthfaces-mini` has 20 x 10 and
`synthfaces-large` has 10,000 x 50. Any other size has a name such as
`synthfaces:500x20,seed=3,size=64`. The images are rendered by `workbench.synthfaces`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from workbench.data.dataset import Dataset
from workbench.data.registry import SOURCES
from workbench.data.rendered.rendering import Report, ensure
from workbench.data.rendered.store import RenderSettings, open_packed
from workbench.errors import WorkbenchError, unknown_name
from workbench.registry import Registry

PRESETS = {"synthfaces": (200, 40), "synthfaces-mini": (20, 10), "synthfaces-large": (10_000, 50)}
"""Number of people, and number of images of each."""
LARGEST_SEED = 2**32 - 1
SETS: Registry[tuple[RenderSettings, ...]] = Registry("rendered set")
"""Functions from the text after the colon of a spec to the sets that it reads."""


def faces() -> ModuleType:
    """The renderer. It is imported only when images are rendered, as it loads numba."""
    from workbench import synthfaces

    return synthfaces


def open_set(settings: RenderSettings, name: str, spec: str) -> Dataset:
    """Render a set if it is not in the cache, and open it.

    Args:
        settings: The settings of the set.
        name: Name of the data set in figures and file names.
        spec: The spec by which `workbench data render` finds the set; it is part of error messages.
    """
    ensure(settings)
    return open_packed(settings, name, f"make it again with `workbench data render {spec} --again`")


def render(
    spec: str,
    *,
    workers: int | None = None,
    again: bool = False,
    progress: bool = True,
    report: Report | None = None,
) -> list[Path]:
    """Render the sets of a source or benchmark before they are first opened.

    Args:
        spec: For example `synthfaces`, `synthfaces:500x20` or `synthfaces-pose`.
        workers: Number of worker processes. 0 renders in this process. The default is the number of
            CPU cores.
        again: Delete what is in the cache, for example because it is damaged, and render it again.
        progress: Print what is rendered and where, and show a progress bar.
        report: Called with the number of rendered images and of all images of a set, at the
            beginning and after each person. It is not called for a set that is in the cache.

    Returns:
        The folders of the sets in the cache.

    Raises:
        WorkbenchError: If the name or an option is unknown, the disk has not enough space, or the
            folder cannot be written.
    """
    kind, _, path = str(spec).partition(":")
    return [
        ensure(one, workers=workers, again=again, progress=progress, report=report)
        for one in SETS.create(kind, path=path)
    ]


def parse(kind: str, path: str) -> RenderSettings:
    """Read the settings from a spec `KIND:PATH`.

    Args:
        kind: One of `PRESETS`. It determines the options that the path does not give.
        path: Options separated by commas: `PEOPLExIMAGES` (only as the first), `people=`,
            `images=`, `seed=` and `size=`.

    Returns:
        The settings of the set.

    Raises:
        WorkbenchError: If an option is unknown, given twice, not a number, or out of its range.
    """
    ranges = {"people": (1, faces().TEST_PEOPLE), "images": (1, 1000), "seed": (0, LARGEST_SEED)}
    ranges["size"] = (faces().SMALLEST, faces().LARGEST)
    options: dict[str, Any] = {}
    fields = path.split(",") if path else []
    if fields and (both := re.fullmatch("([^=x]*)x([^=x]*)", fields[0])):
        fields[:1] = [f"people={both[1]}", f"images={both[2]}"]
    for field in fields:
        option, equals, value = field.partition("=")
        if not equals:
            expected = f"PEOPLExIMAGES or NAME=NUMBER, as in {kind}:500x20,seed=3,size=64"
            raise WorkbenchError(f"{kind}: expected {expected}, found {field[:40]!r}")
        if option not in ranges:
            raise unknown_name(f"option of {kind}", option[:40], ranges)
        if option in options:
            raise WorkbenchError(f"{kind}: {option} is given twice")
        low, high = ranges[option]
        if not re.fullmatch("[0-9]{1,12}", value) or not low <= int(value) <= high:
            raise WorkbenchError(
                f"{kind}: {option} must be a whole number from {low} to {high:,}, "
                f"got {value[:40]!r}"
            )
        options[option] = int(value)
    people, images = PRESETS[kind]
    return replace(RenderSettings(people, images, renderer=faces().__name__), **options)


def spec_of(settings: RenderSettings) -> str:
    """The shortest spec from which `parse` reads these settings."""
    size = (settings.people, settings.images)
    kind = next((kind for kind, preset in PRESETS.items() if preset == size), None)
    options = []
    if kind is None:
        kind = "synthfaces"
        options.append(f"{settings.people}x{settings.images}")
    if settings.seed != RenderSettings.seed:
        options.append(f"seed={settings.seed}")
    if settings.size != RenderSettings.size:
        options.append(f"size={settings.size}")
    return ":".join([kind, ",".join(options)]) if options else kind


def _register(kind: str) -> None:
    def settings_of(path: str = "") -> tuple[RenderSettings, ...]:
        return (parse(kind, path),)

    def open_source(path: str = "") -> Dataset:
        (settings,) = settings_of(path)
        spec = spec_of(settings)
        return open_set(settings, re.sub("[:,]", "-", spec.replace("=", "")), spec)

    SETS.register(kind)(settings_of)
    SOURCES.register(kind)(open_source)


for _kind in PRESETS:
    _register(_kind)
