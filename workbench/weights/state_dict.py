"""Reading the weights in PyTorch and safetensors files without running code from the file."""

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
"""Keys of a checkpoint that usually hold the network's weights, the most likely first.

Other keys are searched after these.
"""
_MAX_DEPTH = 3
"""Levels of nested dictionaries that are searched for weights."""
_MAX_NAMED = 3
"""Number of names that a message lists."""
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
"""Tensors by name, as `torch.nn.Module.state_dict` returns them."""


@dataclass(frozen=True)
class Checkpoint:
    """The contents of a file of weights.

    Attributes:
        parts: The state_dicts in the file by their place, the most likely first: "" for the file
            as a whole, "state_dict", "model.ema", ...
        objects: Names of the Python objects stored in addition to the weights, such as settings.
            None of these objects was created.
    """

    parts: dict[str, StateDict]
    objects: list[str]


class _Inert:
    """Takes the place of Python objects in a file: it accepts all arguments and stores nothing.

    It is registered with PyTorch's reader of untrusted files under the names of the objects, so
    that the reader creates it instead of them and imports or calls none of their code.
    """

    __slots__ = ()

    def __new__(cls, *args: Any, **options: Any) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *args: Any, **options: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _InertMapping:
    """Takes the place of objects derived from dict, such as EasyDict: creates a plain dict."""

    def __new__(cls, *args: Any, **options: Any) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        return OrderedDict()


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads the weights in a file of PyTorch (.pth, .pt, .ckpt, .bin, ...) or safetensors.

    PyTorch files are read with `weights_only=True`, which allows tensors and plain containers and
    cannot run code. Objects of other programs, such as settings, are skipped. A file that refers
    to functions of Python's standard library is refused.

    Args:
        path: The file. The extension .safetensors selects that format; all others mean PyTorch.

    Returns:
        The state_dicts in the file, and the names of the skipped objects.

    Raises:
        WorkbenchError: if the file cannot be read, is damaged, holds a pickled object instead of
            a state_dict, or contains no weights.

    Example:
        >>> import tempfile, torch
        >>> from pathlib import Path
        >>> from workbench.weights.state_dict import read_checkpoint
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "net.pth"
        ...     torch.save({"epoch": 3, "state_dict": {"fc.weight": torch.ones(2, 4)}}, path)
        ...     checkpoint = read_checkpoint(path)
        >>> {place: list(state) for place, state in checkpoint.parts.items()}
        {'state_dict': ['fc.weight']}
    """
    content: Any
    objects: list[str] = []
    try:
        if path.suffix.lower() == ".safetensors":
            content = load_file(path)
        else:
            content, objects = _load(path)
    except (WorkbenchError, SafetensorError) as error:
        raise WorkbenchError(f"{path}: {error}") from None
    except OSError as error:
        raise WorkbenchError(f"{path}: cannot be read ({error.strerror or error})") from None
    except Exception as error:
        # A damaged file raises RuntimeError, UnpicklingError, EOFError, struct.error, KeyError, ...
        raise WorkbenchError(f"{path}: {_refusal(str(error))}") from None
    if isinstance(content, _Inert):
        raise WorkbenchError(f"{path}: {_object_refused(objects[0])}")
    if not isinstance(content, dict):
        raise WorkbenchError(
            f"{path}: contains a {type(content).__name__}, expected a state_dict of names and "
            "tensors"
        )
    parts = dict(_parts(content, "", set()))
    if not parts:
        hint = ""
        if objects:
            hint = f" and the Python objects {few(objects)}; ask its author to save the state_dict"
        raise WorkbenchError(
            f"{path}: contains no state_dict, neither at the top nor nested; its keys are "
            f"{few(list(content))}{hint}"
        )
    return Checkpoint(parts, objects)


def _load(path: Path) -> tuple[Any, list[str]]:
    """Returns the contents of a PyTorch file, and the names of the objects that were skipped."""
    _check_sizes(path)
    objects = _objects(path)
    for name in objects:
        if _could_run_code(name):
            raise WorkbenchError(_object_refused(name))
    try:
        return _load_with(path, [(_Inert, name) for name in objects]), objects
    except Exception as error:  # PyTorch's reader assigns items to plain dictionaries only
        if "Can only SETITEM" not in str(error):
            raise
    kinds = {name: _Inert if name.startswith("numpy.") else _InertMapping for name in objects}
    return _load_with(path, [(kind, name) for name, kind in kinds.items()]), objects


def _load_with(path: Path, replacements: list[Any]) -> Any:
    """Loads a file in which other classes take the place of the objects with these names."""
    with warnings.catch_warnings(), torch.serialization.safe_globals(replacements):
        warnings.simplefilter("ignore")  # warns of a TorchScript file, which is refused below
        return torch.load(path, map_location="cpu", weights_only=True)


def _check_sizes(path: Path) -> None:
    """Refuses archives whose parts are larger than the file, as they would fill the memory.

    PyTorch does not compress its archives.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        stated = sum(entry.file_size for entry in archive.infolist())
    if stated > path.stat().st_size:
        raise WorkbenchError(
            f"refused: its parts are {stated:,} bytes unpacked, more than the file has; PyTorch "
            "does not compress its files"
        )


def _objects(path: Path) -> list[str]:
    """Returns the sorted names of the Python objects in a file, without plain containers."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except ValueError:  # the format before PyTorch 1.6, or TorchScript; torch.load decides which
        return []


def _could_run_code(name: str) -> bool:
    """Whether an object is a part of Python's standard library other than plain data.

    Such an object would not be created either, but no regular checkpoint refers to one.
    """
    module, _, attribute = name.partition(".")
    module = IMPORT_MAPPING.get(module, module)  # pickles use the names of Python 2
    if module == "builtins":
        return attribute not in _PLAIN_BUILTINS
    return module in sys.stdlib_module_names and module not in _PLAIN_MODULES


def _parts(
    content: Mapping[Any, Any], place: str, visited: set[int]
) -> Iterator[tuple[str, StateDict]]:
    """Yields the nested mappings that contain tensors, without those of an optimiser."""
    visited.add(id(content))
    tensors = {
        str(key): value
        for key, value in content.items()
        if isinstance(value, Tensor) and _is_plain(value)
    }
    if tensors:
        yield place, tensors
    depth = place.count(".") + bool(place)
    if depth >= _MAX_DEPTH:
        return
    nested = [
        key
        for key, value in content.items()
        if isinstance(key, str) and isinstance(value, dict) and "optim" not in key.lower()
    ]
    for key in sorted(nested, key=_priority):
        if id(content[key]) not in visited:
            yield from _parts(content[key], f"{place}.{key}" if place else key, visited)


def _priority(key: str) -> int:
    """Returns the position of a key in the order of search."""
    return CONTAINERS.index(key) if key in CONTAINERS else len(CONTAINERS)


def _is_plain(tensor: Tensor) -> bool:
    """Whether the file stores every value of the tensor.

    This excludes sparse, quantised and meta tensors, and those that repeat a value by stride 0.
    """
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def _object_refused(name: str) -> str:
    return (
        f"refused: it contains the Python object {_clean(name)[:80]} instead of tensors only; "
        "ask its author to save the state_dict"
    )


def _refusal(reason: str) -> str:
    """Returns the error message of PyTorch, which has many lines, as one line."""
    if named := re.search(r"[Uu]nsupported (?:global: GLOBAL|GLOBAL|class) ([\w.]+)", reason):
        return _object_refused(named[1])
    if "TorchScript" in reason:
        return (
            "refused: a TorchScript program instead of tensors only; ask its author to save the "
            "state_dict"
        )
    reason = re.sub(
        r".*WeightsUnpickler error:|Check the documentation.*|In PyTorch 2\.6.*",
        "",
        reason,
        flags=re.DOTALL,
    )
    return f"not a PyTorch checkpoint of tensors ({_clean(reason)[:120]})"


def few(names: Sequence[object]) -> str:
    """Returns the first names of a list, and how many more there are, as printable text.

    Args:
        names: Names that may come from an untrusted file.

    Example:
        >>> from workbench.weights.state_dict import few
        >>> few(["a", "b", "c", "d", "e"])
        'a, b, c and 2 more'
    """
    shown = ", ".join(_clean(str(name))[:60] for name in names[:_MAX_NAMED])
    if len(names) > _MAX_NAMED:
        return f"{shown} and {len(names) - _MAX_NAMED:,} more"
    return shown


def _clean(text: str) -> str:
    """Returns the text as one line, without characters that control a terminal."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
