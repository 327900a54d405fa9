"""`sil gallery info`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.cli.command import GALLERY, GALLERY_ARGUMENT, STORE
from sil_cli.cli.terminal import escape, policy_facts, print_facts

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.gallery.results import GalleryInfo

EXAMPLES = """
sil gallery info
sil gallery info station --json
"""
OPTIONS = (GALLERY_ARGUMENT, GALLERY, STORE)


def run(current: Session) -> GalleryInfo:
    """Say what a gallery holds, how it is searched, and what was removed from it."""
    settings = current.settings()
    from sil_cli.gallery.care import gallery_info

    result = gallery_info(settings)
    facts = {} if result.store is None else {"store": escape(result.store)}
    facts |= {"folder": escape(result.gallery), "entries": f"{result.entries:,}"}
    if result.identities is not None and result.cameras is not None:
        facts["identities, cameras"] = f"{result.identities:,}, {result.cameras:,}"
    if result.earliest is not None:
        facts["taken"] = f"{result.earliest} to {result.latest}"
    if result.metadata:
        facts["metadata"] = escape(", ".join(result.metadata))
    facts["index"] = f"{escape(result.index)} (requested: {escape(result.wished_index)})"
    facts["embeddings"] = f"{result.dimension} dimensions, {result.files} {'file' if result.files == 1 else 'files'}"
    if result.bytes is not None:
        facts["size"] = f"{result.bytes / 2**20:,.1f} MiB"
    facts["model"] = result.model[:12]
    if result.card is not None:
        facts["model's origin"] = escape(str(result.card))
        for warning in result.card.warnings:
            current.reporter.warn(warning)
    facts |= policy_facts(result.policy)
    if result.removals:
        facts["removed"] = "\n".join(
            f"{each.time[:16].replace('T', ' ')}: {each.count:,} by {escape(each.criterion)}"
            for each in result.removals
        )
    print_facts(current.out, "Gallery", facts)
    return result
