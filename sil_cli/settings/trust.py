"""What a file that was merely found may decide: `sil.toml` in the working folder, and the recipe that it names.

People unpack folders that others made, and work inside them. What such a file says is taken, but it writes nowhere
outside of the working folder, and no credential goes where it says. What the user names (a flag, a variable, a file
given by `--config`) is the user's own, and goes anywhere.
"""

from __future__ import annotations

import shlex
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sil_cli.errors import UsageError

if TYPE_CHECKING:
    from sil_cli.settings.tree import Settings

OUTPUTS = (
    "data.out",
    "data.cache",
    "train.run",
    "train.runs",
    "export.out",
    "evaluate.out",
    "evaluate.save_embeddings",
    "benchmark.out",
    "query.out",
    "query.sheet",
    "query.html",
    "show.sheet",
    "report.out",
)
"""Settings that only say where is written to; whenever settings are resolved, they are looked at."""


def refuse_outside(settings: Settings, *keys: str) -> None:
    """Refuse paths that a found file names outside of the working folder; call it before anything is written there.

    A default is left alone: a working folder whose `data` or `runs` is a link is ordinary.

    Args:
        settings: All settings.
        keys: Of the paths, `gallery.folder`; those that the user named are left alone too.

    Raises:
        UsageError: One is outside, or a link that a found file names leads there.
    """
    for key in keys:
        value = _value(settings, key)
        if value is None or settings.is_users_own(key) or value == _value(type(settings)(), key):
            continue
        for path in value if isinstance(value, tuple) else (value,):
            if _leads_out(Path(path)):
                raise UsageError(
                    f"{key} = {path} was set by a file found in the working folder, and leads out of that folder.",
                    f"If you want that, say --set {shlex.quote(f'{key}={path}')}, or --config sil.toml where that file "
                    "is your own.",
                )


def _value(settings: Settings, key: str) -> Any:
    return reduce(getattr, key.split("."), settings)


def _leads_out(path: Path) -> bool:
    """Whether a path leads out of the working folder, or may do so by a link on the way."""
    here = Path.cwd()
    parts = (here / path).parts[len(here.parts) :]
    if not (here / path).is_relative_to(here) or ".." in parts:
        return True
    return any(here.joinpath(*parts[:length]).is_symlink() for length in range(1, len(parts) + 1))
