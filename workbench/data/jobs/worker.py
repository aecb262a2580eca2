"""A process that works for `processes.py`: is sent a job, then pieces of work, one a line; answers each with a line of JSON."""

from __future__ import annotations

import json
import os
import pickle
import sys
import traceback
from typing import Any

from workbench.errors import WorkbenchError


def main() -> None:
    """`python -m workbench.data.jobs.worker`, until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library may print is no answer

    def answer(said: dict[str, Any]) -> None:
        answers.write(json.dumps(said) + "\n")
        answers.flush()

    try:
        job = pickle.load(sys.stdin.buffer)  # of the process that started this one
    except Exception as error:
        answer(
            {
                "error": f"a worker process cannot read the images ({_one_line(error)}); use workers=0"
            }
        )
        return
    answer({})
    for line in sys.stdin.buffer:
        try:
            answer({"answer": job(json.loads(line))})
        except WorkbenchError as error:
            answer({"error": str(error)})
        except BrokenPipeError:  # nobody listens any more
            return
        except Exception as error:
            traceback.print_exc()
            answer({"error": f"a worker process failed: {_one_line(error)}"})


def _one_line(error: Exception) -> str:
    return " ".join((repr(error)).split())[:300]


if __name__ == "__main__":
    main()
