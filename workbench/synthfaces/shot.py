"""What changes between images: the looks of a day, pose, expression, light, camera, occluders."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from workbench.synthfaces.hair import Style, hairline, style_of_day
from workbench.synthfaces.paint import Look
from workbench.synthfaces.person import Person, stream

EXPRESSIONS: dict[str, dict[str, float]] = {
    "neutral": {},
    "smile": {
        "mouthSmile": 0.75,
        "cheekSquint": 0.45,
        "eyeSquint": 0.25,
        "mouthDimple": 0.2,
        "mouthUpperUp": 0.28,
        "jawOpen": 0.04,
    },
    "laugh": {
        "mouthSmile": 0.9,
        "cheekSquint": 0.6,
        "eyeSquint": 0.4,
        "jawOpen": 0.16,
        "mouthUpperUp": 0.5,
        "mouthLowerDown": 0.3,
    },
    "speaking": {
        "jawOpen": 0.18,
        "mouthFunnel": 0.10,
        "mouthUpperUp": 0.2,
        "mouthLowerDown": 0.35,
    },
    "frown": {"browDown": 0.8, "mouthFrown": 0.5, "eyeSquint": 0.2, "mouthPress": 0.3},
    "surprise": {"browInnerUp": 0.8, "browOuterUp": 0.7, "eyeWide": 0.5, "jawOpen": 0.22},
    "pucker": {"mouthPucker": 0.6, "browInnerUp": 0.2},
    "disgust": {"noseSneer": 0.7, "mouthUpperUp": 0.35, "browDown": 0.4, "eyeSquint": 0.3},
    "eyes closed": {"eyeBlink": 0.95},
}
"""The face units of each expression and their strengths."""
SIDED = {
    "mouthSmile",
    "cheekSquint",
    "eyeSquint",
    "mouthDimple",
    "mouthUpperUp",
    "mouthLowerDown",
    "browDown",
    "mouthFrown",
    "mouthPress",
    "browOuterUp",
    "eyeWide",
    "noseSneer",
    "eyeBlink",
}
"""Face units that exist for the left and for the right side."""
OCCLUDERS = ("dark glasses", "mask", "scarf", "cap", "hand", "panel")

LIPSTICKS = np.array(
    [[0.32, 0.075, 0.07], [0.25, 0.06, 0.075], [0.36, 0.13, 0.11], [0.18, 0.035, 0.05]]
)
"""Colours of lipstick, in linear light."""
FRAMES = np.array(
    [
        [0.01, 0.01, 0.012],
        [0.05, 0.025, 0.012],
        [0.2, 0.2, 0.21],
        [0.03, 0.04, 0.09],
        [0.15, 0.03, 0.03],
    ]
)
"""Colours of the frames of glasses, in linear light."""
COMMON_EXPRESSIONS = {
    "neutral": 0.28,
    "smile": 0.32,
    "laugh": 0.18,
    "speaking": 0.09,
    "frown": 0.05,
    "surprise": 0.02,
    "pucker": 0.02,
    "disgust": 0.02,
    "eyes closed": 0.02,
}
"""How common each expression is."""


@dataclass(frozen=True)
class Session:
    """A day in the life of a person: what stays the same in all images of that day.

    Colours are linear light.

    Attributes:
        number: number of the day.
        age: age in years.
        style: hairstyle.
        look: look of the skin.
        hair: (3,) colour of the hair.
        tips: (3,) colour of the ends of the hair.
        glasses: form of the glasses, four numbers 0..1, as for `glasses_piece`; None for no
            glasses.
        frame: (3,) colour of the frame of the glasses.
        cloth: (3,) colour of the clothes.
        collar: (3,) height, depth and width of the neckline, as for `Collar`.
    """

    number: int
    age: float
    style: Style
    look: Look
    hair: NDArray[np.float64]
    tips: NDArray[np.float64]
    glasses: NDArray[np.float64] | None
    frame: NDArray[np.float64]
    cloth: NDArray[np.float64]
    collar: NDArray[np.float64]


@dataclass(frozen=True)
class Shot:
    """The settings of one image. Lengths in pixels are those of an image of 112 x 112 pixels.

    Attributes:
        yaw: degrees by which the head is turned, positive to the right of the image.
        pitch: degrees by which the head is tilted, positive upwards.
        roll: degrees by which the face is rotated in the image plane, positive clockwise.
        expression: name of the expression.
        units: face units and their strengths.
        gaze: degrees to the right and upwards by which the eyes turn in the head.
        distance: distance of the camera in decimetres. A near camera makes noses large.
        light: degrees to the right and upwards from the axis of the camera to the main light.
        hardness: share 0..1 of the main light in all light.
        warmth: colour of the main light, from -1 (blue) to 1 (yellow).
        fill: degrees to the right and upwards, and strength, of a second light.
        exposure: factor of the brightness.
        softness: standard deviation of the blur of lens and resampling in pixels.
        blur: standard deviation of the additional blur of an image out of focus, in pixels.
        grain: standard deviation of the noise, in 1/255.
        balance: natural logarithms of the gains of red and blue: the white balance of the camera.
        contrast: steepness of the tone curve, 0 (none) to 0.5.
        saturation: factor of the saturation of colours.
        quality: quality of the JPEG file.
        grey: whether the image is black and white.
        shift: shift of the face to the right and downwards in pixels.
        zoom: factor of the size of the face.
        occluder: one of `OCCLUDERS`, or an empty text.
        share: share 0..1 of the face that a panel covers.
        angle: degrees of the direction from which a panel covers the face.
        backdrop: seed of the backdrop, the grain and the occluder.
        factor: what the image varies, in the album `invariance`.
    """

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    expression: str = "neutral"
    units: dict[str, float] = field(default_factory=dict)
    gaze: tuple[float, float] = (0.0, 0.0)
    distance: float = 12.0
    light: tuple[float, float] = (0.0, 15.0)
    hardness: float = 0.6
    warmth: float = 0.2
    fill: tuple[float, float, float] = (-50.0, 10.0, 0.3)
    exposure: float = 1.0
    softness: float = 0.5
    blur: float = 0.0
    grain: float = 1.0
    balance: tuple[float, float] = (0.05, 0.0)
    contrast: float = 0.2
    saturation: float = 1.0
    quality: int = 92
    grey: bool = False
    shift: tuple[float, float] = (0.0, 0.0)
    zoom: float = 1.0
    occluder: str = ""
    share: float = 0.0
    angle: float = 0.0
    backdrop: int = 0
    factor: str = ""

    @property
    def illumination(self) -> float:
        """Degrees between the main light and the axis of the camera."""
        right, up = np.radians(self.light)
        return float(np.degrees(np.arccos(np.clip(np.cos(right) * np.cos(up), -1, 1))))


def session(who: Person, number: int, age: float, plain: bool = False) -> Session:
    """Draws the looks of a person on a day.

    Args:
        who: the person.
        number: number of the day. The same number gives the same day.
        age: age in years on that day.
        plain: whether to leave out make-up, beard and tan.

    Returns:
        The day.
    """
    draw = stream(2, who.seed, who.number, number)
    style = style_of_day(who, age, draw)
    grey = 1 / (1 + np.exp(-(age - who.greying) / 5.0))
    base = np.array(who.hair)
    # Drawn at every age, so that the following draws do not depend on the age.
    dyed = draw.rand() < 0.45
    if who.female and age > 35 and dyed:
        grey *= 0.15
    if not plain and draw.rand() < (0.12 if who.female else 0.03):
        base = base * draw.uniform(0.5, 1.6) * np.array([1.15, 0.95, 0.85])
    hair = base * (1 - grey) + np.array([0.42, 0.42, 0.43]) * grey
    made_up = who.female and not plain and draw.rand() < 0.55
    growth = 0.0
    if not who.female:
        growth = float(draw.choice([0.06, 0.30, 0.62, 1.0], p=[0.46, 0.24, 0.15, 0.15]))
        growth *= who.beard
    full = draw.rand() < 0.65
    glasses = None
    if draw.rand() < (0.75 if who.glasses else 0.06):
        glasses = draw.rand(4)
    is_colourful = draw.rand() < 0.6
    cloth = (
        np.minimum(0.02 + 0.3 * draw.rand() ** 1.5 * np.exp(0.45 * draw.randn(3)), 0.8)
        if is_colourful
        else np.full(3, draw.uniform(0.01, 0.6))
    )
    look = Look(
        age=age,
        tan=0.0 if plain else float(np.clip(0.03 + 0.06 * draw.randn(), -0.08, 0.18)),
        lipstick=LIPSTICKS[draw.randint(4)] * (1 - 0.45 * who.tone),
        lipstick_strength=float(made_up) * draw.uniform(0.2, 0.75),
        eyeshadow=float(made_up) * draw.uniform(0.0, 0.7),
        blush=float(made_up) * draw.uniform(0.0, 0.8),
        beard=0.05 * who.beard * (not who.female) if plain else growth,
        moustache=1.0 if full or draw.rand() < 0.7 else 0.0,
        chin=1.0 if full or draw.rand() < 0.7 else 0.0,
        cheeks=1.0 if full else 0.15,
        hair=hair * 0.8,
        cover=0.72 if style.name == "shaved" else 0.95,
        hairline=style.hairline if not style.fringe else hairline(who, age),
    )
    return Session(
        number=number,
        age=age,
        style=style,
        look=look,
        hair=hair,
        tips=hair * draw.uniform(0.9, 1.5),
        glasses=glasses,
        frame=FRAMES[draw.randint(5)],
        cloth=cloth,
        collar=np.array([draw.uniform(0.0, 0.2), draw.uniform(0.0, 0.45), draw.uniform(0.25, 0.5)]),
    )


def wild(draw: RandomState) -> Shot:
    """Draws an image as people take them: often frontal, some from the side, in any light.

    Args:
        draw: random numbers of the album.

    Returns:
        The settings of the image.
    """
    is_mostly_frontal = draw.rand() < 0.8
    yaw = np.clip(draw.randn() * 28, -85, 85) if is_mostly_frontal else draw.uniform(-85, 85)
    shot = mild(draw)
    occluder = ""
    if draw.rand() < 0.10:
        occluder = OCCLUDERS[draw.randint(len(OCCLUDERS))]
    return replace(
        shot,
        yaw=float(yaw),
        pitch=float(np.clip(draw.randn() * 10, -25, 25)),
        light=(float(np.clip(draw.randn() * 28, -85, 85)), float(draw.uniform(-5, 70))),
        hardness=float(draw.uniform(0.15, 0.8)),
        exposure=float(np.exp(0.3 * draw.randn())),
        blur=float(draw.uniform(0.4, 1.5)) if draw.rand() < 0.25 else 0.0,
        grain=float(draw.gamma(1.5, 0.9)),
        quality=int(draw.randint(55, 96)),
        grey=bool(draw.rand() < 0.08),
        occluder=occluder,
        share=float(draw.uniform(0.1, 0.35)),
        angle=float(draw.uniform(0, 360)),
    )


def mild(draw: RandomState) -> Shot:
    """Draws a roughly frontal portrait in fair light, as on LFW.

    Args:
        draw: random numbers of the album.

    Returns:
        The settings of the image.
    """
    chances = list(COMMON_EXPRESSIONS.values())
    name = list(COMMON_EXPRESSIONS)[int(draw.choice(len(chances), p=chances))]
    return Shot(
        yaw=float(np.clip(draw.randn() * 13, -35, 35)),
        pitch=float(np.clip(draw.randn() * 6, -14, 14)),
        roll=float(draw.randn() * 2.5),
        expression=name,
        units=_units(draw, name),
        gaze=(float(np.clip(draw.randn() * 9, -24, 24)), float(np.clip(draw.randn() * 5, -12, 12))),
        distance=float(np.exp(draw.uniform(np.log(6), np.log(22)))),
        light=(float(np.clip(draw.randn() * 22, -60, 60)), float(draw.uniform(5, 55))),
        hardness=float(draw.uniform(0.25, 0.7)),
        warmth=float(draw.uniform(-0.6, 1.0)),
        fill=(
            float(draw.uniform(-80, 80)),
            float(draw.uniform(-20, 50)),
            float(draw.uniform(0.05, 0.5)),
        ),
        exposure=float(np.exp(0.12 * draw.randn())),
        grain=float(draw.gamma(1.5, 0.8)),
        quality=int(draw.randint(80, 96)),
        shift=(float(draw.randn() * 1.3), float(draw.randn() * 1.3)),
        zoom=float(np.exp(0.025 * draw.randn())),
        backdrop=int(draw.randint(1 << 30)),
        softness=float(np.clip(0.54 * np.exp(0.3 * draw.randn()), 0.3, 1.1)),
        balance=(float(0.06 + 0.045 * draw.randn()), float(0.09 * draw.randn())),
        contrast=float(draw.uniform(0.05, 0.5)),
        saturation=float(0.95 * np.exp(0.15 * draw.randn())),
    )


def plain(draw: RandomState) -> Shot:
    """Draws a passport photo: frontal, neutral, with even light from the front.

    Only the noise of the camera, the crop and the backdrop are random.

    Args:
        draw: random numbers of the album.

    Returns:
        The settings of the image.
    """
    return Shot(
        light=(0.0, 0.0),
        distance=12.0,
        grain=float(draw.uniform(0.8, 1.6)),
        quality=92,
        shift=(float(draw.randn() * 0.6), float(draw.randn() * 0.6)),
        zoom=float(np.exp(0.01 * draw.randn())),
        backdrop=int(draw.randint(1 << 30)),
        fill=(0.0, 40.0, 0.25),
        hardness=0.6,
    )


def _units(draw: RandomState, name: str) -> dict[str, float]:
    """Face units of an expression, with random strengths, and small ones of other units."""
    strength = float(draw.uniform(0.55, 1.1))
    units: dict[str, float] = {}

    def add(unit: str, value: float) -> None:
        if unit in SIDED:
            asymmetry = float(0.12 * draw.randn())
            units[f"{unit}Left"] = units.get(f"{unit}Left", 0.0) + value * (1 + asymmetry)
            units[f"{unit}Right"] = units.get(f"{unit}Right", 0.0) + value * (1 - asymmetry)
        else:
            units[unit] = units.get(unit, 0.0) + value

    for unit, value in EXPRESSIONS[name].items():
        add(unit, value * strength)
    for unit in (
        "browInnerUp",
        "browDown",
        "eyeSquint",
        "mouthPress",
        "mouthSmile",
        "mouthFrown",
        "jawOpen",
    ):
        add(unit, max(float(draw.randn()) * 0.10, 0.0) * (0.5 if unit == "jawOpen" else 1.0))
    if name != "eyes closed":
        add("eyeBlink", max(float(draw.randn()) * 0.12, 0.0))
    return units
