"""Running commands in tests, on a world small enough for it."""

from __future__ import annotations

import functools
import importlib.util
import json
import operator
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from hints import wrong_hints
from pydantic import TypeAdapter
from typer.testing import CliRunner

from sil_cli.cli.app import GROUPS, make_app

ROOT = Path(__file__).parents[1]
TINY_DATA = {
    "domains": 3,
    "train_identities": 4,
    "test_identities": 4,
    "cameras": 2,
    "images_per_camera": 2,
    "height": 48,
    "width": 24,
}
TINY_TRAIN = {
    "model.height": 32,
    "model.width": 16,
    "train.epochs": 2,
    "train.iterations": 2,
    "train.identities": 2,
    "train.instances": 2,
    "train.milestones": [1],
    "train.precision": "float32",
    "train.export": False,
}


@dataclass
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def document(self):
        """The one JSON document on stdout."""
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """All that was said on stderr, on one line."""
        return " ".join(self.err.split())


def settings_flags(values: dict[str, object], prefix: str = "") -> list[str]:
    return [part for key, value in values.items() for part in ("--set", f"{prefix}{key}={json.dumps(value)}")]


TINY_DATA_FLAGS = settings_flags(TINY_DATA, "data.synthetic.")
TINY_TRAIN_FLAGS = settings_flags(TINY_TRAIN)


def sil(*arguments: object) -> Outcome:
    """Run a command in this process; `--json` must print what docs/json.md says, and messages name what there is."""
    return piped(None, *arguments)


def piped(content: bytes | None, *arguments: object) -> Outcome:
    """The same, with something on stdin."""
    words = [str(argument) for argument in arguments]
    # As `main` does; to build all the other commands takes 0.1 s, and there are some thousand calls.
    result = CliRunner().invoke(make_app(next(iter(words), None)), words, input=content)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    if "--json" in words and result.exit_code == 0:
        _check_document(words, result.stdout)
    assert wrong_hints(words, result.stderr, result.stdout) == [], result.stderr
    return Outcome(result.exit_code, result.stdout, result.stderr)


@functools.cache
def generator():
    """What writes the pages that come from the program itself."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _check_document(words: list[str], printed: str) -> None:
    name = " ".join(words[:2]) if words[0] in GROUPS else words[0]
    documents = generator().DOCUMENTS[name]
    TypeAdapter(functools.reduce(operator.or_, documents)).validate_json(printed)


def start_sil(*arguments: object, cwd: Path, **options) -> subprocess.Popen[str]:
    """Start a command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "sil_cli", *map(str, arguments)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
