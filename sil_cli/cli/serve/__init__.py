"""`sil serve`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.cli.command import ENGINE, GALLERY, GALLERY_ARGUMENT, STORE, Option
from sil_cli.cli.terminal import escape, print_facts
from sil_cli.errors import UsageError
from sil_cli.installing import extra_command
from sil_cli.runtime import is_installed

if TYPE_CHECKING:
    from pydantic import BaseModel

    from sil_cli.cli.session import Session
    from sil_cli.settings import Settings

EXAMPLES = """
sil serve
sil serve station --port 9000 --blur
sil serve --add-token ann --role judge
sil serve --address 0.0.0.0 --set serve.certificate=cert.pem --set serve.key=key.pem
"""
WHO = "Who is let in"
PACKAGES = ("fastapi", "uvicorn", "python_multipart")
OPTIONS = (
    GALLERY_ARGUMENT,
    Option("--address", "serve.address", "ADDRESS", "Where to listen; any but 127.0.0.1 needs tokens."),
    Option("--port", "serve.port", "PORT"),
    Option("--blur", "query.blur", help="Blur people who are no match or possible match."),
    Option(
        "--add-token", metavar="NAME", help="Make a token for somebody, show it once, and end.", kind=str, panel=WHO
    ),
    Option("--role", metavar="look|judge|administer", help="What it allows; default: look.", kind=str, panel=WHO),
    Option("--revoke-token", metavar="NAME", help="Take back somebody's tokens, and end.", kind=str, panel=WHO),
    Option("--tokens", help="List who has a token, and end.", panel=WHO),
    GALLERY,
    STORE,
    ENGINE,
)


def run(current: Session) -> BaseModel:
    """Serve a gallery as a page and an API, to this machine alone unless tokens let others in."""
    settings = current.settings()
    given = current.given
    missing = [name for name in PACKAGES if not is_installed(name)]
    if missing:
        raise UsageError(f"`sil serve` needs {', '.join(missing)}.", f"Install it with `{extra_command('serve')}`.")
    if given["add_token"] is not None or given["revoke_token"] is not None or given["tokens"]:
        return _tokens(current, settings)
    if given["role"] is not None:
        raise UsageError("--role sets what a new token allows, and no token is being made.", "Add --add-token NAME.")
    from sil_cli.serve.run import serve

    def say(address: str) -> None:
        current.messages.print(f"Serving {escape(settings.gallery.folder)} at {address}", highlight=False)
        current.messages.print("Ctrl-C stops it; every search is written into the gallery's log.", highlight=False)

    result = serve(settings, current.reporter, say=say)
    current.next_command(f"{result.requests:,} requests were answered.")
    return result


def _tokens(current: Session, settings: Settings) -> BaseModel:
    from sil_cli.serve.access import ROLES, add_token, list_tokens, revoke_token, tokens_file

    given, path = current.given, tokens_file(settings.serve)
    if given["add_token"] is not None:
        role = next((each for each in ROLES if each == (given["role"] or "look")), None)
        if role is None:
            raise UsageError(f"'{given['role']}' is no role.", f"Roles are {', '.join(ROLES)}.")
        result = add_token(path, given["add_token"], role)
    elif given["revoke_token"] is not None:
        result = revoke_token(path, given["revoke_token"])
    else:
        result = list_tokens(path)
    facts = {"file": escape(result.file), **({"revoked": f"{result.revoked:,}"} if result.revoked else {})}
    print_facts(current.out, "Tokens", facts | {escape(name): role for name, role in result.tokens.items()})
    if result.token is not None:
        current.say(f"The new token, which can't be shown again: {result.token}")
    return result
