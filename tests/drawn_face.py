"""A drawn face that the detectors take for one: quick to make, and nobody's photo."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

BACKGROUND = (90, 110, 130)


def drawn_face(
    side: int = 112, skin: tuple[int, int, int] = (214, 170, 140), turn: float = 0.0
) -> Image.Image:
    """A square picture whose eyes, nose and mouth are about where ArcFace's crop has them, turned
    clockwise by degrees.
    """
    picture = Image.new("RGB", (side, side), BACKGROUND)
    draw, scale = ImageDraw.Draw(picture), side / 112

    def ellipse(
        x: float, y: float, across: float, down: float, colour: tuple[int, int, int]
    ) -> None:
        draw.ellipse(
            [scale * (x - across), scale * (y - down), scale * (x + across), scale * (y + down)],
            fill=colour,
        )

    def shaded(amount: float) -> tuple[int, int, int]:
        red, green, blue = (round(amount * part) for part in skin)
        return red, green, blue

    ellipse(56, 52, 44, 56, (60, 42, 30))  # hair
    ellipse(56, 64, 36, 48, skin)
    for x in (38.3, 73.5):
        ellipse(x, 42, 9, 2.2, (70, 48, 36))
        ellipse(x, 51.6, 7.5, 4.2, (240, 236, 230))
        ellipse(x, 51.6, 3.4, 3.4, (60, 40, 30))
        ellipse(x, 51.6, 1.6, 1.6, (10, 10, 10))
        ellipse(56 + 0.23 * (x - 56), 74, 2, 1.3, shaded(0.5))
    ellipse(56, 64, 4, 12, shaded(1.07))
    ellipse(56, 72, 8, 3, shaded(0.87))
    ellipse(56, 92.3, 15, 4.5, (170, 80, 80))
    ellipse(56, 92, 13, 1, (110, 40, 44))
    return picture.filter(ImageFilter.GaussianBlur(1.1 * scale)).rotate(
        -turn, Image.Resampling.BICUBIC, fillcolor=BACKGROUND
    )


def photo(
    *faces: tuple[int, int, int], size: tuple[int, int] = (250, 250), turn: float = 0.0
) -> NDArray[np.uint8]:
    """A plain picture of `size` (height, width) with a drawn face of some side at (left, top) for
    each (side, left, top).
    """
    canvas = Image.new("RGB", size[::-1], BACKGROUND)
    for side, left, top in faces:
        canvas.paste(drawn_face(side, turn=turn), (left, top))
    return np.asarray(canvas)
