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


def named_by(page, name: str, entries: list[int]) -> int:
    """Give entries a name, as another browser might."""
    given = {"name": name, "entries": entries}
    script = """async (given) => (await fetch("/api/people", { method: "POST", body: JSON.stringify(given),
        headers: { "content-type": "application/json" } })).json()"""
    return page.evaluate(script, given)["person"]["id"]


def card_of(page, person: int):
    return page.locator(f"#people [data-person='{person}']")


def by_tab(page, selector: str) -> None:
    """Go on with the Tab key until something has the focus, and a ring shows it, as who has no mouse does."""
    outline = "(({ outlineStyle, outlineWidth }) => [outlineStyle, parseFloat(outlineWidth)])"
    for _ in range(300):
        page.keyboard.press("Tab")
        if page.evaluate("(selector) => document.activeElement?.matches(selector) ?? false", selector):
            style, width = page.evaluate(f"{outline}(getComputedStyle(document.activeElement))")
            assert style != "none", selector
            assert width >= 2, selector
            return
    pytest.fail(f"no Tab leads to {selector}")


def test_from_a_dropped_picture_to_a_named_person_who_is_merged_split_and_followed(page, address, world) -> None:
    """The whole story, by keys alone once the picture is there."""
    search(page, address, world)
    cards = page.locator("#matches .card")
    ids = [int(card.get_attribute("data-id")) for card in cards.all()]
    by_tab(page, "#matches .card")
    page.keyboard.press("s")
    until(page, "document.querySelector('#status').textContent.includes('reference')")
    badge = "(card) => getComputedStyle(card.querySelector('b'), '::after').content"
    assert "reference" in cards.nth(0).evaluate(badge)
    for key in ("s", "d"):
        page.keyboard.press("ArrowRight")
        page.keyboard.press(key)
        until(page, "document.querySelector('#status').textContent.includes('Kept')")
        page.evaluate("document.querySelector('#status').textContent = ''")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.dataset.id") == str(ids[1])
    page.focus("#name-input")
    page.keyboard.type("Ann of the story")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#name-facts').textContent.includes('has 2 entries now')")
    other = named_by(page, "Ben of the story", [ids[5], ids[6]])
    page.focus("#nav-people")
    page.keyboard.press("Enter")
    page.wait_for_selector("#people .card img[src]")
    (ann,) = [each["id"] for each in ask(page, "/api/people")["people"] if each["name"] == "Ann of the story"]

    by_tab(page, f"[data-person='{ann}'] input[name=merge]")
    page.keyboard.press("Space")
    page.focus(f"[data-person='{other}'] input[name=merge]")
    page.keyboard.press("Space")
    page.focus("#merge")
    assert page.locator("#merge").text_content() == "Merge 2 people into one"
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#people-status').textContent.startsWith('Merged')")
    (left,) = [each for each in ask(page, "/api/people")["people"] if each["id"] in (ann, other)]
    assert left["entries"] == 4
    assert page.evaluate("document.activeElement.tagName") == "H3"  # focus isn't lost with what was drawn anew

    card = card_of(page, left["id"])
    card.get_by_role("button", name="Show entries").press("Enter")
    page.wait_for_selector(f"[data-person='{left['id']}'] [data-entry='{ids[5]}']")
    for one in (ids[5], ids[6]):
        card.locator(f"[data-entry='{one}']").press("Enter")
    card.locator("[data-split]").press("Enter")
    until(page, "document.querySelector('#people-status').textContent.startsWith('Split')")
    assert ask(page, f"/api/people/{left['id']}")["person"]["entries"] == 2
    page.wait_for_selector(f"[data-person='{left['id']}'] a")
    card_of(page, left["id"]).get_by_role("link", name="Path over cameras").press("Enter")
    page.wait_for_selector("#timeline svg .visit-match, #timeline svg .visit-possible, #timeline svg .visit-other")
    rows = page.locator("#timeline-table tbody tr")
    assert rows.count() == len(page.locator("#timeline svg rect").all())
    assert page.locator("#path").is_checked()


def test_two_browsers_that_merge_the_same_people_are_told_who_was_second(chromium, page, address) -> None:
    page.goto(f"{address}/?view=people")
    people = [named_by(page, f"{name} of two browsers", [entry]) for name, entry in (("Cy", 27), ("Dee", 28))]
    browsers = [page, chromium.new_page(viewport=SIZES["phone"])]
    for one in browsers:
        one.goto(f"{address}/?view=people")
        for person in people:
            one.locator(f"[data-person='{person}'] input[name=merge]").check()
    for one in browsers:
        one.click("#merge")
        until(one, "/^Merged|no person/.test(document.querySelector('#people-status').textContent)")
    until(page, "document.querySelector('#people-status').textContent.startsWith('Merged')")
    until(browsers[1], "document.querySelector('#people-status').textContent.includes('There is no person')")
    assert browsers[1].evaluate("document.activeElement.id") == "people-status"
    for one in browsers:  # both see the same people afterwards
        assert one.locator(f"[data-person='{people[0]}']").count() == 1
        assert one.locator(f"[data-person='{people[1]}']").count() == 0
    browsers[1].close()


def test_names_are_text_whatever_they_say_and_no_name_is_too_long(chromium, page, address) -> None:
    page.goto(address)
    script = "<script>document.title = 'taken'</script><img src=x onerror=alert(1)>"
    long = "A name of many words and Onewordthatislongerthanthewindowiswideandhasnobreakinit"
    people = [named_by(page, name, [entry]) for name, entry in ((script, 29), (long, 30))]
    for size in SIZES:
        one = chromium.new_page(viewport=SIZES[size])
        one.on("dialog", lambda dialog: pytest.fail(dialog.message))
        one.goto(f"{address}/?view=people")
        one.wait_for_selector(f"[data-person='{people[1]}']")
        card_of(one, people[1]).scroll_into_view_if_needed()
        one.wait_for_selector(f"[data-person='{people[1]}'] img[src]")
        assert card_of(one, people[0]).locator("h3").text_content() == script
        assert one.evaluate("document.documentElement.scrollWidth <= innerWidth"), size
        assert one.locator("#people script, #people img[src=x]").count() == 0
        assert one.title() != "taken"
        one.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", list(SIZES))
def test_what_eyes_keys_and_screen_readers_need_is_there(chromium, address, world, size, scheme) -> None:
    """By hand what axe looks for as well; at every stage of the page."""
    checks = (Path(__file__).parent / "checks.js").read_text(encoding="utf-8")
    page = chromium.new_page(viewport=SIZES[size], color_scheme=scheme, reduced_motion="reduce")
    found = {}

    def look(stage: str) -> None:
        wrong = page.evaluate(checks)
        if AXE is not None:
            page.evaluate(Path(AXE).read_text(encoding="utf-8"))
            violations = page.evaluate("axe.run()")["violations"]
            wrong += [(each["id"], [node["html"] for node in each["nodes"]]) for each in violations]
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            wrong.append("wider than the window")
        if wrong:
            found[stage] = wrong

    page.goto(address)
    page.wait_for_selector("#cameras input")
    look("start")
    search(page, address, world)
    page.locator("#matches .card").first.focus()
    page.keyboard.press("d")
    page.keyboard.press("ArrowRight")
    look("matches")
    page.check("#path")
    page.click("button.main")
    page.wait_for_selector("#timeline svg")
    page.click("#box-fields summary")
    look("path")
    page.locator("#matches .open").first.click()
    page.wait_for_selector("#larger[open] img[src]")
    look("larger")
    page.keyboard.press("Escape")
    named_by(page, "Eve of all sizes", [26])
    page.click("#nav-people")
    page.wait_for_selector("#people .card img[src]")
    page.get_by_role("button", name="Show entries").first.click()
    page.wait_for_selector(".strip button")
    look("people")
    page.close()
    assert found == {}
