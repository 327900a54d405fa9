"""What a gallery is kept for, on which legal basis, for how long, and whether searches are logged: `policy.json`.

The file lies in the gallery's folder, whatever the store, and holds for whoever uses the gallery. Settings
(`gallery.keep_days`, `gallery.log`, …) can make it stricter for a command, and never laxer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from sil_cli.data.manifest import first_problem
from sil_cli.errors import GalleryError, SilError, UsageError
from sil_cli.files import read_json, refuse_links, write_json
from sil_cli.gallery.interface import POLICY_FILE
from sil_cli.gallery.results import MOST_DAYS, Policy

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sil_cli.settings import Settings

_MOST_BYTES = 200_000
_FIX = "Put the right file back, or delete it and set the policy again with `sil gallery policy`."


def read_policy(folder: Path) -> Policy:
    """The policy that is kept in a gallery's folder; an empty one where there is none.

    Raises:
        GalleryError: The file can't be read, or is not a policy.
    """
    path = folder / POLICY_FILE
    refuse_links(path, within=folder)
    if not path.exists():
        return Policy()
    try:
        return Policy.model_validate(read_json(path, what="the gallery's policy", fix=_FIX, most=_MOST_BYTES))
    except ValidationError as error:
        raise GalleryError(f"{path} can't be read as the gallery's policy: {first_problem(error)}.", _FIX) from error
    except SilError as error:
        raise GalleryError(error.what, error.fix) from error


def write_policy(folder: Path, policy: Policy) -> None:
    """Keep a policy in a gallery's folder.

    Raises:
        SilError: A link stands in its place.
        OSError: The folder can't be written.
    """
    refuse_links(folder / POLICY_FILE, within=folder)
    write_json(folder / POLICY_FILE, policy.model_dump(mode="json"))


def policy_of(settings: Settings, folder: Path) -> Policy:
    """What holds for a command: what the gallery keeps, or the settings where they are stricter.

    Raises:
        GalleryError: The gallery's policy can't be read.
        UsageError: `gallery.camera_keep_days` is not CAMERA=DAYS.
    """
    kept, wanted = read_policy(folder), settings.gallery
    cameras = dict(kept.camera_keep_days)
    for camera, days in camera_days(wanted.camera_keep_days).items():
        cameras[camera] = min(days, cameras.get(camera, days))
    limits = [days for days in (kept.keep_days, wanted.keep_days) if days is not None]
    return Policy(
        purpose=wanted.purpose or kept.purpose,
        legal_basis=wanted.legal_basis or kept.legal_basis,
        log=kept.log or wanted.log,
        require_purpose=kept.require_purpose or wanted.require_purpose,
        keep_days=min(limits, default=None),
        camera_keep_days=cameras,
        log_keep_days=kept.log_keep_days,  # no setting shortens it: a stranger's could wipe out what was done
    )


def camera_days(texts: Sequence[str]) -> dict[str, float]:
    """The days of each camera, from `CAMERA=DAYS`.

    Raises:
        UsageError: A text is not that.
    """
    return {camera: days for camera, days in camera_changes(texts).items() if days is not None}


def camera_changes(texts: Sequence[str]) -> dict[str, float | None]:
    """The same; None for 0 days, which takes back a camera's own limit.

    Raises:
        UsageError: A text is not CAMERA=DAYS.
    """
    found: dict[str, float | None] = {}
    for text in texts:
        camera, _, days = text.rpartition("=")
        try:
            number = float(days)
        except ValueError:
            number = -1.0
        if not camera or not 0 <= number <= MOST_DAYS:
            raise UsageError(f"'{text}' is not CAMERA=DAYS.", "For example: --keep-camera entrance=7")
        found[camera] = number or None
    return found


def require_reason(settings: Settings, folder: Path) -> None:
    """Refuse a search that doesn't say what it is for, where the gallery asks for it.

    Raises:
        UsageError: It doesn't.
        GalleryError: The gallery's policy can't be read.
    """
    if policy_of(settings, folder).require_purpose and not (settings.query.purpose or "").strip():
        raise UsageError(
            f"The gallery {folder} requires a purpose for every search, and none was given.",
            "Give it with --purpose TEXT; it is written into the gallery's log.",
        )
