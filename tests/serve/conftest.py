"""A gallery that is served: in this process, with a token for each role."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import pytest
from pins.making import copy_of_fixtures
from starlette.testclient import TestClient

from sil_cli.runtime import SilentReporter
from sil_cli.serve.access import Access, add_token, tokens_file
from sil_cli.serve.app import make_app
from sil_cli.serve.service import Service
from sil_cli.settings import load_settings

PORT = 8765
QUERY = Path("data/orchard/images/query/0005_c1_01.jpg")


@dataclass
class Served:
    """A served gallery, and somebody's token to ask it with."""

    client: TestClient
    tokens: dict[str, str]

    def ask(self, method: str, path: str, role: str | None = "administer", headers=None, **options):
        allowed = {} if role is None else {"authorization": f"Bearer {self.tokens[role]}"}
        return self.client.request(method, path, headers={**allowed, **(headers or {})}, **options)

    def get(self, path: str, role: str | None = "administer", **options):
        return self.ask("GET", path, role, **options)

    def post(self, path: str, json=None, role: str | None = "administer", **options):
        return self.ask("POST", path, role, json=json, **options)

    def search(self, data=None, image: Path | bytes | None = QUERY, role: str | None = "look", **options):
        content = image.read_bytes() if isinstance(image, Path) else image
        files = [] if content is None else [("image", ("picture.jpg", content, "image/jpeg"))]
        return self.ask("POST", "/api/query", role, data=data or {}, files=files, **options)


@contextlib.contextmanager
def serving(**more):
    """Serve the gallery in the working folder; `more` are settings of `serve` and `query`."""
    flags = {"serve": {"tokens": "tokens.json", **more.pop("serve", {})}, **more}
    settings = load_settings(flags=flags)
    tokens = {
        role: add_token(tokens_file(settings.serve), role, role).token for role in ("look", "judge", "administer")
    }
    service = Service(settings, SilentReporter())
    app = make_app(service, Access(settings.serve), SilentReporter(), port=PORT)
    with TestClient(app, base_url=f"http://127.0.0.1:{PORT}", raise_server_exceptions=True) as client:
        yield Served(client, tokens)


@pytest.fixture
def world(empty) -> Path:
    return copy_of_fixtures(empty)


@pytest.fixture
def served(world):
    with serving() as one:
        yield one
