"""The file that says what a process with several trainings is doing."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from helpers import Complaint

from workbench import activity
from workbench.activity import ACTIVITY, Activity, Entry, read_activity, tracked


def _now(folder: Path) -> Activity:
    found = read_activity(folder)
    assert found is not None
    return found


def test_each_state_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    assert read_activity(folder) is None
    with tracked(folder, "two runs") as tracker:
        assert _now(folder).queue == []
        tracker.queue([Entry("arcface"), Entry("softmax")])
        tracker.entry(0, "training", name="arcface-2")
        tracker.entry(1, "failed", problem="no such loss")
        tracker.entry(0, "evaluating")
        assert _now(folder).queue == [
            Entry("arcface", "arcface-2", "evaluating"),
            Entry("softmax", "", "failed", "no such loss"),
        ]
        assert _now(folder).is_working
    assert (_now(folder).end, _now(folder).is_working, _now(folder).is_lost) == (
        "finished",
        False,
        False,
    )


def test_numbers_are_written_once_a_second_and_texts_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tracked(tmp_path, "one run") as tracker:
        tracker.doing("rendering", 0, 100)
        tracker.doing("rendering", 10, 100)
        assert _now(tmp_path).done == 0
        monkeypatch.setattr(tracker, "_written", time.time() - activity.WRITTEN_EVERY)
        tracker.doing("rendering", 20, 100)
        assert _now(tmp_path).done == 20
        tracker.doing("evaluating")
        assert (_now(tmp_path).doing, _now(tmp_path).total) == ("evaluating", 0)


@pytest.mark.parametrize(
    ("error", "end", "problem"),
    [
        (KeyboardInterrupt(), "stopped", ""),
        (RuntimeError("two\nlines"), "failed", "RuntimeError: two lines"),
    ],
)
def test_the_file_says_how_the_process_ended(
    tmp_path: Path, error: BaseException, end: str, problem: str
) -> None:
    def work() -> None:
        with tracked(tmp_path, "one run") as tracker:
            tracker.doing("training")
            raise error

    with pytest.raises(type(error)):
        work()
    assert (_now(tmp_path).end, _now(tmp_path).problem, _now(tmp_path).doing) == (end, problem, "")


def test_only_one_process_works_in_a_folder(tmp_path: Path, complaint: Complaint) -> None:
    with tracked(tmp_path, "one run"):
        with complaint("another process", tmp_path), tracked(tmp_path, "the same"):
            pass
        assert _now(tmp_path).title == "one run"
    with tracked(tmp_path, "afterwards"):
        assert _now(tmp_path).title == "afterwards"


def test_a_heartbeat_is_written_while_the_process_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity, "WRITTEN_EVERY", 0.01)
    with tracked(tmp_path, "one run"):
        before = _now(tmp_path).heartbeat
        end = time.monotonic() + 10
        while _now(tmp_path).heartbeat == before:
            assert time.monotonic() < end
            time.sleep(0.02)


def test_an_old_heartbeat_means_that_the_process_was_killed(tmp_path: Path) -> None:
    with tracked(tmp_path, "one run"):
        values = json.loads((tmp_path / ACTIVITY).read_text())
        values["heartbeat"] -= 2 * activity.STALE_SECONDS
        (tmp_path / ACTIVITY).write_text(json.dumps(values))
        assert _now(tmp_path).is_lost
        assert not _now(tmp_path).is_working


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path, complaint: Complaint) -> None:
    (tmp_path / "runs").write_text("")
    with complaint("is a file"), tracked(tmp_path / "runs", "one run"):
        pass
