"""What a gallery's log says of searches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.files import sha256_of_file
from sil_cli.gallery.accountability.log import DRAWING, log_event

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sil_cli.gallery.entry import Match
    from sil_cli.search.queries import Query
    from sil_cli.search.query_results import QueryResult
    from sil_cli.settings import Settings


def log_search(
    settings: Settings,
    queries: Sequence[Query],
    found: Sequence[Sequence[Match]],
    *,
    by: str | None = None,
    always: bool = False,
) -> None:
    """Write down who searched what, and which entries are about to be shown, where the gallery or the settings want it.

    Args:
        settings: With the filter, and what the search is for.
        queries: What was searched for; of images the log keeps the SHA-256 of their files, never the images.
        found: The matches of each.
        by: Who searched; by default the user who runs this process.
        always: Whatever the gallery and the settings want.

    Raises:
        GalleryError: The log can't be written: then nothing may be shown.
    """
    wanted = settings.query
    searches = [
        {
            "images": [{"sha256": sha256_of_file(path), "box": box} for path, box in query.images],
            "entries": list(query.ids),
            "shown": [match.id for match in matches],
        }
        for query, matches in zip(queries, found, strict=True)
    ]
    details = {
        "purpose": wanted.purpose,
        "filter": wanted.filter.model_dump(mode="json", exclude_defaults=True),
        "searches": searches,
    }
    log_event(settings, settings.gallery.folder, "search", details, by=by, always=always)


def log_drawings(settings: Settings, files: Sequence[Path], results: Sequence[QueryResult]) -> None:
    """Write down which sheets and pages show whom: they are deleted with the last trace of anyone they show.

    Raises:
        GalleryError: The log can't be written.
        OSError: A file is gone already.
    """
    shown = sorted({match.id for result in results for match in result.matches})
    for path in files:
        if path.is_file():
            details = {"file": str(path.absolute()), "sha256": sha256_of_file(path), "shown": shown}
            log_event(settings, settings.gallery.folder, DRAWING, details)
