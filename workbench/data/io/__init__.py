"""Formats and files: what sources, benchmarks and writers read and share."""
