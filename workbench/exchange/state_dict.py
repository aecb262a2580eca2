"""Weights as PyTorch stores them: read without running their code, and given to the network that they fit."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench import backbones
from workbench.errors import WorkbenchError

WRAPPERS = ("state_dict_backbone", "state_dict", "model", "backbone", "net")
"""Where in a checkpoint the network's weights are; the first is arcface_torch's."""
PREFIXES = ("module.", "_orig_mod.", "backbone.", "model.", "net.")
"""What data-parallel training, torch.compile and wrapping modules put before the name of every weight."""
_COUNTER = ".num_batches_tracked"
_SHOWN = 3
_RESHAPED = "of another shape"

StateDict = dict[str, Tensor]
Misfit = dict[str, list[str]]
"""Kind of difference to the names of the weights; empty where they fit."""


def read_state_dict(path: Path) -> StateDict:
    """The weights in a PyTorch file, without wrappers and prefixes.

    The file is read with PyTorch's allow-list of tensors and plain containers; it cannot run code.

    Raises:
        WorkbenchError: cannot be read, holds other objects, or no weights.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on a TorchScript file, which is refused all the same
            found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WorkbenchError(f"{path}: cannot be read ({error.strerror or error})") from None
    except Exception as error:  # a damaged file raises RuntimeError, UnpicklingError, EOFError, struct.error, KeyError, ...
        raise WorkbenchError(f"{path}: {_refusal(str(error))}") from None
    if not isinstance(found, dict):
        raise WorkbenchError(f"{path}: holds a {type(found).__name__}, expected a state_dict: names and tensors")
    inside = next((found[key] for key in WRAPPERS if _is_state_dict(found.get(key))), found)
    if not _is_state_dict(inside):
        raise WorkbenchError(
            f"{path}: no state_dict in it, neither bare nor as {', '.join(WRAPPERS)}; it holds {_few(list(found))}"
        )
    state = {str(key): value for key, value in inside.items()}
    while prefix := next((prefix for prefix in PREFIXES if all(key.startswith(prefix) for key in state)), ""):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    bad = [key for key, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if bad:
        raise WorkbenchError(f"{path}: NaN or infinite weights in {_few(bad)}")
    return state


def fitting_backbone(
    state: StateDict, where: str, wanted: str | None = None, image_size: int | tuple[int, int] = 112
) -> tuple[str, backbones.Backbone]:
    """The registered backbone whose weights have these names and shapes, filled with them, in evaluation mode.

    Args:
        state: as `read_state_dict` gives it.
        where: what to call it in an error.
        wanted: name of the backbone; by default each is tried.
        image_size: that it was trained with: height and width in pixels; an int means a square.

    Raises:
        WorkbenchError: it fits none; which weights are missing or too many in the nearest one.
    """
    sized = [value for value in state.values() if value.ndim]
    last = state.get("fc.weight", sized[-1] if sized else torch.zeros(1))
    embedding_dim = len(last) if last.ndim else 1
    misfits: dict[str, Misfit] = {}
    for name in dict.fromkeys([*([wanted] if wanted else []), *backbones.names()]):
        try:
            with torch.device("meta"):  # names and shapes without memory for the weights
                expected = backbones.create(name, embedding_dim=embedding_dim, image_size=image_size).state_dict()
        except WorkbenchError:  # too small for this one, or it has options that must be given
            if name == wanted:
                raise
            continue
        misfits[name] = _misfit(expected, state)
        if not misfits[name] and name == (wanted or name):
            net = backbones.create(name, embedding_dim=embedding_dim, image_size=image_size)
            net.load_state_dict({key: state.get(key, torch.zeros((), dtype=torch.int64)) for key in expected})
            return name, net.eval()
    raise _no_fit(state, where, wanted, misfits)


def _misfit(expected: StateDict, state: StateDict) -> Misfit:
    """What keeps the weights from fitting, in the order of the network; counters of batches, which old files lack, aside."""
    found = {
        "missing": [key for key in expected if key not in state and not key.endswith(_COUNTER)],
        "unexpected": [key for key in state if key not in expected],
        _RESHAPED: [
            f"{key} {_shape(state[key])} instead of {_shape(value)}"
            for key, value in expected.items()
            if key in state and state[key].shape != value.shape
        ],
    }
    return {kind: names for kind, names in found.items() if names}


def _no_fit(state: StateDict, where: str, wanted: str | None, misfits: dict[str, Misfit]) -> WorkbenchError:
    nearest = wanted if wanted in misfits else min(misfits, key=lambda name: sum(map(len, misfits[name].values())), default=None)
    if nearest is None:
        return WorkbenchError(f"{where}: no registered backbone takes images of this size")
    said = "; ".join(f"{kind} {_few(names)}" for kind, names in misfits[nearest].items())
    fits = next((name for name, found in misfits.items() if not found), None)
    if fits is not None:
        return WorkbenchError(f"{where}: does not fit {nearest!r}, but {fits!r} ({said})")
    if list(misfits[nearest]) == [_RESHAPED]:
        said += "; was it trained on images of another size?"
    blocks = _blocks(state)
    built = f", its blocks are {'-'.join(map(str, blocks))}" if blocks else ""
    what = f"does not fit {nearest!r}" if wanted else f"fits no known backbone{built}, the nearest is {nearest!r}"
    return WorkbenchError(f"{where}: {what}: {said}")


def _blocks(state: StateDict) -> list[int]:
    """Blocks in each stage of a residual network, from names such as layer3.13.conv1.weight; none where it has no such."""
    places = {match.groups() for key in state if (match := re.match(r"layer(\d{1,3})\.(\d{1,4})\.", key))}
    stages = sorted({int(stage) for stage, _ in places})
    return [sum(int(stage) == wanted for stage, _ in places) for wanted in stages]


def _is_state_dict(value: Any) -> bool:
    return (
        isinstance(value, dict) and bool(value) and all(isinstance(tensor, Tensor) and _plain(tensor) for tensor in value.values())
    )


def _plain(tensor: Tensor) -> bool:
    """Numbers that are there: neither sparse, nor quantised, nor a shape alone."""
    return tensor.layout is torch.strided and not tensor.is_quantized and not tensor.is_meta


def _refusal(reason: str) -> str:
    """PyTorch's many lines in one."""
    if named := re.search(r"[Uu]nsupported (?:global: GLOBAL|GLOBAL|class) ([\w.]+)", reason):
        return f"refused: it holds the Python object {named[1][:80]}, not tensors alone; have its author save the state_dict"
    if "TorchScript" in reason:
        return "refused: a TorchScript program, not tensors alone; have its author save the state_dict"
    own = re.sub(r".*WeightsUnpickler error:|Check the documentation.*|In PyTorch 2\.6.*", "", reason, flags=re.DOTALL)
    return f"not a PyTorch checkpoint of tensors ({_clean(own)[:120]})"


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "()"


def _few(words: Sequence[object]) -> str:
    shown = ", ".join(_clean(str(word))[:60] for word in words[:_SHOWN])
    return f"{shown} and {len(words) - _SHOWN:,} more" if len(words) > _SHOWN else shown


def _clean(text: str) -> str:
    """In one line, without what would move a terminal's cursor: names come out of a stranger's file."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
