"""Contact sheets, which show some people of a data set or benchmark, one in each row."""

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
    """The part of `Dataset`, `Benchmark` and `Identification` that a contact sheet needs."""

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
    """Draw the first images of the first people on a white sheet, one person in each row.

    All images are scaled to the size of the first image, times `scale`.

    Args:
        dataset: A data set, or a benchmark whose identities are known.
        people: Most rows.
        images: Most images in a row.
        scale: Factor by which the images are enlarged, at least 1.
        names: Write the name of each identity on the left, if it is known.

    Returns:
        The sheet as (H, W, 3) uint8 in RGB.

    Raises:
        WorkbenchError: If no identity is known, a number is below 1, or the sheet would have more
            than 100 megapixels.
    """
    if min(people, images, scale) < 1:
        raise WorkbenchError(
            f"a contact sheet needs people, images and scale of at least 1, "
            f"got {people}, {images} and {scale}"
        )
    shown = shown_identities(dataset, people)
    rows = [
        [dataset.images[number] for number in np.flatnonzero(dataset.identities == one)[:images]]
        for one in shown
    ]
    labels = []
    if names and len(dataset.identity_names):
        labels = [_label(dataset.identity_names[identity]) for identity in shown]
    return sheet(rows, labels, scale)


def shown_identities(dataset: People, people: int) -> NDArray[np.int64]:
    """Returns the identities that a figure shows: the first ones.

    Args:
        dataset: A data set, or a benchmark whose identities are known.
        people: Largest number of identities.

    Raises:
        WorkbenchError: if no identity is known.
    """
    identities = dataset.identities
    if identities is None or identities.max(initial=-1) < 0:
        raise WorkbenchError(
            f"{dataset.name}: its identities are not known, so there are no people to show"
        )
    return np.unique(identities[identities >= 0])[:people]


def sheet(
    rows: Sequence[Sequence[NDArray[np.uint8]]], labels: Sequence[str], scale: int = 1
) -> NDArray[np.uint8]:
    """Draws rows of images on a white sheet.

    Args:
        rows: Images (H, W, 3) in rows. All are scaled to the size of the first one, times `scale`.
        labels: A text for the left of each row, or none at all.
        scale: Factor by which the images are enlarged, at least 1.

    Returns:
        The sheet as (H, W, 3) uint8 in RGB.

    Raises:
        WorkbenchError: if the sheet would have more than 100 megapixels.
    """
    height, width = (side * scale for side in rows[0][0].shape[:2])
    gutter = GUTTER * scale
    font = ImageFont.load_default(FONT_SIZE * scale)
    left = max((int(font.getlength(label)) + 3 * gutter for label in labels), default=0)
    columns = max(len(row) for row in rows)
    size = (left + gutter + columns * (width + gutter), gutter + len(rows) * (height + gutter))
    if size[0] * size[1] > MAX_PIXELS:
        raise WorkbenchError(
            f"a contact sheet of {size[0]} x {size[1]} pixels has more than {MAX_PIXELS // 10**6} "
            "megapixels; show fewer people or images, or choose a smaller scale"
        )
    drawn = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(drawn)
    for row, images in enumerate(rows):
        top = gutter + row * (height + gutter)
        if labels:
            pen.text(
                (2 * gutter, top + height // 2), labels[row], fill="black", font=font, anchor="lm"
            )
        for column, image in enumerate(images):
            fitted = Image.fromarray(fit(image, (height, width)))
            drawn.paste(fitted, (left + gutter + column * (width + gutter), top))
    return np.asarray(drawn)


def _label(name: str) -> str:
    """Shorten a name, and replace the characters that the built-in font lacks by question marks."""
    if len(name) > LONGEST_NAME:
        name = f"{name[: LONGEST_NAME - 3]}..."
    in_font = name.encode("latin-1", "replace").decode("latin-1")
    return "".join(letter if letter.isprintable() else "?" for letter in in_font)
