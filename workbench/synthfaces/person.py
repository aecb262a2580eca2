"""Who somebody is: a seeded draw of everything that stays the same from one picture to the next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from workbench.synthfaces.anatomy import ARCHETYPES, Anatomy

SPREAD = {
    "nose": 0.29,
    "mouth": 0.26,
    "eyes": 0.28,
    "chin": 0.30,
    "cheek": 0.34,
    "forehead": 0.32,
    "head": 0.16,
    "eyebrows": 0.36,
    "ears": 0.26,
    "neck": 0.12,
    "asym": 0.09,
}
"""Standard deviation of a person's place on the local axes of a region; 1 is the far end that MakeHuman's artists drew."""

SKIN_TONES = (
    np.array(
        [
            [238, 208, 192],
            [224, 187, 164],
            [200, 158, 132],
            [158, 116, 92],
            [112, 80, 63],
            [76, 55, 46],
        ]
    )
    / 255
)
"""sRGB, light to dark."""
HAIR_COLOURS = {
    "black": (0.012, 0.010, 0.009),
    "dark brown": (0.035, 0.022, 0.014),
    "brown": (0.085, 0.048, 0.026),
    "light brown": (0.19, 0.115, 0.06),
    "blond": (0.40, 0.28, 0.14),
    "red": (0.22, 0.065, 0.022),
}
"""Linear light."""
IRISES = {
    "dark brown": (0.035, 0.016, 0.008),
    "brown": (0.085, 0.04, 0.015),
    "hazel": (0.13, 0.085, 0.03),
    "green": (0.10, 0.13, 0.06),
    "blue": (0.10, 0.17, 0.26),
    "grey": (0.16, 0.18, 0.19),
}
TEXTURES = ("straight", "wavy", "curly", "coily")


@dataclass(frozen=True)
class Person:
    """A synthetic person. Colours are linear light, 0..1.

    Attributes:
        number, seed: from which all the rest follows.
        female: their sex. masculinity: 0..1, how far their bones follow it.
        ancestry: (3,) shares of the three archetypes, sum 1.
        weight, muscle: -1..1.
        shape: place on each local axis, about -1..1.
        tone: 0 (light) .. 1 (dark). skin: (3,) mean albedo. redness: of cheeks, nose and ears.
        freckles: 0..1. moles: (n, 4) x, y on the mean face, radius, darkness.
        brow: height, arch, thickness, length, tilt, density, each about -1..1.
        hair: (3,) colour; texture: index into TEXTURES; hairline: height offset, temples, widow's peak; balding 0..1.
        iris: (3,) colour. lips: (3,) tint of the lips. beard: 0..1 how dense it grows.
        glasses: whether they wear them most days. greying: age at which half of the hair is grey.
        pattern: seed of blotches and freckles.
    """

    number: int
    seed: int
    female: bool
    masculinity: float
    ancestry: NDArray[np.float64]
    weight: float
    muscle: float
    shape: dict[str, float]
    tone: float
    skin: NDArray[np.float64]
    redness: float
    freckles: float
    moles: NDArray[np.float32]
    brow: NDArray[np.float64]
    hair: NDArray[np.float64]
    texture: int
    hairline: NDArray[np.float64]
    balding: float
    iris: NDArray[np.float64]
    lips: NDArray[np.float64]
    beard: float
    glasses: bool
    greying: float
    pattern: int


def stream(*key: int) -> RandomState:
    """Random numbers from whole numbers. RandomState's are the ones that NumPy promises never to change."""
    return RandomState(np.random.MT19937(np.random.SeedSequence(key)))


def person(head: Anatomy, number: int, seed: int = 0) -> Person:
    """Person `number` of the world `seed`.

    Sexes alternate and so do the archetypes that a person is nearest to, so any stretch of numbers is balanced.
    """
    draw = stream(1, seed, number)
    female = number % 2 == 0
    shares = np.sort(draw.dirichlet([0.45] * 3))[::-1]
    rest = draw.permutation([1, 2])
    order = [(number // 2 + step) % 3 for step in (0, *rest)]
    ancestry = np.zeros(3)
    ancestry[order] = shares
    # Each archetype spans a wide range of skin tones, and the ranges overlap.
    middle, width = ancestry @ [0.72, 0.32, 0.22], 0.13
    tone = float(np.clip(middle + width * draw.randn(), 0.0, 1.0))
    warmth = 0.05 * draw.randn()
    skin = np.minimum(
        _tone(tone) * np.array([1 + warmth, 1.0, 1 - warmth]) * (1 + 0.05 * draw.randn()), 0.78
    )

    masculinity = float(np.clip((0.16 if female else 0.84) + 0.10 * draw.randn(), 0, 1))
    shape = _shape(head, draw)
    moles = np.empty((draw.poisson(2.2), 4), dtype=np.float32)
    moles[:, 0], moles[:, 1] = (
        draw.uniform(-0.6, 0.6, len(moles)),
        draw.uniform(-1.0, 0.7, len(moles)),
    )
    moles[:, 2], moles[:, 3] = (
        draw.uniform(0.012, 0.03, len(moles)),
        draw.uniform(0.3, 0.8, len(moles)),
    )

    dark = float(ancestry[:2].sum())
    hair = _hair_colour(draw, dark)
    light_hair = float(hair.mean() > 0.07)
    eye_odds = np.array([0.5, 0.5, 0.0, 0.0, 0.0, 0.0]) * dark + np.array(
        [0.08, 0.24, 0.16, 0.14, 0.28, 0.10]
    ) * (1 - dark)
    iris = np.array(list(IRISES.values()))[
        draw.choice(6, p=eye_odds / eye_odds.sum())
    ] * draw.uniform(0.8, 1.25)
    texture_odds = ancestry @ np.array(
        [[0.03, 0.07, 0.25, 0.65], [0.75, 0.2, 0.05, 0.0], [0.42, 0.36, 0.2, 0.02]]
    )
    return Person(
        number=number,
        seed=seed,
        female=female,
        masculinity=masculinity,
        ancestry=ancestry,
        weight=float(np.clip(0.35 * draw.randn(), -0.8, 0.9)),
        muscle=float(np.clip(0.3 * draw.randn(), -0.7, 0.7)),
        shape=shape,
        tone=tone,
        skin=skin,
        redness=float(np.clip(0.5 + 0.3 * draw.randn(), 0, 1.2)),
        freckles=float(max(draw.uniform(-1.6, 1.0) + 0.5 * light_hair - 0.8 * tone, 0)),
        moles=moles,
        brow=np.clip(draw.randn(6) * 0.5, -1.1, 1.1)
        + np.array([0, 0.25, -0.25, 0, 0, 0]) * (1 if female else -1),
        hair=hair,
        texture=int(draw.choice(4, p=texture_odds / texture_odds.sum())),
        hairline=np.clip(draw.randn(3) * 0.5, -1, 1),
        balding=0.0 if female else float(np.clip(draw.uniform(-0.9, 1.1), 0, 1)),
        iris=iris,
        lips=np.array([1.02, 0.56, 0.58]) * (1 + 0.06 * draw.randn(3)),
        beard=0.0 if female else float(np.clip(0.65 + 0.3 * draw.randn(), 0.1, 1)),
        glasses=bool(draw.rand() < 0.22),
        greying=float(np.clip(52 + 9 * draw.randn(), 34, 75)),
        pattern=int(draw.randint(1 << 20)),
    )


def _shape(head: Anatomy, draw: RandomState) -> dict[str, float]:
    """A place on every local axis; left and right nearly share theirs."""
    shape: dict[str, float] = {}
    for region, spread in SPREAD.items():
        for axis in head.axes(region):
            stem = axis.split("/")[1]
            if stem.startswith("r-"):
                continue
            value = float(np.clip(draw.randn() * spread, -2.2 * spread, 2.2 * spread))
            shape[axis] = value
            if stem.startswith("l-"):
                shape[f"{region}/r-{stem[2:]}"] = (
                    value + 0.06 * float(np.clip(draw.randn(), -2, 2)) * spread / 0.3
                )
    return shape


def _tone(tone: float) -> NDArray[np.float64]:
    """Linear albedo of a skin tone 0..1."""
    at = np.linspace(0, 1, len(SKIN_TONES))
    srgb = np.array([np.interp(tone, at, SKIN_TONES[:, channel]) for channel in range(3)])
    return np.asarray(srgb**2.2)


def _hair_colour(draw: RandomState, dark: float) -> NDArray[np.float64]:
    odds = np.array([0.72, 0.25, 0.03, 0.0, 0.0, 0.0]) * dark + np.array(
        [0.10, 0.24, 0.28, 0.16, 0.15, 0.07]
    ) * (1 - dark)
    colours = np.array(list(HAIR_COLOURS.values()))
    first, second = draw.choice(6, 2, p=odds / odds.sum())
    share = draw.uniform(0, 0.4)
    return np.asarray(
        (colours[first] * (1 - share) + colours[second] * share) * draw.uniform(0.8, 1.25)
    )


def head_of(head: Anatomy, who: Person, age: float) -> NDArray[np.float32]:
    """(V, 3) vertices of the person's head at an age in years, without expression."""
    old = float(np.clip((age - 25) / 65, 0, 1)) ** 1.15
    weights: dict[str, float] = {}

    def add(name: str, weight: float) -> None:
        weights[name] = weights.get(name, 0.0) + weight

    for sex, share in (("female", 1 - who.masculinity), ("male", who.masculinity)):
        for period, part in (("young", 1 - old), ("old", old)):
            for archetype, ancestry in zip(ARCHETYPES, who.ancestry, strict=True):
                add(f"macro/{archetype}-{sex}-{period}", share * part * ancestry)
            for muscle, in_muscle in _ends("muscle", who.muscle):
                for weight, in_weight in _ends("weight", who.weight):
                    add(
                        f"macro/universal-{sex}-{period}-{muscle}-{weight}",
                        share * part * in_muscle * in_weight,
                    )
    # The mean head is the mean of these; what is left is how the person differs from it.
    for archetype in ARCHETYPES:
        for sex in ("female", "male"):
            add(f"macro/{archetype}-{sex}-young", -1 / 6)
    for sex in ("female", "male"):
        add(f"macro/universal-{sex}-young-averagemuscle-averageweight", -1 / 2)
    for axis, value in who.shape.items():
        if axis in head.number:
            add(axis, abs(value))
        else:
            name = axis + ("+" if value >= 0 else "-")
            if name in head.number:
                add(name, abs(value))
    shaped = head.mean + head.displaced(weights)
    eyes = [shaped[head.eye_vertices == eye].mean(axis=0) for eye in (1, 2)]
    middle = [head.mean[head.eye_vertices == eye].mean(axis=0) for eye in (1, 2)]
    return np.asarray(shaped - np.mean(eyes, axis=0) + np.mean(middle, axis=0), dtype=np.float32)


def _ends(what: str, value: float) -> list[tuple[str, float]]:
    """MakeHuman's ends around a value in -1..1, and their shares."""
    return [
        (f"average{what}", 1 - abs(value)),
        (f"{'max' if value > 0 else 'min'}{what}", abs(value)),
    ]
