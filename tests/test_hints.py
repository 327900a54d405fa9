"""Every command line in a message, in the code itself: what tests don't run into is held to it, too."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import sil
from hints import NAMES, options_of, wrong_commands, wrong_hints

import sil_cli

MODULES = sorted(Path(sil_cli.__file__).parent.rglob("*.py"))


def texts(tree: ast.AST) -> Iterator[str]:
    """The texts in a module, with an X for what is put into them."""
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "X" for part in node.values]
            yield "".join(str(part) for part in parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.value


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_the_commands_that_a_module_names_are_there(module) -> None:
    for text in texts(ast.parse(module.read_text(encoding="utf-8"))):
        whole = f"`{text}`" if text.startswith("sil ") and "\n" not in text else text
        assert wrong_commands(whole) == []


def test_hints_are_held_against_the_command_that_said_them() -> None:
    assert "--gallery" in options_of("gallery info")
    assert wrong_hints(["query", "a.jpg"], "Use --min-score S, or --threshold.", "") == ["--threshold"]
    assert wrong_hints(["query", "--thresh"], "No such option: --thresh.", "") == []
    assert wrong_hints(["train"], "Run `sil query --style x`, or `sil train --style x`, or `sil trian`.", "") == [
        "sil query --style",
        "sil trian",
    ]
    assert wrong_hints(["train"], "See `ulimit --all`.", "  Next: sil evaluate --gallery x") == [
        "sil evaluate --gallery"
    ]
    assert len(NAMES) > 20


def test_commands_in_messages_take_the_names_that_they_are_about(world, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for part in ("data", "runs", "gallery"):
        shutil.copytree(world / part, tmp_path / f"my {part}'s")
    data = str(next(iter(sorted(Path("my data's").glob("*/dataset.json")))).parent)
    run, gallery = "my runs's/001-dbs", "my gallery's"
    messages = [
        sil("index-gallery", data, "--model", run, "--gallery", "another gallery").out,
        sil("gallery", "remove", "--id", "1", "--yes", "--gallery", gallery).out,
        sil("train", "--run", run, "--source", data).err,
        sil("report", "my data's").err,
        sil("gallery", "remove", "--identity", "nobody", "--yes", "--gallery", gallery).err,
    ]
    for text in messages:
        (command,) = re.findall(r"Next: (sil .*)|`(sil [^`]*)`", text)
        words = shlex.split("".join(command))
        assert any(word in {run, gallery, data, "another gallery", "my data's"} for word in words), text
