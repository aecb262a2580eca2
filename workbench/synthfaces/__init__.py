"""SynthFaces: people who do not exist, rendered with the truth about every picture.

Heads are drawn from a space of shapes (`person`), painted (`paint`), given a day's looks (`shot`, `hair`, `occluders`) and
photographed (`scene`) by a small z-buffer renderer (`raster`, `shade`). Everything follows from whole numbers: the same person
and the same pictures on every machine, whatever the number of workers.
"""

from workbench.synthfaces.albums import (
    ALBUMS,
    ATTRIBUTES,
    INVARIANCE_IMAGES,
    LARGEST,
    SMALLEST,
    TEST_PEOPLE,
    Portrait,
    portraits,
)

VERSION = "1"
"""Changes whenever pixels or attributes do; part of the name under which rendered sets are kept."""

__all__ = [
    "ALBUMS",
    "ATTRIBUTES",
    "INVARIANCE_IMAGES",
    "LARGEST",
    "SMALLEST",
    "TEST_PEOPLE",
    "VERSION",
    "Portrait",
    "portraits",
]
