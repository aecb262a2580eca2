"""The study of how much cropping and aligning faces changes the accuracy of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from workbench import data, runs
from workbench.errors import WorkbenchError
from workbench.evaluation import Difference, VerificationResult, evaluate, paired_difference
from workbench.evaluation.sources import TRAIN


@dataclass(frozen=True)
class AlignmentStudy:
    """The effect of cropping and aligning faces on the accuracy of one run.

    Attributes:
        run: Name of the run.
        benchmark: Name of the benchmark.
        results: Results on the images "raw" (unchanged, except for a central crop to the input
            size), "cropped" (to the box of the face, without rotation) and "aligned".
        differences: {(a, b): accuracy on a minus accuracy on b}, paired, for ("cropped", "raw"),
            ("aligned", "raw") and ("aligned", "cropped").
    """

    run: str
    benchmark: str
    results: dict[str, VerificationResult]
    differences: dict[tuple[str, str], Difference]

    def __str__(self) -> str:
        """Returns a table of accuracies and differences."""
        lines = [
            f"{self.run} on {self.results['raw'].name}",
            f"{'pictures':<9} accuracy  95 % interval      to raw, paired",
        ]
        for key, result in self.results.items():
            low, high = result.intervals.get("accuracy", (float("nan"), float("nan")))
            difference = self.differences.get((key, "raw"), "")
            lines.append(
                f"{key:<9} {result.accuracy:8.2%}  [{low:.2%}, {high:.2%}]   {difference}".rstrip()
            )
        lines.append(f"aligned to cropped: {self.differences['aligned', 'cropped']}")
        lines += [f"{key}: {result.note}" for key, result in self.results.items() if result.note]
        return "\n".join(lines)


def alignment(
    run: str | Path | runs.Run, benchmark: str, *, progress: bool = True, **options: Any
) -> AlignmentStudy:
    """Measures how much cropping and aligning the faces changes the accuracy of a run.

    The run is evaluated on the same pairs three times: with unchanged, cropped and aligned images.
    The results are stored as the evaluations BENCHMARK, `cropped:BENCHMARK` and
    `aligned:BENCHMARK` of the run.

    Args:
        run: Run directory.
        benchmark: Name of a benchmark of pairs of photos that are not yet cropped to the face.
        progress: Whether to show progress bars.
        options: Other arguments of `wb.evaluate`: flip, device, batch_size, with_projection, ...

    Returns:
        The three results and their paired differences.

    Raises:
        WorkbenchError: if the benchmark is not one of pairs; also the errors of `wb.evaluate`.

    Example:
        >>> from workbench import experiments
        >>> study = experiments.alignment(
        ...     "runs/arcface-casia", "pairs:pairs.txt@lfw.zip"
        ... )  # doctest: +SKIP
        >>> print(study)  # doctest: +SKIP
    """
    if not isinstance(benchmark, str):
        raise WorkbenchError(
            "the benchmark must be given by name, e.g. 'pairs:pairs.txt@lfw.zip', so that the "
            "results can name it"
        )
    if benchmark == TRAIN:
        raise WorkbenchError(
            f"{TRAIN}: is a closed set; the effect of alignment is measured on pairs of photos"
        )
    without_preparation = data.unprepared(benchmark)
    if without_preparation not in ("", benchmark):
        raise WorkbenchError(
            f"{benchmark}: give {without_preparation} itself; it is compared raw, cropped and "
            "aligned"
        )
    results: dict[str, VerificationResult] = {}
    # "aligned" is first, because it raises an error at once if the benchmark is not one of pairs.
    for key in ("aligned", "cropped", "raw"):
        spec = benchmark if key == "raw" else f"{key}:{benchmark}"
        result = evaluate(run, spec, progress=progress, **options)
        results[key] = cast(VerificationResult, result)  # an aligned benchmark is always of pairs
    results = {key: results[key] for key in ("raw", "cropped", "aligned")}
    compared = (("cropped", "raw"), ("aligned", "raw"), ("aligned", "cropped"))
    differences = {(a, b): paired_difference(results[a], results[b]) for a, b in compared}
    return AlignmentStudy(runs.open(run).name, benchmark, results, differences)
