"""A process that gives verdicts, one a transaction, and says so after each; it may be killed.

python verdict_worker.py FOLDER NAME: goes on until its input ends.
"""

# ruff: noqa: T201
from __future__ import annotations

import itertools
import select
import sys
from datetime import UTC, datetime
from pathlib import Path

from sil_cli.gallery.people import Verdict, open_people


def verdict(by: str, number: int) -> Verdict:
    first, second = ("photos", f"{number}.jpg", None), ("photos", f"{number + 1}.jpg", (1, 2, 3, 4))
    return Verdict(first, second, "same", by, datetime.now(UTC), why="x" * 500)


def main() -> None:
    folder, name = Path(sys.argv[1]), sys.argv[2]
    print("started", flush=True)
    with open_people(folder, write=True) as people:  # held open, over rebuilds too
        for number in itertools.count():
            if select.select([sys.stdin], [], [], 0)[0]:
                return
            people.add_verdicts([verdict(name, number)])
            print(number, flush=True)


if __name__ == "__main__":
    main()
