"""A fast renderer of plain squares, which replaces `workbench.synthfaces` in tests.

Its images are a pure function of its arguments.
"""

from __future__ import annotations

import errno
import io
import os
import time
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workbench.errors import WorkbenchError

VERSION = "1"
TEST_PEOPLE = 1_000_000
SMALLEST, LARGEST = 32, 512
INVARIANCE_IMAGES = 8
FACTORS = ("none", "none", "yaw", "yaw", "age", "illumination", "occlusion", "occlusion")


class Portrait(NamedTuple):
    jpeg: bytes
    landmarks: NDArray[np.float32]
    attributes: dict[str, Any]


def portraits(
    person: int, *, images: int, album: str = "wild", seed: int = 0, size: int = 112
) -> list[Portrait]:
    """Does first what the environment asks for: writes a log, prints, waits, or fails at a person."""
    if log := os.environ.get("FAKE_FACES_LOG"):
        with open(log, "a", encoding="utf-8") as file:
            file.write(f"{person} {os.getpid()} {os.environ.get('NUMBA_NUM_THREADS')}\n")
        print("a library that prints")
    time.sleep(float(os.environ.get("FAKE_FACES_SECONDS", "0")))
    match os.environ.get("FAKE_FACES_AT", "").split():
        case [at, "die"] if int(at) == person:
            os._exit(9)
        case [at, "fail"] if int(at) == person:
            raise ZeroDivisionError("no such\nnose")
        case [at, "refuse"] if int(at) == person:
            raise WorkbenchError("no nose today")
        case [at, "full"] if int(at) == person:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    rng = np.random.default_rng([seed, person, images, size, len(album)])
    return [_portrait(rng, number, images, album, size) for number in range(images)]


def _portrait(
    rng: np.random.Generator, number: int, images: int, album: str, size: int
) -> Portrait:
    second = number >= images // 2
    buffer = io.BytesIO()
    Image.fromarray(np.full((size, size, 3), rng.integers(0, 256, 3), dtype=np.uint8)).save(
        buffer, "JPEG"
    )
    attributes = {
        "age": float(rng.uniform(60, 85) if album == "age" and second else rng.uniform(20, 35)),
        "gender": ("female", "male")[rng.integers(2)],
        "yaw": float(rng.uniform(60, 90) if album == "pose" and second else rng.uniform(-12, 12)),
        "illumination": float(
            rng.uniform(45, 90) if album == "light" and second else rng.uniform(0, 20)
        ),
        "occlusion": float(rng.uniform(0.1, 0.6)) if album == "occlusion" and second else 0.0,
        "glasses": bool(rng.integers(2)),
        "session": int(rng.integers(3)),
        "factor": FACTORS[number] if album == "invariance" else "",
    }
    return Portrait(buffer.getvalue(), rng.uniform(0, size, (5, 2)).astype(np.float32), attributes)
