"""Weights as training programs store them: in containers, with prefixes, heads and settings."""

from __future__ import annotations

import argparse
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import workbench as wb
from workbench import runs
from workbench.evaluation import load_model
from workbench.weights.state_dict import read_checkpoint

DIM = 8
Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def small() -> Weights:
    torch.manual_seed(0)
    return wb.backbones.create("smallresnet", embedding_dim=DIM, image_size=16).state_dict()


def _imported(path: Path, **options: Any) -> runs.Run:
    return wb.import_model(
        path, runs_dir=path.parent / "runs", backbone="smallresnet", image_size=16, **options
    )


def _notes(run: runs.Run) -> list[str]:
    notes: list[str] = run.environment["imported"]["notes"]
    return notes


def _same(run: runs.Run, weights: Weights) -> None:
    for key, value in load_model(run, "cpu").net.state_dict().items():
        assert torch.equal(value, weights[key]), key


def _under(prefix: str, weights: Weights) -> Weights:
    return {f"{prefix}{key}": value for key, value in weights.items()}


def _half_under(prefix: str, weights: Weights) -> Weights:
    return {
        f"{prefix}{key}" if number % 2 else key: value
        for number, (key, value) in enumerate(weights.items())
    }


def _other(weights: Weights) -> Weights:
    return {key: value + 1 for key, value in weights.items()}


WRAPPED: dict[str, tuple[Callable[[Weights], Any], str]] = {
    "net_state_dict": (lambda w: {"iters": 3, "net_state_dict": w}, "from 'net_state_dict'"),
    "model_state_dict": (
        lambda w: {
            "epoch": 1,
            "model_state_dict": w,
            "optimizer": {"state": {0: {"a": torch.ones(2)}}},
        },
        "",
    ),
    "params": (lambda w: {"params": w}, "from 'params'"),
    "inside of another": (lambda w: {"model": {"ema": w}}, "from 'model.ema'"),
    "any other name": (lambda w: {"the_face_net": w}, "from 'the_face_net'"),
    "model and its average": (
        lambda w: {"ema": _other(w), "model": w},
        "other tensors in the file were not used: ema",
    ),
    "prefix of Lightning": (lambda w: {"state_dict": _under("model.", w)}, "under 'model.'"),
    "nested prefixes": (
        lambda w: _under("module.student.encoder._orig_mod.", w),
        "under 'module.student.encoder._orig_mod.'",
    ),
    "prefix on some names only": (
        lambda w: {"state_dict": _half_under("model.", w)},
        "125 tensors were loaded from 'state_dict'",
    ),
    "prefixes of several kinds": (
        lambda w: _half_under("module.net.", _half_under("encoder.", w)),
        "125 tensors were loaded",
    ),
    "average beside it": (
        lambda w: _under("model.", w) | _under("teacher.", _other(w)),
        "125 tensors outside",
    ),
    "head of Lightning": (
        lambda w: {
            "state_dict": _under("model.", w)
            | {"loss.kernel": torch.ones(DIM, 30), "fc.weight": torch.ones(30, DIM)}
        },
        "2 tensors outside the backbone were left out: loss.kernel, fc.weight",
    ),
    "head beside a bare backbone": (
        lambda w: w | {"classifier.weight": torch.ones(30, DIM), "classifier.bias": torch.ones(30)},
        "2 tensors outside the backbone were left out: classifier.weight, classifier.bias",
    ),
    "numbers among them": (lambda w: w | {"epoch": 3, "name": "small"}, "125 tensors were loaded"),
    "without counters": (lambda w: {k: v for k, v in w.items() if "num_batches" not in k}, ""),
}


@pytest.mark.parametrize(("wrap", "note"), WRAPPED.values(), ids=list(WRAPPED))
def test_wrapped_weights_are_found_and_what_was_left_out_is_said(
    tmp_path: Path, small: Weights, wrap: Callable[[Weights], Any], note: str
) -> None:
    torch.save(wrap(small), tmp_path / "net.ckpt")
    run = _imported(tmp_path / "net.ckpt")
    _same(run, small)
    assert note in "; ".join(_notes(run))


def test_safetensors_are_taken(tmp_path: Path, small: Weights, complaint: Any) -> None:
    path = tmp_path / "net.safetensors"
    save_file(_under("model.", small), path)
    _same(_imported(path), small)
    path.write_bytes(path.read_bytes()[:-100])
    with complaint("net.safetensors"):
        _imported(path)


def test_half_precision_is_widened(tmp_path: Path, small: Weights) -> None:
    for kind in (torch.float16, torch.bfloat16, torch.float64):
        narrow = {
            key: value.to(kind) if value.is_floating_point() else value
            for key, value in small.items()
        }
        torch.save(narrow, tmp_path / "net.pth")
        _same(
            _imported(tmp_path / "net.pth"),
            {key: value.to(small[key].dtype) for key, value in narrow.items()},
        )


# Objects in addition to the weights are skipped without being created


class _EasyDict(dict[str, Any]):
    """Settings as a dictionary whose items are attributes too, as EasyDict and yacs have them."""

    def __init__(self, items: dict[str, Any]) -> None:
        super().__init__(items)
        self.__dict__ = {str(key): value for key, value in items.items()}


class _Settings:
    """A class of the program that saved the file; making it leaves a mark."""

    made: ClassVar[list[str]] = []

    def __init__(self, text: str) -> None:
        self.text = text

    def __reduce__(self) -> tuple[Any, ...]:
        return _mark, (self.text,), {"text": self.text}

    def __setstate__(self, state: Any) -> None:
        self.made.append("state")


def _mark(text: str) -> _Settings:
    _Settings.made.append(text)
    return _Settings(text)


def _of_another_program(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An object of a module that exists when it is saved; importing it later would raise."""
    module = types.ModuleType("their_project")
    kind = type("Config", (), {"__module__": "their_project", "__qualname__": "Config"})
    module.Config = kind  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "their_project", module)
    made = kind()
    made.lr = 0.1
    return made


BESIDE: dict[str, tuple[Callable[[], Any], str]] = {
    "numpy number": (lambda: np.float64(0.93), "numpy"),
    "numpy whole number": (lambda: np.int64(3), "numpy"),
    "numpy array": (lambda: np.arange(4.0), "numpy"),
    "namespace": (lambda: argparse.Namespace(lr=0.1, margin=np.float32(0.5)), "argparse.Namespace"),
    "path": (lambda: Path("a/b"), "pathlib"),
    "typed settings": (lambda: argparse.Namespace(kind=dict, any=Any), "argparse.Namespace"),
    "dictionary with attributes": (
        lambda: _EasyDict({"lr": 0.1, "path": Path("a"), "score": np.float32(1)}),
        "numpy",
    ),
    "own class": (lambda: _Settings("hello"), "_mark"),
}


@pytest.mark.parametrize(("make", "named"), BESIDE.values(), ids=list(BESIDE))
@pytest.mark.parametrize("place", ["beside", "among", "nested"])
def test_objects_beside_the_weights_are_passed_over(
    tmp_path: Path, small: Weights, make: Callable[[], Any], named: str, place: str
) -> None:
    _Settings.made.clear()
    beside = make()
    content: dict[str, dict[str, Any]] = {
        "beside": {"state_dict": small, "hyper_parameters": beside},
        "among": small | {"best": beside},
        "nested": {"state_dict": small, "callbacks": {"checkpoint": [{"score": (beside, 3)}]}},
    }
    torch.save(content[place], tmp_path / "net.ckpt")
    run = _imported(tmp_path / "net.ckpt")
    _same(run, small)
    (note,) = (
        note for note in _notes(run) if note.startswith("Python objects in the file were skipped")
    )
    assert named in note
    assert _Settings.made == []


def test_a_program_that_is_not_here_is_not_imported(
    tmp_path: Path, small: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"model": small, "config": _of_another_program(monkeypatch)}, tmp_path / "net.ckpt")
    monkeypatch.delitem(sys.modules, "their_project")
    run = _imported(tmp_path / "net.ckpt")
    _same(run, small)
    assert "Python objects in the file were skipped: their_project.Config" in _notes(run)
    assert "their_project" not in sys.modules


def test_stand_ins_are_gone_afterwards(tmp_path: Path, small: Weights) -> None:
    path = tmp_path / "net.ckpt"
    torch.save({"model": small, "args": argparse.Namespace(lr=0.1)}, path)
    before = set(torch.serialization.get_safe_globals())
    assert read_checkpoint(path).objects == ["argparse.Namespace"]
    assert set(torch.serialization.get_safe_globals()) == before
    with pytest.raises(Exception, match=r"argparse\.Namespace"):
        torch.load(path, weights_only=True)


class _Calls:
    """Pickles as a call of a function of Python's own library."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


@pytest.mark.parametrize(
    "name",
    [
        "exec",
        "eval",
        "getattr",
        "__import__",
        "subprocess.Popen",
        "runpy.run_path",
        "shutil.rmtree",
    ],
)
@pytest.mark.parametrize("place", ["beside", "among", "alone"])
def test_calls_of_pythons_own_library_are_refused(
    tmp_path: Path, small: Weights, name: str, place: str, complaint: Any
) -> None:
    module, _, attribute = name.rpartition(".")
    __import__(module or "builtins")
    call = _Calls(getattr(sys.modules[module or "builtins"], attribute), str(tmp_path / "kept"))
    (tmp_path / "kept").mkdir()
    torch.save(
        {"beside": {"model": small, "x": call}, "among": small | {"x": call}, "alone": call}[place],
        tmp_path / "net.ckpt",
    )
    with complaint("net.ckpt: refused: it contains the Python object", attribute):
        _imported(tmp_path / "net.ckpt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "net.ckpt"]


def test_a_file_of_objects_alone_is_refused(tmp_path: Path, complaint: Any) -> None:
    torch.save(
        {"args": argparse.Namespace(lr=0.1), "net": torch.nn.Linear(3, 3)}, tmp_path / "net.ckpt"
    )
    with complaint(
        "contains no state_dict",
        "its keys are args, net",
        "argparse.Namespace",
        "save the state_dict",
    ):
        _imported(tmp_path / "net.ckpt")


# What must not be taken for a whole backbone


@pytest.mark.parametrize("prefix", ["", "model."])
@pytest.mark.parametrize("position", [0, 0.5, 1])
def test_a_missing_weight_is_named(
    position: float, prefix: str, tmp_path: Path, small: Weights, complaint: Any
) -> None:
    names = [key for key in small if not key.endswith(".num_batches_tracked")]
    left_out = names[round(position * (len(names) - 1))]
    remaining = {key: value for key, value in small.items() if key != left_out}
    torch.save(_under(prefix, remaining), tmp_path / "net.pth")
    with complaint(
        "does not fit 'smallresnet'",
        f"{len(names) - 1} of its {len(names)} tensors fit",
        f"missing {left_out}",
    ):
        _imported(tmp_path / "net.pth")


@pytest.mark.parametrize(
    "more",
    [
        {"attention.weight": torch.ones(DIM, DIM)},
        {"head.9.weight": torch.ones(30, DIM)},
        {"logits.weight": torch.ones(30, DIM + 1)},
    ],
    ids=["a layer", "a layer of the backbone's head", "a head of another length"],
)
def test_what_may_be_a_layer_is_not_left_out(
    tmp_path: Path, small: Weights, more: Weights, complaint: Any
) -> None:
    torch.save(small | more, tmp_path / "net.pth")
    with complaint("does not fit 'smallresnet'", f"unexpected {next(iter(more))}"):
        _imported(tmp_path / "net.pth")


def test_a_deeper_network_is_not_cut_to_a_shallower_one(tmp_path: Path, complaint: Any) -> None:
    deep = wb.backbones.create("iresnet34", embedding_dim=DIM, image_size=16).state_dict()
    for prefix in ("", "model."):
        torch.save(_under(prefix, deep), tmp_path / "net.pth")
        with complaint("does not fit 'iresnet18', but 'iresnet34'"):
            wb.import_model(
                tmp_path / "net.pth",
                runs_dir=tmp_path / "runs",
                image_size=16,
                backbone="iresnet18",
            )
