"""Galleries for tests of what is done with them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from sil_cli.gallery.entry import GalleryEntry
from sil_cli.gallery.local.store import LocalStore

MODEL = {"fingerprint": "0123456789abcdef" * 4, "dimension": 8, "backbone": "resnet18"}
START = datetime(2024, 5, 1, tzinfo=UTC)


def entry(number: int, **known) -> GalleryEntry:
    return GalleryEntry(path=f"{number}.jpg", content_hash=f"hash{number}", source="photos", **known)


def vectors(count: int, seed: int = 0, dimension: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)


def described(number: int) -> GalleryEntry:
    """An entry of which something is known: camera by 3, person by 5, an hour each, every second has metadata."""
    return entry(
        number,
        camera=f"c{number % 3}" if number % 7 else None,
        identity=f"p{number % 5}",
        time=START + timedelta(hours=number) if number % 4 else None,
        domain="airport" if number < 15 else "station",
        metadata={"weather": "rain" if number % 4 == 0 else "sun", "floor": str(number % 2)} if number % 2 == 0 else {},
    )


def make_gallery(folder, count: int = 30, *, batch: int = 10, make=described, rows=None, model=MODEL):
    """A gallery of `count` images in unmerged batches."""
    rows = vectors(count, dimension=model["dimension"]) if rows is None else rows
    with LocalStore(folder).writer(model) as writer:
        for start in range(0, count, batch):
            part = range(start, min(count, start + batch))
            writer.add([make(number) for number in part], rows[start : start + batch])
    return folder


class Notes:
    """A reporter that remembers."""

    def __init__(self):
        self.notes, self.warnings = [], []

    def task(self, *_):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def advance(self, count=1, **facts):
        pass

    def note(self, text):
        self.notes.append(text)

    def warn(self, text):
        self.warnings.append(text)
