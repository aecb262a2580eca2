"""The plan of a sweep: which runs it consists of, read from a YAML file or a mapping."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Any, get_origin

from workbench import presets, runs
from workbench.errors import WorkbenchError, unknown_name
from workbench.experiments.halving import StopLosers
from workbench.experiments.space import Search
from workbench.training import TrainConfig
from workbench.training.config import from_earlier_version
from workbench.training.overriding import OPTIONS_OF, with_overrides

KEYS = (
    "name",
    "directory",
    "preset",
    "config",
    "base",
    "vary",
    "benchmarks",
    "stop_losers",
    "search",
    "objective",
    "trials",
)
"""Keys of a sweep file."""
SEED = "seed"
"""The factor whose levels are repetitions of the same settings."""
ROWS_FIRST, COLUMNS = "loss", "backbone"
"""The factor that names the rows of a table first, and the one that names its columns."""
FOLDER = "sweeps"
"""Folder in which a sweep's own folder is created, if the plan does not name one."""
MOST_CHARACTERS = 100
"""Longest name of a run directory that is made from labels."""

MakeConfig = Callable[..., TrainConfig]


@dataclass(frozen=True)
class Level:
    """One value of a factor.

    Attributes:
        label: Its name in tables.
        settings: The settings that it determines.
    """

    label: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One run of a sweep.

    Attributes:
        levels: {factor: label}, with an entry for each factor.
        config: The settings of the run.
        row: The row of the tables that the run belongs to.
        column: The column of the tables that the run belongs to.
    """

    levels: dict[str, str]
    config: TrainConfig
    row: str
    column: str

    @property
    def name(self) -> str:
        """Name of the run directory, if the run is a new one."""
        return str(self.config.name)

    @property
    def title(self) -> str:
        """The run in words, such as "arcface, smallresnet, seed 0"."""
        parts = [part for part in (self.row, self.column) if part]
        return ", ".join([*parts, f"seed {self.config.seed}"])


@dataclass(frozen=True)
class Plan:
    """What a sweep consists of.

    Attributes:
        name: Name of the sweep.
        directory: Folder of its tables.
        cells: The runs; empty for a search.
        benchmarks: Specs of the benchmarks on which the runs are compared.
        rows_title: What the rows of the tables are, such as "loss".
        columns_title: What the columns of the tables are, such as "backbone".
        stop_losers: How losers are stopped early; None if all runs are trained to the end.
        search: The search over a space of settings; None for a grid.
        make_config: Makes the settings of a run from those that the plan varies.
        source: The plan as it was written.
    """

    name: str
    directory: Path
    cells: tuple[Cell, ...]
    benchmarks: tuple[str, ...]
    rows_title: str
    columns_title: str
    stop_losers: StopLosers | None
    search: Search | None
    make_config: MakeConfig
    source: dict[str, Any]


def read_plan(plan: str | Path | Mapping[str, Any], **replaced: Any) -> Plan:
    """Reads the plan of a sweep and checks it, without opening any data.

    Args:
        plan: A YAML file, or a mapping with the same keys.
        replaced: Values of keys that replace those of the plan, such as `directory`. The key
            `runs_dir` replaces that setting of all runs.

    Returns:
        The plan.

    Raises:
        WorkbenchError: if the file cannot be read, or if a key, setting or value is not valid.

    Example:
        >>> from workbench import experiments
        >>> plan = experiments.read_plan(
        ...     {
        ...         "base": {"data": "synthfaces-mini", "epochs": 1},
        ...         "vary": {"loss": ["softmax", "arcface"], "seed": [0, 1]},
        ...         "benchmarks": ["synthfaces-pose"],
        ...     }
        ... )
        >>> [cell.title for cell in plan.cells]
        ['softmax, smallresnet, seed 0', 'softmax, smallresnet, seed 1', \
'arcface, smallresnet, seed 0', 'arcface, smallresnet, seed 1']
    """
    if isinstance(plan, Mapping):
        where, folder, name, content = "sweep", Path(), "sweep", dict(plan)
    else:
        path = Path(plan)
        where, folder, name, content = str(path), path.parent, path.stem, runs.read_settings(path)
    runs_dir = replaced.pop("runs_dir", None)
    content |= {key: value for key, value in replaced.items() if value is not None}
    # A mapping may have values that a YAML file has not, such as paths and tuples.
    content = json.loads(json.dumps(content, default=str))
    try:
        return _read(content, folder, name, None if runs_dir is None else str(runs_dir))
    except WorkbenchError as error:
        raise WorkbenchError(f"{where}: {error}") from None


def _read(content: dict[str, Any], folder: Path, name: str, runs_dir: str | None) -> Plan:
    for key in content:
        if key not in KEYS:
            if key in TrainConfig.model_fields:
                raise WorkbenchError(
                    f"{key!r} is a setting of the runs; put it under base, or under vary to "
                    "compare several values"
                )
            raise unknown_name("key of a sweep", key, KEYS)
    name = str(content.get("name", name))
    runs.check_name(name)
    make_config = _base(content, folder, runs_dir)
    benchmarks = _names(content, "benchmarks")
    search = _search(content, benchmarks)
    factors = {} if search is not None else _factors(content.get("vary", {}))
    cells = () if search is not None else tuple(_cells(factors, make_config, name))
    row_factors, columns_title = _axes(list(factors))
    plan = Plan(
        name=name,
        directory=Path(content.get("directory", Path(FOLDER) / name)),
        cells=cells,
        benchmarks=benchmarks,
        rows_title=", ".join(row_factors) or ROWS_FIRST,
        columns_title=columns_title,
        stop_losers=_stop_losers(content, cells, benchmarks),
        search=search,
        make_config=make_config,
        source=content,
    )
    _check_different(plan.cells)
    return plan


def _base(content: Mapping[str, Any], folder: Path, runs_dir: str | None) -> MakeConfig:
    """Returns the function that makes a config from the settings that are varied."""
    base = _mapping(content.get("base", {}), "base")
    origin = {key: content[key] for key in ("preset", "config") if key in content}
    origin |= {key: base.pop(key) for key in ("preset", "config") if key in base}
    if len(origin) > 1:
        raise WorkbenchError("give either a preset or a config as the base, not both")
    for setting in base:
        _check_setting(setting)
    if runs_dir is not None:
        base["runs_dir"] = runs_dir
    if "preset" in origin:
        preset = _text(origin["preset"], "preset")
        presets.get(preset)  # an unknown name is an error of the plan and not of its first run

        def from_preset(**varied: Any) -> TrainConfig:
            return presets.load(preset, **_varied(base, varied))

        return from_preset
    settings: dict[str, Any] = {}
    if "config" in origin:
        path = folder / _text(origin["config"], "config")
        settings = from_earlier_version(runs.read_settings(path))

    def from_settings(**varied: Any) -> TrainConfig:
        return TrainConfig(**with_overrides(settings, _varied(base, varied)))

    return from_settings


def _varied(base: Mapping[str, Any], varied: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of the base with those that are varied.

    Options of the base that belong to another loss, backbone, optimiser or schedule are removed.
    Options without such a name are meant for all that are compared.
    """
    settings = with_overrides(base, varied)
    for name, options in OPTIONS_OF.items():
        if options in base and name not in base:
            settings.setdefault(options, base[options])
    return settings


def _factors(vary: Any) -> dict[str, list[Level]]:
    """Returns the levels of each factor, the factor of the rows first and the seeds last."""
    factors = {}
    for factor, entries in _mapping(vary, "vary").items():
        if not isinstance(entries, list) or not entries:
            raise WorkbenchError(
                f"vary, {factor}: is {entries!r}, expected a list of values such as [a, b]"
            )
        levels = [_level(factor, entry) for entry in entries]
        labels = [level.label for level in levels]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise WorkbenchError(
                f"vary, {factor}: two entries are called {twice[0]!r}; give each a label of its own"
            )
        factors[factor] = levels
    _check_disjoint(factors)
    order = {ROWS_FIRST: -1, COLUMNS: 1, SEED: 2}
    return dict(sorted(factors.items(), key=lambda item: order.get(item[0], 0)))


def _level(factor: str, entry: Any) -> Level:
    """Reads one entry of a factor: a value of the setting, or a mapping of several settings."""
    field = TrainConfig.model_fields.get(factor)
    holds_mapping = field is not None and get_origin(field.annotation) is dict
    if isinstance(entry, dict) and ("label" in entry or not holds_mapping):
        settings = _mapping(entry, f"vary, {factor}")
        label = settings.pop("label", None)
        for setting in settings:
            _check_setting(setting)
        if factor == SEED or SEED in settings:
            raise WorkbenchError(
                f"vary, {factor}: the seed must be varied by itself, as in seed: [0, 1, 2]"
            )
        if label is None:
            label = _settings_in_words(factor, settings)
        return Level(str(label), settings)
    if field is None:
        raise WorkbenchError(
            f"vary, {factor}: is not a setting, so each of its entries must be a mapping of "
            f"settings with a label, such as {{label: A, lr: 0.1}}; "
            f"{unknown_name('setting', factor, TrainConfig.model_fields)}"
        )
    _check_setting(factor)
    return Level(_value_in_words(entry), {factor: entry})


def _check_setting(setting: str) -> None:
    if setting == "name":
        raise WorkbenchError("'name' cannot be set: each run of a sweep has a name of its own")
    if setting not in TrainConfig.model_fields:
        raise unknown_name("setting", setting, TrainConfig.model_fields)


def _check_disjoint(factors: Mapping[str, Sequence[Level]]) -> None:
    """Checks that no setting is determined by two factors."""
    settings = {
        factor: {setting for level in levels for setting in level.settings}
        for factor, levels in factors.items()
    }
    for first, second in combinations(settings, 2):
        shared = sorted(settings[first] & settings[second])
        if shared:
            raise WorkbenchError(
                f"vary: {first!r} and {second!r} both determine the setting {shared[0]!r}"
            )
    for factor, names in settings.items():
        if "runs_dir" in names:
            raise WorkbenchError(f"vary, {factor}: 'runs_dir' cannot be varied; put it under base")


def _settings_in_words(factor: str, settings: Mapping[str, Any]) -> str:
    """Returns the label of an entry that has none, such as "arcface (m 0.35)"."""
    rest = {key: value for key, value in settings.items() if key != factor}
    words = ", ".join(
        _value_in_words(value) if isinstance(value, dict) else f"{key} {_value_in_words(value)}"
        for key, value in rest.items()
    )
    if factor not in settings:
        return words
    value = _value_in_words(settings[factor])
    return f"{value} ({words})" if words else value


def _value_in_words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_value_in_words(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return " ".join(map(_value_in_words, value))
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return str(value)


def _cells(
    factors: Mapping[str, Sequence[Level]], make_config: MakeConfig, name: str
) -> Iterator[Cell]:
    """Yields all combinations of levels."""
    row_factors, columns_title = _axes(list(factors))
    names: set[str] = set()
    for combination in product(*factors.values()):
        levels = {factor: level.label for factor, level in zip(factors, combination, strict=True)}
        settings = {key: value for level in combination for key, value in level.settings.items()}
        title = ", ".join(f"{factor} {label}" for factor, label in levels.items())
        run_name = _run_name(name, factors, levels, names)
        try:
            config = make_config(**settings).model_copy(update={"name": run_name})
        except WorkbenchError as error:
            raise WorkbenchError(f"{title}: {error}" if title else str(error)) from None
        row = ", ".join(
            levels[factor]
            if factor == ROWS_FIRST or len(row_factors) == 1
            # A label such as 0.1 alone would not say which setting it is the value of.
            else f"{factor} {levels[factor]}"
            for factor in row_factors
        )
        column = levels.get(columns_title, getattr(config, columns_title))
        yield Cell(levels, config, row or config.loss, column)


def _axes(factors: Sequence[str]) -> tuple[list[str], str]:
    """Returns the factors that name the rows of the tables, and what names the columns.

    The backbone names the columns, unless nothing else is varied besides the seed.
    """
    others = [factor for factor in factors if factor not in (COLUMNS, SEED)]
    if not others and COLUMNS in factors:
        return [COLUMNS], ROWS_FIRST
    return others, COLUMNS


def _run_name(
    name: str, factors: Mapping[str, object], levels: Mapping[str, str], used: set[str]
) -> str:
    """Returns the name of a run directory, made from the labels of its levels."""
    labels = [f"seed{label}" if factor == SEED else label for factor, label in levels.items()]
    text = "-".join([name, *labels])
    short = re.sub(r"[^A-Za-z0-9._+-]+", "-", text).strip("-")
    if len(short) > MOST_CHARACTERS or short in used:
        short = f"{short[: MOST_CHARACTERS - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    used.add(short)
    return short


def _check_different(cells: Sequence[Cell]) -> None:
    """Checks that no two runs have the same settings."""
    seen: dict[str, Cell] = {}
    for cell in cells:
        plain = repr({key: value for key, value in cell.config.plain().items() if key != "name"})
        if plain in seen:
            raise WorkbenchError(
                f"{seen[plain].title!r} and {cell.title!r} have the same settings; leave one out"
            )
        seen[plain] = cell


def _search(content: Mapping[str, Any], benchmarks: Sequence[str]) -> Search | None:
    if "search" not in content:
        for key in ("objective", "trials"):
            if key in content:
                raise WorkbenchError(f"{key!r} belongs to a search, but there is no key search")
        return None
    for key in ("vary", "stop_losers"):
        if key in content:
            raise WorkbenchError(f"give either search or {key}: a search chooses its runs itself")
    space = _mapping(content["search"], "search")
    for setting in space:
        _check_setting(setting.partition(".")[0])
    objective = content.get("objective")
    if not isinstance(objective, str):
        raise WorkbenchError(
            "a search needs an objective: a benchmark of validation people, such as "
            "objective: synthfaces-frontal"
        )
    if objective in benchmarks:
        raise WorkbenchError(
            f"objective: {objective} is also among the benchmarks; a setting that is chosen on a "
            "benchmark looks better there than it is, so choose on other people"
        )
    return Search.read(space, objective, content.get("trials", Search.TRIALS))


def _stop_losers(
    content: Mapping[str, Any], cells: Sequence[Cell], benchmarks: Sequence[str]
) -> StopLosers | None:
    if "stop_losers" not in content:
        return None
    options = _mapping(content["stop_losers"], "stop_losers")
    return StopLosers.read(options, {cell.config.epochs for cell in cells}, benchmarks)


def _names(content: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = content.get(key, [])
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise WorkbenchError(f"{key}: is {value!r}, expected a list of names such as [orl]")
    if len(set(value)) < len(value):
        twice = next(one for one in value if value.count(one) > 1)
        raise WorkbenchError(f"{key}: {twice!r} is listed twice")
    return tuple(value)


def _mapping(value: Any, key: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise WorkbenchError(f"{key}: is {value!r}, expected names with values such as lr: 0.1")
    return {str(name): one for name, one in value.items()}


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str):
        raise WorkbenchError(f"{key}: is {value!r}, expected a text")
    return value
