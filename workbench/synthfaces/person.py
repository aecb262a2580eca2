"""Synthetic people: everything about a person that is the same in all of their images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from workbench.synthfaces.anatomy import ARCHETYPES, Anatomy

SPREAD = {
    "nose": 0.30,
    "mouth": 0.29,
    "eyes": 0.30,
    "chin": 0.30,
    "cheek": 0.34,
    "forehead": 0.32,
    "head": 0.19,
    "eyebrows": 0.36,
    "ears": 0.26,
    "neck": 0.12,
    "asym": 0.09,
}
"""Standard deviation of people on the local axes of each region. 1 is the end of an axis, which the
artists of MakeHuman modelled."""

SKIN_TONES = (
    np.array(
        [
            [238, 208, 192],
            [224, 187, 164],
            [200, 158, 132],
            [160, 122, 100],
            [114, 85, 70],
            [78, 59, 51],
        ]
    )
    / 255
)
"""sRGB colours from light to dark skin."""
HAIR_COLOURS = {
    "black": (0.017, 0.013, 0.011),
    "dark brown": (0.045, 0.027, 0.016),
    "brown": (0.095, 0.052, 0.027),
    "light brown": (0.19, 0.115, 0.06),
    "blond": (0.40, 0.28, 0.14),
    "red": (0.22, 0.065, 0.022),
}
"""Linear light."""
HAIR_ODDS = (
    np.array([0.72, 0.25, 0.03, 0.0, 0.0, 0.0]),
    np.array([0.10, 0.24, 0.28, 0.16, 0.15, 0.07]),
)
"""How common each colour of hair is for the first two archetypes, and for the third."""
IRISES = {
    "dark brown": (0.035, 0.016, 0.008),
    "brown": (0.085, 0.04, 0.015),
    "hazel": (0.13, 0.085, 0.03),
    "green": (0.10, 0.13, 0.06),
    "blue": (0.10, 0.17, 0.26),
    "grey": (0.16, 0.18, 0.19),
}
"""Linear light."""
IRIS_ODDS = np.array([0.5, 0.5, 0.0, 0.0, 0.0, 0.0]), np.array([0.08, 0.24, 0.16, 0.14, 0.28, 0.10])
"""How common each colour of the iris is for the first two archetypes, and for the third."""
TEXTURES = ("straight", "wavy", "curly", "coily")
TEXTURE_ODDS = np.array([[0.03, 0.07, 0.25, 0.65], [0.75, 0.2, 0.05, 0.0], [0.42, 0.36, 0.2, 0.02]])
"""How common each texture of hair is for each archetype."""


@dataclass(frozen=True)
class Person:
    """A synthetic person. Colours are linear light, 0..1.

    Attributes:
        number: number of the person, from which everything follows together with `seed`.
        seed: seed of the world of the person.
        female: whether the person is a woman.
        masculinity: 0 to 1, how masculine the shape of the head is.
        ancestry: (3,) shares of the three archetypes, with the sum 1.
        weight: -1 to 1.
        muscle: -1 to 1.
        shape: position on each local axis, about -1 to 1.
        tone: skin tone, from 0 (light) to 1 (dark).
        skin: (3,) mean albedo of the skin.
        redness: redness of cheeks, nose and ears.
        freckles: density of the freckles, 0 for none.
        moles: (n, 4) float32 x and y on the mean face, radius and darkness.
        brow: (6,) height, arch, thickness, length, tilt and density, each about -1 to 1.
        hair: (3,) colour of the hair without grey.
        texture: index into `TEXTURES`.
        hairline: (3,) height, temples and widow's peak, each -1 to 1.
        balding: 0 to 1, how far the hairline recedes with age.
        iris: (3,) colour of the iris.
        lips: (3,) factors that turn the colour of the skin into that of the lips.
        beard: density of the beard, 0..1.
        glasses: whether the person wears glasses on most days.
        greying: age in years at which half of the hair is grey.
        pattern: seed of blotches, freckles and hair.
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
    """Returns a generator of random numbers that is seeded with integers.

    It is a `RandomState`, since NumPy guarantees that its numbers never change.

    Args:
        key: the integers.

    Example:
        >>> stream(1, 2, 3).randint(1000, size=3).tolist()
        [407, 12, 418]
    """
    return RandomState(np.random.MT19937(np.random.SeedSequence(key)))


def person(head: Anatomy, number: int, seed: int = 0) -> Person:
    """Returns a person of a world.

    Women have even numbers and men odd ones. The archetype that a person is closest to alternates
    as well, so that any range of numbers is balanced.

    Args:
        head: the mean head, with the local axes.
        number: number of the person.
        seed: seed of the world.

    Returns:
        The person.
    """
    draw = stream(1, seed, number)
    female = number % 2 == 0
    shares = np.sort(draw.dirichlet([0.45] * 3))[::-1]
    rest = draw.permutation([1, 2])
    order = [(number // 2 + step) % 3 for step in (0, *rest)]
    ancestry = np.zeros(3)
    ancestry[order] = shares
    # Each archetype spans a wide range of skin tones, and the ranges overlap.
    middle, width = ancestry @ [0.72, 0.32, 0.22], 0.14
    tone = float(np.clip(middle + width * draw.randn(), 0.0, 1.0))
    warmth = 0.05 * draw.randn()
    tint = np.array([1 + warmth, 1.0, 1 - warmth])
    skin = np.minimum(_albedo(tone) * tint * (1 + 0.05 * draw.randn()), 0.78)

    masculinity = float(np.clip((0.16 if female else 0.84) + 0.10 * draw.randn(), 0, 1))
    shape = _shape(head, draw)
    moles = _moles(draw)
    dark = float(ancestry[:2].sum())
    hair = _hair_colour(draw, dark)
    light_hair = float(hair.mean() > 0.07)
    iris_odds = IRIS_ODDS[0] * dark + IRIS_ODDS[1] * (1 - dark)
    irises = np.array(list(IRISES.values()))
    iris = irises[draw.choice(6, p=iris_odds / iris_odds.sum())] * draw.uniform(0.8, 1.25)
    texture_odds = ancestry @ TEXTURE_ODDS
    # How the brows of women differ from those of men.
    brow_of_sex = np.array([0, 0.25, -0.25, 0, 0, 0]) * (1 if female else -1)
    # The following draws depend on the order of the arguments.
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
        brow=np.clip(draw.randn(6) * 0.5, -1.1, 1.1) + brow_of_sex,
        hair=hair,
        texture=int(draw.choice(4, p=texture_odds / texture_odds.sum())),
        hairline=np.clip(draw.randn(3) * 0.5, -1, 1),
        balding=0.0 if female else float(np.clip(draw.uniform(-0.9, 1.1), 0, 1)),
        iris=iris,
        lips=np.array([1.00, 0.60, 0.62]) * (1 + 0.06 * draw.randn(3)),
        beard=0.0 if female else float(np.clip(0.65 + 0.3 * draw.randn(), 0.1, 1)),
        glasses=bool(draw.rand() < 0.22),
        greying=float(np.clip(52 + 9 * draw.randn(), 34, 75)),
        pattern=int(draw.randint(1 << 20)),
    )


def _shape(head: Anatomy, draw: RandomState) -> dict[str, float]:
    """A position on every local axis. Axes of the left and the right side have similar ones."""
    shape: dict[str, float] = {}
    for region, spread in SPREAD.items():
        for axis in head.axes(region):
            stem = axis.split("/")[1]
            if stem.startswith("r-"):
                continue
            value = float(np.clip(draw.randn() * spread, -1.9 * spread, 1.9 * spread))
            shape[axis] = value
            if stem.startswith("l-"):
                difference = 0.06 * float(np.clip(draw.randn(), -2, 2)) * spread / 0.3
                shape[f"{region}/r-{stem[2:]}"] = value + difference
    return shape


def _moles(draw: RandomState) -> NDArray[np.float32]:
    """(n, 4) float32 x and y on the mean face, radius and darkness of a few moles."""
    moles = np.empty((draw.poisson(2.2), 4), dtype=np.float32)
    for column, (low, high) in enumerate([(-0.6, 0.6), (-1.0, 0.7), (0.010, 0.024), (0.25, 0.7)]):
        moles[:, column] = draw.uniform(low, high, len(moles))
    return moles


def _albedo(tone: float) -> NDArray[np.float64]:
    """The albedo, in linear light, of a skin tone 0..1."""
    tones = np.linspace(0, 1, len(SKIN_TONES))
    srgb = np.array([np.interp(tone, tones, SKIN_TONES[:, channel]) for channel in range(3)])
    return np.asarray(srgb**2.2)


def _hair_colour(draw: RandomState, dark: float) -> NDArray[np.float64]:
    """A mixture of two colours. `dark` is the share of the first two archetypes."""
    odds = HAIR_ODDS[0] * dark + HAIR_ODDS[1] * (1 - dark)
    colours = np.array(list(HAIR_COLOURS.values()))
    first, second = draw.choice(6, 2, p=odds / odds.sum())
    share = draw.uniform(0, 0.4)
    mixture = colours[first] * (1 - share) + colours[second] * share
    return np.asarray(mixture * draw.uniform(0.8, 1.25))


def head_of(head: Anatomy, who: Person, age: float) -> NDArray[np.float32]:
    """Returns the shape of a person's head, without expression.

    Args:
        head: the mean head and its displacements.
        who: the person.
        age: age in years.

    Returns:
        (V, 3) float32 vertices.
    """
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
    # The mean head is the mean of these displacements, so they are subtracted from it.
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
    mean_eyes = [head.mean[head.eye_vertices == eye].mean(axis=0) for eye in (1, 2)]
    shift = np.mean(mean_eyes, axis=0)
    return np.asarray(shaped - np.mean(eyes, axis=0) + shift, dtype=np.float32)


def _ends(what: str, value: float) -> list[tuple[str, float]]:
    """The two shapes of MakeHuman between which a value in -1..1 lies, and their shares."""
    extreme = "max" if value > 0 else "min"
    return [(f"average{what}", 1 - abs(value)), (f"{extreme}{what}", abs(value))]
