"""Albums: which images of a person are rendered, one album for each question.

The images are a pure function of the world, the person and the album.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from workbench.errors import WorkbenchError, unknown_name
from workbench.synthfaces.anatomy import anatomy
from workbench.synthfaces.person import Person, person, stream
from workbench.synthfaces.scene import dress, photograph
from workbench.synthfaces.shot import OCCLUDERS, Session, Shot, mild, plain, session, wild

SMALLEST, LARGEST = 32, 512
"""Smallest and largest side of an image in pixels."""
IMAGES_PER_DAY = 8
"""Images taken on one day in the album `wild`."""
TEST_PEOPLE = 1_000_000
"""Number of the first person of the benchmarks. Training sets use smaller numbers."""

# The values that the album `invariance` varies: yaws, ages, illuminations and occlusions.
YAWS = (-90.0, -75.0, -60.0, -45.0, -30.0, -15.0, 15.0, 30.0, 45.0, 60.0, 75.0, 90.0)
AGES = (40.0, 50.0, 60.0, 70.0, 80.0)
LIGHTS = (15.0, 30.0, 45.0, 60.0, 75.0, 90.0)
COVERED = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
REFERENCE_AGE = 30.0
INVARIANCE_IMAGES = 2 + len(YAWS) + len(AGES) + len(LIGHTS) + len(COVERED)


class Portrait(NamedTuple):
    """An image with its ground truth.

    Attributes:
        jpeg: content of a JPEG file, RGB or grey.
        landmarks: (5, 2) float32 column and row in pixels of the left eye, the right eye, the tip
            of the nose, and the left and right corner of the mouth, where left and right are those
            of the image.
        attributes: the values described in `ATTRIBUTES`, by name.
    """

    jpeg: bytes
    landmarks: NDArray[np.float32]
    attributes: dict[str, float | int | str | bool]


ATTRIBUTES = {
    "age": "years",
    "gender": "female or male: the group whose shape, skin, hair and make-up the person was drawn "
    "from. How feminine or masculine a head looks is continuous, and the two groups overlap a "
    "little, as in photos",
    "yaw": "degrees by which the head is turned, > 0 to the right of the image",
    "pitch": "degrees by which the head is tilted, > 0 upwards",
    "roll": "degrees by which the face is rotated in the image plane, > 0 clockwise",
    "expression": "name of the expression",
    "illumination": "degrees between the main light and the axis of the camera",
    "glasses": "whether glasses are worn",
    "occlusion": "share 0..1 of the face that is hidden",
    "session": "number of the day, on which hair, make-up, clothes and age stay the same",
    "grey": "whether the image is black and white",
    "factor": "what the image varies, in the album invariance: none, yaw, age, illumination or "
    "occlusion",
}
"""The attributes of a portrait with their units and meaning."""


def portraits(
    number: int, *, images: int, album: str = "wild", seed: int = 0, size: int = 112
) -> list[Portrait]:
    """Renders the images of one person in an album.

    Args:
        number: number of the person, at least 0. The person is the same in every album of a world.
        images: number of images; it must be `INVARIANCE_IMAGES` for the album `invariance`.
        album: `wild`, `frontal`, `pose`, `age`, `light`, `occlusion` or `invariance`.
        seed: seed of the world, at least 0.
        size: height and width in pixels, 32..512.

    Returns:
        The images with their ground truth.

    Raises:
        WorkbenchError: if an argument is out of range, if the album is unknown, or if the anny
            package is missing.

    Example:
        >>> image = portraits(7, images=1, album="frontal", size=64)[0]
        >>> image.attributes["gender"], image.landmarks.shape
        ('male', (5, 2))
    """
    if album not in _ALBUMS:
        raise unknown_name("album", album, ALBUMS)
    if not SMALLEST <= size <= LARGEST:
        raise WorkbenchError(
            f"portraits of {size} pixels cannot be rendered; expected {SMALLEST}..{LARGEST} pixels"
        )
    if number < 0 or seed < 0 or images < 1:
        raise WorkbenchError(
            f"person {number}, seed {seed}, {images} images: "
            "person and seed must be >= 0, images > 0"
        )
    if album == "invariance" and images != INVARIANCE_IMAGES:
        raise WorkbenchError(
            f"the album 'invariance' has {INVARIANCE_IMAGES} images a person, not {images}"
        )
    who = person(anatomy(), number, seed)
    rendered = []
    dressed = None
    draw = stream(4, seed, number, ALBUMS.index(album))
    for day, shot in _ALBUMS[album](who, images, draw):
        if dressed is None or dressed.day is not day:
            dressed = dress(who, day)
        taken = photograph(dressed, shot, size)
        attributes = _attributes(who, day, shot, taken.covered)
        rendered.append(Portrait(taken.jpeg, taken.landmarks, attributes))
    return rendered


def _attributes(
    who: Person, day: Session, shot: Shot, covered: float
) -> dict[str, float | int | str | bool]:
    """The ground truth of an image; `covered` is the share of the face that is hidden."""
    return {
        "age": round(day.age, 1),
        "gender": "female" if who.female else "male",
        "yaw": round(shot.yaw, 2),
        "pitch": round(shot.pitch, 2),
        "roll": round(shot.roll, 2),
        "expression": shot.expression,
        "illumination": round(shot.illumination, 2),
        "glasses": day.glasses is not None or shot.occluder == "dark glasses",
        "occlusion": round(covered, 3),
        "session": day.number,
        "grey": shot.grey,
        "factor": shot.factor,
    }


Plan = Iterator[tuple[Session, Shot]]
"""The day and the shot of each image, in their order."""


def _adult_age(draw: RandomState, low: float = 20, high: float = 75) -> float:
    """A random age of an adult in years. Younger ages are more common."""
    return float(low + (high - low) * draw.beta(1.1, 1.9))


def _about_one_age(draw: RandomState) -> Callable[[], float]:
    """Returns a function that draws ages around one random age, a few years apart."""
    middle = _adult_age(draw, 22, 65)
    return lambda: float(np.clip(middle + 3 * draw.randn(), 20, 70))


def _days(
    who: Person, images: int, per_day: int, album: int, age: Callable[[], float]
) -> Iterator[Session]:
    """The day of each image, with `per_day` images on each day. No two albums share a day."""
    for number in range(images):
        if number % per_day == 0:
            day = session(who, 1000 * album + number // per_day, age())
        yield day


def _wild(who: Person, images: int, draw: RandomState) -> Plan:
    """Images of all kinds."""
    for day in _days(who, images, IMAGES_PER_DAY, 0, lambda: _adult_age(draw)):
        yield day, wild(draw)


def _frontal(who: Person, images: int, draw: RandomState) -> Plan:
    """Frontal images in fair light."""
    age = _about_one_age(draw)
    for day in _days(who, images, 2, 1, age):
        yield day, replace(mild(draw), grey=bool(draw.rand() < 0.04))


def _pose(who: Person, images: int, draw: RandomState) -> Plan:
    """Frontal images in the first half, and profiles in the second half."""
    age = _about_one_age(draw)
    for number, day in enumerate(_days(who, images, 3, 2, age)):
        frontal = number < (images + 1) // 2
        yaw = draw.uniform(-12, 12) if frontal else draw.uniform(60, 90) * draw.choice([-1, 1])
        yield day, replace(mild(draw), yaw=float(yaw))


def _age(who: Person, images: int, draw: RandomState) -> Plan:
    """Images of a young person in the first half, and of the same person when old."""
    young = (images + 1) // 2
    for number in range(images):
        if number % 2 == 0 or number == young:
            years = draw.uniform(20, 32) if number < young else draw.uniform(60, 80)
            day = session(who, 3000 + number, float(years))
        yield day, mild(draw)


def _light(who: Person, images: int, draw: RandomState) -> Plan:
    """Soft light from the front in the first half, and hard light from the side."""
    age = _about_one_age(draw)
    for number, day in enumerate(_days(who, images, 3, 4, age)):
        shot = mild(draw)
        if number < (images + 1) // 2:
            light = float(draw.uniform(-12, 12)), float(draw.uniform(0, 20))
            yield day, replace(shot, light=light, hardness=0.4)
        else:
            side = float(draw.uniform(45, 88) * draw.choice([-1, 1]))
            fill = (*shot.fill[:2], 0.08)
            light = side, float(draw.uniform(-15, 50))
            hardness = float(draw.uniform(0.75, 0.95))
            yield day, replace(shot, light=light, hardness=hardness, fill=fill)


def _occlusion(who: Person, images: int, draw: RandomState) -> Plan:
    """Unoccluded faces in the first half, and occluded ones in the second half."""
    age = _about_one_age(draw)
    for number, day in enumerate(_days(who, images, 3, 5, age)):
        shot = mild(draw)
        if number < (images + 1) // 2:
            yield day, shot
        else:
            occluder = OCCLUDERS[draw.randint(len(OCCLUDERS))]
            share, angle = float(draw.uniform(0.25, 0.5)), float(draw.uniform(0, 360))
            yield day, replace(shot, occluder=occluder, share=share, angle=angle)


def _invariance(who: Person, images: int, draw: RandomState) -> Plan:
    """A controlled sweep: each image differs from the first one only in its factor.

    Grain, crop and backdrop differ in all images.
    """
    number = 6000
    day = replace(session(who, number, REFERENCE_AGE, plain=True), glasses=None)
    yield day, replace(plain(draw), factor="none")
    yield day, replace(plain(draw), factor="none")
    for yaw in YAWS:
        yield day, replace(plain(draw), yaw=yaw, factor="yaw")
    for degrees in LIGHTS:
        side = float(draw.choice([-1, 1]))
        yield day, replace(plain(draw), light=(side * degrees, 0.0), factor="illumination")
    for share in COVERED:
        shot = plain(draw)
        angle = float(draw.uniform(0, 360))
        yield (
            day,
            replace(shot, occluder="panel", share=share, angle=angle, factor="occlusion"),
        )
    for age in AGES:
        day = replace(session(who, number, age, plain=True), glasses=None)
        yield day, replace(plain(draw), factor="age")


_ALBUMS: dict[str, Callable[[Person, int, RandomState], Plan]] = {
    "wild": _wild,
    "frontal": _frontal,
    "pose": _pose,
    "age": _age,
    "light": _light,
    "occlusion": _occlusion,
    "invariance": _invariance,
}
ALBUMS = tuple(_ALBUMS)
"""The names of all albums."""
