"""Data: `open(spec)` for training sets, `benchmark(spec)` for what runs are measured on.

Specs are `KIND:PATH` or a known name; each kind has a file of its own in this folder. Nothing here needs torch until a
sample or a batch is asked for.
"""

from __future__ import annotations

from workbench.data import fashion_mnist, folder, orl, pairs, recordio, verification_pack  # noqa: F401  (they register)
from workbench.data.benchmark import Benchmark, ClosedSet, consecutive_folds, draw_pairs
from workbench.data.dataset import Dataset, Images, Sample
from workbench.data.registry import BENCHMARKS, SOURCES, benchmark, open

__all__ = [
    "BENCHMARKS",
    "SOURCES",
    "Benchmark",
    "ClosedSet",
    "Dataset",
    "Images",
    "Sample",
    "benchmark",
    "consecutive_folds",
    "draw_pairs",
    "open",
]
