"""File formats and file access that the sources, benchmarks and writers share."""
