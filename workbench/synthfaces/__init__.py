"""SynthFaces: rendered portraits of people who do not exist, with the ground truth of each image.

A head is drawn at random from a space of shapes (`person`), painted (`paint`), given the looks of a
day (`shot`, `hair`, `occluders`) and photographed (`scene`) by a small z-buffer renderer (`raster`,
`shade`). Everything follows from integers: a person and their images are the same on every machine
and with any number of worker processes.
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

VERSION = "2"
"""Version of the pixels and attributes, a part of the name under which rendered sets are cached."""

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
