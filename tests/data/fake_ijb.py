"""Small files in the format of IJB: each person is a blob of one colour, on photos and videos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

PEOPLE, TEMPLATES, SIZE = 6, 3, 40
EYES = np.array([(14.0, 16.0), (26.0, 15.0), (20.5, 22.0), (15.0, 30.0), (25.0, 29.0)])
"""Left and right eye, nose, corners of the mouth."""


def colour(person: int) -> tuple[int, int, int]:
    return (40 + 200 * (person & 1), 40 + 200 * (person >> 1 & 1), 40 + 200 * (person >> 2 & 1))


def draw(person: int, landmarks: NDArray[np.float64], rng: np.random.Generator) -> Image.Image:
    picture = Image.new("RGB", (SIZE, SIZE), "grey")
    pen = ImageDraw.Draw(picture)
    pen.ellipse((6, 4, SIZE - 6, SIZE - 2), fill=colour(person))
    for x, y in landmarks:
        pen.point((x, y), fill="white")
    noisy = np.asarray(picture) + rng.normal(0, 25, (SIZE, SIZE, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def make(root: Path, kind: str = "ijbc", seed: int = 0) -> Path:
    """Writes DIR/meta/ijbc_*.txt and DIR/loose_crop/.

    There are 18 templates of 6 people, whose numbers have gaps, and all pairs of templates.
    """
    rng = np.random.default_rng(seed)
    (root / "meta").mkdir(parents=True)
    (root / "loose_crop").mkdir()
    faces: list[tuple[Any, ...]] = []
    scores: list[tuple[Any, ...]] = []
    owners: dict[int, int] = {}
    for template in range(PEOPLE * TEMPLATES):
        number, person = 7 * template + 1, template % PEOPLE
        owners[number] = person
        for medium, frames in enumerate(rng.integers(1, 4, size=rng.integers(1, 4))):
            for _ in range(frames):
                name = f"{len(faces) + 1}.png"
                landmarks = EYES + rng.normal(0, 1, (5, 2))
                draw(person, landmarks, rng).save(root / "loose_crop" / name)
                # Two templates have a medium of the same number, but it is not the same medium.
                faces.append((name, number, 100 * template + medium * 100))
                scores.append((name, *landmarks.ravel().round(3), round(rng.uniform(0.5, 1), 6)))
    numbers = list(owners)
    pairs = [
        (a, b, int(owners[a] == owners[b])) for i, a in enumerate(numbers) for b in numbers[i + 1 :]
    ]
    pairs.sort(key=lambda pair: -pair[2])  # genuine pairs first, as in IJB's own lists
    for part, rows in (
        ("face_tid_mid", faces),
        ("name_5pts_score", scores),
        ("template_pair_label", pairs),
    ):
        (root / "meta" / f"{kind}_{part}.txt").write_text(
            "".join(" ".join(map(str, row)) + "\n" for row in rows)
        )
    return root
