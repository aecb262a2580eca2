"""A contact sheet: some people of a data set or benchmark, a row each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from workbench.data.dataset import Images
from workbench.errors import WorkbenchError
from workbench.images import fit

GUTTER, LONGEST_NAME, FONT_SIZE = 2, 24, 12
MAX_PIXELS = 100_000_000


class People(Protocol):
    """What a `Dataset`, a `Benchmark` and an `Identification` have in common."""

    @property
    def name(self) -> str: ...
    @property
    def images(self) -> Images: ...
    @property
    def identities(self) -> NDArray[np.int64] | None: ...
    @property
    def identity_names(self) -> Sequence[str]: ...


def contact_sheet(
    dataset: People, people: int = 10, images: int = 12, scale: int = 1, names: bool = True
) -> NDArray[np.uint8]:
    """The first pictures of the first people on white, a row a person.

    Args:
        dataset: a data set, or a benchmark that says who is on its images.
        people: most rows.
        images: most pictures in a row.
        scale: times the size of the first picture, to which all are brought.
        names: write each identity's name at the left, where it is known.

    Returns:
        (H, W, 3) uint8.

    Raises:
        WorkbenchError: nobody to show, numbers below 1, or a sheet of more than 100 megapixels.
    """
    if min(people, images, scale) < 1:
        raise WorkbenchError(
            f"a contact sheet needs people, images and scale of at least 1, got {people}, {images} and {scale}"
        )
    identities = dataset.identities
    if identities is None or identities.max(initial=-1) < 0:
        raise WorkbenchError(
            f"{dataset.name}: it is not known who is on its images, so there are no people to show"
        )
    shown = np.unique(identities[identities >= 0])[:people]
    rows = [np.flatnonzero(identities == identity)[:images].tolist() for identity in shown]
    height, width = (side * scale for side in dataset.images[rows[0][0]].shape[:2])
    gutter = GUTTER * scale
    labels = (
        [_label(dataset.identity_names[identity]) for identity in shown]
        if names and len(dataset.identity_names)
        else []
    )
    font = ImageFont.load_default(FONT_SIZE * scale)
    left = max((int(font.getlength(label)) + 3 * gutter for label in labels), default=0)
    columns = max(len(row) for row in rows)
    size = (left + gutter + columns * (width + gutter), gutter + len(rows) * (height + gutter))
    if size[0] * size[1] > MAX_PIXELS:
        raise WorkbenchError(
            f"a contact sheet of {size[0]} x {size[1]} is more than {MAX_PIXELS // 10**6} megapixels; show fewer people or images, "
            "or a smaller scale"
        )
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    for row, numbers in enumerate(rows):
        top = gutter + row * (height + gutter)
        if labels:
            pen.text(
                (2 * gutter, top + height // 2), labels[row], fill="black", font=font, anchor="lm"
            )
        for column, number in enumerate(numbers):
            picture = Image.fromarray(fit(dataset.images[number], (height, width)))
            sheet.paste(picture, (left + gutter + column * (width + gutter), top))
    return np.asarray(sheet)


def _label(name: str) -> str:
    """What the built-in font can write of a name."""
    short = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 3]}..."
    return "".join(
        letter if letter.isprintable() else "?"
        for letter in short.encode("latin-1", "replace").decode("latin-1")
    )
