"""Weights to the registered backbone that they are of, told by names and shapes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from workbench import backbones
from workbench.errors import WorkbenchError
from workbench.exchange.dialects import Reading, readings
from workbench.exchange.state_dict import Checkpoint, StateDict, few
from workbench.finite import check_tensors

PREFIXES = ("module.", "_orig_mod.", "backbone.", "model.", "net.", "encoder.")
"""What data-parallel training, torch.compile and wrapping modules put before names; some checkpoints have it before a part."""
_HEAD = re.compile(
    r"head|loss|criterion|margin|classifier|logits|softmax|metric|product|arcface|cosface|partial_fc|prox|centers"
)
_COUNTER = ".num_batches_tracked"
_RESHAPED = "of another shape"

Misfit = dict[str, list[str]]
"""Kind of difference to the names of the weights; empty where they fit."""


@dataclass(frozen=True)
class Fit:
    """A backbone filled with the weights of a checkpoint, in evaluation mode.

    Attributes:
        name: of the registered backbone.
        options: of it, beyond the length of embeddings and the size of images.
        net: the backbone.
        notes: what was understood and what was left out, a sentence each.
    """

    name: str
    options: dict[str, Any]
    net: backbones.Backbone
    notes: list[str]


@dataclass(frozen=True)
class _Attempt:
    """How far the weights of one part of a checkpoint, read in one way, are those of one backbone."""

    part: str
    reading: Reading
    name: str
    expected: StateDict
    prefix: str
    weights: StateDict
    head: list[str]
    outside: list[str]
    misfit: Misfit

    @property
    def differences(self) -> int:
        return sum(map(len, self.misfit.values()))


def fitting_backbone(
    checkpoint: Checkpoint,
    where: str,
    wanted: str | None = None,
    image_size: int | tuple[int, int] = 112,
) -> Fit:
    """The registered backbone whose weights have these names and shapes, filled with them.

    Every weight of the backbone must be there; none is left as it was drawn. Weights of a wrapping module's other parts and
    of a classification head are left out, and named in the notes.

    Args:
        checkpoint: as `read_checkpoint` gives it.
        where: what to call it in an error.
        wanted: name of the backbone; by default each is tried.
        image_size: that it was trained with: height and width in pixels; an int means a square.

    Raises:
        WorkbenchError: it fits none; which weights are missing or too many in the nearest one. Or they are not finite.
    """
    tensors = _Tensors(image_size, wanted)
    tried: list[_Attempt] = []
    for part, state in checkpoint.parts.items():
        for reading in readings(state):
            for name in tensors.names:
                for attempt in _attempts(part, reading, name, tensors):
                    if not attempt.misfit and name == (wanted or name):
                        return _filled(attempt, checkpoint, where, image_size)
                    tried.append(attempt)
    raise _no_fit(checkpoint, where, wanted, tried)


class _Tensors:
    """Names and shapes of the weights of every backbone, without memory for them."""

    def __init__(self, image_size: int | tuple[int, int], wanted: str | None) -> None:
        self.image_size, self.wanted = image_size, wanted
        self.names = list(dict.fromkeys([*([wanted] if wanted else []), *backbones.names()]))
        self._known: dict[str, StateDict | None] = {}

    def of(self, name: str, embedding_dim: int, options: dict[str, Any]) -> StateDict | None:
        """None where it cannot be made: images too small for it, options that must be given, options of another one."""
        key = f"{name} {embedding_dim} {options}"
        if key not in self._known:
            try:
                with torch.device("meta"):
                    made = backbones.create(
                        name, embedding_dim=embedding_dim, image_size=self.image_size, **options
                    )
                self._known[key] = made.state_dict()
            except WorkbenchError:
                if name == self.wanted and not options:
                    raise
                self._known[key] = None
        return self._known[key]


def _attempts(part: str, reading: Reading, name: str, tensors: _Tensors) -> Iterator[_Attempt]:
    usual = tensors.of(name, 1, reading.options)
    if not usual:
        return
    long = [
        key for key, tensor in usual.items() if tensor.ndim and tensor.shape[0] == 1
    ]  # as long as an embedding
    for prefix, weights in _variants(reading.state, usual):
        closing = next((weights[key] for key in reversed(long) if key in weights), torch.zeros(1))
        length = closing.shape[0] if closing.ndim else 0
        alike = 2 * len(weights.keys() & usual.keys()) > len(
            usual
        )  # else it is another network, of whatever length
        expected = tensors.of(name, max(length, 1), reading.options) if alike else usual
        if expected is None:
            continue
        beyond = [key for key in weights if key not in expected]
        head = (
            []
            if prefix
            else _head_of(beyond, weights, length, {key.partition(".")[0] for key in expected})
        )
        outside = [key for key in reading.state if not key.startswith(prefix)]
        misfit = _misfit(expected, weights, [key for key in beyond if key not in head])
        yield _Attempt(part, reading, name, expected, prefix, weights, head, outside, misfit)


def _variants(state: StateDict, expected: StateDict) -> Iterator[tuple[str, StateDict]]:
    """What may be the backbone's part of a state dict: all of it, what is under one prefix, all without the usual prefixes."""
    yield "", state
    first = next(iter(expected))
    prefixes = dict.fromkeys(key.removesuffix(first) for key in state if key.endswith(f".{first}"))
    for prefix in prefixes:
        if sum(prefix + key in state for key in expected) > len(expected) // 2:
            yield (
                prefix,
                {
                    key.removeprefix(prefix): tensor
                    for key, tensor in state.items()
                    if key.startswith(prefix)
                },
            )
    stripped = {_stripped(key): tensor for key, tensor in state.items()}
    if len(stripped) == len(state) and stripped.keys() != state.keys():
        yield "", stripped


def _stripped(key: str) -> str:
    while prefix := next((prefix for prefix in PREFIXES if key.startswith(prefix)), ""):
        key = key.removeprefix(prefix)
    return key


def _head_of(
    beyond: list[str], weights: StateDict, embedding_dim: int, modules: set[str]
) -> list[str]:
    """Weights beside a bare backbone that are a classification head's by name, and by shape: a matrix with a side of D.

    What is in one of the backbone's own modules never is: it would be a layer that is not known here.
    """
    found: list[str] = []
    for top in dict.fromkeys(key.partition(".")[0] for key in beyond):
        group = [key for key in beyond if key.partition(".")[0] == top]
        shapes = [tuple(weights[key].shape) for key in group]
        matrices = [shape for shape in shapes if len(shape) > 1]
        if (
            top not in modules
            and _HEAD.search(top)
            and matrices
            and all(len(shape) == 2 and embedding_dim in shape for shape in matrices)
        ):
            found += group
    return found


def _misfit(expected: StateDict, weights: StateDict, beyond: list[str]) -> Misfit:
    """What keeps the weights from fitting, in the order of the network; counters of batches, which old files lack, aside."""
    both = [key for key in expected if key in weights]
    found = {
        "missing": [key for key in expected if key not in weights and not key.endswith(_COUNTER)],
        "unexpected": beyond,
        _RESHAPED: [
            f"{key} {_shape(weights[key])} instead of {_shape(expected[key])}"
            for key in both
            if weights[key].shape != expected[key].shape
        ],
        "not floating point": [
            f"{key} ({weights[key].dtype})"
            for key in both
            if expected[key].is_floating_point() and not weights[key].is_floating_point()
        ],
    }
    return {kind: names for kind, names in found.items() if names}


def _filled(
    attempt: _Attempt, checkpoint: Checkpoint, where: str, image_size: int | tuple[int, int]
) -> Fit:
    taken = {key: tensor for key, tensor in attempt.weights.items() if key in attempt.expected}
    check_tensors(taken, where, "the file is damaged, or its training went wrong")
    last = [tensor for tensor in attempt.expected.values() if tensor.ndim][-1]
    options = attempt.reading.options
    net = backbones.create(
        attempt.name, embedding_dim=last.shape[0], image_size=image_size, **options
    )
    counter = torch.zeros((), dtype=torch.int64)
    net.load_state_dict({key: taken.get(key, counter) for key in attempt.expected})
    return Fit(
        attempt.name,
        options,
        net.eval(),
        _notes(attempt, len(taken) - attempt.reading.added, checkpoint),
    )


def _notes(attempt: _Attempt, taken: int, checkpoint: Checkpoint) -> list[str]:
    part = f" from {attempt.part!r}" if attempt.part else ""
    prefix = f" under {attempt.prefix!r}" if attempt.prefix else ""
    origin = f", by the names of {attempt.reading.origin}" if attempt.reading.origin else ""
    notes = [f"{taken} tensors were taken{part}{prefix}{origin}"]
    left_out = [*attempt.head, *attempt.outside]
    if left_out:
        notes.append(f"{len(left_out)} tensors beside the backbone were left out: {few(left_out)}")
    others = [part or "the top level" for part in checkpoint.parts if part != attempt.part]
    if others:
        notes.append(f"other tensors in the file were not used: {few(others)}")
    if checkpoint.objects:
        notes.append(
            f"Python objects beside the weights were passed over: {few(checkpoint.objects)}"
        )
    return notes


def _no_fit(
    checkpoint: Checkpoint, where: str, wanted: str | None, tried: list[_Attempt]
) -> WorkbenchError:
    fits = next((attempt for attempt in tried if not attempt.misfit), None)
    of_interest = [attempt for attempt in tried if attempt.name == wanted] or tried
    nearest = min(
        (attempt for attempt in of_interest if attempt.misfit),
        key=lambda one: one.differences,
        default=None,
    )
    if nearest is None:
        return WorkbenchError(f"{where}: no registered backbone takes images of this size")
    said = "; ".join(f"{kind} {few(names)}" for kind, names in nearest.misfit.items())
    if fits is not None:
        return WorkbenchError(f"{where}: does not fit {nearest.name!r}, but {fits.name!r} ({said})")
    wrong = len(
        {
            name.split()[0]
            for kind, names in nearest.misfit.items()
            if kind != "unexpected"
            for name in names
        }
    )
    counted = [key for key in nearest.expected if not key.endswith(_COUNTER)]
    said = f"{len(counted) - wrong} of its {len(counted)} tensors are there; {said}"
    blocks = _blocks(nearest.weights)
    built = f", its blocks are {'-'.join(map(str, blocks))}" if blocks else ""
    what = (
        f"does not fit {wanted!r}"
        if wanted
        else f"fits no known backbone{built}, the nearest is {nearest.name!r}"
    )
    remedy = "export it to ONNX where it was trained, and import that"
    if list(nearest.misfit) == [_RESHAPED]:
        remedy = "was it trained on images of another size? Say --image-size"
    return WorkbenchError(f"{where}: {what}: {said}; {remedy}")


def _blocks(state: StateDict) -> list[int]:
    """Blocks in each stage of a residual network, from names such as layer3.13.conv1.weight; none where it has no such."""
    places = {
        match.groups() for key in state if (match := re.match(r"layer(\d{1,3})\.(\d{1,4})\.", key))
    }
    stages = sorted({int(stage) for stage, _ in places})
    return [sum(int(stage) == wanted for stage, _ in places) for wanted in stages]


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "()"
