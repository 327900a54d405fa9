"""The program as a whole: help, version, completion, and what it must not import."""

import subprocess
import sys

import pytest
from commands import sil
from typer.testing import CliRunner

import sil_cli
from sil_cli.cli.app import make_app

COMMANDS = (
    "prepare-data",
    "show",
    "train",
    "evaluate",
    "index-gallery",
    "query",
    "report",
    "compare",
    "calibrate",
    "benchmark",
    "export",
    "import-model",
    "doctor",
)


def test_help_lists_the_commands() -> None:
    outcome = sil("--help")
    assert outcome.code == 0
    for command in COMMANDS:
        assert command in outcome.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples_and_the_shared_options(command: str) -> None:
    outcome = sil(command, "--help")
    assert outcome.code == 0
    assert "Examples" in outcome.out
    assert f"sil {command}" in outcome.out.split("Examples")[1]
    for option in ("--config", "--device", "--set", "--json", "--debug"):
        assert option in outcome.out


@pytest.mark.parametrize("command", [*COMMANDS, "gallery"])
def test_a_command_is_the_same_alone_as_among_all(command: str) -> None:
    alone, among_all = (CliRunner().invoke(make_app(asked), [command, "--help"]) for asked in (command, None))
    assert alone.exit_code == among_all.exit_code == 0
    assert alone.stdout == among_all.stdout
    other = "doctor" if command != "doctor" else "train"
    assert CliRunner().invoke(make_app(command), [other, "--help"]).exit_code == 2


@pytest.mark.parametrize("asked", [None, "--version", "--help", "no-such-command", "quer"])
def test_whatever_is_no_command_gets_the_whole_program(asked: str | None) -> None:
    shown = CliRunner().invoke(make_app(asked), ["--help"]).stdout
    assert all(command in shown for command in (*COMMANDS, "gallery"))


def test_version() -> None:
    assert sil("--version").out == f"sil {sil_cli.__version__}\n"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from sil_cli.cli.app import make_app\n"
        "try: make_app()(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'torchvision', 'faiss', 'numpy', 'PIL'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion_installs(tmp_path, shell: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sil_cli", "--install-completion", shell],
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    written = [path for path in tmp_path.rglob("*") if path.is_file() and "COMPLETE" in path.read_text()]
    assert written


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["train", "--no-such-option"],
        ["query"],
        ["train", "--seed", "x"],
        ["train", "--device", "tpu"],
    ],
)
def test_wrong_usage_is_code_2_and_says_so_on_stderr(arguments) -> None:
    outcome = sil(*arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err
