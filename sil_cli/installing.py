"""The command that installs what is missing, said in messages."""

from __future__ import annotations

import shutil
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

PROGRAM = "sil-cli"


def install_command(*requirements: str) -> str:
    """The command that installs packages where this program runs.

    Args:
        requirements: As pip takes them, `pillow>=11.3`.
    """
    packages = " ".join(f'"{each}"' if set(each) & set("<>=[;") else each for each in requirements)
    return f"{_installer()} {packages}"


def extra_command(extra: str) -> str:
    """The command that installs what an extra of this program stands for.

    It names the extra's packages, because `sil-cli[EXTRA]` means nothing to a registry, and the clone or the wheel that
    this program was installed from may be gone.

    Args:
        extra: As in pyproject.toml, `video`.
    """
    requirements = _requirements(extra)
    return install_command(*requirements) if requirements else f'{_installer()} ".[{extra}]"'


def _requirements(extra: str) -> list[str]:
    """None where this program runs from a folder of sources that nobody installed since it got the extra."""
    try:
        said = metadata.requires(PROGRAM) or []
    except metadata.PackageNotFoundError:
        return []
    ends = (f'extra == "{extra}"', f"extra == '{extra}'")
    return [each.partition(";")[0].strip() for each in said if each.endswith(ends)]


def _installer() -> str:
    """As short as it can be said: bare `pip` is often another environment's, and uv's environments have none."""
    beside = Path(sys.executable).parent
    found = shutil.which("pip")
    if found is not None and Path(found).parent == beside:
        return "pip install"
    if find_spec("pip") is None:
        return f'uv pip install --python "{sys.executable}"'
    return f'"{sys.executable}" -m pip install'
