"""The page in a real Chromium: from dropping a picture to a person, with the mouse and with keys alone."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import threading
from pathlib import Path

import pytest
from commands import start_sil
from pins.making import copy_of_fixtures

CHROMIUM = Path("/usr/bin/chromium")
AXE = os.environ.get("AXE_CORE")  # where axe.min.js of npm's axe-core lies
QUERY = "data/orchard/images/query/0005_c1_01.jpg"
SIZES = {"phone": {"width": 390, "height": 844}, "desk": {"width": 1600, "height": 1000}}

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no /usr/bin/chromium"),
    pytest.mark.filterwarnings("default"),
]


@contextlib.contextmanager
def server(folder: Path, *options: object):
    """Serve the gallery of a folder in a process of its own, and say where."""
    with start_sil("serve", "--port", 0, *options, cwd=folder) as process:
        said, address = [], None
        while address is None and (line := process.stderr.readline()):
            said.append(line)
            address = re.search(r"http://\S+", line)
        assert address is not None, "".join(said)
        rest = threading.Thread(target=process.stderr.read)
        rest.start()
        try:
            yield address[0]
        finally:
            process.send_signal(signal.SIGTERM)
            rest.join(30)
    assert process.returncode == 0


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = copy_of_fixtures(tmp_path_factory.mktemp("page") / "world")
    path = folder / "gallery/model/calibration.json"  # its own finds next to nothing
    path.write_text(json.dumps(json.loads(path.read_text()) | {"match": 0.3, "possible": 0.0}))
    return folder


@pytest.fixture(scope="module")
def address(world):
    with server(world) as one:
        yield one


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium, address):
    one = chromium.new_page(viewport=SIZES["desk"])
    said = []
    one.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    one.on("pageerror", lambda error: said.append(str(error)))
    one.on(
        "request", lambda request: said.append(request.url) if not request.url.startswith((address, "blob:")) else None
    )
    yield one
    one.close()
    assert said == []


def drop(page, file: Path) -> None:
    """Drop a file onto the page, as from a folder."""
    content = list(file.read_bytes())
    page.evaluate(
        """(content) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(content)], "person.jpg", { type: "image/jpeg" }));
            const drop = document.getElementById("drop");
            for (const name of ["dragenter", "dragover", "drop"]) {
                drop.dispatchEvent(new DragEvent(name, { dataTransfer: data, bubbles: true, cancelable: true }));
            }
        }""",
        content,
    )


def until(page, condition: str) -> None:
    """Wait until something is true in the page, whose policy lets Playwright's own waiting evaluate nothing."""
    for _ in range(600):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"it never was: {condition}; status: {page.locator('#status').text_content()}")


def search(page, address: str, world: Path) -> None:
    page.goto(address)
    page.wait_for_selector("#cameras input")
    drop(page, world / QUERY)
    page.click("button.main")
    page.wait_for_selector("#matches .card img[src]")


def ask(page, path: str):
    return page.evaluate("async (path) => (await fetch(path)).json()", path)


def test_a_dropped_picture_is_searched_and_judged_by_mouse_and_keys(page, address, world) -> None:
    search(page, address, world)
    cards = page.locator("#matches .card")
    ids = [int(card.get_attribute("data-id")) for card in cards.all()]
    assert len(ids) == 20
    cards.nth(1).get_by_role("button", name="Different").click()
    assert "as soon as" in page.locator("#status").text_content()
    cards.nth(0).focus()
    page.keyboard.press("s")
    until(page, "document.querySelector('#status').textContent.includes('reference')")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("u")
    until(page, "document.querySelector('#status').textContent.includes('Kept')")
    kept = ask(page, "/api/verdicts?" + "&".join(f"id={one}" for one in ids))["verdicts"]
    said = {tuple(sorted((each["first"], each["second"]))): each["answer"] for each in kept}
    assert said == {tuple(sorted((ids[0], ids[1]))): "different", tuple(sorted((ids[0], ids[2]))): "unsure"}
    cards.nth(2).locator("[data-answer=unsure]").click()  # once more takes it back
    until(page, "document.querySelector('#status').textContent.includes('Taken back')")


def test_a_box_is_drawn_with_the_mouse_and_sent_in_pixels(page, address, world) -> None:
    page.goto(address)
    page.wait_for_selector("#cameras input")
    drop(page, world / QUERY)
    until(page, "document.getElementById('picture').naturalWidth > 0")
    place = page.locator("#picture").bounding_box()
    page.mouse.move(place["x"] + 2, place["y"] + 4)
    page.mouse.down()
    page.mouse.move(place["x"] + place["width"] - 3, place["y"] + place["height"] - 6, steps=4)
    page.mouse.up()
    box = [int(page.input_value(f"#box-{name}")) for name in ("left", "top", "width", "height")]
    assert box[2] > 8
    assert box[3] > 8
    page.click("button.main")
    page.wait_for_selector("#matches .card")
    last = json.loads((world / "gallery/access.jsonl").read_text().splitlines()[-1])
    assert last["details"]["searches"][0]["images"][0]["box"] == box


def test_filters_stand_in_the_address_which_shows_the_same_view_elsewhere(page, chromium, address, world) -> None:
    search(page, address, world)
    page.locator("#matches .card").first.get_by_role("link", name="Neighbours").click()
    page.wait_for_selector("#from-entry:not([hidden])")
    page.check("#cameras input[value=c1]")
    page.check("#path")
    page.fill("#top", "7")
    page.click("button.main")
    until(page, "document.querySelectorAll('#matches .card').length === 7")
    page.wait_for_selector("#timeline svg .visit-match")
    other = chromium.new_page(viewport=SIZES["phone"])
    other.goto(page.url)
    other.wait_for_selector("#timeline svg .visit-match")
    there = [[card.get_attribute("data-id") for card in one.locator("#matches .card").all()] for one in (page, other)]
    assert there[0] == there[1]
    assert other.locator("#cameras input[value=c1]").is_checked()
    other.close()
    page.go_back()
    until(page, "document.querySelectorAll('#matches .card').length === 20")


@pytest.mark.parametrize(("size", "scheme"), [("phone", "light"), ("desk", "dark")])
def test_it_fits_its_window_and_axe_finds_nothing_serious(chromium, address, world, size, scheme) -> None:
    page = chromium.new_page(viewport=SIZES[size], color_scheme=scheme)
    search(page, address, world)
    page.check("#path")
    page.click("button.main")
    page.wait_for_selector("#timeline svg")
    page.click("#box-fields summary")
    for is_larger in (False, True):
        if is_larger:
            page.locator("#matches .open").first.click()
            page.wait_for_selector("#larger[open] img[src]")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        if AXE is not None:
            page.evaluate(Path(AXE).read_text(encoding="utf-8"))
            found = page.evaluate("axe.run()")["violations"]
            assert [(each["id"], each["impact"], [node["html"] for node in each["nodes"]]) for each in found] == []
    page.close()


def test_a_token_is_asked_for_and_kept_out_of_the_address(chromium, world, tmp_path) -> None:
    tokens = tmp_path / "tokens.json"
    made = start_sil("serve", "--add-token", "ann", "--json", "--set", f"serve.tokens={tokens}", cwd=world)
    token = json.loads(made.communicate()[0])["token"]
    with server(world, "--set", f"serve.tokens={tokens}") as address:
        page = chromium.new_page()
        page.goto(address)
        page.wait_for_selector("#login[open]")
        page.fill("#token", "wrong")
        page.click("#login button")
        until(page, "document.getElementById('login-error').textContent.includes('lets nobody in')")
        page.fill("#token", token)
        page.click("#login button")
        until(page, "document.getElementById('gallery-facts').textContent.includes('ann (look)')")
        assert token not in page.url
        page.set_input_files("#file", world / QUERY)
        page.click("button.main")
        page.wait_for_selector("#matches .card img[src]")
        assert page.locator("[data-answer]").count() == 0  # who may look judges nothing
        page.close()
