"""Which pictures of a person are taken: one album for each question. Each is a pure function of world, person and album."""

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
A_DAY = 8
"""Pictures taken on one day of the album `wild`."""
TEST_PEOPLE = 1_000_000
"""Numbers from here on are people of benchmarks; training sets end before."""

YAWS = (-90.0, -75.0, -60.0, -45.0, -30.0, -15.0, 15.0, 30.0, 45.0, 60.0, 75.0, 90.0)
AGES = (40.0, 50.0, 60.0, 70.0, 80.0)
LIGHTS = (15.0, 30.0, 45.0, 60.0, 75.0, 90.0)
COVERED = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
REFERENCE_AGE = 30.0
INVARIANCE_IMAGES = 2 + len(YAWS) + len(AGES) + len(LIGHTS) + len(COVERED)


class Portrait(NamedTuple):
    """A picture and the truth about it.

    Attributes:
        jpeg: the picture, RGB or grey, as a JPEG file.
        landmarks: (5, 2) float32 column and row in pixels: the eye on the left of the image, on the right, tip of the nose,
            corner of the mouth on the left, on the right.
        attributes: see `ATTRIBUTES`.
    """

    jpeg: bytes
    landmarks: NDArray[np.float32]
    attributes: dict[str, float | int | str | bool]


ATTRIBUTES = {
    "age": "years",
    "gender": "female or male",
    "yaw": "degrees by which the head is turned, > 0 to the right of the image",
    "pitch": "degrees by which it is tilted, > 0 up",
    "roll": "degrees by which it leans in the picture, > 0 clockwise",
    "expression": "name",
    "illumination": "degrees between the main light and the camera's axis",
    "glasses": "are any worn",
    "occlusion": "share 0..1 of the face that something hides",
    "session": "number of the day: hair, make-up, clothes and age are the same within one",
    "grey": "is it black and white",
    "factor": "what the picture varies, in the album `invariance`: none, yaw, age, illumination or occlusion",
}


def portraits(
    number: int, *, images: int, album: str = "wild", seed: int = 0, size: int = 112
) -> list[Portrait]:
    """All pictures of one person.

    Args:
        number: of the person, >= 0; person N of a seed is the same in every album, whatever else is rendered.
        images: how many; `INVARIANCE_IMAGES` for the album `invariance`.
        album: `wild`, `frontal`, `pose`, `age`, `light`, `occlusion` or `invariance`.
        seed: of the world, >= 0.
        size: side in pixels, 32..512.

    Raises:
        WorkbenchError: an argument is out of range, or the anny package is missing.
    """
    if album not in _ALBUMS:
        raise unknown_name("album", album, ALBUMS)
    if not SMALLEST <= size <= LARGEST:
        raise WorkbenchError(
            f"portraits of {size} pixels cannot be rendered; {SMALLEST} to {LARGEST} can"
        )
    if number < 0 or seed < 0 or images < 1:
        raise WorkbenchError(
            f"person {number}, seed {seed}, {images} images: person and seed must be >= 0, images > 0"
        )
    if album == "invariance" and images != INVARIANCE_IMAGES:
        raise WorkbenchError(
            f"the album 'invariance' has {INVARIANCE_IMAGES} images a person, not {images}"
        )
    who = person(anatomy(), number, seed)
    taken = []
    dressed = None
    draw = stream(4, seed, number, ALBUMS.index(album))
    for day, shot in _ALBUMS[album](who, images, draw):
        if dressed is None or dressed.day is not day:
            dressed = dress(who, day)
        picture = photograph(dressed, shot, size)
        attributes: dict[str, float | int | str | bool] = {
            "age": round(day.age, 1),
            "gender": "female" if who.female else "male",
            "yaw": round(shot.yaw, 2),
            "pitch": round(shot.pitch, 2),
            "roll": round(shot.roll, 2),
            "expression": shot.expression,
            "illumination": round(shot.illumination, 2),
            "glasses": day.glasses is not None or shot.occluder == "dark glasses",
            "occlusion": round(picture.covered, 3),
            "session": day.number,
            "grey": shot.grey,
            "factor": shot.factor,
        }
        taken.append(Portrait(picture.jpeg, picture.landmarks, attributes))
    return taken


Plan = Iterator[tuple[Session, Shot]]


def _adult_age(draw: RandomState, low: float = 20, high: float = 75) -> float:
    """Younger ages are commoner."""
    return float(low + (high - low) * draw.beta(1.1, 1.9))


def _about_one_age(draw: RandomState) -> Callable[[], float]:
    """Ages of somebody who is photographed within a few years."""
    middle = _adult_age(draw, 22, 65)
    return lambda: float(np.clip(middle + 3 * draw.randn(), 20, 70))


def _days(
    who: Person, images: int, a_day: int, album: int, age: Callable[[], float]
) -> Iterator[Session]:
    """One session for each picture, the same for `a_day` in a row. Albums have days of their own."""
    for number in range(images):
        if number % a_day == 0:
            day = session(who, 1000 * album + number // a_day, age())
        yield day


def _wild(who: Person, images: int, draw: RandomState) -> Plan:
    for day in _days(who, images, A_DAY, 0, lambda: _adult_age(draw)):
        yield day, wild(draw)


def _frontal(who: Person, images: int, draw: RandomState) -> Plan:
    age = _about_one_age(draw)
    for day in _days(who, images, 2, 1, age):
        yield day, replace(mild(draw), grey=bool(draw.rand() < 0.04))


def _pose(who: Person, images: int, draw: RandomState) -> Plan:
    age = _about_one_age(draw)
    for number, day in enumerate(_days(who, images, 3, 2, age)):
        frontal = number < (images + 1) // 2
        yaw = draw.uniform(-12, 12) if frontal else draw.uniform(60, 90) * draw.choice([-1, 1])
        yield day, replace(mild(draw), yaw=float(yaw))


def _age(who: Person, images: int, draw: RandomState) -> Plan:
    young = (images + 1) // 2
    for number in range(images):
        if number % 2 == 0 or number == young:
            years = draw.uniform(20, 32) if number < young else draw.uniform(60, 80)
            day = session(who, 3000 + number, float(years))
        yield day, mild(draw)


def _light(who: Person, images: int, draw: RandomState) -> Plan:
    age = _about_one_age(draw)
    for number, day in enumerate(_days(who, images, 3, 4, age)):
        shot = mild(draw)
        if number < (images + 1) // 2:
            yield (
                day,
                replace(
                    shot,
                    light=(float(draw.uniform(-12, 12)), float(draw.uniform(0, 20))),
                    hardness=0.4,
                ),
            )
        else:
            side = float(draw.uniform(45, 88) * draw.choice([-1, 1]))
            fill = (*shot.fill[:2], 0.08)
            yield (
                day,
                replace(
                    shot,
                    light=(side, float(draw.uniform(-15, 50))),
                    hardness=float(draw.uniform(0.75, 0.95)),
                    fill=fill,
                ),
            )


def _occlusion(who: Person, images: int, draw: RandomState) -> Plan:
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
    """One thing at a time: each picture differs from the first in its factor alone (and in grain, crop and backdrop)."""
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
        yield (
            day,
            replace(
                plain(draw),
                occluder="panel",
                share=share,
                angle=float(draw.uniform(0, 360)),
                factor="occlusion",
            ),
        )
    for age in AGES:
        yield (
            replace(session(who, number, age, plain=True), glasses=None),
            replace(plain(draw), factor="age"),
        )


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
