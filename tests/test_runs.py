from __future__ import annotations

import errno
import io
import json
import os
import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workbench import runs
from workbench.errors import WorkbenchError
from workbench.files import atomic_path


@pytest.fixture
def run(tmp_path: Path) -> runs.Run:
    return runs.create(tmp_path, "one", {"loss": "arcface"})


def _saved(run: runs.Run) -> Path:
    run.save_evaluation(
        "lfw", {"accuracy": 0.9}, {"scores": np.arange(200.0), "same": np.arange(200) % 2 == 0}
    )
    return run.path / "evaluation" / "lfw.npz"


# Writing


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    runs.write_text(path, "first")
    runs.write_text(path, "second é")
    assert path.read_text(encoding="utf-8") == "second é"
    assert os.listdir(path.parent) == ["file.txt"]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_behind(
    tmp_path: Path, failure: type[BaseException]
) -> None:
    path = tmp_path / "file.txt"
    runs.write_text(path, "old")

    def fail() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise failure

    with pytest.raises(failure):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_a_failed_rename_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "file.txt").mkdir()
    with pytest.raises(WorkbenchError, match=r"file\.txt"):
        runs.write_text(tmp_path / "file.txt", "text")
    assert os.listdir(tmp_path) == ["file.txt"]


def test_values_that_json_cannot_hold_are_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    runs.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        runs.write_json(path, {"a": float("nan")})
    with pytest.raises(TypeError):
        runs.write_json(path, {"a": object()})
    assert runs.read_json(path) == {"a": 1}
    assert os.listdir(tmp_path) == ["a.json"]


# Making


def test_create_writes_the_config_and_queues(tmp_path: Path) -> None:
    made = runs.create(
        tmp_path / "new" / "runs", "a", {"loss": "arcface", "note": "größer", "size": [1, 2]}
    )
    assert made.name == "a"
    assert runs.open(made.path).config == {"loss": "arcface", "note": "größer", "size": [1, 2]}
    assert made.state == "queued"


def test_a_taken_name_gets_a_number(tmp_path: Path) -> None:
    assert [runs.create(tmp_path, "a", {}).name for _ in range(3)] == ["a", "a-2", "a-3"]


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "-flag", "a/b", "../a", "a b", "a\nb", "a\n", "é", "a" * 122]
)
def test_a_name_that_is_no_plain_folder_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(WorkbenchError, match="run name") as caught:
        runs.create(tmp_path / "runs", name, {})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_create_below_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(WorkbenchError, match="runs"):
        runs.create(tmp_path / "runs", "a", {})


def test_timestamped_names_can_be_created(tmp_path: Path) -> None:
    assert runs.create(tmp_path, runs.timestamped("arcface-seresnet18"), {}).name.startswith(
        "arcface-seresnet18-2"
    )


# Finding


def test_open_suggests_a_similar_run(run: runs.Run) -> None:
    with pytest.raises(WorkbenchError, match=r"did you mean '.*one'"):
        runs.open(run.path.parent / "onee")


def test_open_of_a_folder_of_runs_points_inside(run: runs.Run) -> None:
    with pytest.raises(WorkbenchError, match=r"not a run directory .*did you mean .*one\?"):
        runs.open(run.path.parent)


@pytest.mark.parametrize("where", ["nowhere/at/all", "empty", "file"])
def test_open_of_anything_else_is_one_line(tmp_path: Path, where: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkbenchError) as caught:
        runs.open(tmp_path / where)
    assert "\n" not in str(caught.value)


def test_open_takes_a_run_a_string_and_a_path(run: runs.Run) -> None:
    assert runs.open(run) is run
    assert runs.open(str(run.path)) == runs.open(run.path) == run


def test_list_is_newest_first_and_passes_over_other_things(tmp_path: Path) -> None:
    for age, name in enumerate(["new", "middle", "old"]):
        made = runs.create(tmp_path, name, {})
        os.utime(made.path / runs.CONFIG, (1e9 - age, 1e9 - age))
    (tmp_path / "no-run").mkdir()
    (tmp_path / "file").write_text("")
    assert [run.name for run in runs.list(tmp_path)] == ["new", "middle", "old"]


def test_list_of_a_missing_folder_is_empty(tmp_path: Path) -> None:
    assert runs.list(tmp_path / "none") == []
    (tmp_path / "file").write_text("")
    assert runs.list(tmp_path / "file") == []


# Status and metrics


def test_status_holds_state_heartbeat_and_details(run: runs.Run) -> None:
    run.set_status("failed", message="why", step=3)
    assert run.state == "failed"
    assert run.status["message"] == "why"
    assert run.status["step"] == 3
    assert abs(run.status["heartbeat"] - time.time()) < 60


def test_an_unknown_state_is_refused(run: runs.Run) -> None:
    with pytest.raises(WorkbenchError, match="did you mean 'running'"):
        run.set_status("runing")
    assert run.state == "queued"


@pytest.mark.parametrize(
    ("age", "state"), [(0.0, "running"), (100.0, "running"), (130.0, "stalled")]
)
def test_a_running_run_without_a_sign_of_life_is_stalled(
    run: runs.Run, age: float, state: str
) -> None:
    runs.write_json(run.path / runs.STATUS, {"state": "running", "heartbeat": time.time() - age})
    assert run.state == state


@pytest.mark.parametrize("old", [s for s in runs.STATES if s != "running"])
def test_only_running_runs_stall(run: runs.Run, old: str) -> None:
    runs.write_json(run.path / runs.STATUS, {"state": old, "heartbeat": 0.0})
    assert run.state == old


@pytest.mark.parametrize(
    "heartbeat", [{}, {"heartbeat": None}, {"heartbeat": "soon"}, {"heartbeat": []}]
)
def test_a_running_run_with_a_damaged_heartbeat_is_stalled(
    run: runs.Run, heartbeat: dict[str, Any]
) -> None:
    runs.write_json(run.path / runs.STATUS, {"state": "running"} | heartbeat)
    assert run.state == "stalled"


def test_a_torn_last_line_of_the_metrics_is_left_out(run: runs.Run) -> None:
    (run.path / runs.METRICS).write_text(
        '{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n{"step": 3, "lo'
    )
    assert run.metrics()["step"].tolist() == [1, 2]


def test_lines_that_are_no_objects_are_left_out(run: runs.Run) -> None:
    (run.path / runs.METRICS).write_bytes(b'{"step": 1}\n\n[1]\n3\n\xff\xfe\n\0\0\0\n{"step": 2}\n')
    assert [row["step"] for row in runs.read_metrics(run.path / runs.METRICS)] == [1, 2]


def test_no_metrics_yet_is_an_empty_table(run: runs.Run) -> None:
    assert len(run.metrics()) == 0
    (run.path / runs.METRICS).write_text("")
    assert len(run.metrics()) == 0


# Damage

NOT_JSON = [b"", b"{", b"[1]", b"null", b"\xff\xfe\x00", b'{"a": 1}\n{', b"[" * 200_000]
NOT_YAML = [
    b"",
    b"a: [",
    b"- 1",
    b"text",
    b"\xff\xfe\x00\xd8",
    b"a: 2026-13-45",
    b"a: !!python/object:os.system {}",
    b"\0",
    b"? [a]\n: 1",
]


@pytest.mark.parametrize("content", NOT_JSON, ids=lambda content: repr(content[:12]))
def test_damaged_json_is_one_line(run: runs.Run, content: bytes) -> None:
    (run.path / runs.STATUS).write_bytes(content)
    (run.path / runs.ENVIRONMENT).write_bytes(content)
    for read in (lambda: run.state, lambda: run.environment):
        with pytest.raises(WorkbenchError, match=r"\.json") as caught:
            read()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", NOT_YAML, ids=lambda content: repr(content[:12]))
def test_damaged_yaml_is_one_line(run: runs.Run, content: bytes) -> None:
    (run.path / runs.CONFIG).write_bytes(content)
    with pytest.raises(WorkbenchError, match=r"config\.yaml") as caught:
        _ = runs.open(run.path).config
    assert "\n" not in str(caught.value)


def test_missing_files_are_one_line(run: runs.Run) -> None:
    with pytest.raises(WorkbenchError, match=r"environment\.json: cannot be read"):
        _ = run.environment
    (run.path / runs.CONFIG).unlink()
    with pytest.raises(WorkbenchError, match=r"config\.yaml: cannot be read"):
        _ = run.config


# Evaluations


def test_an_evaluation_comes_back_as_it_was_saved(run: runs.Run) -> None:
    arrays = {
        "scores": np.linspace(-1, 1, 7),
        "same": np.array([True, False]),
        "names": np.array(["a", "é"]),
        "none": np.zeros((0, 3)),
    }
    run.save_evaluation("folder-a.b", {"accuracy": 0.5, "folds": [1, 2]}, arrays)
    figures, loaded = runs.open(run.path).evaluation("folder-a.b")
    assert figures == {"accuracy": 0.5, "folds": [1, 2]}
    assert list(loaded) == list(arrays)
    for key, array in arrays.items():
        np.testing.assert_array_equal(loaded[key], array)
        assert loaded[key].dtype == array.dtype
    assert run.evaluations() == ["folder-a.b"]
    assert sorted(os.listdir(run.path / "evaluation")) == ["folder-a.b.json", "folder-a.b.npz"]


def test_a_second_evaluation_replaces_the_first(run: runs.Run) -> None:
    for accuracy in (0.1, 0.2):
        run.save_evaluation("lfw", {"accuracy": accuracy}, {"scores": np.full(2, accuracy)})
    figures, arrays = run.evaluation("lfw")
    assert figures["accuracy"] == arrays["scores"][0] == 0.2


def test_an_evaluation_that_was_not_made_is_an_error_with_a_suggestion(run: runs.Run) -> None:
    assert run.evaluations() == []
    with pytest.raises(WorkbenchError, match="unknown evaluation of run one 'lfw': known: none"):
        run.evaluation("lfw")
    _saved(run)
    with pytest.raises(WorkbenchError, match="did you mean 'lfw'"):
        run.evaluation("lfww")


def test_objects_are_not_saved_as_pickles(run: runs.Run) -> None:
    with pytest.raises(ValueError, match=r"pickle|[Oo]bject"):
        run.save_evaluation("lfw", {}, {"scores": np.array([{"a": 1}], dtype=object)})
    assert run.evaluations() == []
    assert os.listdir(run.path / "evaluation") == []


class _Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("kind", ["array", "bare"])
def test_a_pickle_in_an_npz_is_not_read(run: runs.Run, tmp_path: Path, kind: str) -> None:
    npz = _saved(run)
    trap = tmp_path / "sprung"
    if kind == "array":
        np.savez(npz, scores=np.array([_Hostile(trap)], dtype=object))
    else:
        npz.write_bytes(pickle.dumps(_Hostile(trap)))
    with pytest.raises(WorkbenchError, match="damaged") as caught:
        run.evaluation("lfw")
    assert "\n" not in str(caught.value)
    assert not trap.exists()


def test_a_damaged_npz_is_one_line(run: runs.Run) -> None:
    npz = _saved(run)
    whole = npz.read_bytes()
    bare = io.BytesIO()
    np.save(bare, np.arange(3))
    for content in (
        b"",
        b"PK",
        b"junk",
        whole[:-1],
        whole[: len(whole) // 2],
        whole[40:],
        bare.getvalue(),
    ):
        npz.write_bytes(content)
        with pytest.raises(WorkbenchError, match=r"lfw\.npz: damaged") as caught:
            run.evaluation("lfw")
        assert "\n" not in str(caught.value)


def test_an_npz_with_any_byte_changed_is_read_or_refused(run: runs.Run) -> None:
    npz = _saved(run)
    whole = npz.read_bytes()
    refused = []
    for place in range(len(whole)):
        npz.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            run.evaluation("lfw")
        except WorkbenchError as error:
            refused.append(str(error))
    assert not any("\n" in message for message in refused)
    assert len(refused) > len(whole) // 2


def test_a_missing_npz_is_an_error(run: runs.Run) -> None:
    _saved(run).unlink()
    with pytest.raises(WorkbenchError, match="damaged"):
        run.evaluation("lfw")


def test_a_run_is_read_without_torch(run: runs.Run) -> None:
    _saved(run)
    code = (
        "import sys, json, workbench.runs as runs; run = runs.open(sys.argv[1]);"
        "shown = [run.state, run.config, run.evaluation('lfw')[0], 'torch' in sys.modules];"
        "print(json.dumps(shown))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(run.path)], capture_output=True, text=True, check=True
    )
    assert json.loads(out.stdout) == ["queued", {"loss": "arcface"}, {"accuracy": 0.9}, False]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("-2E5", -2e5),
        ("+1e+2", 100.0),
        ("[1e-4, a]", [1e-4, "a"]),
        ("1e-3x", "1e-3x"),
        ("7", 7),
    ],
)
def test_yaml_reads_numbers_as_what_they_look_like(text: str, value: object) -> None:
    assert runs.read_yaml(text) == value


def test_a_text_that_looks_like_a_number_stays_a_text(tmp_path: Path) -> None:
    settings = {"name": "1e3", "data": "2E-5", "lr": 1e-05, "epochs": 3}
    assert runs.create(tmp_path, "one", settings).config == settings


@pytest.mark.parametrize("text", ["!!python/object:os.x {}", "2026-13-45", "[" * 5000, "a: b: c"])
def test_yaml_that_cannot_be_read_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (its words are the parser's)
        runs.read_yaml(text)
    assert str(caught.value)


# The two files of an evaluation


def _stored(run: runs.Run) -> tuple[float, float]:
    figures, arrays = run.evaluation("lfw")
    return figures["accuracy"], float(arrays["scores"][0])


@pytest.mark.parametrize("part", [(np, "savez_compressed"), (runs, "_as_json")])
def test_a_full_disk_leaves_both_files_of_an_evaluation_as_they_were(
    run: runs.Run, part: tuple[Any, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run.save_evaluation("lfw", {"accuracy": 0.1}, {"scores": np.full(2, 0.1)})

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(*part, full)
        with pytest.raises(WorkbenchError, match="cannot be written"):
            run.save_evaluation("lfw", {"accuracy": 0.2}, {"scores": np.full(2, 0.2)})
    assert _stored(run) == (0.1, 0.1)
    assert sorted(os.listdir(run.path / "evaluation")) == ["lfw.json", "lfw.npz"]


def test_arrays_of_another_evaluation_are_not_taken_for_its_own(run: runs.Run) -> None:
    run.save_evaluation("lfw", {"accuracy": 0.1}, {"scores": np.full(2, 0.1)})
    first = (run.path / "evaluation" / "lfw.json").read_bytes()
    run.save_evaluation("lfw", {"accuracy": 0.2}, {"scores": np.full(2, 0.2)})
    (run.path / "evaluation" / "lfw.json").write_bytes(first)
    with pytest.raises(
        WorkbenchError, match=r"lfw\.npz: belongs to another evaluation than lfw\.json"
    ):
        run.evaluation("lfw")


def test_evaluations_from_before_they_were_marked_are_read(run: runs.Run) -> None:
    (run.path / "evaluation").mkdir()
    (run.path / "evaluation" / "lfw.json").write_text('{"accuracy": 0.1}')
    np.savez(run.path / "evaluation" / "lfw.npz", scores=np.full(2, 0.1))
    assert _stored(run) == (0.1, 0.1)


def test_of_evaluations_at_the_same_time_one_is_stored_as_a_whole(run: runs.Run) -> None:
    def save(number: int) -> None:
        runs.open(run.path).save_evaluation(
            "lfw", {"accuracy": number}, {"scores": np.full(2, number)}
        )

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(save, range(40)))
    accuracy, score = _stored(run)
    assert accuracy == score


def test_settings_that_weights_depend_on_do_not_depend_on_how_they_are_written() -> None:
    plain = {"backbone": "a", "image_size": 112, "pixel_mean": 127.5, "epochs": 3}
    assert runs.made_with(plain) == {
        "backbone": "a",
        "image_size": [112, 112],
        "channels": "rgb",
        "pixel_mean": 127.5,
    }
    assert runs.made_with(plain) == runs.made_with(
        plain | {"image_size": [112, 112], "channels": "rgb", "epochs": 9}
    )
