"""Finding the registered backbone that a set of weights belongs to, by names and shapes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from workbench import backbones
from workbench.errors import WorkbenchError
from workbench.finite import check_tensors
from workbench.weights.dialects import Reading, readings
from workbench.weights.order import in_order
from workbench.weights.state_dict import Checkpoint, StateDict, few

PREFIXES = ("module.", "_orig_mod.", "backbone.", "model.", "net.", "encoder.")
"""Prefixes that data-parallel training, torch.compile and wrapping modules add to names.

Some checkpoints have them on some of their names only.
"""
_HEAD = re.compile(
    r"head|loss|criterion|margin|classifier|logits|softmax|metric|product|arcface|cosface|"
    r"partial_fc|prox|centers"
)
"""Names of modules that may be a classification head."""
_COUNTER = ".num_batches_tracked"
"""Ending of the batch counters of batch normalisation, which old files do not contain."""
SIZES = ((112, 112), (112, 96))
"""Height and width of the images that are tried if the caller does not give the size."""
_VARIANTS: dict[str, Sequence[dict[str, Any]]] = {
    "mobilefacenet": ({}, {"width": 1}, {"width": 4, "blocks": [2, 8, 12, 4]})
}
"""Options of backbones that are tried if the names of the weights are of no known program."""
_RESHAPED = "of another shape"

Misfit = dict[str, list[str]]
"""The kinds of differences, each with the names of the weights; empty if the weights fit."""


@dataclass(frozen=True)
class Fit:
    """A backbone with the weights of a checkpoint, in evaluation mode.

    Attributes:
        name: Name of the registered backbone.
        options: Its options other than `embedding_dim` and `image_size`.
        net: The backbone.
        notes: What was understood and what was left out, one sentence each.
    """

    name: str
    options: dict[str, Any]
    net: backbones.Backbone
    notes: list[str]


@dataclass(frozen=True)
class _Attempt:
    """The comparison of one state_dict of a checkpoint, read in one way, with one backbone.

    Attributes:
        part: Place of the state_dict in the checkpoint, as in `Checkpoint.parts`.
        reading: The state_dict under the names of this package.
        name: Name of the backbone.
        options: Options of the backbone.
        expected: The weights of that backbone, on the meta device.
        prefix: Prefix of the names of the backbone's weights in the state_dict.
        weights: The weights under this prefix, without it.
        head: Names of weights of a classification head.
        outside: Names of weights that do not have the prefix.
        misfit: The differences between `weights`, without the head, and `expected`.
    """

    part: str
    reading: Reading
    name: str
    options: dict[str, Any]
    expected: StateDict
    prefix: str
    weights: StateDict
    head: list[str]
    outside: list[str]
    misfit: Misfit

    @property
    def differences(self) -> int:
        """Number of weights that differ."""
        return sum(map(len, self.misfit.values()))


def fitting_backbone(
    checkpoint: Checkpoint,
    where: str,
    requested: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Fit:
    """Finds the registered backbone that has these weights, and loads them into it.

    The backbone is found by the names and shapes of the weights. If no backbone has these names, it
    is found by the order and the shapes alone, see `workbench.weights.order`; a note says so.

    Every weight of the backbone must be in the checkpoint; none keeps its random initial value.
    Weights of other modules and of a classification head are left out and named in the notes.

    Args:
        checkpoint: The contents of a file, from `read_checkpoint`.
        where: Name of the file, for error messages.
        requested: Name of the backbone; by default every registered one is tried.
        image_size: Height and width of the images in pixels; an int means a square. By default the
            first of `SIZES` that the shapes of the weights allow.
        options: Options of the requested backbone. They are not allowed without `requested`.

    Returns:
        The backbone with its weights.

    Raises:
        WorkbenchError: if the weights fit no backbone, with the missing and unexpected weights of
            the most similar one; or if weights are not finite.
    """
    sizes = SIZES if image_size is None else (image_size,)
    attempts: list[_Attempt] = []
    for size in sizes:
        shapes = _Shapes(size, requested, options or {})
        for part, state in checkpoint.parts.items():
            for reading in readings(state):
                for name in [reading.backbone] if reading.backbone else shapes.names:
                    for attempt in _attempts(part, reading, name, shapes):
                        if not attempt.misfit and name == (requested or name):
                            return _loaded(attempt, checkpoint, where, size)
                        attempts.append(attempt)
    # A backbone that fits by its names is only refused if the caller requested another one.
    if all(attempt.misfit for attempt in attempts):
        for size in sizes:
            fits = list(_attempts_in_order(checkpoint, _Shapes(size, requested, options or {})))
            if len(fits) > 1:
                names = ", ".join(attempt.name for attempt in fits)
                raise WorkbenchError(
                    f"{where}: its names are of no known program, and the order and shapes of its "
                    f"weights fit several backbones: {names}; choose one with --backbone"
                )
            if fits:
                return _loaded(fits[0], checkpoint, where, size)
    raise _no_fit(checkpoint, where, requested, attempts)


class _Shapes:
    """Names and shapes of the weights of every backbone, on the meta device (without memory)."""

    def __init__(
        self,
        image_size: int | tuple[int, int],
        requested: str | None,
        options: Mapping[str, Any],
    ) -> None:
        self.image_size, self.requested, self.options = image_size, requested, options
        self.names = list(dict.fromkeys([*([requested] if requested else []), *backbones.names()]))
        self._cache: dict[str, StateDict | None] = {}

    def options_of(self, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the options of a backbone: those of the caller, and those of a reading."""
        own = self.options if name == self.requested else {}
        return {**own, **options}

    def of(self, name: str, embedding_dim: int, options: Mapping[str, Any]) -> StateDict | None:
        """Returns the state_dict of a backbone, or None if it cannot be created.

        This happens if the images are too small for it, if it has options without a default, or
        if it does not have these options. For the requested backbone the error is raised.
        """
        key = f"{name} {embedding_dim} {options}"
        if key not in self._cache:
            try:
                with torch.device("meta"):
                    net = backbones.create(
                        name,
                        embedding_dim=embedding_dim,
                        image_size=self.image_size,
                        **backbones.without_fetching(self.options_of(name, options)),
                    )
                self._cache[key] = net.state_dict()
            except WorkbenchError:
                if name == self.requested and not options:
                    raise
                self._cache[key] = None
        return self._cache[key]


def _attempts(part: str, reading: Reading, name: str, shapes: _Shapes) -> Iterator[_Attempt]:
    """Yields the comparisons of a state_dict with a backbone, one for each possible prefix."""
    of_dim_one = shapes.of(name, 1, reading.options)
    if not of_dim_one:
        return
    # Weights whose first axis has the length of an embedding; the last one shows that length.
    closing = [key for key, tensor in of_dim_one.items() if tensor.ndim and tensor.shape[0] == 1]
    for prefix, weights in _variants(reading.state, of_dim_one):
        last = next((weights[key] for key in reversed(closing) if key in weights), torch.zeros(1))
        embedding_dim = last.shape[0] if last.ndim else 0
        # With fewer than half of the names in common it is another network, of whatever length.
        is_similar = 2 * len(weights.keys() & of_dim_one.keys()) > len(of_dim_one)
        expected = of_dim_one
        if is_similar:
            of_this_dim = shapes.of(name, max(embedding_dim, 1), reading.options)
            if of_this_dim is None:
                continue
            expected = of_this_dim
        unexpected = [key for key in weights if key not in expected]
        head: list[str] = []
        if not prefix:
            modules = {key.partition(".")[0] for key in expected}
            head = _head_of(unexpected, weights, embedding_dim, modules)
        outside = [key for key in reading.state if not key.startswith(prefix)]
        misfit = _misfit(expected, weights, [key for key in unexpected if key not in head])
        yield _Attempt(
            part,
            reading,
            name,
            shapes.options_of(name, reading.options),
            expected,
            prefix,
            weights,
            head,
            outside,
            misfit,
        )


def _attempts_in_order(checkpoint: Checkpoint, shapes: _Shapes) -> Iterator[_Attempt]:
    """Yields the backbones whose weights have the order and the shapes of those in the file.

    Only the first state_dict of the checkpoint that fits any backbone is used.
    """
    names = [shapes.requested] if shapes.requested else shapes.names
    variants = {} if shapes.options else _VARIANTS
    for part, state in checkpoint.parts.items():
        fits = [
            attempt
            for name in names
            for options in variants.get(name, ({},))
            if (attempt := _attempt_in_order(part, state, name, options, shapes)) is not None
        ]
        if fits:
            yield from fits
            return


def _attempt_in_order(
    part: str, state: StateDict, name: str, options: Mapping[str, Any], shapes: _Shapes
) -> _Attempt | None:
    """Returns the match of a state_dict with one backbone by order; None if there is none."""
    inside, head = _without_head(state)
    last = next((tensor for tensor in reversed(inside.values()) if tensor.ndim), None)
    if last is None or not last.shape[0]:
        return None
    if any(state[key].ndim == 2 and last.shape[0] not in state[key].shape for key in head):
        return None
    expected = shapes.of(name, last.shape[0], options)
    weights = None if expected is None else in_order(inside, expected)
    if expected is None or weights is None or _misfit(expected, weights, []):
        return None
    reading = Reading(weights, options=dict(options), by_order=True)
    all_options = shapes.options_of(name, options)
    return _Attempt(part, reading, name, all_options, expected, "", weights, head, [], {})


def _without_head(state: StateDict) -> tuple[StateDict, list[str]]:
    """Splits off modules whose name is that of a classification head and that hold matrices only.

    Returns:
        The other tensors, and the names of the head's.
    """
    modules: dict[str, list[str]] = {}
    for key in state:
        modules.setdefault(key.partition(".")[0], []).append(key)
    head = [
        key
        for top, names in modules.items()
        if len(modules) > 1 and _HEAD.search(top)
        if all(state[one].ndim <= 2 for one in names) and any(state[one].ndim == 2 for one in names)
        for key in names
    ]
    return {key: tensor for key, tensor in state.items() if key not in head}, head


def _variants(state: StateDict, expected: StateDict) -> Iterator[tuple[str, StateDict]]:
    """Yields the parts of a state_dict that may be the backbone, each with its prefix.

    These are the whole state_dict, the weights under each prefix that most of the expected names
    share, and the whole state_dict without the prefixes in `PREFIXES`.
    """
    yield "", state
    first = next(iter(expected))
    prefixes = dict.fromkeys(key.removesuffix(first) for key in state if key.endswith(f".{first}"))
    for prefix in prefixes:
        if sum(prefix + key in state for key in expected) > len(expected) // 2:
            part = {
                key.removeprefix(prefix): tensor
                for key, tensor in state.items()
                if key.startswith(prefix)
            }
            yield prefix, part
    stripped = {_stripped(key): tensor for key, tensor in state.items()}
    if len(stripped) == len(state) and stripped.keys() != state.keys():
        yield "", stripped


def _stripped(key: str) -> str:
    """Returns a name without the prefixes in `PREFIXES`."""
    while prefix := next((prefix for prefix in PREFIXES if key.startswith(prefix)), ""):
        key = key.removeprefix(prefix)
    return key


def _head_of(
    unexpected: list[str], weights: StateDict, embedding_dim: int, modules: set[str]
) -> list[str]:
    """Returns the names of those unexpected weights that belong to a classification head.

    A head is a top-level module whose name matches `_HEAD`, and whose matrices have one side of
    length `embedding_dim`. Weights in one of the backbone's own modules never belong to it: they
    would be a layer that the backbone does not have.
    """
    head: list[str] = []
    for top in dict.fromkeys(key.partition(".")[0] for key in unexpected):
        group = [key for key in unexpected if key.partition(".")[0] == top]
        shapes = [tuple(weights[key].shape) for key in group]
        matrices = [shape for shape in shapes if len(shape) > 1]
        if (
            top not in modules
            and _HEAD.search(top)
            and matrices
            and all(len(shape) == 2 and embedding_dim in shape for shape in matrices)
        ):
            head += group
    return head


def _misfit(expected: StateDict, weights: StateDict, unexpected: list[str]) -> Misfit:
    """Returns the differences between weights, in the order of the network.

    Missing batch counters are no difference, as old files do not contain them.
    """
    common = [key for key in expected if key in weights]
    differences = {
        "missing": [key for key in expected if key not in weights and not key.endswith(_COUNTER)],
        "unexpected": unexpected,
        _RESHAPED: [
            f"{key} {_shape(weights[key])} instead of {_shape(expected[key])}"
            for key in common
            if weights[key].shape != expected[key].shape
        ],
        "not floating point": [
            f"{key} ({weights[key].dtype})"
            for key in common
            if expected[key].is_floating_point() and not weights[key].is_floating_point()
        ],
    }
    return {kind: names for kind, names in differences.items() if names}


def _loaded(
    attempt: _Attempt, checkpoint: Checkpoint, where: str, image_size: int | tuple[int, int]
) -> Fit:
    """Creates the backbone and loads the weights into it."""
    weights = {key: tensor for key, tensor in attempt.weights.items() if key in attempt.expected}
    check_tensors(weights, where, "the file is damaged, or its training went wrong")
    last = [tensor for tensor in attempt.expected.values() if tensor.ndim][-1]
    net = backbones.create(
        attempt.name,
        embedding_dim=last.shape[0],
        image_size=image_size,
        **backbones.without_fetching(attempt.options),
    )
    counter = torch.zeros((), dtype=torch.int64)
    net.load_state_dict({key: weights.get(key, counter) for key in attempt.expected})
    net.eval()
    _check_embeddings(net, where)
    notes = _notes(attempt, len(weights) - attempt.reading.added, checkpoint)
    return Fit(attempt.name, attempt.options, net, notes)


@torch.inference_mode()
def _check_embeddings(net: backbones.Backbone, where: str) -> None:
    """Checks, with two images of noise, that the embeddings are finite and depend on the image."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, *net.image_size, generator=generator) * 2 - 1
    first, second = net(images)
    if not (first.isfinite().all() and second.isfinite().all()) or torch.equal(first, second):
        raise WorkbenchError(
            f"{where}: its weights fit {type(net).__name__}, but the embeddings of two images of "
            "noise are equal or not finite; the file is damaged, or its training went wrong"
        )


def _notes(attempt: _Attempt, count: int, checkpoint: Checkpoint) -> list[str]:
    """Returns the notes on what was loaded and what was left out.

    Args:
        count: Number of tensors of the file that were loaded.
    """
    part = f" from {attempt.part!r}" if attempt.part else ""
    prefix = f" under {attempt.prefix!r}" if attempt.prefix else ""
    origin = ""
    if attempt.reading.origin:
        origin = f", with the names of {attempt.reading.origin}"
    notes = [f"{count} tensors were loaded{part}{prefix}{origin}"]
    if attempt.reading.by_order:
        notes.append(
            f"the names are of no known program; the weights were assigned to {attempt.name!r} by "
            "their order and shapes, which cannot tell activations apart: check the accuracy on a "
            "benchmark"
        )
    if attempt.reading.unused:
        notes.append(f"used in training only, left out: {few(attempt.reading.unused)}")
    left_out = [*attempt.head, *attempt.outside]
    if left_out:
        notes.append(f"{len(left_out)} tensors outside the backbone were left out: {few(left_out)}")
    unused = [part or "the top level" for part in checkpoint.parts if part != attempt.part]
    if unused:
        notes.append(f"other tensors in the file were not used: {few(unused)}")
    if checkpoint.objects:
        notes.append(f"Python objects in the file were skipped: {few(checkpoint.objects)}")
    return notes


def _no_fit(
    checkpoint: Checkpoint, where: str, requested: str | None, attempts: list[_Attempt]
) -> WorkbenchError:
    """Makes the error for weights that fit no backbone, with the differences to the nearest one."""
    candidates = [attempt for attempt in attempts if attempt.name == requested] or attempts
    nearest = min(
        (attempt for attempt in candidates if attempt.misfit),
        key=lambda attempt: attempt.differences,
        default=None,
    )
    if nearest is None:
        return WorkbenchError(f"{where}: no registered backbone takes images of this size")
    differences = "; ".join(f"{kind} {few(names)}" for kind, names in nearest.misfit.items())
    fitting = next((attempt for attempt in attempts if not attempt.misfit), None)
    if fitting is not None:
        return WorkbenchError(
            f"{where}: does not fit {nearest.name!r}, but {fitting.name!r} ({differences})"
        )
    if requested:
        problem = f"does not fit {requested!r}"
    else:
        blocks = _blocks(nearest.weights)
        blocks_text = f", its blocks are {'-'.join(map(str, blocks))}" if blocks else ""
        problem = f"fits no known backbone{blocks_text}, the nearest is {nearest.name!r}"
    counted = [key for key in nearest.expected if not key.endswith(_COUNTER)]
    wrong = {
        name.split()[0]
        for kind, names in nearest.misfit.items()
        if kind != "unexpected"
        for name in names
    }
    fit = f"{len(counted) - len(wrong)} of its {len(counted)} tensors fit"
    remedy = "export it to ONNX with the program that trained it, and import the ONNX file"
    if list(nearest.misfit) == [_RESHAPED]:
        remedy = "if it was trained on images of another size, set --image-size"
    return WorkbenchError(f"{where}: {problem}: {fit}; {differences}; {remedy}")


def _blocks(state: StateDict) -> list[int]:
    """Returns the number of blocks in each stage of a residual network.

    They are counted by names such as layer3.13.conv1.weight; without these the list is empty.
    """
    places = {
        match.groups() for key in state if (match := re.match(r"layer(\d{1,3})\.(\d{1,4})\.", key))
    }
    stages = sorted({int(stage) for stage, _ in places})
    return [sum(int(stage) == number for stage, _ in places) for number in stages]


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "()"
