"""How training sets of synthetic people are named, and that they are opened under those names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fake_faces
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import data
from workbench.data.rendered import synthfaces
from workbench.data.rendered.store import RenderSettings
from workbench.data.rendered.synthfaces import PRESETS, parse, spec_of

pytestmark = pytest.mark.usefixtures("squares")
ANY = st.builds(
    RenderSettings,
    people=st.one_of(st.sampled_from([20, 200, 10_000]), st.integers(1, 1_000_000)),
    images=st.one_of(st.sampled_from([10, 40, 50]), st.integers(1, 1000)),
    seed=st.one_of(st.just(0), st.integers(0, 2**32 - 1)),
    size=st.one_of(st.just(112), st.integers(32, 512)),
    renderer=st.just("fake_faces"),
)


@pytest.fixture(autouse=True, scope="module")
def _faces_for_properties() -> Any:
    """`given` does not go together with fixtures of a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthfaces, "faces", lambda: fake_faces)
        yield


@settings(max_examples=200, deadline=None)
@given(wanted=ANY)
def test_a_spec_leads_back_to_its_settings(wanted: RenderSettings) -> None:
    kind, _, path = spec_of(wanted).partition(":")
    assert parse(kind, path) == wanted
    long = f"seed={wanted.seed},size={wanted.size},people={wanted.people},images={wanted.images}"
    assert parse("synthfaces-mini", long) == wanted


@pytest.mark.parametrize(
    ("spec", "people", "images", "seed", "size"),
    [
        ("synthfaces", 200, 40, 0, 112),
        ("synthfaces:", 200, 40, 0, 112),
        ("synthfaces-mini", 20, 10, 0, 112),
        ("synthfaces-large", 10_000, 50, 0, 112),
        ("synthfaces:500x20", 500, 20, 0, 112),
        ("synthfaces:500x20,seed=3,size=64", 500, 20, 3, 64),
        ("synthfaces:size=64", 200, 40, 0, 64),
        ("synthfaces-mini:seed=7", 20, 10, 7, 112),
        ("synthfaces:people=30", 30, 40, 0, 112),
        ("synthfaces:1x1,size=32", 1, 1, 0, 32),
        ("synthfaces:1000000x1000,size=512", 1_000_000, 1000, 0, 512),
    ],
)
def test_what_a_spec_means(spec: str, people: int, images: int, seed: int, size: int) -> None:
    kind, _, path = spec.partition(":")
    assert parse(kind, path) == RenderSettings(people, images, "wild", 0, seed, size, "fake_faces")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("500x20,sed=3", "did you mean 'seed'"),
        ("500x20,SIZE=64", "unknown option"),
        ("peple=20", "did you mean 'people'"),
        ("500", "PEOPLExIMAGES"),
        ("seed", "PEOPLExIMAGES"),
        ("500X20", "PEOPLExIMAGES"),
        ("seed=3,500x20", "PEOPLExIMAGES"),
        ("500x20x3", "PEOPLExIMAGES"),
        ("500x20,", "PEOPLExIMAGES"),
        (",500x20", "PEOPLExIMAGES"),
        ("500x20,,seed=3", "PEOPLExIMAGES"),
        ("0x20", "people must be a whole number from 1 to 1,000,000, got '0'"),
        ("1000001x20", "people"),
        ("500x0", "images must be"),
        ("500x1001", "images must be"),
        ("x20", "people"),
        ("500x", "images"),
        ("-5x20", "people"),
        ("5.5x20", "people"),
        ("\u0665x20", "people"),
        (" 5x20", "people"),
        ("1e3x20", "people"),
        ("500x20,size=31", "size must be a whole number from 32 to 512, got '31'"),
        ("500x20,size=513", "size"),
        ("500x20,size=", "size"),
        ("500x20,seed=-1", "seed"),
        ("500x20,seed=4294967296", "seed"),
        ("500x20,seed=1,seed=1", "seed is given twice"),
        ("500x20,people=500", "people is given twice"),
        ("500x20,seed=" + "9" * 5000, "seed"),
        ("=", "unknown option"),
    ],
)
def test_a_slip_of_the_pen_is_an_error_of_one_line(
    path: str, words: str, complaint: Callable[..., Any]
) -> None:
    with complaint("synthfaces", words):
        data.open(f"synthfaces:{path}")


@settings(max_examples=300, deadline=None)
@given(path=st.text(alphabet="0123456789x=,sedizpolmag -\n\0é", max_size=30))
def test_any_text_is_settings_within_limits_or_a_readable_error(
    path: str, at_worst_complaint: Callable[..., Any]
) -> None:
    with at_worst_complaint("synthfaces"):
        found = parse("synthfaces", path)
        assert 1 <= found.people <= 1_000_000
        assert 1 <= found.images <= 1000
        assert 32 <= found.size <= 512


@pytest.mark.usefixtures("cache")
def test_a_set_is_opened_under_its_name() -> None:
    mini, other = data.open("synthfaces-mini"), data.open("synthfaces:4x3,size=48,seed=2")
    assert (mini.name, len(mini), mini.num_identities) == ("synthfaces-mini", 200, 20)
    assert (other.name, len(other), other.images[0].shape) == (
        "synthfaces-4x3-seed2-size48",
        12,
        (48, 48, 3),
    )
    assert list(other.identity_names) == [
        "person 00000",
        "person 00001",
        "person 00002",
        "person 00003",
    ]
    assert data.open("synthfaces:20x10").name == "synthfaces-mini"
    assert np.shape(mini.attributes["landmarks"]) == (200, 5, 2)


@pytest.mark.usefixtures("cache")
def test_a_damaged_set_says_by_which_name_it_is_made_again(complaint: Callable[..., Any]) -> None:
    spec = "synthfaces:4x3,seed=2"
    (folder,) = data.render(spec, progress=False)
    (folder / "images.bin").write_bytes(b"")
    with complaint(f"`workbench data render {spec} --again`"):
        data.open("synthfaces:people=4,images=3,seed=2")
    assert data.render(spec, again=True, progress=False) == [folder]
    assert len(data.open(spec)) == 12


def test_what_is_not_rendered_cannot_be(complaint: Callable[..., Any]) -> None:
    with complaint("unknown rendered set 'synthfaces-poes'", "did you mean 'synthfaces-pose'"):
        data.render("synthfaces-poes")
    with complaint("unknown rendered set 'orl'"):
        data.render("orl")


def test_the_presets_are_sources() -> None:
    assert set(PRESETS) <= set(data.SOURCES.names())
