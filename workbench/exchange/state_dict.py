"""Weights as PyTorch stores them, read without running the code of a stranger's file."""

from __future__ import annotations

import re
import sys
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from workbench.errors import WorkbenchError

CONTAINERS = (
    "state_dict_backbone",
    "state_dict",
    "model_state_dict",
    "net_state_dict",
    "model",
    "backbone",
    "net",
    "params",
    "ema",
)
"""Where in a checkpoint the network's weights usually are, the likeliest first; other names are looked into after these."""
_DEEPEST = 3
_SHOWN = 3
_PLAIN_MODULES = (
    "argparse",
    "collections",
    "datetime",
    "decimal",
    "enum",
    "fractions",
    "pathlib",
    "types",
    "typing",
    "uuid",
)
_PLAIN_BUILTINS = (
    *("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int"),
    *("list", "object", "range", "set", "slice", "str", "tuple"),
)

StateDict = dict[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """What a file of weights holds.

    Attributes:
        parts: the state dicts in it by their place, the likeliest first: "" for the file as a whole, "state_dict",
            "model.ema", ...
        objects: names of the Python objects beside the weights, such as settings; none of them was made.
    """

    parts: dict[str, StateDict]
    objects: list[str]


class _Inert:
    """Stands for every Python object beside the weights: it takes what the object would be made of, and keeps nothing.

    PyTorch's reader of untrusted files finds it under the objects' names, so that it is made in their place and none of their
    code is imported or called.
    """

    __slots__ = ()

    def __new__(cls, *args: Any, **options: Any) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *args: Any, **options: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _InertMapping:
    """Stands for objects that are dictionaries with more to them, such as EasyDict: an ordinary one in their place."""

    def __new__(cls, *args: Any, **options: Any) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        return OrderedDict()


def read_checkpoint(path: Path) -> Checkpoint:
    """The weights in a file of PyTorch (.pth, .pt, .ckpt, .bin, ...) or of safetensors.

    PyTorch's files are read with its allow-list of tensors and plain containers, which cannot run code. Objects of other
    programs beside the weights, such as settings, are passed over; what the standard library could run is refused.

    Raises:
        WorkbenchError: cannot be read, is damaged, is an object and no state_dict, or holds no weights.
    """
    try:
        found, objects = (
            (load_file(path), []) if path.suffix.lower() == ".safetensors" else _load(path)
        )
    except (WorkbenchError, SafetensorError) as error:
        raise WorkbenchError(f"{path}: {error}") from None
    except OSError as error:
        raise WorkbenchError(f"{path}: cannot be read ({error.strerror or error})") from None
    except Exception as error:  # a damaged file raises RuntimeError, UnpicklingError, EOFError, struct.error, KeyError, ...
        raise WorkbenchError(f"{path}: {_refusal(str(error))}") from None
    if isinstance(found, _Inert):
        raise WorkbenchError(f"{path}: {_object_refused(objects[0])}")
    if not isinstance(found, dict):
        raise WorkbenchError(
            f"{path}: holds a {type(found).__name__}, expected a state_dict: names and tensors"
        )
    parts = dict(_parts(found, "", set()))
    if not parts:
        beside = (
            f" and the Python objects {few(objects)}; have its author save the state_dict"
            if objects
            else ""
        )
        raise WorkbenchError(
            f"{path}: no state_dict in it, neither bare nor inside of it; it holds {few(list(found))}{beside}"
        )
    return Checkpoint(parts, objects)


def _load(path: Path) -> tuple[Any, list[str]]:
    _check_sizes(path)
    objects = _objects(path)
    for name in objects:
        if _could_run_code(name):
            raise WorkbenchError(_object_refused(name))
    try:
        return _loaded(path, [(_Inert, name) for name in objects]), objects
    except Exception as error:  # PyTorch's reader puts items into nothing but plain dictionaries
        if "Can only SETITEM" not in str(error):
            raise
    kinds = {name: _Inert if name.startswith("numpy.") else _InertMapping for name in objects}
    return _loaded(path, [(kind, name) for name, kind in kinds.items()]), objects


def _loaded(path: Path, stand_ins: list[Any]) -> Any:
    with warnings.catch_warnings(), torch.serialization.safe_globals(stand_ins):
        warnings.simplefilter("ignore")  # on a TorchScript file, which is refused all the same
        return torch.load(path, map_location="cpu", weights_only=True)


def _check_sizes(path: Path) -> None:
    """PyTorch stores tensors as they are: what claims to be more than the file is would only fill the memory."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        claimed = sum(entry.file_size for entry in archive.infolist())
    if claimed > path.stat().st_size:
        raise WorkbenchError(
            f"refused: its parts are {claimed:,} bytes unpacked, more than the file has; PyTorch compresses none"
        )


def _objects(path: Path) -> list[str]:
    """Names of the Python objects that a file of the current format asks for beyond tensors and plain containers, sorted."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except ValueError:  # the format from before PyTorch 1.6, or TorchScript: torch.load tells which
        return []


def _could_run_code(name: str) -> bool:
    """Is it something of Python's own library beyond plain data? It would not be made either, but no honest file asks for it."""
    module, _, attribute = name.partition(".")
    module = IMPORT_MAPPING.get(module, module)  # the usual pickles call modules as Python 2 did
    if module == "builtins":
        return attribute not in _PLAIN_BUILTINS
    return module in sys.stdlib_module_names and module not in _PLAIN_MODULES


def _parts(found: Mapping[Any, Any], place: str, seen: set[int]) -> Iterator[tuple[str, StateDict]]:
    """The mappings with tensors in them, those of an optimiser left out."""
    seen.add(id(found))
    tensors = {
        str(key): value
        for key, value in found.items()
        if isinstance(value, Tensor) and _plain(value)
    }
    if tensors:
        yield place, tensors
    if place.count(".") + bool(place) >= _DEEPEST:
        return
    inner = [
        key
        for key, value in found.items()
        if isinstance(key, str) and isinstance(value, dict) and "optim" not in key.lower()
    ]
    for key in sorted(
        inner, key=lambda key: CONTAINERS.index(key) if key in CONTAINERS else len(CONTAINERS)
    ):
        if id(found[key]) not in seen:
            yield from _parts(found[key], f"{place}.{key}" if place else key, seen)


def _plain(tensor: Tensor) -> bool:
    """Numbers that are there: neither sparse, nor quantised, nor a shape alone, nor one number repeated without end."""
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def _object_refused(name: str) -> str:
    return f"refused: it holds the Python object {_clean(name)[:80]}, not tensors alone; have its author save the state_dict"


def _refusal(reason: str) -> str:
    """PyTorch's many lines in one."""
    if named := re.search(r"[Uu]nsupported (?:global: GLOBAL|GLOBAL|class) ([\w.]+)", reason):
        return _object_refused(named[1])
    if "TorchScript" in reason:
        return (
            "refused: a TorchScript program, not tensors alone; have its author save the state_dict"
        )
    own = re.sub(
        r".*WeightsUnpickler error:|Check the documentation.*|In PyTorch 2\.6.*",
        "",
        reason,
        flags=re.DOTALL,
    )
    return f"not a PyTorch checkpoint of tensors ({_clean(own)[:120]})"


def few(words: Sequence[object]) -> str:
    """The first of some names, and how many more there are; fit to be printed, as they come out of a stranger's file."""
    shown = ", ".join(_clean(str(word))[:60] for word in words[:_SHOWN])
    return f"{shown} and {len(words) - _SHOWN:,} more" if len(words) > _SHOWN else shown


def _clean(text: str) -> str:
    """In one line, without what would move a terminal's cursor."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
