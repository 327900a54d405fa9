"""Fills a gallery on Milvus, a batch at a time, and says how far it is; run as a program of its own."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from galleries import MODEL, entry, vectors

from sil_cli.errors import SilError
from sil_cli.gallery.stores import open_store

BATCH = 50


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(folder: str, address: str, batches: int, patience: float) -> int:
    rows = vectors(batches * BATCH)
    store = open_store(Path(folder), address, patience=patience)
    try:
        with store.writer(MODEL) as writer:
            for number in range(batches):
                part = range(number * BATCH, (number + 1) * BATCH)
                held = writer.existing([entry(one).key for one in part])
                missing = [one for one in part if entry(one).key not in held]
                if missing:
                    writer.add([entry(one) for one in missing], rows[missing])
                say(f"batch {number}")
                time.sleep(0.1)
            writer.finish()
    except SilError as error:
        say(f"refused: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
