"""`sil gallery policy`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.cli.command import GALLERY, GALLERY_ARGUMENT, STORE, Option
from sil_cli.cli.terminal import policy_facts, print_facts

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.gallery.results import PolicyResult

EXAMPLES = """
sil gallery policy
sil gallery policy --purpose "Thefts in hall 3" --legal-basis "GDPR Art. 6(1)(f)" --keep-days 30 --log
sil gallery policy station --keep-camera entrance=7 --require-purpose
"""
OPTIONS = (
    GALLERY_ARGUMENT,
    Option("--purpose", metavar="TEXT", help="What the gallery is kept for.", kind=str),
    Option("--legal-basis", metavar="TEXT", help="The law or consent under which it is kept.", kind=str),
    Option(
        "--keep-days", metavar="DAYS", help="Remove entries taken more days ago than this; 0: keep them.", kind=float
    ),
    Option(
        "--keep-camera",
        metavar="CAMERA=DAYS",
        help="The same for one camera, 0: as the others; may be repeated.",
        kind=list[str],
    ),
    Option("--log/--no-log", help="Log who searched, decided, removed and exported what."),
    Option("--log-keep-days", metavar="DAYS", help="Cut older lines off the log; 0: keep them.", kind=float),
    Option("--require-purpose/--no-require-purpose", help="Every search must say what it is for."),
    GALLERY,
    STORE,
)


def run(current: Session) -> PolicyResult:
    """Show or change what a gallery is for and the rules for using it, which are kept in the gallery."""
    settings = current.settings()
    from sil_cli.gallery.accountability.commands import change_policy
    from sil_cli.gallery.accountability.policy import camera_changes

    given = current.given
    names = ("purpose", "legal_basis", "log", "require_purpose")
    changes = {name: given[name] for name in names if given[name] is not None}
    changes |= {name: given[name] or None for name in ("keep_days", "log_keep_days") if given[name] is not None}
    cameras = camera_changes(given["keep_camera"] or ())
    result = change_policy(settings, changes, cameras)
    print_facts(current.out, "Policy", policy_facts(result.policy) or {"policy": "none"})
    if result.changed:
        current.next_command(f"Changed: {', '.join(name.replace('_', ' ') for name in result.changed)}.")
    return result
