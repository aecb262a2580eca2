"""Presets: published settings of a training under a name, each a YAML file with its sources.

A file has these keys:

    about       one line for the table of presets
    extends     name of a file whose settings come first (optional)
    needs       {setting: what the original used}: settings that the user has to give (optional)
    settings    settings of `TrainConfig`; a comment above them names the source of the numbers

A file whose name begins with "_" has the settings that several presets share, and is no preset.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError, unknown_name
from workbench.runs import read_yaml
from workbench.training import TrainConfig
from workbench.training.overriding import with_overrides

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Preset", "get", "load", "names", "table", "text"]

KEYS = ("about", "extends", "needs", "settings")


@dataclass(frozen=True)
class Preset:
    """The content of a preset.

    Attributes:
        name: Its name.
        about: One line that says what it is.
        needs: {setting: what the original used} for the settings that the user has to give.
        settings: Its settings by name, with those of the presets that it extends.
        files: Names of its file and of the files that it extends, in this order.
    """

    name: str
    about: str
    needs: Mapping[str, str]
    settings: Mapping[str, Any]
    files: tuple[str, ...]


def names() -> list[str]:
    """Returns the names of all presets, sorted.

    Example:
        >>> import workbench as wb
        >>> "casia-arcface-r50" in wb.presets.names()
        True
    """
    return sorted(name for name in _files() if not name.startswith("_"))


def load(name: str, /, **overrides: Any) -> TrainConfig:
    """Returns the settings of a preset.

    Args:
        name: Name of the preset.
        overrides: Settings that replace those of the preset. An override of `loss`, `backbone`,
            `optimizer` or `schedule` by another name also removes the options of the preset for
            it, such as `loss_options`.

    Returns:
        The settings.

    Raises:
        WorkbenchError: if there is no such preset (the message suggests the nearest name), if a
            setting is missing that the preset leaves to the user, such as `data` (the message
            says what the original used), or if a setting is unknown or out of range.

    Example:
        >>> import workbench as wb
        >>> config = wb.presets.load("homework-seresnet18-arcface", data="synthfaces", epochs=2)
        >>> config.backbone, config.loss_options, config.epochs
        ('seresnet18', {'s': 32, 'm': 0.5}, 2)
    """
    preset = get(name)
    settings = with_overrides(preset.settings, overrides)
    for setting, original in preset.needs.items():
        if settings.get(setting) is None:
            raise WorkbenchError(
                f"preset {name!r} leaves the setting {setting!r} to you; the original used "
                f"{original}"
            )
    return TrainConfig(**settings)


def get(name: str) -> Preset:
    """Returns the content of a preset.

    Args:
        name: Name of the preset.

    Raises:
        WorkbenchError: if there is no such preset; the message suggests the nearest name.

    Example:
        >>> import workbench as wb
        >>> wb.presets.get("casia-mobilefacenet").settings["backbone"]
        'mobilefacenet'
    """
    if name not in names():
        raise unknown_name("preset", name, names())
    return deepcopy(_read(name))


def text(name: str) -> str:
    """Returns the YAML file of a preset, followed by the files that it extends.

    The comments in the files name the sources of the numbers.

    Args:
        name: Name of the preset.

    Raises:
        WorkbenchError: if there is no such preset; the message suggests the nearest name.

    Example:
        >>> import workbench as wb
        >>> print(wb.presets.text("fashion-mnist-softmax").splitlines()[0])
        about: Fashion-MNIST study, softmax
    """
    own, *extended = get(name).files
    parts = [_files()[own]]
    parts += [f"# ---- {base}.yaml, which it extends ----\n\n{_files()[base]}" for base in extended]
    return "\n".join(parts)


def table() -> pd.DataFrame:
    """Returns a table of all presets.

    Returns:
        A row for each with the columns name, about, backbone, loss, image_size (in pixels),
        images (of an update: `batch_size` x `accumulate`), epochs, optimizer, lr and schedule.

    Example:
        >>> import workbench as wb
        >>> wb.presets.table().set_index("name").loc["ms1m-arcface-r100", "backbone"]
        'iresnet100'
    """
    import pandas as pd

    return pd.DataFrame([_row(get(name)) for name in names()])


def _row(preset: Preset) -> dict[str, Any]:
    # The values that a preset leaves to the user are not shown.
    config = TrainConfig(**{**dict.fromkeys(preset.needs, "given"), **preset.settings})
    return {
        "name": preset.name,
        "about": preset.about,
        "backbone": config.backbone,
        "loss": config.loss,
        "image_size": config.image_size,
        "images": config.batch_size * config.accumulate,
        "epochs": config.epochs,
        "optimizer": config.optimizer,
        "lr": config.lr,
        "schedule": config.schedule,
    }


@cache
def _files() -> dict[str, str]:
    """Returns the text of each YAML file of this package by its name without the ending."""
    return {
        file.name.removesuffix(".yaml"): file.read_text(encoding="utf-8")
        for file in resources.files(__name__).iterdir()
        if file.name.endswith(".yaml")
    }


@cache
def _read(name: str) -> Preset:
    """Reads a file, and the files that it extends."""
    chain = list(_chain(name))
    needs: dict[str, str] = {}
    settings: dict[str, Any] = {}
    for _, content in reversed(chain):
        needs |= content.get("needs", {})
        settings = with_overrides(settings, content["settings"])
    needs = {setting: original for setting, original in needs.items() if setting not in settings}
    files = tuple(file for file, _ in chain)
    return Preset(name, chain[0][1]["about"], needs, settings, files)


def _chain(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the name and the content of a file and of each file that it extends, one by one."""
    visited: list[str] = []
    base: str | None = name
    while base is not None:
        if base in visited:
            raise WorkbenchError(f"{name}.yaml: {' extends '.join([*visited, base])}")
        visited.append(base)
        content = _content(base)
        yield base, content
        base = content.get("extends")


def _content(name: str) -> dict[str, Any]:
    """Returns the content of a file, after checking its keys."""
    if name not in _files():
        raise unknown_name("preset to extend", name, _files())
    content = read_yaml(_files()[name])
    if not isinstance(content, dict):
        raise WorkbenchError(f"{name}.yaml: expected a mapping with {', '.join(KEYS)}")
    for key in content:
        if key not in KEYS:
            raise unknown_name(f"key in {name}.yaml", key, KEYS)
    for key, kind in (("about", str), ("settings", dict)):
        if not isinstance(content.get(key), kind):
            raise WorkbenchError(f"{name}.yaml: {key!r} is missing or has the wrong type")
    for setting in [*content["settings"], *content.get("needs", {})]:
        if setting not in TrainConfig.model_fields:
            raise unknown_name(f"setting in {name}.yaml", setting, TrainConfig.model_fields)
    return content
