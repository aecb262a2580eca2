"""Synthetic people as training sets and benchmarks, rendered once and kept in the cache."""

from __future__ import annotations

from workbench.data.rendered import benchmarks, synthfaces  # noqa: F401  (they register)
