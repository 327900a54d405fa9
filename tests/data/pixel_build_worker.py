"""Builds a pixel cache slowly in small blocks, for tests that kill it: DATASET CACHE SECONDS_PER_IMAGE [FILE_LIMIT]."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

from sil_cli.data import pixel_build, pixels
from sil_cli.data.manifest import Dataset, load_dataset
from sil_cli.errors import DataError
from sil_cli.runtime import SilentReporter


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


class Counting(SilentReporter):
    def advance(self, count: int = 1, **facts: float | str) -> None:
        del facts
        say("decoded", count)

    def note(self, text: str) -> None:
        say("note", text)


def main() -> None:
    folder, cache, seconds = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    pixel_build.BLOCK_BYTES = 1
    usual = Dataset.load_image

    def slowly(*arguments: object, **options: object) -> object:
        time.sleep(seconds)
        return usual(*arguments, **options)

    Dataset.load_image = slowly
    if len(sys.argv) > 4:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), resource.RLIM_INFINITY))
    try:
        pixels.open_pixels(load_dataset(folder), height=32, width=16, folder=cache, reporter=Counting(), workers=1)
    except DataError as error:
        say("error", error)


if __name__ == "__main__":
    main()
