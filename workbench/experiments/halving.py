"""Stopping losers early: successive halving on a validation benchmark.

All candidates are trained for a few epochs and evaluated on the validation benchmark; only the best
share of them is trained on to the next rung, and so on. Jamieson and Talwalkar, "Non-stochastic
best arm identification and hyperparameter optimization", AISTATS 2016; Li et al., "Hyperband: a
novel bandit-based approach to hyperparameter optimization", JMLR 2018, algorithm 1.

A candidate is a combination of settings with all its seeds. It is judged by the mean over them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from workbench import runs
from workbench.errors import WorkbenchError, unknown_name

Candidate = TypeVar("Candidate", bound=Hashable)


@dataclass(frozen=True)
class StopLosers:
    """How losers are stopped early.

    Attributes:
        benchmark: Spec of the validation benchmark, which is not among the reported ones.
        keep: Share of the candidates that is trained on after each rung, above 0 and below 1.
        rungs: Numbers of epochs after which candidates are compared, ascending.
    """

    benchmark: str
    keep: float
    rungs: tuple[int, ...]

    KEEP = 0.5
    """Half of the candidates are trained on, if the plan does not say otherwise."""

    @classmethod
    def read(
        cls, options: Mapping[str, Any], epochs: Collection[int], benchmarks: Collection[str]
    ) -> StopLosers:
        """Reads the options of a plan.

        Args:
            options: `benchmark`, and optionally `keep` and `after` (the rungs in epochs).
            epochs: The different values of the setting `epochs` of the runs.
            benchmarks: The reported benchmarks.

        Raises:
            WorkbenchError: if an option is missing, unknown or out of range, or if the validation
                benchmark is a reported one.

        Example:
            >>> from workbench.experiments.halving import StopLosers
            >>> StopLosers.read({"benchmark": "orl", "keep": 0.5}, {20}, []).rungs
            (5, 10)
        """
        for key in options:
            if key not in ("benchmark", "keep", "after"):
                raise unknown_name("option of stop_losers", key, ("benchmark", "keep", "after"))
        benchmark, keep = options.get("benchmark"), options.get("keep", cls.KEEP)
        if not isinstance(benchmark, str):
            raise WorkbenchError(
                "stop_losers needs the benchmark of validation people by which losers are chosen, "
                "such as benchmark: synthfaces-frontal"
            )
        if benchmark in benchmarks:
            raise WorkbenchError(
                f"stop_losers: {benchmark} is also among the reported benchmarks; losers must be "
                "chosen on other people, or the winners look better than they are"
            )
        if isinstance(keep, bool) or not isinstance(keep, int | float) or not 0 < keep < 1:
            raise WorkbenchError(f"stop_losers: keep is {keep!r}, expected a share such as 0.5")
        if len(epochs) != 1:
            raise WorkbenchError(
                f"stop_losers: the runs have different numbers of epochs "
                f"({', '.join(map(str, sorted(epochs)))}), so they cannot be compared on the way"
            )
        last = next(iter(epochs))
        return cls(benchmark, float(keep), _rungs(options.get("after"), float(keep), last))


def _rungs(after: Any, keep: float, last: int) -> tuple[int, ...]:
    """Returns the rungs; by default after the epochs times `keep` and times its square."""
    if after is None:
        fractions = {max(1, round(last * keep**power)) for power in (1, 2)}
        after = sorted(epochs for epochs in fractions if epochs < last)
    valid = isinstance(after, list) and all(type(one) is int and 0 < one < last for one in after)
    if not valid or not after or sorted(set(after)) != after:
        raise WorkbenchError(
            f"stop_losers: after is {after!r}, expected ascending numbers of epochs from 1 to "
            f"{last - 1}, such as [{max(1, last // 4)}]"
        )
    return tuple(after)


class Ladder:
    """The figures of the runs on the validation benchmark at each rung.

    They are kept in a file in the folder of the sweep: a run that was trained on is no longer what
    it was at the rung, so a sweep that is continued could not measure it again.

    Args:
        folder: Folder of the sweep.
        rule: How losers are stopped. Figures on another benchmark are not used.
    """

    FILE = "stop-losers.json"

    def __init__(self, folder: Path, rule: StopLosers) -> None:
        self.path, self.benchmark = folder / self.FILE, rule.benchmark
        stored = runs.read_json(self.path) if self.path.is_file() else {}
        is_usable = stored.get("benchmark") == rule.benchmark
        self.scores: dict[str, dict[str, float]] = stored.get("scores", {}) if is_usable else {}

    def score(self, rung: int, name: str) -> float | None:
        """Returns the figure of a run at a rung; None if it was not measured.

        Args:
            rung: Number of epochs.
            name: Name of the run in the plan.
        """
        return self.scores.get(str(rung), {}).get(name)

    def add(self, rung: int, name: str, score: float) -> None:
        """Adds the figure of a run at a rung.

        Args:
            rung: Number of epochs.
            name: Name of the run in the plan.
            score: Its figure on the validation benchmark.
        """
        self.scores.setdefault(str(rung), {})[name] = score

    def mean(self, rung: int, names: Sequence[str]) -> float:
        """Returns the mean figure of several runs at a rung; NaN if none was measured.

        Args:
            rung: Number of epochs.
            names: Names of the runs in the plan.
        """
        scores = [score for name in names if (score := self.score(rung, name)) is not None]
        return sum(scores) / len(scores) if scores else math.nan

    def write(self) -> None:
        """Writes the file."""
        runs.write_json(self.path, {"benchmark": self.benchmark, "scores": self.scores})


def survivors(scores: Mapping[Candidate, float], keep: float) -> list[Candidate]:
    """Returns the candidates that are trained on.

    Args:
        scores: {candidate: mean figure on the validation benchmark}; higher is better, and NaN is
            worst.
        keep: Share of the candidates to keep, above 0 and below 1. The number is rounded up, so
            that at least one is kept.

    Returns:
        The best candidates, in the order of `scores`. Of equally good ones, the first is kept.

    Example:
        >>> from workbench.experiments.halving import survivors
        >>> survivors({"softmax": 0.81, "cosface": 0.9, "arcface": 0.88}, keep=0.5)
        ['cosface', 'arcface']
    """
    count = math.ceil(keep * len(scores) - 1e-9)
    best_first = sorted(
        scores,
        key=lambda name: -math.inf if math.isnan(scores[name]) else scores[name],
        reverse=True,
    )
    kept = set(best_first[: max(count, 1)])
    return [name for name in scores if name in kept]
