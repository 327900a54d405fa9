"""What a row of a collection is, and how an entry becomes one and comes back.

Milvus 2.3 has no empty fields, so an unknown text is '' and an unknown time `NO_TIME`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from typing import TYPE_CHECKING, Any

from sil_cli.errors import GalleryError
from sil_cli.files import parse_json
from sil_cli.gallery.entry import GalleryEntry, box_text, instant_of, require_names, stored_box, stored_time

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from sil_cli.gallery.entry import EntryKey, Member

FORMAT = 1
ID_BITS = 53
"""Of an id: as many as a float64 and any reader of JSON keeps."""

NO_TIME = -1e15
TEXTS = {
    "source": 4096,
    "path": 4096,
    "box": 128,
    "content_hash": 128,
    "identity": 1024,
    "camera": 1024,
    "domain": 1024,
    "time": 64,
    "members": 65_535,
}
"""The fields of text, and the bytes that they hold at most."""

VECTOR, METADATA, INSTANT = "vector", "metadata", "instant"
KEY_FIELDS = ("source", "path", "box")
ENTRY_FIELDS = (*(name for name in TEXTS if name != "members"), METADATA)
_PLAIN_MEMBERS = 32_768
_MOST_JSON = 65_000


def id_of(key: EntryKey) -> int:
    """The id of an entry, which follows from its key alone, so that adding it twice makes one row.

    That another key has the same one is a rare case: at 10^9 entries about 55 pairs are expected (n² / 2^54).
    """
    digest = hashlib.sha256(json.dumps(key, ensure_ascii=True).encode()).digest()
    return int.from_bytes(digest[:8]) >> (64 - ID_BITS) or 1


def make_row(
    identifier: int, entry: GalleryEntry, vector: NDArray[np.float32], members: Sequence[Member] | str = ()
) -> dict[str, Any]:
    """A row.

    Args:
        identifier: Its id.
        entry: What is known of it.
        vector: Shape (D,), of unit length.
        members: The images that it is the mean of, or their text as it was read.

    Raises:
        GalleryError: A text is longer than a field of Milvus.
    """
    texts = {
        "source": entry.source,
        "path": entry.path,
        "box": box_text(entry.box),
        "content_hash": entry.content_hash,
        "identity": entry.identity or "",
        "camera": entry.camera or "",
        "domain": entry.domain or "",
        "time": entry.time.isoformat() if entry.time else "",
        "members": members if isinstance(members, str) else text_of_members(members),
    }
    metadata = dict(entry.metadata)
    lengths = {name: (len(text.encode()), TEXTS[name]) for name, text in texts.items()}
    lengths[METADATA] = (len(json.dumps(metadata).encode()), _MOST_JSON)
    for name, (length, most) in lengths.items():
        if length > most:
            raise GalleryError(
                f"The {name} of '{entry.path[:200]}' takes {length:,} bytes; Milvus holds {most:,}.",
                "Shorten it, or keep it in a local gallery.",
            )
    instant = instant_of(entry.time) if entry.time else NO_TIME
    return {"id": identifier, VECTOR: vector, INSTANT: instant, METADATA: metadata, **texts}


def entry_of(row: Mapping[str, Any]) -> GalleryEntry:
    """The entry in a row that has the ENTRY_FIELDS.

    Raises:
        GalleryError: A stranger wrote it.
    """
    try:
        require_names(row["path"], row["source"])
        return GalleryEntry(
            path=row["path"],
            content_hash=row["content_hash"],
            source=row["source"],
            identity=row["identity"] or None,
            camera=row["camera"] or None,
            time=stored_time(row["time"]) if row["time"] else None,
            domain=row["domain"] or None,
            box=stored_box(row["box"]),
            metadata={str(key): str(value) for key, value in row[METADATA].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _strange(f"row {row.get('id')}") from error


def key_of(row: Mapping[str, Any]) -> EntryKey:
    """The key of a row that has the KEY_FIELDS.

    Raises:
        GalleryError: A stranger wrote it.
    """
    try:
        return row["source"], row["path"], stored_box(row["box"])
    except (ValueError, KeyError, TypeError) as error:
        raise _strange(f"row {row.get('id')}") from error


def text_of_members(members: Sequence[Member]) -> str:
    """The images of a tracklet as they are stored: JSON, deflated where it is long."""
    if not members:
        return ""
    text = json.dumps(members, ensure_ascii=False)
    if len(text.encode()) <= _PLAIN_MEMBERS:
        return text
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def members_of(text: str) -> list[Member]:
    """The images of a tracklet; none for an entry of one image.

    Raises:
        GalleryError: A stranger wrote it.
    """
    if not text:
        return []
    try:
        # Deflated, no text that we wrote is more than a hundred times as long: a bomb is cut off.
        members = parse_json(text if text.startswith("[") else _inflated(text))
        return [(str(source), str(path), stored_box(json.dumps(box)) if box else None) for source, path, box in members]
    except (ValueError, TypeError, zlib.error) as error:
        raise _strange("list of a tracklet's images") from error


def _strange(what: str) -> GalleryError:
    return GalleryError(f"The collection's {what} is not part of a gallery.", "Check it with `sil gallery verify`.")


def _inflated(text: str) -> str:
    return zlib.decompressobj().decompress(base64.b64decode(text), 100 * TEXTS["members"]).decode()
