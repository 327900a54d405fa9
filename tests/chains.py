"""Through which of our modules and functions a command runs, in the order in which they are first reached.

    python tests/chains.py query
    python tests/chains.py index-gallery

Each runs whole, in a process of its own, in a copy of the fixtures, where an export stands in for torch. What runs in
other threads counts; what a module does while it is imported does not, unless it calls a function of ours.
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import CodeType, FrameType

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = f"{ROOT / 'sil_cli'}{os.sep}"
COMMANDS = {
    "query": ("query", "data/orchard/images/query/0005_c1_01.jpg"),
    "index-gallery": (
        "index-gallery",
        "data/harbour/images/query/0005_c1_01.jpg",
        "--gallery",
        "new",
        "--model",
        "gallery/model",
    ),
}


def chain(command: str, folder: Path) -> list[tuple[str, str]]:
    """Module and function of each step of one of `COMMANDS`, in the order in which they are first reached.

    Args:
        command: Its name.
        folder: Empty; the command runs in it.

    Raises:
        CalledProcessError: The command failed.
    """
    from pins.making import copy_of_fixtures

    copy_of_fixtures(folder)
    steps = folder / "steps.json"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    words = [sys.executable, str(Path(__file__).resolve()), "--into", str(steps), *COMMANDS[command]]
    subprocess.run(words, cwd=folder, env=environment, check=True, capture_output=True, text=True)
    return [(module, function) for module, function in json.loads(steps.read_text())]


def _record(steps: str) -> None:
    """Run `sil` in this process, and write down the functions of ours that were called."""
    called: dict[CodeType, None] = {}

    def watch(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            called.setdefault(frame.f_code)

    threading.setprofile(watch)
    sys.setprofile(watch)
    try:
        from sil_cli.__main__ import main

        main()
    finally:
        sys.setprofile(None)
        Path(steps).write_text(json.dumps([list(each) for each in _named(list(called))]))


def _named(called: list[CodeType]) -> list[tuple[str, str]]:
    """Functions alone: neither the bodies of modules and classes, nor what is written within a function."""
    functions = [code for code in called if code.co_flags & inspect.CO_OPTIMIZED and "<" not in code.co_qualname]
    names = [(Path(code.co_filename).relative_to(ROOT).with_suffix(""), code.co_qualname) for code in functions]
    return list(dict.fromkeys((".".join(path.parts), name) for path, name in names))


def main(command: str) -> None:
    """Print the chain of one command."""
    with tempfile.TemporaryDirectory() as folder:
        steps = chain(command, Path(folder))
    before = ""
    for module, function in steps:
        sys.stdout.write(f"{module if module != before else '':<48}{function}\n")
        before = module
    sys.stdout.write(f"\n{len({module for module, _ in steps})} modules, {len(steps)} functions\n")


if __name__ == "__main__":
    if sys.argv[1] == "--into":
        _, _, into, *sys.argv[1:] = sys.argv
        _record(into)
    else:
        main(sys.argv[1])
