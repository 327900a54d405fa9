"""A process to be killed: rebuilds a gallery by another model, a few entries at a time.

    python rebuild_worker.py FOLDER FINGERPRINT

Prints a line when a batch is done, and `swapped` when the new gallery has taken the old one's place.
"""

# ruff: noqa: T201
from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from sil_cli.gallery.local.store import LocalStore

ENTRIES = 40
DIMENSION = 16
BATCH = 4


def vector(identifier: int, fingerprint: str) -> np.ndarray:
    return np.random.default_rng([identifier, ord(fingerprint[0])]).standard_normal(DIMENSION).astype(np.float32)


def main() -> None:
    fingerprint = sys.argv[2]
    with LocalStore(Path(sys.argv[1])).rebuilding({"fingerprint": fingerprint, "dimension": DIMENSION}) as rebuild:
        print("open", flush=True)
        todo = rebuild.to_do()
        for start in range(0, len(todo), BATCH):
            ids = todo[start : start + BATCH].tolist()
            entries = rebuild.old.entries(ids)
            rows = np.stack([vector(one, fingerprint) for one in ids])
            rebuild.new.add([entries[one] for one in ids], rows, ids=ids)
            print(ids, flush=True)
        rebuild.swap()
        print("swapped", flush=True)


if __name__ == "__main__":
    main()
