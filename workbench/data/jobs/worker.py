"""A worker process of `processes.py`.

Its standard input is a pickled job and then pieces of work, one in each line. It answers each with
a line of JSON on its standard output.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import traceback
from typing import Any

from workbench.errors import WorkbenchError


def main() -> None:
    """Work until the standard input ends: `python -m workbench.data.jobs.worker`."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # What a library prints must not be read as an answer.

    def answer(reply: dict[str, Any]) -> None:
        answers.write(json.dumps(reply) + "\n")
        answers.flush()

    try:
        job = pickle.load(sys.stdin.buffer)  # Sent by the process that started this one.
    except Exception as error:
        reason = f"a worker process cannot read the images ({_one_line(error)}); use workers=0"
        answer({"error": reason})
        return
    answer({})
    for line in sys.stdin.buffer:
        try:
            answer({"answer": job(json.loads(line))})
        except WorkbenchError as error:
            answer({"error": str(error)})
        except BrokenPipeError:  # The parent process has ended.
            return
        except Exception as error:
            traceback.print_exc()
            answer({"error": f"a worker process failed: {_one_line(error)}"})


def _one_line(error: Exception) -> str:
    return " ".join((repr(error)).split())[:300]


if __name__ == "__main__":
    main()
