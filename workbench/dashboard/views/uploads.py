"""An uploaded photo: the faces found on it, which one is meant, and what the networks get to see of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from workbench import faces, images
from workbench.dashboard import loading
from workbench.errors import WorkbenchError

Picture = NDArray[np.uint8]
SIDE = 280
WIDTH, HEIGHT, DENSITY = 250, 190, 2
"""Most pixels of a small photo with its faces marked, and how many times as densely it is drawn, for sharp screens."""
ALIGN, CROP, AS_IT_IS = "align", "crop", "as it is"
CHOSEN, OTHER, POINT = "#E69F00", "#8C8C8C", "#56B4E9"
SMALL, BLURRED = 24.0, 0.14
"""Pixels between the eyes, which ArcFace's crop has 35 apart, and `faces.Quality.sharpness`, below which a photo is a poor one."""


@dataclass(frozen=True, eq=False)
class Photo:
    """What an upload comes to: the picture, and the face that is meant, if one was found and is wanted."""

    picture: Picture
    face: faces.Face | None = None
    how: str = AS_IT_IS

    def seen(self, side: int = 112) -> Picture:
        """The square picture for a network whose input's longer side is `side`: ArcFace's crop, or what stands in its place.

        The face is cut out at a multiple of 112 that is large enough, and brought to the network's size like the images of a
        benchmark, so that both show the face at the same scale.
        """
        if self.face is None:
            return self.picture
        size = 112 * -(-side // 112)
        if self.how == ALIGN:
            return faces.warp(self.picture, self.face.landmarks, size)
        return faces.crop(self.picture, self.face, size)


def upload(label: str, how: str) -> Photo | None:
    """A box for a photo, and below it what was found; None until there is a photo that can be read."""
    file = st.file_uploader(label, max_upload_size=20, key=label)
    if file is None:
        return None
    content = file.getvalue()
    try:
        picture = images.decode(content, file.name)
    except WorkbenchError as error:
        st.error(str(error), icon=":material/broken_image:")
        return None
    if how == AS_IT_IS:
        return _by_hand(picture, file.name, label)
    try:
        found = loading.faces_on(content)
    except WorkbenchError as error:
        st.warning(f"Faces cannot be searched for: {error}", icon=":material/warning:")
        return _by_hand(picture, file.name, label)
    if not found:
        st.info(
            "No face found in this photo. Zoom in until the face fills the picture.",
            icon=":material/face_retouching_off:",
        )
        return _by_hand(picture, file.name, label)
    row = st.container(horizontal=True)
    number = _choose(found, f"face {label} {hashlib.sha256(content).hexdigest()[:8]}")
    photo = Photo(picture, found[number], how)
    drawn = marked(picture, found, number)
    with row:
        st.image(drawn, caption=_counted(found, number), width=drawn.shape[1] // DENSITY)
        st.image(photo.seen(), caption=f"{file.name}, as the networks see it", width=HEIGHT)
    for hint in hints(picture, found[number]):
        st.caption(f":material/info: {hint}")
    return photo


def _choose(found: Sequence[faces.Face], key: str) -> int:
    """Number of the face that is meant; the first, which is the largest, until another is chosen."""
    if len(found) == 1:
        return 0
    chosen = st.pills(
        "Face", range(len(found)), default=0, format_func=lambda number: str(number + 1), key=key
    )
    return chosen or 0


def _counted(found: Sequence[faces.Face], number: int) -> str:
    return (
        "the face found"
        if len(found) == 1
        else f"face {number + 1} of {len(found)}, 1 is the largest"
    )


def _by_hand(picture: Picture, name: str, label: str) -> Photo:
    """The middle of the photo, which the user enlarges until the face fills it."""
    zoom = st.slider(
        "Zoom", 1.0, 4.0, 1.0, 0.1, key=f"zoom {label}", help="Keeps the middle of the photo."
    )
    photo = Photo(_middle(picture, zoom))
    st.image(
        images.fit(photo.picture, (SIDE, SIDE)),
        caption=f"{name}, as the networks see it",
        width=SIDE,
    )
    return photo


def _middle(picture: Picture, zoom: float) -> Picture:
    """The central square, 1 / zoom of the shorter side."""
    height, width = picture.shape[:2]
    side = max(round(min(height, width) / zoom), 1)
    top, left = (height - side) // 2, (width - side) // 2
    return picture[top : top + side, left : left + side]


def marked(picture: Picture, found: Sequence[faces.Face], chosen: int) -> Picture:
    """The photo, small, with a numbered box around each face and the points of the chosen one."""
    scale = DENSITY * min(HEIGHT / picture.shape[0], WIDTH / picture.shape[1])
    size = (max(round(picture.shape[1] * scale), DENSITY), max(round(picture.shape[0] * scale), 1))
    small = Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    pen, font = ImageDraw.Draw(small), ImageFont.load_default(12 * DENSITY)
    for number in sorted(
        range(len(found)), key=lambda number: number == chosen
    ):  # the chosen one on top
        colour = CHOSEN if number == chosen else OTHER
        left, top, right, bottom = (scale * found[number].box).tolist()
        pen.rectangle((left, top, right, bottom), outline=colour, width=2 * DENSITY)
        if len(found) > 1:
            words = str(number + 1)
            x, y = max(left, 0), max(top - 15 * DENSITY, 0)
            pen.rectangle(
                (x, y, x + font.getlength(words) + 6 * DENSITY, y + 15 * DENSITY), fill=colour
            )
            pen.text((x + 3 * DENSITY, y), words, fill="white", font=font)
    for x, y in (scale * found[chosen].landmarks).tolist():
        radius = 2 * DENSITY
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=POINT, outline="white")
    return np.asarray(small)


def hints(picture: Picture, face: faces.Face) -> list[str]:
    """What makes a comparison of this face less certain, in words."""
    seen = faces.align_face(picture, face)
    said = []
    if seen.quality.eyes < SMALL:
        said.append(
            f"Small: {seen.quality.eyes:.0f} pixels between the eyes; it is enlarged, which adds no detail."
        )
    elif seen.quality.sharpness < BLURRED:
        said.append("Blurred: fine detail is missing.")
    if seen.profile:
        said.append("Seen from the side: the networks know frontal faces best.")
    return said
