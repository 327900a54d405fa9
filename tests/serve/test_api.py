"""The API over a gallery: what it answers, whom it lets in, and what is written down of it."""

from __future__ import annotations

import io
import json
import zlib
from pathlib import Path

import pytest
from commands import sil
from PIL import Image
from serve.conftest import QUERY, serving

from sil_cli.files import sha256_of_file
from sil_cli.gallery.people import open_people
from sil_cli.gallery.stores import open_gallery
from sil_cli.search.query_results import QueryResult
from sil_cli.serve.app import POLICY, without_paths


def log():
    return sil("gallery", "log", "--all", "--verify", "--json").document


def test_a_search_answers_as_the_command_does_and_is_logged_with_who_asked(served, world) -> None:
    answer = served.search({"top": 5, "camera": ["c1"], "purpose": "case 7"})
    found = QueryResult.model_validate_json(answer.text)
    words = ["query", QUERY, "--top", "5", "--camera", "c1", "--sheet", "none", "--json"]
    told = QueryResult.model_validate(sil(*words).document)
    assert [(one.id, one.decision) for one in found.matches] == [(one.id, one.decision) for one in told.matches]
    assert [one.score for one in found.matches] == pytest.approx([one.score for one in told.matches], abs=1e-5)
    assert found.verdict == told.verdict
    line = log()["lines"][-1]
    assert (line["event"], line["by"]) == ("search", "look")
    assert line["details"]["purpose"] == "case 7"
    assert line["details"]["searches"] == [
        {
            "images": [{"sha256": sha256_of_file(QUERY), "box": None}],
            "entries": [],
            "shown": [one.id for one in found.matches],
        }
    ]


def test_nothing_says_where_on_the_machine_anything_lies(served, world) -> None:
    answers = [
        served.search({"group": "camera", "top": 30}),
        served.search({"id": 1}, image=None),
        served.search(image=b"text"),
        served.get("/api/gallery"),
        served.get("/api/entries/1"),
        served.get("/api/administration/info"),
        served.get("/api/administration/log"),
        served.get("/api/people"),
    ]
    for answer in answers:
        assert str(world) not in answer.text
        assert str(world.parent) not in answer.text
        assert "../data" not in answer.text
    assert (
        without_paths("/home/ann/x.jpg can't be read: see /api/openapi.json")
        == "x.jpg can't be read: see /api/openapi.json"
    )


def test_who_has_no_token_gets_nothing_but_the_empty_page(served) -> None:
    for path in ("/api/gallery", "/api/entries/1", "/api/entries/1/image", "/api/openapi.json"):
        assert served.get(path, role=None).status_code == 401
    assert served.search(role=None).status_code == 401
    assert served.get("/", role=None).status_code == 200
    wrong = served.get("/api/gallery", role=None, headers={"authorization": "Bearer sil_wrong"})
    assert (wrong.status_code, wrong.json()["error"]["what"]) == (401, "This token lets nobody in.")


@pytest.mark.thorough
def test_tokens_are_guessed_a_few_times_and_not_more(served) -> None:
    codes = [served.get("/api/gallery", None, headers={"authorization": f"Bearer x{n}"}).status_code for n in range(14)]
    assert codes[:10] == [401] * 10
    assert set(codes[10:]) == {429}


def test_each_role_may_do_its_own_and_what_those_before_it_may(served) -> None:
    verdict = {"first": 1, "second": 2, "answer": "same"}
    doings = {
        "look": lambda role: served.search(role=role).status_code,
        "judge": lambda role: served.post("/api/verdicts", verdict, role=role).status_code,
        "administer": lambda role: served.get("/api/administration/log", role=role).status_code,
    }
    roles = list(doings)
    for needed, do in doings.items():
        for role in roles:
            expected = 403 if roles.index(role) < roles.index(needed) else do(role)
            assert do(role) == expected, (needed, role)
            assert (expected == 403) == (roles.index(role) < roles.index(needed))


@pytest.mark.thorough
def test_a_token_that_is_taken_back_lets_nobody_in_any_more_and_stands_nowhere(served) -> None:
    assert served.get("/api/gallery", "judge").status_code == 200
    assert sil("serve", "--revoke-token", "judge", "--set", "serve.tokens=tokens.json").code == 0
    assert served.get("/api/gallery", "judge").status_code == 401
    assert served.get("/api/gallery", "look").status_code == 200
    kept = "".join(
        path.read_bytes().decode("latin-1") for path in Path().rglob("*") if path.is_file() and "data" not in path.parts
    )
    assert not any(token in kept for token in served.tokens.values())
    assert Path("tokens.json").stat().st_mode & 0o777 == 0o600


ASKED_BY = [
    ({"host": "evil.example"}, 421),
    ({"host": "127.0.0.1.evil.example:8765"}, 421),
    ({"host": "127.0.0.1:1"}, 421),
    ({"host": ""}, 421),
    ({"origin": "http://evil.example"}, 403),
    ({"origin": "null"}, 403),
    ({"origin": "http://127.0.0.1:8765"}, 200),
    ({"host": "localhost:8765", "origin": "http://localhost:8765"}, 200),
    ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}, 403),
    ({"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"}, 403),
    ({"sec-fetch-site": "same-origin"}, 200),
]
"""Headers of a request, and what it is answered."""


def test_another_name_or_another_site_s_page_is_refused(served) -> None:
    for headers, status in ASKED_BY:
        assert served.get("/api/gallery", headers=headers).status_code == status, headers


@pytest.mark.thorough
def test_every_answer_forbids_to_keep_frame_or_load_it(served) -> None:
    for answer in (
        served.get("/"),
        served.get("/api/gallery"),
        served.get("/api/gallery", None),
        served.get("/nowhere"),
    ):
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
    for name in ("../__init__.py", "..%2fapp.py", "%2e%2e/app.py", "/etc/passwd", "nothing.js"):
        assert served.get(f"/web/{name}").status_code == 404


def test_the_page_loads_nothing_from_elsewhere() -> None:
    folder = Path(__file__).parents[2] / "sil_cli/serve/web"
    for path in folder.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text, path
        assert "https:" not in text, path
        assert "//" not in text.replace("// ", "").replace("//\n", "") or path.suffix == ".js", path
        assert "innerHTML" not in text, path


def bomb() -> bytes:
    """A PNG that claims 60,000 × 60,000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    head = (60_000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    pixels = zlib.compress(bytes(1_000_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


BAD = {
    "text": ({}, b"This is no picture.", 422, "not an image"),
    "nothing": ({}, b"", 422, "can't be used"),
    "a bomb": ({}, bomb(), 422, "60000"),
    "a box outside": ({"box": "900,900,40,40"}, QUERY, 422, "leaves less than"),
    "no box": ({"box": "a,b"}, QUERY, 400, "is not LEFT,TOP,WIDTH,HEIGHT"),
    "too many boxes": ({"box": ["1,1,20,20", "2,2,20,20"]}, QUERY, 400, "don't pair"),
    "a huge box": ({"box": "1,1,1e300,20"}, QUERY, 400, "is not LEFT"),
    "no image": ({}, None, 400, "No image was sent"),
    "no such entry": ({"id": 10**6}, None, 404, "There is no entry"),
    "a negative entry": ({"id": -1}, None, 404, "There is no entry"),
    "an entry beyond numbers": ({"id": 10**30}, None, 404, "There is no entry"),
    "no top": ({"top": 0}, QUERY, 422, "top: it must be at least 1"),
    "all": ({"top": 10**9}, QUERY, 422, "top: it must be at most"),
    "no time": ({"after": "<b>"}, QUERY, 422, "write a time"),
    "no group": ({"group": "people?"}, QUERY, 422, "group"),
    "no filter": ({"where": "a"}, QUERY, 400, "is not KEY=VALUE"),
    "no such key": ({"where": "a=b"}, QUERY, 409, "No entry of the gallery has metadata"),
}


def test_a_bad_request_is_told_in_two_lines_and_changes_nothing(served) -> None:
    for name, (data, image, status, said) in BAD.items():
        answer = served.search(data, image)
        assert answer.status_code == status, (name, answer.text)
        assert said in answer.json()["error"]["what"], name
        assert answer.json()["error"]["fix"], name
    assert [line["event"] for line in log()["lines"]] == []


@pytest.mark.thorough
def test_an_upload_that_is_too_large_is_refused(world) -> None:
    with serving(serve={"max_upload": 1.0}) as served:
        headers = {"content-type": "multipart/form-data; boundary=x"}
        answer = served.ask("POST", "/api/query", headers={**headers, "content-length": str(2**31)}, content=b"")
        assert answer.status_code == 413
        answer = served.search(image=bytes(2**20))
        assert answer.status_code == 413
        assert (
            served.post("/api/verdicts", {"first": 1, "second": 2, "answer": "same", "why": "x" * 200_000}).status_code
            == 413
        )
        assert served.search().status_code == 200


@pytest.mark.thorough
def test_who_searches_too_often_waits(world) -> None:
    with serving(serve={"rate": 3}) as served:
        codes = [served.search().status_code for _ in range(5)]
        assert codes == [200, 200, 200, 429, 429]
        assert served.search(role="judge").status_code == 200
        refused = served.search()
        assert 1 <= int(refused.headers["retry-after"]) <= 20


@pytest.mark.thorough
def test_where_a_purpose_is_asked_for_none_is_refused(served) -> None:
    sil("gallery", "policy", "--require-purpose", "--purpose", "hall 3")
    assert served.get("/api/gallery").json()["require_purpose"]
    refused = served.search()
    assert (refused.status_code, "requires a purpose for every search" in refused.json()["error"]["what"]) == (
        400,
        True,
    )
    assert served.search({"purpose": "case 7"}).status_code == 200


@pytest.mark.thorough
def test_an_image_is_its_entry_s_box_and_nothing_else(served) -> None:
    answer = served.get("/api/entries/1/image?size=whole")
    assert answer.headers["content-type"] == "image/jpeg"
    entry = open_gallery("gallery").entries([1])[1]
    with Image.open(entry.file(Path("gallery"))) as own, Image.open(io.BytesIO(answer.content)) as shown:
        assert shown.size == own.size
        assert not shown.getexif()
    for path in (
        "0/image",
        "999/image",
        "-1/image",
        "1e9/image",
        "../../etc/passwd",
        f"{10**30}/image",
        "1/image?size=huge",
    ):
        assert served.get(f"/api/entries/{path}").status_code in (404, 422), path


@pytest.mark.thorough
def test_people_nobody_asked_for_are_blurred_on_the_server(world) -> None:
    def colours(content: bytes) -> int:
        return len(Image.open(io.BytesIO(content)).convert("RGB").quantize(64).getcolors())

    with serving(query={"blur": True}) as served:
        assert served.get("/api/gallery").json()["blur"]
        blurred = served.get("/api/entries/1/image").content
        found = served.search({"id": 1, "min_score": 0.99}, image=None, role="administer").json()["matches"]
        assert found == [] or found[0]["decision"] == "match"
    with serving() as served:
        assert colours(blurred) < colours(served.get("/api/entries/1/image").content)


def test_a_verdict_that_was_answered_is_kept_with_who_gave_it_and_can_be_taken_back(served) -> None:
    text = "<script>alert(1)</script>\n" * 10
    given = served.post("/api/verdicts", {"first": 2, "second": 1, "answer": "same", "why": text}, role="judge")
    assert given.status_code == 201
    with open_people(Path("gallery"), write=False) as people:
        (kept,) = people.standing()
    assert (kept.by, kept.why, kept.answer, kept.origin) == ("judge", text, "same", "page")
    assert len(served.get("/api/verdicts?id=1&id=2").json()["verdicts"]) == 1
    served.post("/api/verdicts", {"first": 1, "second": 2, "answer": "withdrawn"}, role="judge")
    assert served.get("/api/verdicts?id=1&id=2").json()["verdicts"] == []
    assert [line["event"] for line in log()["lines"]] == ["verdict", "verdict"]


@pytest.mark.thorough
def test_a_verdict_on_an_entry_that_was_just_removed_is_told(served) -> None:
    assert served.get("/api/entries/3").status_code == 200
    assert sil("gallery", "remove", "--id", "3", "--yes").code == 0
    answer = served.post("/api/verdicts", {"first": 3, "second": 1, "answer": "same"})
    assert (answer.status_code, answer.json()["error"]["what"]) == (404, "There is no entry 3.")
    assert served.get("/api/entries/3/image").status_code == 404
    assert 3 not in [each["id"] for each in served.search({"top": 40}).json()["matches"]]
    assert served.post("/api/administration/remove", {"ids": [4]}).json()["removed"] == 1
    assert served.post("/api/administration/remove", {"ids": [4]}).status_code == 404
    assert log()["ok"]


@pytest.mark.thorough
def test_compacting_beside_a_server_leaves_no_trace(served) -> None:
    served.search()
    sil("gallery", "remove", "--id", "3", "--yes")
    assert sil("gallery", "compact", "--json").document["complete"]


@pytest.mark.thorough
def test_a_gallery_that_is_rebuilt_and_indexed_meanwhile_is_searched_on(served) -> None:
    before = [each["id"] for each in served.search().json()["matches"]]
    assert sil("gallery", "rebuild", "--model", "gallery/model").code == 0
    assert [each["id"] for each in served.search().json()["matches"]] == before
    assert sil("index-gallery", "data/harbour", "--model", "gallery/model").code == 0
    assert served.get("/api/gallery").json()["entries"] == len(open_gallery("gallery"))
    assert log()["ok"]
    assert log()["total"] == 2


def test_a_person_is_named_merged_and_split_and_what_is_gone_is_told(served) -> None:
    name = "<script>alert('x')</script>"
    first = served.post("/api/people", {"entries": [1, 2], "name": name}, role="judge").json()
    second = served.post("/api/people", {"entries": [3, 4], "name": "Ben"}, role="judge").json()
    assert first["person"]["name"] == name
    assert first["person"]["entries"] == 2
    ids = [each["person"]["id"] for each in (first, second)]
    merged = served.post(f"/api/people/{ids[0]}/merge", {"others": [ids[1]]}, role="judge")
    assert (merged.json()["person"]["id"], merged.json()["person"]["entries"]) == (ids[0], 4)
    again = served.post(f"/api/people/{ids[0]}/merge", {"others": [ids[1]]}, role="judge")  # another browser
    assert (again.status_code, "There is no person" in again.json()["error"]["what"]) == (404, True)
    split = served.post(f"/api/people/{ids[0]}/split", {"entries": [3]}, role="judge").json()
    assert [each["id"] for each in split["entries"] if each["state"] == "confirmed"] == [3]
    assert served.post(f"/api/people/{ids[0]}/name", {"name": "x" * 300}, role="judge").status_code == 400
    assert served.post(f"/api/people/{ids[0]}/name", {"name": "Ann"}, role="judge").json()["person"]["name"] == "Ann"
    assert {each["name"] for each in served.get("/api/people").json()["people"]} == {"Ann", None}
    assert served.post("/api/people", {"entries": [1], "name": " "}, role="judge").status_code == 400
    assert served.post("/api/people", {"entries": [99], "name": "Eve"}, role="judge").status_code == 404
    assert served.get("/api/people/999").status_code == 404


def test_openapi_names_the_very_documents_that_json_prints(served) -> None:
    document = served.get("/api/openapi.json").json()
    assert {"QueryResult", "Match", "GalleryInfo", "LogResult", "PersonSummary"} <= set(
        document["components"]["schemas"]
    )
    assert "/api/query" in document["paths"]
    json.dumps(document)
