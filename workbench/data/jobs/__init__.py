"""Work on whole sets in worker processes: the processes themselves, and the alignment of faces."""
