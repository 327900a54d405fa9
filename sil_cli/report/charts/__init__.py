"""Charts, drawn by matplotlib without pyplot: nothing in the working folder or the environment changes them."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from importlib.util import find_spec
from pathlib import Path


def _import_matplotlib() -> None:
    """Import it without the `matplotlibrc` that it would read in the working folder, and without MPLBACKEND.

    That file may come with a stranger's data set, and either can make the import fail: a notebook sets MPLBACKEND to a
    module that need not be installed here. Where such a file lies, the import takes place in the folder of
    matplotlib's own, as there is no other way to keep it from being read.
    """
    own = None if "matplotlib" in sys.modules else find_spec("matplotlib")
    if own is None or own.origin is None:
        return
    backend = os.environ.pop("MPLBACKEND", None)
    elsewhere = contextlib.chdir(Path(own.origin).parent / "mpl-data")
    try:
        with elsewhere if os.path.lexists("matplotlibrc") else contextlib.nullcontext():
            importlib.import_module("matplotlib")
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend


_import_matplotlib()
