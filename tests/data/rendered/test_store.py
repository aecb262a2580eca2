"""Sets that are rendered once: the same bytes however they were made, and nothing half-made or
damaged is ever read.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import fake_faces
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import images
from workbench.data.dataset import Dataset
from workbench.data.rendered.rendering import ensure, read_part, write_part
from workbench.data.rendered.store import PARTS, RenderSettings, open_packed
from workbench.data.sources.pack import ABOUT, INDEX, PICTURES

SMALL = RenderSettings(6, 3, "wild", first=40, size=32, renderer="fake_faces")
REMEDY = "make it again"
HERE = Path(__file__).parents[1]


def made(one: RenderSettings = SMALL, **options: Any) -> Path:
    return ensure(one, **{"workers": 0, "progress": False} | options)


def opened(one: RenderSettings = SMALL) -> Dataset:
    return open_packed(one, "squares", REMEDY)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def start(one: RenderSettings, folder: Path, **environment: object) -> subprocess.Popen[str]:
    """Render in a process of its own."""
    code = (
        f"import sys; sys.path.append({str(HERE)!r})\n"
        "from workbench.data.rendered.store import RenderSettings\nfrom "
        "workbench.data.rendered.rendering import ensure\n"
        f"ensure(RenderSettings(**{asdict(one)!r}), workers=2)"
    )
    told = {
        "WORKBENCH_CACHE": str(folder),
        **{f"FAKE_FACES_{name.upper()}": str(value) for name, value in environment.items()},
    }
    return subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | told, stderr=subprocess.PIPE, text=True
    )


def wait_for_parts(one: RenderSettings, count: int) -> None:
    end = time.monotonic() + 60
    while len(list((one.folder / PARTS).glob("[0-9]*.npz"))) < count:
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.usefixtures("cache")
def test_what_was_rendered_is_read_back() -> None:
    folder = made()
    assert folder == SMALL.folder
    assert sorted(contents(folder)) == [ABOUT, PICTURES, INDEX]
    dataset = opened()
    assert (len(dataset), dataset.num_identities) == (18, 6)
    assert list(dataset.identity_names) == [f"person 000{number}" for number in range(40, 46)]
    for person in range(6):
        for number, portrait in enumerate(fake_faces.portraits(40 + person, images=3, size=32)):
            index = 3 * person + number
            assert dataset.identities[index] == person
            assert np.array_equal(dataset.images[index], images.decode(portrait.jpeg))
            assert np.array_equal(dataset.attributes["landmarks"][index], portrait.landmarks)
            for key, value in portrait.attributes.items():
                assert dataset.attributes[key][index] == value
    assert {key: np.asarray(column).dtype.kind for key, column in dataset.attributes.items()} == {
        "landmarks": "f",
        "age": "f",
        "gender": "U",
        "yaw": "f",
        "illumination": "f",
        "occlusion": "f",
        "glasses": "b",
        "session": "i",
        "factor": "U",
    }


@pytest.mark.usefixtures("cache")
def test_the_images_behave_as_a_sequence_and_can_be_pickled() -> None:
    made()
    pictures = opened().images
    assert np.array_equal(pictures[-1], pictures[17])
    for outside in (18, -19):
        with pytest.raises(IndexError):
            pictures[outside]
    copy = pickle.loads(pickle.dumps(pictures))
    assert np.array_equal(copy[4], pictures[4])
    assert len(pickle.dumps(pictures)) < 2000


@pytest.mark.usefixtures("cache")
def test_samples_reach_loader_processes_with_their_attributes() -> None:
    from torch.utils.data import DataLoader

    made()
    dataset = opened()
    image, identity, attributes = next(iter(DataLoader(dataset, batch_size=4, num_workers=2)))
    assert image.shape == (4, 3, 32, 32)
    assert identity.tolist() == [0, 0, 0, 1]
    assert attributes["landmarks"].shape == (4, 5, 2)
    assert attributes["gender"] == list(np.asarray(dataset.attributes["gender"])[:4])


@pytest.mark.usefixtures("cache")
def test_a_set_is_rendered_once_and_each_setting_has_a_folder_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("FAKE_FACES_LOG", str(log))
    made()
    made()
    assert len(log.read_text().splitlines()) == 6
    others = [
        replace(SMALL, **change)
        for change in (
            {"people": 5},
            {"images": 2},
            {"album": "pose"},
            {"first": 41},
            {"seed": 1},
            {"size": 33},
        )
    ]
    folders = {SMALL.folder, *(other.folder for other in others)}
    monkeypatch.setattr(fake_faces, "VERSION", "2")
    folders.add(replace(SMALL).folder)
    assert len(folders) == 8


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_bytes_do_not_depend_on_the_number_of_processes(
    workers: int, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    alone = contents(made())
    shutil.rmtree(cache)
    monkeypatch.setenv("FAKE_FACES_LOG", str(tmp_path / "log"))
    assert contents(made(workers=workers)) == alone
    rendered = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert sorted(int(person) for person, _, _ in rendered) == list(SMALL.numbers)
    assert 1 <= len({process for _, process, _ in rendered}) <= workers
    assert {threads for _, _, threads in rendered} == {"1"}


def test_a_script_without_a_guard_can_render(cache: Path, tmp_path: Path) -> None:
    """Processes of `multiprocessing` would run it again in each."""
    script = tmp_path / "script.py"
    script.write_text(
        "from workbench.data.rendered.store import RenderSettings\nfrom "
        "workbench.data.rendered.rendering import ensure\n"
        f"print(ensure(RenderSettings(**{asdict(SMALL)!r}), workers=2, progress=False))\n"
    )
    path = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    done = subprocess.run(
        [sys.executable, script],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == [str(SMALL.folder)]
    assert done.stderr == ""


def test_a_killed_process_is_gone_on_from_where_it_stopped(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = replace(SMALL, people=40)
    process = start(long, cache, seconds=0.05)
    wait_for_parts(long, 5)
    process.kill()
    assert process.wait(30) == -signal.SIGKILL
    time.sleep(0.5)  # the workers notice
    finished = {path.name for path in (long.folder / PARTS).glob("[0-9]*.npz")}
    assert 5 <= len(finished) < 40
    (long.folder / PARTS / ".0000040.npz.torn.tmp").write_bytes(b"half a")

    monkeypatch.setenv("FAKE_FACES_LOG", str(tmp_path / "log"))
    resumed = contents(made(long))
    again = {
        f"{int(line.split()[0]):07d}.npz" for line in (tmp_path / "log").read_text().splitlines()
    }
    assert again == {f"{number:07d}.npz" for number in long.numbers} - finished
    shutil.rmtree(cache)
    assert contents(made(long)) == resumed


def test_ctrl_c_leaves_finished_people_and_no_process(cache: Path) -> None:
    long = replace(SMALL, people=40)
    process = start(long, cache, seconds=0.05)
    wait_for_parts(long, 3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(
        timeout=30
    )  # returns when the workers have closed the error stream too
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert not (long.folder / ABOUT).exists()
    assert 3 <= len(list((long.folder / PARTS).glob("[0-9]*.npz"))) < 40


def test_two_processes_at_once_do_the_work_once(cache: Path, tmp_path: Path) -> None:
    processes = [start(SMALL, cache, seconds=0.1, log=tmp_path / "log") for _ in range(2)]
    told = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted("waiting for the process" in text for text in told) in (
        [False, True],
        [False, False],
    )
    assert len((tmp_path / "log").read_text().splitlines()) == 6
    together = contents(SMALL.folder)
    shutil.rmtree(cache)
    assert contents(made()) == together


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_damaged_part_is_made_again(
    seed: int, mutate: Callable[[bytes, int], bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("FAKE_FACES_AT", "43 refuse")
        with pytest.raises(ValueError, match="no nose today"):
            made()
        part = SMALL.folder / PARTS / "0000041.npz"
        whole = part.read_bytes()
        before = read_part(part.parent, SMALL, 41)
        part.write_bytes(mutate(whole, seed))
        after = read_part(part.parent, SMALL, 41)
        # A few bytes of a zip mean nothing, such as its dates: then what it holds is as it was.
        assert before is not None
        if after is not None:
            assert np.array_equal(before.jpegs, after.jpegs)
            assert np.array_equal(before.sizes, after.sizes)
        if after is None:
            patch.delenv("FAKE_FACES_AT")
            made()
            assert np.array_equal(
                opened().images[3], images.decode(before.jpegs[: before.sizes[0]].tobytes())
            )


@pytest.mark.usefixtures("cache")
def test_a_part_of_the_wrong_number_of_pictures_is_made_again() -> None:
    good = contents(made())
    shutil.rmtree(SMALL.folder)
    (SMALL.folder / PARTS).mkdir(parents=True)
    write_part(SMALL.folder / PARTS, replace(SMALL, images=2), 42)
    assert contents(made()) == good


def damage(name: str, change: Callable[[bytes], bytes]) -> None:
    path = SMALL.folder / name
    path.write_bytes(change(path.read_bytes()))


def flipped(data: bytes) -> bytes:
    return data[:700] + bytes([data[700] ^ 16]) + data[701:]


@pytest.mark.usefixtures("cache")
def test_a_flipped_byte_is_found_in_the_picture_that_has_it(complaint: Callable[..., Any]) -> None:
    made()
    dataset = opened()
    damage(PICTURES, flipped)
    where = int(np.searchsorted(dataset.images.offsets, 700, side="right")) - 1  # type: ignore[attr-defined]
    with complaint(PICTURES, f"image {where}", "checksum", REMEDY):
        _ = opened().images[where]
    assert opened().images[17].shape == (32, 32, 3)
    with complaint(PICTURES, f"image {where}", REMEDY):
        _ = dataset[where]


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (PICTURES, lambda data: data[:-1], "expected"),
        (PICTURES, lambda data: b"", "0 bytes"),
        (PICTURES, lambda data: data + b"x", "expected"),
        (INDEX, lambda data: data[:-1], INDEX),
        (INDEX, flipped, INDEX),
        (ABOUT, lambda data: data[:50], ABOUT),
        (ABOUT, lambda data: b"[]", ABOUT),
        (ABOUT, lambda data: data.replace(b'"seed": 0', b'"seed": 1'), "another set"),
        (ABOUT, lambda data: b"{}", "another set"),
    ],
)
@pytest.mark.usefixtures("cache")
def test_a_damaged_set_is_an_error_that_says_how_to_make_it_again(
    name: str, change: Callable[[bytes], bytes], words: str, complaint: Callable[..., Any]
) -> None:
    whole = contents(made())
    damage(name, change)
    with complaint(SMALL.folder, "damaged", words, REMEDY):
        opened()
    made(again=True)
    assert contents(SMALL.folder) == whole
    opened()


@pytest.mark.parametrize("name", [PICTURES, INDEX])
@pytest.mark.usefixtures("cache")
def test_a_missing_file_or_one_of_another_set_is_an_error(
    name: str, complaint: Callable[..., Any]
) -> None:
    other = made(replace(SMALL, seed=1))
    made()
    shutil.copy(other / name, SMALL.folder / name)
    if name == INDEX:
        with complaint(SMALL.folder, INDEX, REMEDY):
            opened()
    else:
        with complaint(SMALL.folder, REMEDY):
            _ = [opened().images[number] for number in range(18)]
    (SMALL.folder / name).unlink()
    with complaint(SMALL.folder, "damaged", REMEDY):
        opened()


@pytest.mark.usefixtures("cache")
def test_a_set_that_was_opened_and_then_cut_off_is_an_error(complaint: Callable[..., Any]) -> None:
    made()
    dataset = opened()
    damage(PICTURES, lambda data: data[:100])
    with complaint(PICTURES, "image 17", REMEDY):
        _ = dataset.images[17]
    (SMALL.folder / PICTURES).unlink()
    with complaint(PICTURES, "cannot be read", REMEDY):
        _ = pickle.loads(pickle.dumps(dataset.images))[0]  # a copy opens the file anew


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), name=st.sampled_from([PICTURES, INDEX, ABOUT]))
def test_a_mutated_set_is_read_as_it_was_or_a_readable_error(
    seed: int,
    name: str,
    mutate: Callable[[bytes, int], bytes],
    at_worst_complaint: Callable[..., Any],
    common_folder: Path,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_CACHE", str(common_folder))
        path = made() / name
        pixels = [fake.tobytes() for fake in map(opened().images.__getitem__, range(18))]
        whole = path.read_bytes()
        try:
            path.write_bytes(mutate(whole, seed))
            with at_worst_complaint(REMEDY):
                assert [opened().images[number].tobytes() for number in range(18)] == pixels
        finally:
            path.write_bytes(whole)


@pytest.mark.usefixtures("cache")
def test_too_little_room_is_said_before_anything_is_rendered(
    monkeypatch: pytest.MonkeyPatch, complaint: Callable[..., Any], tmp_path: Path
) -> None:
    monkeypatch.setenv("FAKE_FACES_LOG", str(tmp_path / "log"))
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=20_000_000))
    with complaint("20 MB are free", "about 36 MB", "WORKBENCH_CACHE"):
        made(replace(SMALL, people=1000, images=5, size=112))
    assert not (tmp_path / "log").exists()
    assert made()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.usefixtures("cache")
def test_a_full_disk_is_an_error_and_what_is_finished_stays(
    workers: int, monkeypatch: pytest.MonkeyPatch, complaint: Callable[..., Any]
) -> None:
    monkeypatch.setenv("FAKE_FACES_AT", "44 full")
    with complaint(SMALL.folder, "cannot be written", "No space left", "WORKBENCH_CACHE"):
        made(workers=workers)
    assert len(list((SMALL.folder / PARTS).glob("[0-9]*.npz"))) >= 3
    assert not (SMALL.folder / ABOUT).exists()
    monkeypatch.delenv("FAKE_FACES_AT")
    made()
    assert len(opened()) == 18


@pytest.mark.usefixtures("cache")
def test_a_disk_that_fills_up_while_the_parts_are_joined(
    monkeypatch: pytest.MonkeyPatch, complaint: Callable[..., Any]
) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    def parts_only(handle: int) -> None:
        if not os.readlink(f"/proc/self/fd/{handle}").rpartition("/")[2].startswith(".0"):
            full(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", parts_only)
        with complaint(SMALL.folder, "No space left"):
            made()
    assert sorted(path.name for path in SMALL.folder.iterdir()) == [PARTS]
    made()
    opened()


def test_a_folder_that_cannot_be_made_is_an_error(
    cache: Path, complaint: Callable[..., Any]
) -> None:
    cache.write_text("a file")
    with complaint(cache, "cannot be written", "WORKBENCH_CACHE"):
        made()


@pytest.mark.parametrize(
    ("at", "words"), [("43 fail", "fake_faces failed on person 43"), ("43 refuse", "no nose today")]
)
@pytest.mark.usefixtures("cache")
def test_a_fault_of_the_renderer_is_told_in_one_line(
    at: str, words: str, monkeypatch: pytest.MonkeyPatch, complaint: Callable[..., Any]
) -> None:
    monkeypatch.setenv("FAKE_FACES_AT", at)
    with complaint(words):
        made(workers=2)


@pytest.mark.usefixtures("cache")
def test_a_worker_that_dies_is_an_error(
    monkeypatch: pytest.MonkeyPatch, complaint: Callable[..., Any]
) -> None:
    monkeypatch.setenv("FAKE_FACES_AT", "43 die")
    with complaint("person 43", "exit code 9", "fewer workers"):
        made(workers=2)
    monkeypatch.delenv("FAKE_FACES_AT")
    made(workers=2)
    opened()


@pytest.mark.usefixtures("cache")
def test_what_is_rendered_and_where_is_said_first(capfd: pytest.CaptureFixture[str]) -> None:
    made(progress=True)
    first, *bar = capfd.readouterr().err.splitlines()
    assert first == f"rendering 18 images of 6 people, about 1 MB, into {SMALL.folder}"
    assert "18/18" in bar[-1]
    made(progress=True)
    assert capfd.readouterr().err == ""
    (SMALL.folder / ABOUT).unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAKE_FACES_AT", "42 refuse")
        with pytest.raises(ValueError, match="nose"):
            made(progress=False)
    made(progress=True)
    assert "(6 exist already)" in capfd.readouterr().err


@pytest.mark.usefixtures("cache")
@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("workers", [0, 2])
def test_the_number_of_rendered_images_is_reported(workers: int) -> None:
    reports: list[tuple[int, int]] = []
    made(workers=workers, report=lambda done, total: reports.append((done, total)))
    assert reports == [(3 * people, 18) for people in range(7)]
    made(report=lambda done, total: reports.append((done, total)))
    assert len(reports) == 7  # the set is in the cache


def test_negative_workers_are_refused(complaint: Callable[..., Any]) -> None:
    with complaint("workers", "-1"):
        made(workers=-1)


@pytest.mark.usefixtures("cache")
def test_the_checksum_in_the_description_is_that_of_the_file() -> None:
    folder = made()
    about = json.loads((folder / ABOUT).read_text())
    assert about["sha256"] == hashlib.sha256((folder / PICTURES).read_bytes()).hexdigest()
    assert about["settings"] == asdict(SMALL)


@pytest.mark.usefixtures("cache")
def test_memory_does_not_grow_with_the_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    padding = b"\0" * 100_000  # behind the end of the JPEG
    real = fake_faces.portraits

    def heavy(person: int, **options: Any) -> list[fake_faces.Portrait]:
        return [
            portrait._replace(jpeg=portrait.jpeg + padding) for portrait in real(person, **options)
        ]

    monkeypatch.setattr(fake_faces, "portraits", heavy)
    many = replace(SMALL, people=100, images=2)
    tracemalloc.start()
    try:
        made(many)
        assert opened(many).images[150].shape == (32, 32, 3)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (many.folder / PICTURES).stat().st_size > 20e6
    assert peak < 4e6
