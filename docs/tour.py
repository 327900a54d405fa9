"""From generated people to a contact sheet, by the Python API: `python docs/tour.py [FOLDER]`, minutes on two cores.

docs/python.md shows what it draws.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import sil_cli

SHOWN = 6


def tour(folder: Path, settings: dict[str, Any] | None = None) -> Path:
    """Go the whole way in a folder, and say what comes of each step.

    Args:
        folder: Where everything goes; made where it is missing.
        settings: What differs from the defaults, by the settings' keys.

    Returns:
        The contact sheet.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(folder):
        prepared = sil_cli.prepare(settings=settings)
        left_out = sil_cli.load_dataset(prepared.target)
        print(f"{len(prepared.datasets)} camera networks; {left_out.name} is left out. Samples: {prepared.sheet}")

        trained = sil_cli.train(style="dbs", settings=settings)
        print(f"{trained.run}: loss {trained.loss:.3f} after {trained.iterations} iterations")

        scores = sil_cli.evaluate(trained.run)
        print(f"mAP {100 * scores.mAP:.1f} %, Rank-1 {100 * scores.cmc[1]:.1f} % on {scores.target}")

        indexed = sil_cli.index(model=trained.run)
        print(f"{indexed.total} entries in {indexed.gallery}")

        # One image of each of three people, all on one sheet.
        people = {record.identity: record for record in left_out.of_split("query")}
        images = [left_out.image_path(record) for record in list(people.values())[:3]]
        results = sil_cli.query(images, top=SHOWN, sheet="people.jpg")
        for result in results:
            right = sum(match.correct is True for match in result.matches)
            print(f"{result.query}: {right} of the first {len(result.matches)} are right; {result.verdict}")

        # The same by hand: embed, and search with a filter.
        model = sil_cli.load_model(trained.run)
        with sil_cli.open_gallery(indexed.gallery) as gallery:
            for matches in gallery.search(model.embed(images), k=1, where=sil_cli.Filter(cameras=("c2",))):
                print("nearest seen by c2:", *(f"{match.path} ({match.score:.3f})" for match in matches))
    return folder / "people.jpg"


if __name__ == "__main__":
    print(f"Contact sheet: {tour(Path(sys.argv[1] if len(sys.argv) > 1 else 'tour'))}")
