"""An uploaded photo: the detected faces, the choice of one, and the crop that the networks get."""

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
"""Side in pixels at which a square image is shown."""
WIDTH, HEIGHT, DENSITY = 250, 190, 2
"""Largest size of a photo with marked faces on the screen, and image pixels per screen pixel."""
ALIGN, CROP, AS_IT_IS = "align", "crop", "as it is"
CHOSEN, OTHER, POINT = "#E69F00", "#8C8C8C", "#56B4E9"
"""Colours of the chosen face, of other faces, and of landmarks."""
SMALL, BLURRED = 24.0, 0.14
"""Distance between the eyes in pixels and `faces.Quality.sharpness` below which a hint is shown.

The eyes are 35 pixels apart in ArcFace's crop."""


@dataclass(frozen=True, eq=False)
class Photo:
    """An uploaded photo with the face that the user chose.

    Attributes:
        picture: (H, W, 3) pixels.
        face: the chosen face; None if none was detected or the photo is used as it is.
        how: "align", "crop" or "as it is".
    """

    picture: Picture
    face: faces.Face | None = None
    how: str = AS_IT_IS

    def seen(self, side: int = 112) -> Picture:
        """Returns the image that a network gets.

        Args:
            side: longer side of the network's input in pixels.

        Returns:
            The aligned or cropped face as a square, or the whole photo if there is no face. The
            side of the square is the smallest multiple of 112 that is not below `side`; it is then
            resized like the images of a benchmark, so that both show the face at the same scale.
        """
        if self.face is None:
            return self.picture
        size = 112 * -(-side // 112)
        if self.how == ALIGN:
            return faces.warp(self.picture, self.face.landmarks, size)
        return faces.crop(self.picture, self.face, size)


def upload(label: str, how: str) -> Photo | None:
    """Draws an upload box, and below it the detected faces.

    Args:
        label: title of the box, which also identifies it.
        how: "align", "crop" or "as it is".

    Returns:
        The photo; None until there is one that can be read.
    """
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
        detected = loading.faces_on(content)
    except WorkbenchError as error:
        st.warning(f"Faces cannot be searched for: {error}", icon=":material/warning:")
        return _by_hand(picture, file.name, label)
    if not detected:
        st.info(
            "No face found in this photo. Zoom in until the face fills the picture.",
            icon=":material/face_retouching_off:",
        )
        return _by_hand(picture, file.name, label)
    row = st.container(horizontal=True)
    number = _choose(detected, f"face {label} {hashlib.sha256(content).hexdigest()[:8]}")
    photo = Photo(picture, detected[number], how)
    drawn = marked(picture, detected, number)
    with row:
        st.image(drawn, caption=_counted(detected, number), width=drawn.shape[1] // DENSITY)
        st.image(photo.seen(), caption=f"{file.name}, as the networks see it", width=HEIGHT)
    for hint in hints(picture, detected[number]):
        st.caption(f":material/info: {hint}")
    return photo


def _choose(detected: Sequence[faces.Face], key: str) -> int:
    """Returns the number of the chosen face; 0, which is the largest, by default."""
    if len(detected) == 1:
        return 0
    chosen = st.pills(
        "Face", range(len(detected)), default=0, format_func=lambda number: str(number + 1), key=key
    )
    return chosen or 0


def _counted(detected: Sequence[faces.Face], number: int) -> str:
    """Returns the caption that says which of the faces is chosen."""
    if len(detected) == 1:
        return "the face found"
    return f"face {number + 1} of {len(detected)}, 1 is the largest"


def _by_hand(picture: Picture, name: str, label: str) -> Photo:
    """Draws the middle of the photo, which the user enlarges until the face fills it."""
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
    """Returns the central square; its side is the shorter side of the photo over the zoom."""
    height, width = picture.shape[:2]
    side = max(round(min(height, width) / zoom), 1)
    top, left = (height - side) // 2, (width - side) // 2
    return picture[top : top + side, left : left + side]


def marked(picture: Picture, detected: Sequence[faces.Face], chosen: int) -> Picture:
    """Marks the faces on a small copy of a photo.

    Args:
        picture: (H, W, 3) pixels of the photo.
        detected: the detected faces.
        chosen: number of the chosen face, whose landmarks are drawn too.

    Returns:
        The small copy, with a numbered box around each face.
    """
    scale = DENSITY * min(HEIGHT / picture.shape[0], WIDTH / picture.shape[1])
    size = (max(round(picture.shape[1] * scale), DENSITY), max(round(picture.shape[0] * scale), 1))
    small = Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    pen, font = ImageDraw.Draw(small), ImageFont.load_default(12 * DENSITY)
    chosen_last = sorted(range(len(detected)), key=lambda number: number == chosen)
    for number in chosen_last:
        colour = CHOSEN if number == chosen else OTHER
        left, top, right, bottom = (scale * detected[number].box).tolist()
        pen.rectangle((left, top, right, bottom), outline=colour, width=2 * DENSITY)
        if len(detected) > 1:
            words = str(number + 1)
            x, y = max(left, 0), max(top - 15 * DENSITY, 0)
            pen.rectangle(
                (x, y, x + font.getlength(words) + 6 * DENSITY, y + 15 * DENSITY), fill=colour
            )
            pen.text((x + 3 * DENSITY, y), words, fill="white", font=font)
    for x, y in (scale * detected[chosen].landmarks).tolist():
        radius = 2 * DENSITY
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=POINT, outline="white")
    return np.asarray(small)


def hints(picture: Picture, face: faces.Face) -> list[str]:
    """Returns sentences about what makes a comparison of a face less certain.

    Args:
        picture: (H, W, 3) pixels of the photo.
        face: the chosen face.
    """
    aligned = faces.align_face(picture, face)
    sentences = []
    if aligned.quality.eyes < SMALL:
        sentences.append(
            f"Small: {aligned.quality.eyes:.0f} pixels between the eyes; it is enlarged, which "
            "adds no detail."
        )
    elif aligned.quality.sharpness < BLURRED:
        sentences.append("Blurred: fine detail is missing.")
    if aligned.profile:
        sentences.append("Seen from the side: the networks know frontal faces best.")
    return sentences
