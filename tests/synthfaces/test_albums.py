"""The albums: pure functions of their arguments, which fulfil the conditions of each album."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Complaint
from numpy.typing import NDArray
from PIL import Image

from workbench import images, synthfaces
from workbench.geometry import ARCFACE
from workbench.synthfaces import ALBUMS, ATTRIBUTES, INVARIANCE_IMAGES, Portrait, albums, portraits
from workbench.synthfaces.person import Person
from workbench.synthfaces.scene import Dressed, Taken
from workbench.synthfaces.shot import EXPRESSIONS, OCCLUDERS, Session, Shot

FIRST = synthfaces.TEST_PEOPLE
IMAGES = 12


def _album(
    number: int, album: str, size: int = 32, images: int = IMAGES, seed: int = 0
) -> list[Portrait]:
    return portraits(
        number,
        images=INVARIANCE_IMAGES if album == "invariance" else images,
        album=album,
        seed=seed,
        size=size,
    )


@pytest.fixture(scope="module")
def taken() -> dict[str, list[list[Portrait]]]:
    """Small images of a few people for every album."""
    return {album: [_album(FIRST + number, album) for number in range(3)] for album in ALBUMS}


Plans = dict[str, list[list[tuple[Person, Session, Shot]]]]


@pytest.fixture(scope="module")
def plans() -> Plans:
    """Everything that would be photographed of many people, without rendering it."""
    nothing = Taken(b"", ARCFACE.astype(np.float32), 0.0)
    kept: list[tuple[Person, Session, Shot]] = []

    class Undressed:
        def __init__(self, who: Person, day: Session) -> None:
            self.who, self.day = who, day

    def photograph(dressed: Dressed, shot: Shot, size: int) -> Taken:
        kept.append((dressed.who, dressed.day, shot))
        return nothing

    found: Plans = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(albums, "dress", Undressed)
        patch.setattr(albums, "photograph", photograph)
        for album in ALBUMS:
            for number in range(40):
                kept.clear()
                _album(FIRST + number, album)
                found.setdefault(album, []).append(list(kept))
    return found


def test_public_names() -> None:
    assert ALBUMS == ("wild", "frontal", "pose", "age", "light", "occlusion", "invariance")
    assert synthfaces.TEST_PEOPLE == synthfaces.TEST_PEOPLE == 1_000_000
    assert isinstance(synthfaces.VERSION, str)
    assert set(ATTRIBUTES) == {
        *(
            "age",
            "gender",
            "yaw",
            "pitch",
            "roll",
            "expression",
            "illumination",
            "glasses",
            "occlusion",
            "session",
            "grey",
            "factor",
        )
    }
    for name in synthfaces.__all__:
        assert hasattr(synthfaces, name)


@pytest.mark.parametrize("album", ALBUMS)
def test_portraits_and_their_ground_truth(
    taken: dict[str, list[list[Portrait]]], album: str
) -> None:
    for number, pictures in enumerate(taken[album]):
        assert len(pictures) == (INVARIANCE_IMAGES if album == "invariance" else IMAGES)
        for portrait in pictures:
            pixels = images.decode(portrait.jpeg)
            assert pixels.shape == (32, 32, 3)
            assert pixels.std() > 3
            assert portrait.landmarks.shape == (5, 2)
            assert portrait.landmarks.dtype == np.float32
            assert np.isfinite(portrait.landmarks).all()
            assert portrait.landmarks.min() > -6
            assert portrait.landmarks.max() < 38
            truth = portrait.attributes
            assert list(truth) == list(ATTRIBUTES)
            kinds = {
                "age": float,
                "gender": str,
                "expression": str,
                "glasses": bool,
                "session": int,
                "grey": bool,
                "factor": str,
            }
            for key, value in truth.items():
                assert type(value) is kinds.get(key, float), key
            assert truth["gender"] == ("female" if number % 2 == 0 else "male")
            assert 20 <= float(truth["age"]) <= 85  # adults
            assert abs(float(truth["yaw"])) <= 90
            assert 0 <= float(truth["occlusion"]) <= 1
            assert truth["expression"] in EXPRESSIONS
            assert (truth["factor"] != "") == (album == "invariance")
            if truth["grey"]:
                assert np.ptp(pixels.astype(int), axis=2).max() <= 1


@pytest.mark.parametrize("album", ALBUMS)
def test_a_session_is_one_day(plans: Plans, album: str) -> None:
    for pictures in plans[album]:
        days: dict[tuple[int, float], Session] = {}
        for _, day, _ in pictures:
            assert days.setdefault((day.number, day.age), day) is day
            assert 20 <= day.age <= 85


def test_days_of_one_album_are_not_those_of_another(plans: Plans) -> None:
    numbers = [
        {day.number for pictures in plans[album] for _, day, _ in pictures} for album in ALBUMS
    ]
    assert len(set.union(*numbers)) == sum(len(some) for some in numbers)


def test_people_are_the_same_in_every_album(plans: Plans) -> None:
    for one in range(40):
        everybody = [who for album in ALBUMS for who, _, _ in plans[album][one]]
        for field in fields(Person):
            first = getattr(everybody[0], field.name)
            assert all(np.array_equal(getattr(who, field.name), first) for who in everybody), (
                field.name
            )


def _halves(
    plans: Plans, album: str
) -> tuple[list[tuple[Session, Shot]], list[tuple[Session, Shot]]]:
    both: tuple[list[tuple[Session, Shot]], ...] = ([], [])
    for pictures in plans[album]:
        for number, (_, day, shot) in enumerate(pictures):
            both[number >= IMAGES // 2].append((day, shot))
    return both[0], both[1]


def test_frontal(plans: Plans) -> None:
    for pictures in plans["frontal"]:
        for _, _, shot in pictures:
            assert abs(shot.yaw) <= 35
            assert shot.occluder == ""
            assert shot.illumination < 75


def test_pose(plans: Plans) -> None:
    frontal, profile = _halves(plans, "pose")
    assert max(abs(shot.yaw) for _, shot in frontal) < 12
    assert all(60 <= abs(shot.yaw) <= 90 for _, shot in profile)
    assert 0.35 < np.mean([shot.yaw > 0 for _, shot in profile]) < 0.65
    assert not any(shot.occluder for _, shot in frontal + profile)


def test_age(plans: Plans) -> None:
    young, old = _halves(plans, "age")
    assert all(20 <= day.age <= 35 for day, _ in young)
    assert all(60 <= day.age <= 85 for day, _ in old)
    for pictures in plans["age"]:
        ages = [day.age for _, day, _ in pictures]
        assert min(ages[IMAGES // 2 :]) - max(ages[: IMAGES // 2]) >= 25  # of every person
    assert max(abs(shot.yaw) for _, shot in young + old) <= 35


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7])
def test_an_odd_number_of_images_has_a_larger_first_half(count: int) -> None:
    ages = [float(portrait.attributes["age"]) for portrait in _album(FIRST, "age", images=count)]
    assert [age < 40 for age in ages] == [number < (count + 1) // 2 for number in range(count)]


def test_light(plans: Plans) -> None:
    soft, hard = _halves(plans, "light")
    assert max(shot.illumination for _, shot in soft) < 30
    assert min(shot.illumination for _, shot in hard) >= 45
    assert max(shot.illumination for _, shot in hard) <= 90
    assert max(shot.hardness for _, shot in soft) < min(shot.hardness for _, shot in hard)
    assert min(abs(shot.light[0]) for _, shot in hard) >= 45  # from the side


def test_occlusion(plans: Plans, taken: dict[str, list[list[Portrait]]]) -> None:
    free, covered = _halves(plans, "occlusion")
    assert not any(shot.occluder for _, shot in free)
    assert {shot.occluder for _, shot in covered} == set(OCCLUDERS)
    for pictures in taken["occlusion"]:
        shares = [float(portrait.attributes["occlusion"]) for portrait in pictures]
        assert max(shares[: IMAGES // 2]) == 0
        assert min(shares[IMAGES // 2 :]) > 0


def test_wild_has_everything(plans: Plans) -> None:
    shots = [shot for pictures in plans["wild"] for _, _, shot in pictures]
    assert {shot.occluder for shot in shots} == {"", *OCCLUDERS}
    assert {shot.grey for shot in shots} == {True, False}
    assert max(abs(shot.yaw) for shot in shots) > 60
    assert 0.2 < np.mean([abs(shot.yaw) < 15 for shot in shots]) < 0.8
    ages = [day.age for pictures in plans["wild"] for _, day, _ in pictures]
    assert np.ptp(ages) > 35


def test_each_image_of_the_sweep_differs_only_in_its_factor(
    taken: dict[str, list[list[Portrait]]],
) -> None:
    changing = {
        "yaw": "yaw",
        "age": "age",
        "illumination": "illumination",
        "occlusion": "occlusion",
    }
    for pictures in taken["invariance"]:
        assert len(pictures) == INVARIANCE_IMAGES
        reference = pictures[0].attributes
        wanted = {
            "age": 30.0,
            "yaw": 0.0,
            "pitch": 0.0,
            "roll": 0.0,
            "illumination": 0.0,
            "occlusion": 0.0,
            "expression": "neutral",
        }
        assert {key: reference[key] for key in wanted} == wanted
        assert [portrait.attributes["factor"] for portrait in pictures[:3]] == [
            "none",
            "none",
            "yaw",
        ]
        assert pictures[0].jpeg != pictures[1].jpeg  # a different crop and different noise
        for portrait in pictures:
            factor = str(portrait.attributes["factor"])
            differs = {key for key in ATTRIBUTES if portrait.attributes[key] != reference[key]} - {
                "factor"
            }
            assert differs == ({changing[factor]} if factor != "none" else set())
        values = {
            key: [float(p.attributes[key]) for p in pictures if p.attributes["factor"] == key]
            for key in changing
        }
        assert min(values["yaw"]) == -90
        assert max(values["yaw"]) == 90
        assert max(values["age"]) == 80
        assert max(values["illumination"]) == 90
        assert np.allclose(values["occlusion"], albums.COVERED, atol=0.03)


def test_the_sweep_varies_the_day_only_for_the_age(plans: Plans) -> None:
    for pictures in plans["invariance"]:
        reference = pictures[0][1]
        for _, day, shot in pictures:
            assert day.glasses is None
            assert shot.expression == "neutral"
            assert not shot.units
            if shot.factor != "age":
                assert day is reference
            for name in ("number", "cloth", "collar", "frame"):
                assert np.array_equal(getattr(day, name), getattr(reference, name)), name
            assert day.style.name == reference.style.name


@pytest.mark.parametrize("album", ALBUMS)
def test_portraits_are_a_pure_function(taken: dict[str, list[list[Portrait]]], album: str) -> None:
    for number in (2, 0):  # in another order of people
        for again, before in zip(_album(FIRST + number, album), taken[album][number], strict=True):
            assert again.jpeg == before.jpeg
            assert np.array_equal(again.landmarks, before.landmarks)
            assert again.attributes == before.attributes


def test_another_process_makes_the_same_bytes(faces_cache: Path) -> None:
    program = (
        "import base64, sys; from workbench import synthfaces as s\n"
        "for n in (9, 3):\n"
        "  for p in s.portraits(n, images=4, album='wild', seed=5, size=64):\n"
        "    for data in (p.jpeg, p.landmarks.tobytes()):\n"
        "      print(base64.b64encode(data).decode(), end=' ')\n"
        "    print()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"WORKBENCH_CACHE": str(faces_cache), "PYTHONHASHSEED": "7"},
        cwd=Path(__file__).parents[2],
    )
    here = [
        portrait for number in (3, 9) for portrait in portraits(number, images=4, seed=5, size=64)
    ]
    lines = [[base64.b64decode(word) for word in line.split()] for line in done.stdout.splitlines()]
    assert lines == [
        [portrait.jpeg, portrait.landmarks.tobytes()] for portrait in here[4:] + here[:4]
    ]


def test_worlds_and_people_differ() -> None:
    some = {
        (number, seed): _album(number, "frontal", images=1, seed=seed)[0].jpeg
        for number in (0, 1, 2)
        for seed in (0, 1)
    }
    assert len(set(some.values())) == 6


def test_more_images_begin_with_the_same_ones() -> None:
    few, many = (_album(4, "wild", images=count) for count in (3, 10))
    assert [portrait.jpeg for portrait in few] == [portrait.jpeg for portrait in many[:3]]


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        ({"album": "wilt"}, ["unknown album 'wilt'", "did you mean 'wild'?", "invariance"]),
        ({"album": ""}, ["unknown album ''", "known:"]),
        ({"size": 31}, ["31 pixels", "32..512"]),
        ({"size": 513}, ["513 pixels", "32..512"]),
        ({"number": -1}, ["person -1", "must be >= 0"]),
        ({"seed": -2}, ["seed -2", "must be >= 0"]),
        ({"images": 0}, ["0 images", "images > 0"]),
        (
            {"album": "invariance", "images": 5},
            ["'invariance'", f"{INVARIANCE_IMAGES} images", "not 5"],
        ),
    ],
)
def test_what_cannot_be_rendered(
    complaint: Complaint, arguments: dict[str, Any], texts: list[str]
) -> None:
    with complaint(*texts):
        portraits(**({"number": 0, "images": 1} | arguments))


@pytest.mark.parametrize("size", [synthfaces.SMALLEST, synthfaces.LARGEST])
def test_the_smallest_and_the_largest(size: int) -> None:
    (portrait,) = portraits(1, images=1, size=size)
    assert images.decode(portrait.jpeg).shape == (size, size, 3)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_stays_flat() -> None:
    def resident() -> float:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    for number in range(20):
        _album(number, "wild", size=112, images=1)
    before = resident()
    for number in range(20, 80):
        _album(number, "wild", size=112, images=1)
    assert resident() - before < 60


def _thumbnail(jpeg: bytes) -> NDArray[np.int64]:
    """(27,) mean red, green and blue of 3 x 3 fields, row by row."""
    small = Image.fromarray(images.decode(jpeg)).resize((3, 3), Image.Resampling.BOX)
    return np.asarray(small).astype(np.int64).ravel()


# `VERSION` is part of the name of cached sets, so it must change when the pixels do. If this test
# fails, raise VERSION and print the values again:
#   python tests/synthfaces/test_albums.py
# The values have a tolerance, since other versions of NumPy, of the JPEG library or of the
# processor's exp may round differently.
GOLDEN_VERSION = "2"
GOLDEN = {
    (0, "wild"): (
        "47 32 27 144 102 88 145 111 103 "
        "41 27 22 142 94 77 173 119 101 "
        "44 32 26 141 91 76 161 104 85 "
    ),
    (1, "frontal"): (
        "73 109 133 192 148 128 128 90 74 "
        "82 73 73 197 139 115 155 95 70 "
        "88 90 83 174 114 88 118 72 51 "
    ),
    (1000000, "pose"): (
        "140 120 109 108 99 90 76 78 73 "
        "204 179 164 150 127 115 77 79 74 "
        "205 170 152 161 135 122 91 93 88 "
    ),
    (1000003, "invariance"): (
        "55 47 42 146 119 105 71 64 61 "
        "111 86 72 199 155 130 113 89 76 "
        "75 58 50 190 142 118 80 66 57 "
    ),
}


def _golden_portrait(number: int, album: str) -> Portrait:
    return _album(number, album, size=96, images=2)[1]


def test_pixels_are_those_of_the_version() -> None:
    assert synthfaces.VERSION == GOLDEN_VERSION
    for (number, album), levels in GOLDEN.items():
        off = np.abs(
            _thumbnail(_golden_portrait(number, album).jpeg)
            - np.array([int(level) for level in levels.split()])
        )
        assert off.max() <= 3, (number, album)


if __name__ == "__main__":
    print(f'GOLDEN_VERSION = "{synthfaces.VERSION}"\nGOLDEN = {{')
    for key in GOLDEN:
        rows = _thumbnail(_golden_portrait(*key).jpeg).reshape(3, 9)
        levels = " ".join(f'"{" ".join(map(str, row))} "' for row in rows)
        print(f'    ({key[0]}, "{key[1]}"): ({levels}),')
    print("}")
