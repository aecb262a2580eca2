"""What changes from picture to picture: the day's looks, pose, expression, light, camera, and what gets in the way."""

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
    "smile": {"mouthSmile": 0.75, "cheekSquint": 0.45, "eyeSquint": 0.25, "mouthDimple": 0.2},
    "laugh": {
        "mouthSmile": 0.9,
        "cheekSquint": 0.6,
        "eyeSquint": 0.4,
        "jawOpen": 0.22,
        "mouthUpperUp": 0.45,
        "mouthLowerDown": 0.25,
    },
    "speaking": {"jawOpen": 0.28, "mouthFunnel": 0.25, "mouthLowerDown": 0.2},
    "frown": {"browDown": 0.8, "mouthFrown": 0.5, "eyeSquint": 0.2, "mouthPress": 0.3},
    "surprise": {"browInnerUp": 0.8, "browOuterUp": 0.7, "eyeWide": 0.7, "jawOpen": 0.3},
    "pucker": {"mouthPucker": 0.6, "browInnerUp": 0.2},
    "disgust": {"noseSneer": 0.7, "mouthUpperUp": 0.35, "browDown": 0.4, "eyeSquint": 0.3},
    "eyes closed": {"eyeBlink": 0.95},
}
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
OCCLUDERS = ("dark glasses", "mask", "scarf", "cap", "hand", "panel")


@dataclass(frozen=True)
class Session:
    """A day in a person's life: what stays the same within it.

    Attributes:
        number: which day. age: years. style: of the hair. look: of the skin. hair, tips: (3,) colours of the day.
        glasses: form of the glasses worn (4 numbers 0..1), or None. frame, cloth: (3,) colours.
        collar: (3,) height, depth and width of the neckline.
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
    """One picture.

    Attributes:
        yaw, pitch: degrees of the head towards the camera; yaw > 0 looks to the right of the image, pitch > 0 up.
        roll: degrees by which the face leans in the picture, > 0 clockwise.
        expression: name; units: face units and their strengths. gaze: degrees right and up, of the eyes in the head.
        distance: of the camera, dm: near ones make noses large.
        light: (2,) degrees to the right and up, of the main light, from the camera's axis. hardness 0..1: its share of all light.
        warmth: -1 (blue) .. 1 (yellow), of the main light. fill: (3,) degrees right, up, and strength of a second light.
        exposure: factor. blur: pixels, at 112. grain: noise, in 1/255. quality: of the JPEG. grey: black and white.
        shift: (2,) pixels at 112; zoom: factor.
        occluder: name, or "". share: of the face that a panel covers. angle: degrees, from which side.
        backdrop: seed.
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
    blur: float = 0.0
    grain: float = 1.0
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
        """Degrees between the main light and the camera's axis."""
        right, up = np.radians(self.light)
        return float(np.degrees(np.arccos(np.clip(np.cos(right) * np.cos(up), -1, 1))))


def session(who: Person, number: int, age: float, plain: bool = False) -> Session:
    """Day `number` of a person at an age; `plain`: without make-up, beard and tan of the day."""
    draw = stream(2, who.seed, who.number, number)
    style = style_of_day(who, age, draw)
    grey = 1 / (1 + np.exp(-(age - who.greying) / 5.0))
    base = np.array(who.hair)
    dyed = (
        draw.rand() < 0.45
    )  # drawn at any age, so that the rest of a day does not depend on the years
    if who.female and age > 35 and dyed:
        grey *= 0.15
    if not plain and draw.rand() < (0.12 if who.female else 0.03):
        base = base * draw.uniform(0.5, 1.6) * np.array([1.15, 0.95, 0.85])
    hair = base * (1 - grey) + np.array([0.42, 0.42, 0.43]) * grey
    made_up = who.female and not plain and draw.rand() < 0.55
    growth = (
        float(draw.choice([0.06, 0.30, 0.62, 1.0], p=[0.46, 0.24, 0.15, 0.15])) * who.beard
        if not who.female
        else 0.0
    )
    full = draw.rand() < 0.65
    reds = np.array(
        [[0.32, 0.075, 0.07], [0.25, 0.06, 0.075], [0.36, 0.13, 0.11], [0.18, 0.035, 0.05]]
    )
    glasses = draw.rand(4) if draw.rand() < (0.75 if who.glasses else 0.06) else None
    cloth = (
        0.03 + 0.55 * draw.rand(3) ** 1.8
        if draw.rand() < 0.6
        else np.full(3, draw.uniform(0.01, 0.6))
    )
    look = Look(
        age=age,
        tan=0.0 if plain else float(np.clip(0.03 + 0.06 * draw.randn(), -0.08, 0.18)),
        lipstick=reds[draw.randint(4)] * (1 - 0.45 * who.tone),
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
        frame=np.array(
            [
                [0.01, 0.01, 0.012],
                [0.05, 0.025, 0.012],
                [0.2, 0.2, 0.21],
                [0.03, 0.04, 0.09],
                [0.15, 0.03, 0.03],
            ]
        )[draw.randint(5)],
        cloth=cloth,
        collar=np.array([draw.uniform(0.0, 0.2), draw.uniform(0.0, 0.45), draw.uniform(0.25, 0.5)]),
    )


def wild(draw: RandomState) -> Shot:
    """A picture as people take them: mostly towards the camera, some from the side, all sorts of light."""
    yaw = (
        float(np.clip(draw.randn() * 28, -85, 85))
        if draw.rand() < 0.8
        else float(draw.uniform(-85, 85))
    )
    shot = mild(draw)
    occluder = ""
    if draw.rand() < 0.10:
        occluder = OCCLUDERS[draw.randint(len(OCCLUDERS))]
    return replace(
        shot,
        yaw=yaw,
        pitch=float(np.clip(draw.randn() * 10, -25, 25)),
        light=(float(np.clip(draw.randn() * 40, -85, 85)), float(draw.uniform(-10, 55))),
        hardness=float(draw.uniform(0.3, 0.9)),
        exposure=float(np.exp(0.25 * draw.randn())),
        blur=float(draw.uniform(0.4, 1.5)) if draw.rand() < 0.25 else 0.0,
        grain=float(draw.gamma(1.5, 1.2)),
        quality=int(draw.randint(55, 96)),
        grey=bool(draw.rand() < 0.08),
        occluder=occluder,
        share=float(draw.uniform(0.1, 0.35)),
        angle=float(draw.uniform(0, 360)),
    )


def mild(draw: RandomState) -> Shot:
    """A portrait in fair light, near the camera's axis, as on LFW."""
    name = (
        "neutral",
        "smile",
        "laugh",
        "speaking",
        "frown",
        "surprise",
        "pucker",
        "disgust",
        "eyes closed",
    )[int(draw.choice(9, p=[0.30, 0.28, 0.13, 0.12, 0.06, 0.04, 0.03, 0.02, 0.02]))]
    return Shot(
        yaw=float(np.clip(draw.randn() * 13, -35, 35)),
        pitch=float(np.clip(draw.randn() * 6, -14, 14)),
        roll=float(draw.randn() * 2.5),
        expression=name,
        units=_units(draw, name),
        gaze=(float(np.clip(draw.randn() * 9, -24, 24)), float(np.clip(draw.randn() * 5, -12, 12))),
        distance=float(np.exp(draw.uniform(np.log(6), np.log(22)))),
        light=(float(np.clip(draw.randn() * 25, -60, 60)), float(draw.uniform(5, 45))),
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
    )


def plain(draw: RandomState) -> Shot:
    """A passport picture: frontal, neutral, even light from the front. What is left to chance is camera noise and crop."""
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
    """Face units of an expression, with chance in their strength and sides, and a little of everything else."""
    strength = float(draw.uniform(0.55, 1.1))
    units: dict[str, float] = {}

    def add(unit: str, value: float) -> None:
        if unit in SIDED:
            lean = float(0.12 * draw.randn())
            units[f"{unit}Left"] = units.get(f"{unit}Left", 0.0) + value * (1 + lean)
            units[f"{unit}Right"] = units.get(f"{unit}Right", 0.0) + value * (1 - lean)
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
