"""Days and shots stay within their ranges."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from workbench.synthfaces.anatomy import Anatomy
from workbench.synthfaces.hair import MEN, WOMEN
from workbench.synthfaces.person import person, stream
from workbench.synthfaces.shot import (
    EXPRESSIONS,
    OCCLUDERS,
    Session,
    Shot,
    mild,
    plain,
    session,
    wild,
)


def _flat(day: Session) -> dict[str, Any]:
    """The attributes of a day and of its look, by name."""
    parts = {field.name: getattr(day, field.name) for field in fields(Session)}
    return parts | {
        f"look.{field.name}": getattr(day.look, field.name) for field in fields(day.look)
    }


@pytest.mark.parametrize(
    ("light", "degrees"),
    [((0, 0), 0), ((30, 0), 30), ((-75, 0), 75), ((0, 40), 40), ((45, 45), 60), ((180, 0), 180)],
)
def test_illumination_is_the_angle_to_the_camera(
    light: tuple[float, float], degrees: float
) -> None:
    assert Shot(light=light).illumination == pytest.approx(degrees, abs=1e-4)


@pytest.mark.parametrize("kind", ["wild", "mild", "plain"])
def test_shots_are_within_their_ranges(head: Anatomy, kind: str) -> None:
    seen = set()
    for number in range(400):
        draw = stream(6, number)
        shot = {"wild": wild, "mild": mild, "plain": plain}[kind](draw)
        limit = {"wild": 90, "mild": 35, "plain": 0}[kind]
        assert abs(shot.yaw) <= limit
        assert abs(shot.pitch) <= 30
        assert abs(shot.roll) < 20
        assert 3 < shot.distance < 40
        assert 0 <= shot.hardness <= 1
        assert -1 <= shot.warmth <= 1
        assert shot.exposure > 0
        assert shot.blur >= 0
        assert shot.grain >= 0
        assert 40 <= shot.quality <= 100
        assert 0.7 < shot.zoom < 1.4
        assert np.abs(shot.shift).max() < 10
        assert shot.expression in EXPRESSIONS
        assert shot.occluder in ("", *OCCLUDERS)
        assert all(np.isfinite(value) and value >= 0 for value in shot.units.values())
        assert {f"unit/{unit}" for unit in shot.units} <= set(head.number)
        assert 0 <= shot.illumination <= 100
        seen |= {shot.expression, shot.occluder, str(shot.grey)}
    everything = {*EXPRESSIONS, "", "False"} | ({*OCCLUDERS, "True"} if kind == "wild" else set())
    assert seen == ({"neutral", "", "False"} if kind == "plain" else everything)


def test_shots_follow_from_their_stream(head: Anatomy) -> None:
    assert wild(stream(6, 1)) == wild(stream(6, 1))
    assert mild(stream(6, 1)) != mild(stream(6, 2))


def test_a_day_is_a_function_of_its_number(head: Anatomy) -> None:
    for number in range(20):
        who = person(head, number)
        once, again, next_day = (
            _flat(session(who, 4, 40.0)),
            _flat(session(who, 4, 40.0)),
            _flat(session(who, 5, 40.0)),
        )
        for name, value in once.items():
            if name not in ("style", "look"):
                assert np.array_equal(value, again[name]), name
        assert not np.array_equal(once["collar"], next_day["collar"])


def test_days_are_within_their_ranges(head: Anatomy) -> None:
    for number in range(200):
        who, age = person(head, number), 20.0 + number % 70
        day = session(who, number, age)
        assert day.age == day.look.age == age
        assert day.style.name in (WOMEN if who.female else MEN)
        for share in (
            "lipstick_strength",
            "eyeshadow",
            "blush",
            "beard",
            "moustache",
            "chin",
            "cheeks",
            "cover",
        ):
            assert 0 <= getattr(day.look, share) <= 1, share
        assert -0.1 <= day.look.tan <= 0.2
        for colour in (day.hair, day.tips, day.frame, day.cloth, day.look.hair, day.look.lipstick):
            assert colour.shape == (3,)
            assert colour.min() > 0
            assert colour.max() < 1
        assert day.glasses is None or (
            day.glasses.shape == (4,) and 0 <= day.glasses.min() <= day.glasses.max() <= 1
        )
        if who.female:
            assert day.look.beard == 0
        else:
            assert day.look.lipstick_strength == day.look.eyeshadow == day.look.blush == 0


def test_plain_days_are_without_make_up_beard_and_tan(head: Anatomy) -> None:
    for number in range(60):
        look = session(person(head, number), number, 30.0, plain=True).look
        assert look.lipstick_strength == look.eyeshadow == look.blush == look.tan == 0
        assert look.beard <= 0.05


def test_hair_turns_grey_with_the_years(head: Anatomy) -> None:
    def brightness(age: float) -> float:
        people = [
            replace(person(head, number), hair=np.array([0.03, 0.02, 0.01]))
            for number in range(1, 60, 2)
        ]
        return float(np.mean([session(who, 0, age, plain=True).hair.mean() for who in people]))

    assert brightness(25.0) < brightness(50.0) < brightness(80.0)
    assert brightness(80.0) > 5 * brightness(25.0)


@pytest.mark.parametrize("age", [40.0, 60.0, 80.0])
def test_only_the_age_changes_on_a_plain_day(head: Anatomy, age: float) -> None:
    # The sweep over ages compares images of the same day: only the skin, the colour of the hair and
    # the hairline may change.
    for number in range(60):
        who = person(head, number)
        young, old = (_flat(session(who, 6000, years, plain=True)) for years in (30.0, age))
        for name in (
            "number",
            "frame",
            "cloth",
            "collar",
            "look.lipstick_strength",
            "look.beard",
            "look.moustache",
            "look.cheeks",
        ):
            assert np.array_equal(young[name], old[name]), (number, name)
        assert (young["glasses"] is None) == (old["glasses"] is None)


def test_wearers_of_glasses_mostly_wear_them(head: Anatomy) -> None:
    worn = {True: [0, 0], False: [0, 0]}
    for number in range(150):
        who = person(head, number)
        for day in range(4):
            worn[who.glasses][int(session(who, day, 40.0).glasses is not None)] += 1
    assert worn[True][1] > 0.5 * sum(worn[True])
    assert worn[False][1] < 0.2 * sum(worn[False])
