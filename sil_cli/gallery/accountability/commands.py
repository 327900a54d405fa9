"""`sil gallery policy`, `log` and `expire`: what a gallery is kept for, who searched it, and what is too old for it."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from sil_cli.data.images import is_drawn
from sil_cli.data.manifest import first_problem
from sil_cli.errors import UsageError
from sil_cli.files import sha256_of_file
from sil_cli.gallery.accountability.log import DRAWING, LOG_FILE, append, cut_log, has_log, log_event, os_user, read_log
from sil_cli.gallery.accountability.policy import policy_of, read_policy, write_policy
from sil_cli.gallery.entry import in_utc
from sil_cli.gallery.filters import Filter
from sil_cli.gallery.people import forget_gone
from sil_cli.gallery.results import ExpireResult, LogLine, LogResult, Policy, PolicyResult
from sil_cli.gallery.stores import gallery_store, gallery_store_to_write

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sil_cli.gallery.entry import GalleryEntry
    from sil_cli.gallery.interface import GalleryWriter
    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings

CRITERION = "retention"
"""What the log of removals calls it."""


def change_policy(
    settings: Settings, changes: Mapping[str, object], cameras: Mapping[str, float | None] | None = None
) -> PolicyResult:
    """Change what a gallery is for and what holds for whoever uses it; a change is itself logged.

    Args:
        settings: They name the gallery.
        changes: New values of the policy's parts; none only shows it.
        cameras: New limits of cameras; None for no limit of its own.

    Raises:
        GalleryError: There is no gallery, or it can't be written.
        UsageError: A value is wrong.
    """
    folder = gallery_store(settings).folder
    with gallery_store_to_write(settings).open() if changes or cameras else gallery_store(settings).open():
        before = read_policy(folder)
    limits = {camera: days for camera, days in (before.camera_keep_days | dict(cameras or {})).items() if days}
    try:
        after = Policy.model_validate(before.model_dump() | dict(changes) | {"camera_keep_days": limits})
    except ValidationError as error:
        raise UsageError(f"The policy is not valid: {first_problem(error)}.", "Correct the value.") from error
    changed = [name for name in Policy.model_fields if getattr(before, name) != getattr(after, name)]
    if changed or (after.log and not has_log(folder)):
        if before.log or after.log:  # the log's first line comes before anything relies on there being one
            append(folder, "policy", os_user(), {name: after.model_dump()[name] for name in changed})
        write_policy(folder, after)
    return PolicyResult(gallery=folder, policy=policy_of(settings, folder), changed=changed)


def gallery_log(settings: Settings, *, last: int | None, verify: bool, known: str | None = None) -> LogResult:
    """The log of a gallery; see `read_log`.

    Raises:
        GalleryError: There is no gallery, or its log can't be read.
    """
    folder = gallery_store(settings).folder
    with gallery_store(settings).open():
        is_logged = read_policy(folder).log
    result = read_log(folder, last=last, verify=verify, known=known)
    if not is_logged or has_log(folder):
        return result
    missing = f"{LOG_FILE} is missing, and the gallery's policy says that it is logged"
    return result.model_copy(update={"ok": False, "wrong_line": 1, "problem": missing})


def expire_gallery(settings: Settings, reporter: Reporter, *, dry_run: bool = False) -> ExpireResult:
    """Remove what has expired, and delete every trace of it.

    Args:
        settings: With the gallery, and limits that may be stricter than its own.
        reporter: Is warned of entries without a time.
        dry_run: Only count.

    Raises:
        GalleryError: There is no gallery, it is damaged, or somebody else is writing to it.
    """
    store = gallery_store_to_write(settings)
    with store.existing_writer() as writer:
        policy = policy_of(settings, store.folder)
        ids = expired_ids(writer, policy)
        undated = _count_undated(writer) if policy.expires else 0
        complete = True
        if ids and not dry_run:
            complete = remove_expired(writer, ids, settings, reporter)
        entries = len(writer)
        cut = 0 if dry_run else cut_old_lines(store.folder, policy)
    if undated:
        reporter.warn(f"{undated:,} entries have no time: nothing says when they expire, and they stay.")
    if not complete:
        reporter.warn(
            "Something is still reading an older state of the gallery: run `sil gallery compact` again later."
        )
    return ExpireResult(
        gallery=store.folder,
        expired=len(ids),
        undated=undated,
        entries=entries,
        dry_run=dry_run,
        complete=complete,
        cut=cut,
    )


def cut_old_lines(folder: Path, policy: Policy) -> int:
    """Cut off the log's lines that are older than the policy keeps them; returns how many.

    What a line says of a sheet or a page that is still there is written once more: it goes with whom it shows.

    Raises:
        GalleryError: The log can't be written, or isn't as it was written.
    """
    if policy.log_keep_days is None:
        return 0

    def is_needed(line: LogLine) -> bool:
        details = line.details
        return line.event == DRAWING and _is_still(Path(str(details.get("file", ""))), str(details.get("sha256")))

    return cut_log(folder, datetime.now(UTC) - timedelta(days=policy.log_keep_days), os_user(), needed=is_needed)


def remove_expired(writer: GalleryWriter, ids: list[int], settings: Settings, reporter: Reporter) -> bool:
    """Remove entries for their age, and every trace of them; returns whether that is complete.

    Raises:
        GalleryError: The gallery or its log can't be written.
    """
    log_event(settings, writer.folder, "removal", {"why": CRITERION, "entries": ids})
    writer.remove(ids, CRITERION)
    complete = writer.compact()
    complete &= forget_gone(writer.folder, writer.existing).complete
    delete_drawings(writer)
    if len(writer):
        writer.refresh_index(reporter)
    return complete


def delete_drawings(writer: GalleryWriter) -> list[Path]:
    """Delete the sheets and pages that show an entry which is gone, as the gallery's log names them.

    A log may be a stranger's: only a file goes that is ours to change, says itself that this program drew it, and is,
    to the byte, what was written then.

    Returns:
        What was deleted.

    Raises:
        GalleryError: The log can't be read.
    """
    if not has_log(writer.folder):
        return []
    drawn = [line.details for line in read_log(writer.folder, last=None, verify=False).lines if line.event == DRAWING]
    ids = sorted({one for each in drawn for one in _ids(each)})
    living = set(writer.entries(ids))
    deleted = []
    for each in drawn:
        path = Path(str(each.get("file", "")))
        if not living.issuperset(_ids(each)) and _is_still(path, str(each.get("sha256"))):
            path.unlink()
            deleted.append(path)
    return deleted


def _ids(details: Mapping[str, object]) -> list[int]:
    shown = details.get("shown")
    return [one for one in shown if isinstance(one, int)] if isinstance(shown, list) else []


def _is_still(path: Path, sha256: str) -> bool:
    """Whether a file is there, our own, drawn by this program and unchanged."""
    try:
        facts = path.lstat()
        is_own = stat.S_ISREG(facts.st_mode) and facts.st_uid == os.getuid()
        return is_own and is_drawn(path) and sha256_of_file(path) == sha256
    except (OSError, ValueError):
        return False


def is_too_old(entry: GalleryEntry, policy: Policy, now: datetime) -> bool:
    """Whether an image was taken longer ago than the policy allows; one without a time is not."""
    days = policy.camera_keep_days.get(entry.camera or "", policy.keep_days)
    return days is not None and entry.time is not None and in_utc(entry.time) < now - timedelta(days=days)


def expired_ids(writer: GalleryWriter, policy: Policy, now: datetime | None = None) -> list[int]:
    """The ids of all entries that were taken longer ago than the policy allows, ascending.

    Args:
        writer: The gallery's.
        policy: A camera that it names has its own limit, which may be longer than that of the others.
        now: By default this moment.
    """
    now = now or datetime.now(UTC)
    limits = [
        Filter(cameras=(camera,), before=now - timedelta(days=days)) for camera, days in policy.camera_keep_days.items()
    ]
    if policy.keep_days is not None:
        before = now - timedelta(days=policy.keep_days)
        limits.append(Filter(excluded_cameras=tuple(policy.camera_keep_days), before=before))
    return sorted({one for each in limits for one in writer.ids_passing(each).tolist()})


def _count_undated(writer: GalleryWriter) -> int:
    """How many entries have no time: those that pass neither half of all time."""
    middle = datetime(2000, 1, 1, tzinfo=UTC)
    return len(writer) - sum(len(writer.ids_passing(each)) for each in (Filter(before=middle), Filter(after=middle)))
