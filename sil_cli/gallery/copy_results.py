"""What `sil gallery copy` returns: the document that `--json` prints."""

from __future__ import annotations

from sil_cli.results import Result


class CopyResult(Result):
    """The outcome of `sil gallery copy`.

    Attributes:
        origin, target: As messages call them.
        copied: Entries that came into the target.
        there: Those that were there already.
        entries: All that the target holds now.
        checked: Those whose vector and description were compared afterwards.
        model: Its fingerprint.
        option: What names the target in another command.
    """

    origin: str
    target: str
    copied: int
    there: int
    entries: int
    checked: int
    model: str
    option: str
