"""Synthetic people: a pure function of two integers, balanced, adult and within bounds."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.synthfaces.anatomy import ARCHETYPES, Anatomy
from workbench.synthfaces.person import (
    HAIR_COLOURS,
    IRISES,
    TEXTURES,
    Person,
    head_of,
    person,
    stream,
)

PEOPLE = 600


@pytest.fixture(scope="module")
def crowd(head: Anatomy) -> list[Person]:
    return [person(head, number) for number in range(PEOPLE)]


def _same(one: Person, other: Person) -> bool:
    return all(
        np.array_equal(getattr(one, field.name), getattr(other, field.name))
        for field in fields(Person)
    )


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 2_000_000), min_size=1, max_size=5), st.integers(0, 1000))
def test_a_person_does_not_depend_on_other_people(
    head: Anatomy, numbers: list[int], seed: int
) -> None:
    drawn = {number: person(head, number, seed) for number in numbers}
    for number in sorted(numbers):
        assert _same(person(head, number, seed), drawn[number])


def test_numbers_and_seeds_are_different_people(head: Anatomy, crowd: list[Person]) -> None:
    places = np.array(
        [list(who.shape.values()) for who in crowd[:100]]
        + [list(person(head, n, 1).shape.values()) for n in range(100)]
    )
    apart = np.linalg.norm(places[:, None] - places[None], axis=2) + 99 * np.eye(len(places))
    assert apart.min() > 1
    assert len({who.pattern for who in crowd}) > 0.98 * PEOPLE
    assert not _same(person(head, 3, 0), person(head, 3, 1))


def test_streams_of_random_numbers_are_frozen() -> None:
    # NumPy guarantees that these never change. Otherwise every rendered set would be outdated.
    assert stream(1, 2, 3).randint(1000, size=5).tolist() == [407, 12, 418, 186, 427]
    assert stream(1, 2, 3).rand(2).tolist() == pytest.approx(
        [0.7191928367494, 0.9496000789417833], abs=1e-15
    )
    assert stream(1, 0, 2_000_000).randn(2).tolist() == pytest.approx(
        [-0.5960683834488627, -0.08498487950291746], abs=1e-15
    )
    assert stream(12, 3).randint(1 << 30) != stream(1, 23).randint(1 << 30)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, PEOPLE - 60))
def test_any_sixty_neighbours_are_balanced(crowd: list[Person], first: int) -> None:
    some = crowd[first : first + 60]
    assert sum(who.female for who in some) == 30
    nearest = np.bincount([int(who.ancestry.argmax()) for who in some], minlength=3)
    assert nearest.tolist() == [20, 20, 20]
    both = np.bincount([2 * int(who.ancestry.argmax()) + who.female for who in some], minlength=6)
    assert both.tolist() == [10] * 6


def test_everything_is_within_its_range(crowd: list[Person]) -> None:
    def all_of(name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        return np.array([getattr(who, name) for who in crowd])

    assert len(ARCHETYPES) == 3
    assert np.allclose(all_of("ancestry").sum(axis=1), 1)
    for name, low, high in [
        ("masculinity", 0, 1),
        ("ancestry", 0, 1),
        ("weight", -1, 1),
        ("muscle", -1, 1),
        ("tone", 0, 1),
        ("skin", 0.01, 1),
        ("redness", 0, 1.2),
        ("freckles", 0, 1.5),
        ("brow", -1.5, 1.5),
        ("hair", 0, 1),
        ("hairline", -1, 1),
        ("balding", 0, 1),
        ("iris", 0, 1),
        ("lips", 0, 1.5),
        ("beard", 0, 1),
        ("greying", 30, 80),
        ("pattern", 0, 2**20 - 1),
        ("texture", 0, len(TEXTURES) - 1),
    ]:
        values = all_of(name)
        assert np.isfinite(values).all()
        assert low <= values.min() <= values.max() <= high, name
    assert 0.02 < all_of("glasses").mean() < 0.6
    for who in crowd:
        assert who.moles.shape[1:] == (4,)
        assert who.moles.dtype == np.float32
        assert np.isfinite(who.moles).all()
        assert not who.female or (who.beard == 0 and who.balding == 0)
    assert set(all_of("texture").tolist()) == set(range(len(TEXTURES)))


def test_sexes_and_tones_overlap(crowd: list[Person]) -> None:
    women = np.array([who.masculinity for who in crowd if who.female])
    men = np.array([who.masculinity for who in crowd if not who.female])
    assert men.mean() - women.mean() > 0.4
    tones = [
        np.array([who.tone for who in crowd if who.ancestry.argmax() == corner])
        for corner in range(3)
    ]
    for one in tones:
        for other in tones:
            assert one.min() < np.median(other) or other.min() < np.median(one)
    tone, brightness = np.array([(who.tone, who.skin.mean()) for who in crowd]).T
    assert np.corrcoef(tone, brightness)[0, 1] < -0.9


def test_colours_vary(crowd: list[Person]) -> None:
    for name, palette in (("hair", HAIR_COLOURS), ("iris", IRISES)):
        values = np.array([getattr(who, name) for who in crowd])
        colours = np.array(list(palette.values()))
        nearest = np.linalg.norm(np.log(values[:, None]) - np.log(colours[None]), axis=2).argmin(
            axis=1
        )
        assert set(nearest.tolist()) == set(range(len(colours)))


def test_left_and_right_have_similar_shapes(head: Anatomy, crowd: list[Person]) -> None:
    pairs = [(axis, axis.replace("/l-", "/r-")) for axis in crowd[0].shape if "/l-" in axis]
    assert len(pairs) > 20
    for left, right in pairs:
        values = np.array([(who.shape[left], who.shape[right]) for who in crowd])
        assert np.abs(values[:, 0] - values[:, 1]).max() < 0.5 * values[:, 0].std()
        assert np.corrcoef(values.T)[0, 1] > 0.95
    for axis in crowd[0].shape:
        assert axis in head.number or f"{axis}+" in head.number or f"{axis}-" in head.number, axis


@pytest.mark.parametrize("age", [20.0, 30.0, 45.0, 60.0, 80.0, 90.0])
def test_heads_are_heads_at_every_age(head: Anatomy, crowd: list[Person], age: float) -> None:
    low, high = head.mean.min(axis=0), head.mean.max(axis=0)
    for who in crowd[:40]:
        shaped = head_of(head, who, age)
        assert shaped.shape == head.mean.shape
        assert shaped.dtype == np.float32
        assert np.isfinite(shaped).all()
        assert (shaped.min(axis=0) > low - 0.8).all()
        assert (shaped.max(axis=0) < high + 0.8).all()
        eyes = np.array([shaped[head.eye_vertices == eye].mean(axis=0) for eye in (1, 2)])
        assert (
            np.abs(
                eyes.mean(axis=0)
                - np.array(
                    [head.mean[head.eye_vertices == eye].mean(axis=0) for eye in (1, 2)]
                ).mean(0)
            ).max()
            < 1e-3
        )
        assert 0.4 < eyes[0, 0] - eyes[1, 0] < 0.75  # 4 to 7.5 cm between the pupils
        nose, left, right = shaped[head.landmarks]
        assert right[0] < nose[0] < left[0]
        assert max(left[1], right[1]) < nose[1] < eyes[:, 1].min()
        assert nose[2] > max(left[2], right[2], eyes[0, 2])


def test_ageing_is_smooth_and_keeps_people_apart(head: Anatomy, crowd: list[Person]) -> None:
    def shapes(age: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return np.array([head_of(head, who, age) for who in crowd[:12]])

    at = {age: shapes(age) for age in (30.0, 31.0, 50.0, 70.0)}
    years = [np.linalg.norm(at[age] - at[30.0], axis=(1, 2)) for age in (31.0, 50.0, 70.0)]
    assert (years[0] < years[1]).all()
    assert (years[1] < years[2]).all()
    assert (years[0] < 0.1 * years[2]).all()
    for one in range(12):
        for other in range(one):
            if crowd[one].female == crowd[other].female:
                assert np.linalg.norm(at[70.0][one] - at[70.0][other]) > 0.2 * np.linalg.norm(
                    at[30.0][one] - at[30.0][other]
                )


def test_the_mean_of_many_people_is_the_mean_head(head: Anatomy, crowd: list[Person]) -> None:
    # The positions on the local axes cancel out, so that the mean differs less than people do.
    shapes = np.array([head_of(head, who, 25.0) for who in crowd[:120]])
    face = np.abs(head.mean[:, 0]) < 0.7
    face &= (head.mean[:, 1] > -1.2) & (head.mean[:, 1] < 0.8) & (head.mean[:, 2] > -0.4)
    off = np.linalg.norm(shapes.mean(axis=0) - head.mean, axis=1)[face]
    spread = np.linalg.norm(shapes - shapes.mean(axis=0), axis=2).mean(axis=0)[face]
    assert np.median(off) < np.median(spread)
