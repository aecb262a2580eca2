"""`megaface:PROBES@DISTRACTORS` and identification benchmarks drawn from any two sets."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from workbench import data
from workbench.images import to_png

PEOPLE = {"Ann_Lee": 4, "Bob": 2, "Cid": 1, "Dan": 3}
STRANGERS = (
    "534/53415754@N00/37731000_1.png",
    "534/53415754@N00/37731000_2.png",
    "389/38989502@N07/4767491946_13.png",
    "1.png",
)
"""Names as in MegaFace's FlickrFinal2, and one image next to the folders."""


def encoded_image(*values: int) -> bytes:
    return to_png(np.full((5, 4, 3), values, dtype=np.uint8))


@pytest.fixture
def probes(tmp_path: Path) -> Path:
    """facescrub/NAME/NAME_1.png; red is the number of the person, green that of the image."""
    for person, (name, count) in enumerate(PEOPLE.items()):
        (tmp_path / "facescrub" / name).mkdir(parents=True)
        for number in range(count):
            (tmp_path / "facescrub" / name / f"{name}_{number}.png").write_bytes(
                encoded_image(person, number, 0)
            )
    return tmp_path / "facescrub"


@pytest.fixture
def strangers(tmp_path: Path) -> Path:
    for number, name in enumerate(STRANGERS):
        (tmp_path / "FlickrFinal2" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "FlickrFinal2" / name).write_bytes(encoded_image(200, number, 0))
    return tmp_path / "FlickrFinal2"


def opened(spec: str) -> data.Identification:
    bench = data.benchmark(f"megaface:{spec}")
    assert isinstance(bench, data.Identification)
    return bench


def seen(bench: data.Identification, numbers: NDArray[np.int64]) -> list[tuple[int, ...]]:
    """Return red and green of the images."""
    return [tuple(bench.images[int(number)][0, 0, :2].tolist()) for number in numbers]


def listed(file: Path, **columns: Any) -> Path:
    file.write_text(json.dumps(columns))
    return file


def test_the_first_image_of_each_person_is_enrolled_and_the_others_are_probes(
    probes: Path, strangers: Path
) -> None:
    bench = opened(f"{probes}@{strangers}")
    assert bench.name == "facescrub-among-FlickrFinal2"
    assert seen(bench, bench.gallery) == [(0, 0), (1, 0), (3, 0)]
    assert seen(bench, bench.probes) == [(0, 1), (0, 2), (0, 3), (1, 1), (3, 1), (3, 2)]
    assert sorted(seen(bench, bench.distractors)) == [(200, 0), (200, 1), (200, 2), (200, 3)]
    assert bench.identities[bench.distractors].tolist() == [-1] * 4
    assert [bench.identity_names[identity] for identity in bench.identities[bench.gallery]] == [
        "Ann_Lee",
        "Bob",
        "Dan",
    ]
    assert bench.candidates == "megaface"
    assert (
        "3 people, the first image of each enrolled, among 4 distractors; 1 with a single "
        "image left out" in bench.note
    )
    assert seen(pickle.loads(pickle.dumps(bench)), bench.distractors) == seen(
        bench, bench.distractors
    )


def test_options_set_how_many_are_enrolled_and_the_candidates(
    probes: Path, strangers: Path
) -> None:
    bench = opened(f"{probes}@{strangers},gallery=2,candidates=gallery")
    assert seen(bench, bench.gallery) == [
        (0, 0),
        (0, 1),
        (1, 0),
        (3, 0),
        (3, 1),
    ]  # One of Bob's two images must be a probe.
    assert seen(bench, bench.probes) == [(0, 2), (0, 3), (1, 1), (3, 2)]
    assert bench.candidates == "gallery"
    assert "up to 2 images of each" in bench.note


def test_either_side_may_be_a_source(
    probes: Path, strangers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "others@home" / "Bob").mkdir(parents=True)
    (tmp_path / "others@home" / "Eve").mkdir()
    for name in ("Bob/1.png", "Eve/1.png", "Eve/2.png"):
        (tmp_path / "others@home" / name).write_bytes(encoded_image(100, 0, 0))
    bench = opened(f"folder:{probes}@2x2,min=3@folder:{tmp_path}/others@home")
    assert bench.identity_names == ("Ann_Lee", "Dan", "Bob", "Eve")
    assert (len(bench.gallery), len(bench.probes)) == (2, 2)
    assert bench.identities[bench.distractors].tolist() == [2, 3, 3]
    bench = opened(f"{probes}@folder:{tmp_path}/others@home")
    assert "1 names are in both sets, e.g. Bob" in bench.note
    bench = opened(f"folder:{probes}@{strangers}")
    assert len(bench.distractors) == 4
    registered = {"strangers": lambda path="": people([3, 3], name="strangers")}
    monkeypatch.setattr(data.SOURCES, "_factories", data.SOURCES._factories | registered)
    assert len(opened(f"{probes}@strangers@*x2").distractors) == 4
    assert len(opened(f"{probes}@strangers@*x2+strangers").distractors) == 10


def test_megafaces_lists_select_files(probes: Path, strangers: Path, tmp_path: Path) -> None:
    names = ["Dan/Dan_0.png", "Ann_Lee/Ann_Lee_3.png", "Dan/Dan_2.png", "Ann_Lee/Ann_Lee_0.png"]
    probe_list = listed(
        tmp_path / "facescrub_features_list.json",
        path=names,
        id=["Dan", "Ann_Lee", "Dan", "Ann_Lee"],
    )
    others = listed(tmp_path / "megaface_features_list.json_3_1", path=list(STRANGERS[:3]))
    bench = opened(f"{probe_list}:{probes}@{others}:{strangers}")
    assert bench.name == "facescrub_features_list-among-megaface_features_list_3_1"
    assert seen(bench, bench.gallery) == [(3, 0), (0, 3)]  # In the order of the list.
    assert seen(bench, bench.probes) == [(3, 2), (0, 0)]
    assert seen(bench, bench.distractors) == [(200, 0), (200, 1), (200, 2)]
    assert len(opened(f"{probe_list}:{probes}@{strangers}").distractors) == 4


def test_hidden_and_other_files_are_no_distractors(probes: Path, strangers: Path) -> None:
    (strangers / ".thumbs").mkdir()
    for name in (".thumbs/1.png", "534/.2.png", "534/2.json", "readme.txt"):
        (strangers / name).write_bytes(b"x")
    assert len(opened(f"{probes}@{strangers}").distractors) == len(STRANGERS)


def test_two_dots_after_a_link_lead_back_to_its_folder(
    probes: Path, strangers: Path, tmp_path: Path
) -> None:
    """The operating system would take the parent of the folder that the link leads to."""
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere" / "1.png").write_bytes(encoded_image(1, 1, 1))
    (strangers / "1.png").write_bytes(encoded_image(2, 2, 2))
    (strangers / "link").symlink_to(tmp_path / "elsewhere" / "deep")
    others = listed(tmp_path / "list.json", path=["link/../1.png"])
    bench = opened(f"{probes}@{others}:{strangers}")
    assert seen(bench, bench.distractors) == [(2, 2)]


@pytest.mark.parametrize(
    "outside",
    ["../secret.png", "Bob/../../secret.png", "/etc/passwd", "link/secret.png", "a\0b.png"],
)
def test_a_list_cannot_name_files_outside_of_its_root(
    probes: Path, strangers: Path, tmp_path: Path, outside: str, complaint: Callable[..., Any]
) -> None:
    (tmp_path / "secret.png").write_bytes(encoded_image(1, 1, 1))
    (strangers / "link").symlink_to(tmp_path)
    others = listed(tmp_path / "list.json", path=[STRANGERS[0], outside])
    with complaint(others, "leads out of", "below it"):
        opened(f"{probes}@{others}:{strangers}")


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ("{", "cannot be read as json"),
        ("[1]", "not one of MegaFace's lists"),
        ('{"path": []}', "not one of MegaFace's lists"),
        ('{"path": [1]}', "not one of MegaFace's lists"),
        ('{"path": ["Bob/Bob_0.png", "Bob/Bob_1.png"]}', 'has no "id"'),
        ('{"path": ["Bob/Bob_0.png"], "id": ["Bob", "Bob"]}', '1 entries in "path" but 2 in "id"'),
        ('{"path": ["Bob/Bob_0.png"], "id": 3}', '"id" is not a list'),
        ('{"path": ["Bob/Bob_0.png", "Bob/Bob_9.png"], "id": ["Bob", "Bob"]}', "1 of the 2 images"),
        (
            '{"path": ["Bob/Bob_0.png", "Bob/Bob_0.png"], "id": ["Bob", "Bob"]}',
            "Bob/Bob_0.png twice",
        ),
        (
            '{"path": ["Bob/Bob_0.png", "Dan/Dan_0.png"], "id": ["Bob", "Dan"]}',
            "nobody has two images",
        ),
    ],
)
def test_the_error_for_a_wrong_list_says_what_is_wrong(
    probes: Path,
    strangers: Path,
    tmp_path: Path,
    content: str,
    hint: str,
    complaint: Callable[..., Any],
) -> None:
    (tmp_path / "list.json").write_text(content)
    with complaint(hint):
        opened(f"{tmp_path}/list.json:{probes}@{strangers}")


def test_a_side_that_cannot_be_opened_is_named(
    probes: Path, strangers: Path, tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    listed(tmp_path / "list.json", path=["1.png"])
    (tmp_path / "empty").mkdir()
    for spec, hint in (
        ("", "megaface:PROBES@DISTRACTORS"),
        (str(probes), "megaface:PROBES@DISTRACTORS"),
        (f"{probes}@", "''"),
        (f"@{strangers}", "''"),
        (f"{probes}@{tmp_path}/nobody", "nobody"),
        (f"{probes}x@{strangers}", "facescrubx"),
        (f"{probes}@{tmp_path}/list.json", "LIST:ROOT"),
        (f"{probes}@folder:{tmp_path}/nobody", "no such folder"),
        (f"{probes}@{tmp_path}/empty", "no images"),
        (f"{probes}@{probes}", "different people"),
        (f"{probes}@{probes}/Bob", "one lies in the other"),
        (f"{probes}@{tmp_path}", "one lies in the other"),
        (f"folder:{probes}@folder:{probes}", "different people"),
        (f"{probes}@{strangers},gallery=0", "gallery=0"),
        (f"{probes}@{strangers},gallery=x", "gallery=x"),
        (f"{probes}@{strangers},candidates=megafase", "did you mean 'megaface'"),
    ):
        with complaint(hint):
            opened(spec)


class Colours:
    """A reader of any number of small images."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        return np.full((2, 2, 3), index, dtype=np.uint8)


def people(counts: list[int], seed: int = 0, name: str = "people") -> data.Dataset:
    identities = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    return data.Dataset(
        name,
        Colours(len(identities)),
        identities,
        [f"{name}{identity}" for identity in range(len(counts))],
    )


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=8),
    st.integers(1, 5),
    st.sampled_from([None, 0, 1]),
    st.integers(1, 4),
)
def test_images_of_each_person_are_enrolled_and_at_least_one_is_a_probe(
    counts: list[int], gallery: int, seed: int | None, others: int
) -> None:
    if max(counts) < 2:
        counts = [*counts, 2]
    dataset = people(counts)
    bench = data.draw_identification(
        dataset, people([1] * others, name="other"), gallery=gallery, seed=seed, name="drawn"
    )
    enrolled, probed = bench.identities[bench.gallery], bench.identities[bench.probes]
    for identity, count in enumerate(counts):
        in_gallery = min(gallery, count - 1)
        in_probes = count - in_gallery if count > 1 else 0
        assert (enrolled == identity).sum() == in_gallery
        assert (probed == identity).sum() == in_probes
        if seed is None and count > 1:
            own = np.flatnonzero(dataset.identities == identity)
            assert set(bench.gallery) & set(own) == set(own[:in_gallery])
    assert (bench.identities[bench.distractors] >= len(counts)).all()
    assert bench.name == "drawn"
    assert bench.candidates == "gallery"
    assert int(bench.images[int(bench.distractors[-1])][0, 0, 0]) == others - 1


def test_a_draw_is_repeated_with_its_seed_only() -> None:
    dataset, others = people([9, 9, 9]), Colours(3)
    one, again, other = (data.draw_identification(dataset, others, seed=seed) for seed in (1, 1, 2))
    assert one.gallery.tolist() == again.gallery.tolist() != other.gallery.tolist()
    assert "(seed 1)" in one.note


def test_a_draw_that_cannot_be_made_is_an_error(complaint: Callable[..., Any]) -> None:
    with complaint("nobody has two images"):
        data.draw_identification(people([1, 1]), Colours(2))
    with complaint("gallery=0"):
        data.draw_identification(people([2]), Colours(2), gallery=0)
    with complaint("distractors"):
        data.draw_identification(people([2]), Colours(0))


def test_lists_with_windows_separators_are_read(
    probes: Path, strangers: Path, tmp_path: Path, complaint: Callable[..., Any]
) -> None:
    names = [
        "Dan\\Dan_0.png",
        "./Ann_Lee/Ann_Lee_3.png",
        f"{probes}/Dan/Dan_2.png",
        "Ann_Lee\\Ann_Lee_0.png",
    ]
    probe_list = listed(
        tmp_path / "probe_list.json", path=names, id=["Dan", "Ann_Lee", "Dan", "Ann_Lee"]
    )
    probe_list.write_bytes(b"\xef\xbb\xbf" + probe_list.read_bytes())
    bench = opened(f"{probe_list}:{probes}@{strangers}")
    assert seen(bench, bench.gallery) == [(3, 0), (0, 3)]
    listed(
        tmp_path / "probe_list.json",
        path=[*names, "Dan/Dam_0.png"],
        id=["Dan", "Ann_Lee", "Dan", "Ann_Lee", "Dan"],
    )
    with complaint(
        "probe_list.json, entry 5: 'Dan/Dam_0.png' is not in", "did you mean 'Dan/Dan_0.png'"
    ):
        opened(f"{probe_list}:{probes}@{strangers}")
