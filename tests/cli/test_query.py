"""`sil query`: fused pictures, boxes, entries, thresholds, groups, paths, pages and batches."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from commands import piped, sil, start_sil
from PIL import Image

from sil_cli.gallery.local.store import LocalStore
from sil_cli.gallery.stores import open_gallery


@pytest.fixture
def here(world, tmp_path, monkeypatch) -> Path:
    """Work beside the world's gallery, of which this is a copy; its data are linked."""
    shutil.copytree(world / "gallery", tmp_path / "gallery")
    (tmp_path / "data").symlink_to(world / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def pictures(here) -> list[Path]:
    """The queries of the network that was left out."""
    with open_gallery(Path("gallery")) as gallery:
        source = Path("gallery") / next(iter(gallery.entries([1]).values())).source
    return sorted(Path(os.path.normpath(source)).joinpath("images/query").glob("*.jpg"))


def ask(*arguments: object) -> dict:
    outcome = sil("query", *arguments, "--json")
    assert outcome.code == 0, outcome.err
    return outcome.document


def refuse(code: int, *words: str, arguments: tuple[object, ...]) -> None:
    outcome = sil("query", *arguments)
    assert outcome.code == code, outcome.err
    for word in words:
        assert word in outcome.error
    assert "Traceback" not in outcome.err
    assert not Path("matches.jpg").exists()


def calibrate(match: float, possible: float, **other: object) -> None:
    model = Path("gallery/model")
    facts = {
        "fingerprint": json.loads((model / "model.json").read_text())["fingerprint"],
        "made_on": "people of two networks",
        "same_pairs": 5,
        "different_pairs": 50,
        "thresholds": {"1e-1": possible},
        "match": match,
        "possible": possible,
    }
    (model / "calibration.json").write_text(json.dumps(facts | other))


def scores(document: dict) -> dict[int, float]:
    return {match["id"]: match["score"] for match in document["matches"]}


class TestWhatIsSearchedFor:
    def test_fusing_searches_by_the_mean_direction(self, pictures) -> None:
        several = ask(*pictures[:3], "--fuse", "--top", 999)
        assert several["fused"] == 3
        alone = [scores(ask(picture, "--top", 999)) for picture in pictures[:3]]
        # The score of a mean is the mean of the scores up to one factor, the length of the mean.
        factors = [several_score / np.mean([one[at] for one in alone]) for at, several_score in scores(several).items()]
        assert np.ptp(factors) < 1e-4
        assert min(factors) >= 1

    def test_without_fusing_each_is_its_own(self, pictures) -> None:
        document = ask(*pictures[:2])
        assert [each["fused"] for each in document["queries"]] == [1, 1]

    def test_fusing_one_image_says_that_there_is_nothing_to_fuse(self, pictures) -> None:
        outcome = sil("query", pictures[0], "--fuse", "--json")
        assert outcome.code == 0
        assert "only one image: nothing to fuse" in outcome.error
        assert scores(outcome.document) == scores(ask(pictures[0]))

    def test_a_box_in_a_larger_image_is_the_person_in_it(self, pictures) -> None:
        with Image.open(pictures[0]) as one, Image.open(pictures[1]) as other:
            frame = Image.new("RGB", (200, 120), "grey")
            frame.paste(one, (30, 20))
            frame.paste(other, (100, 10))
            boxes = [f"30,20,{one.width},{one.height}", f"100,10,{other.width},{other.height}"]
        frame.save("frame.png")
        document = ask("frame.png", "--box", boxes[0])
        assert scores(document) == scores(ask(pictures[0]))
        assert document["query"] == f"frame.png [{boxes[0]}]"
        both = ask("frame.png", "--box", boxes[0], "--box", boxes[1])["queries"]
        for each, picture in zip(both, pictures, strict=False):
            assert scores(each) == pytest.approx(scores(ask(picture)), abs=1e-5)
        assert ask("frame.png", "--box", boxes[0], "--box", boxes[1], "--fuse")["fused"] == 2

    def test_an_entry_is_searched_for_by_its_own_vector_without_the_model(self, here) -> None:
        with open_gallery(Path("gallery")) as gallery:
            (expected,) = gallery.search(gallery.vectors([3]), 5)
        shutil.rmtree("gallery/model")
        document = ask("--id", 3, "--top", 4)
        assert [match["id"] for match in document["matches"]] == [match.id for match in expected[1:]]
        assert expected[0].id == 3

    def test_the_very_file_can_be_left_out(self, here) -> None:
        with open_gallery(Path("gallery")) as gallery:
            entry = gallery.entries([2])[2]
        inside = Path("gallery") / entry.source / entry.path
        assert ask(inside)["matches"][0]["id"] == 2
        assert 2 not in scores(ask(inside, "--exclude-self", "--top", 999))

    def test_boxes_and_copies_of_a_file_are_left_out_with_it(self, here) -> None:
        data = sorted(Path("data").glob("*/images/gallery/*.jpg"))
        one, other = (Path(name) for name in ("more/one.jpg", "more/other.jpg"))
        one.parent.mkdir()
        for name, content in ((one, data[0]), (other, data[0]), (Path("more/third.jpg"), data[1])):
            shutil.copyfile(content, name)
        boxes = ("more/one.jpg;0,0,20,40", "more/one.jpg;0,0,20,30", "more/third.jpg;0,0,20,40")
        Path("boxes.csv").write_text("\n".join(["path;box", *boxes, ""]))
        run = Path("gallery/model")
        for source in ("more", "boxes.csv"):
            outcome = sil("index-gallery", source, "--gallery", "mixed", "--model", run)
            assert outcome.code == 0, outcome.err
        where = ("--gallery", "mixed", "--top", 999)
        with open_gallery(Path("mixed")) as gallery:
            entries = gallery.entries(gallery.ids().tolist())
        rest = {number for number, entry in entries.items() if Path(entry.path).name == "third.jpg"}
        assert (len(entries), len(rest)) == (6, 2)
        for query in ([one], [one, "--box", "0,0,20,30"], ["--id", min(set(entries) - rest)]):
            assert set(scores(ask(*query, "--exclude-self", *where))) == rest


class TestDecisions:
    def test_without_a_calibration_nothing_is_decided(self, pictures) -> None:
        document = ask(pictures[0])
        assert document["decision"] is None
        assert document["verdict"].startswith(
            "No decision: the gallery is too small to tell what comes up by chance, and its model is not"
        )
        Path("matches.jpg").unlink()
        refuse(2, "--all needs a threshold", "--min-score", arguments=(pictures[0], "--all"))

    def test_scores_are_judged_by_the_gallerys_own_thresholds(self, pictures) -> None:
        every = list(scores(ask(pictures[0], "--top", 999)).values())
        match, possible = every[1], every[4]
        calibrate(match, possible)
        document = ask(pictures[0], "--top", 6)
        assert [one["decision"] for one in document["matches"]] == ["match"] * 2 + ["possible"] * 3 + ["no match"]
        assert document["decision"] == "match"
        assert document["verdict"] == f"Match: 2 of 6 listed have a score of {match:.3f} or more."
        assert document["thresholds"] == {"match": match, "possible": possible, "made_on": "people of two networks"}
        assert list(scores(ask(pictures[0], "--all")).values()) == every[:5]
        assert list(scores(ask(pictures[0], "--min-score", every[2])).values()) == every[:3]
        assert list(scores(ask(pictures[0], "--min-score", every[11], "--all")).values()) == every[:12]
        calibrate(1.0, every[0] - 0.001)
        assert ask(pictures[0])["verdict"].startswith("Possible: the best score")
        calibrate(1.0, 1.0)
        document = ask(pictures[0], "--all")
        assert (document["decision"], document["matches"]) == ("no match", [])
        assert "no match" in sil("query", pictures[0]).out

    def test_the_highest_score_decides_wherever_reranking_puts_it(self, pictures) -> None:
        for picture in pictures:
            every = list(scores(ask(picture, "--rerank", "--top", 5)).values())
            if every[0] < max(every):
                break
        else:
            pytest.fail("re-ranking moves no best match")
        *_, second, best = sorted(every)
        calibrate((second + best) / 2, min(every) - 0.1)  # the engine of many queries may round otherwise
        document = ask(picture, "--rerank", "--top", 5)
        assert document["decision"] == "match"
        assert document["verdict"].startswith("Match: 1 of 5 listed")
        Path("names.txt").write_text(f"{picture}\n")
        line = json.loads(sil("query", "--batch", "names.txt", "--rerank", "--top", 5).out)
        assert line["decision"] == "match"
        calibrate(1.0, min(every) - 0.1)
        assert f"the best score, {max(every):.3f}, lies" in ask(picture, "--rerank", "--top", 5)["verdict"]

    def test_thresholds_of_another_model_are_refused(self, pictures) -> None:
        calibrate(0.5, 0.4, fingerprint="0" * 64)
        refuse(1, "was measured on model 000000000000", "sil calibrate", arguments=(pictures[0],))

    def test_damaged_thresholds_are_refused(self, pictures) -> None:
        Path("gallery/model/calibration.json").write_text("{")
        refuse(1, "calibration.json can't be read", arguments=(pictures[0],))


class TestGroups:
    def test_the_best_of_each_identity(self, pictures) -> None:
        every = ask(pictures[0], "--top", 999)["matches"]
        best: dict[str, dict] = {}
        for match in every:
            best.setdefault(match["identity"], match)
        document = ask(pictures[0], "--group", "identity", "--top", 3)
        assert [group["identity"] for group in document["groups"]] == list(best)[:3]
        assert [group["best"] for group in document["groups"]] == [match["id"] for match in best.values()][:3]
        out = sil("query", pictures[0], "--group", "identity").out
        assert "entries" in out

    def test_the_path_through_the_network(self, pictures) -> None:
        document = ask(pictures[0], "--group", "camera", "--top", 999, "--gap", 5)
        trail = document["trail"]
        assert sorted(one for each in trail for one in each["ids"]) == sorted(scores(document))
        starts = [each["start"] for each in trail]
        assert starts == sorted(starts)
        of_id = {match["id"]: match for match in document["matches"]}
        for each in trail:
            assert {of_id[one]["camera"] for one in each["ids"]} == {each["camera"]}
        out = sil("query", pictures[0], "--group", "camera", "--timezone", "Asia/Tokyo").out
        assert "Path through the network" in out

    def test_only_what_may_be_the_person_is_on_the_path(self, pictures) -> None:
        every = list(scores(ask(pictures[0])).values())
        calibrate(every[0], every[2])
        trail = ask(pictures[0], "--group", "camera")["trail"]
        assert sum(len(each["ids"]) for each in trail) == 3


class TestPage:
    def test_a_page_stands_on_its_own(self, pictures) -> None:
        document = ask(*pictures[:2], "--fuse", "--group", "camera", "--html", "page.html")
        assert Path(document["html"]).name == "page.html"
        page = Path("page.html").read_text()
        assert set(re.findall(r'(?:src|href)="(data:image/(?:jpeg|png));', page)) == {
            "data:image/jpeg",
            "data:image/png",
        }
        assert not re.search(r'(?:src|href)="(?!data:)', page)
        assert "<script" not in page
        assert "default-src 'none'" in page

    def test_names_cannot_become_markup(self, here, pictures) -> None:
        name = "<img src=x onerror=alert(1)>.jpg"
        shutil.copy(pictures[0], name)
        ask(name, "--html", "page.html")
        page = Path("page.html").read_text()
        assert "<img src=x" not in page
        assert "&lt;img src=x onerror=alert(1)&gt;.jpg" in page


class TestNamesOfStrangers:
    """What a terminal obeys, in names."""

    NAME = "a\x1b[31m\nb[bold]\u202e:tv:\x9b.jpg"
    SHOWN = r"a\x1b[31m\nb[bold]\u202e:tv:\x9b.jpg"

    def test_are_shown_harmlessly_and_told_truly(self, pictures, here) -> None:
        crops = here / "crops"
        crops.mkdir()
        shutil.copyfile(pictures[0], crops / self.NAME)
        (crops / f"bad{self.NAME}").write_text("no picture")
        model = ("--model", "gallery/model", "--gallery", "new")
        told = sil("index-gallery", crops, *model)
        assert told.code == 0, told.err
        assert f"Not indexed: bad{self.SHOWN} (not an image)" in told.err
        shown = sil("query", crops / self.NAME, "--gallery", "new", "--group", "identity", "--html", "p.html")
        assert shown.code == 0, shown.err
        (row,) = [line for line in shown.out.splitlines() if "1.0000" in line]
        assert row.rstrip().endswith(self.SHOWN)
        refused = sil("query", crops / f"bad{self.NAME}", "--gallery", "new")
        assert f"bad{self.SHOWN} can't be used as a query" in refused.err
        for outcome in (told, shown, refused):
            assert not set("\x1b\x9b\u202e") & set(outcome.out + outcome.err)
        document = ask(crops / self.NAME, "--gallery", "new")
        assert document["matches"][0]["path"] == self.NAME

    def test_that_are_not_utf8_are_shown(self, pictures, here) -> None:
        name = os.fsdecode(b"a\xff.jpg")
        shutil.copyfile(pictures[0], name)
        with start_sil("query", name, cwd=here) as asked:
            out, err = asked.communicate(timeout=60)
        assert asked.returncode == 0, err
        assert r"a\udcff.jpg" in out


class TestBatch:
    def lines(self, text: str) -> list[dict]:
        return [json.loads(line) for line in text.splitlines()]

    def test_one_line_a_query_in_the_order_of_the_input(self, pictures) -> None:
        Path("bad.jpg").write_text("no picture")
        names = [pictures[3], "bad.jpg", pictures[0], "missing.jpg", pictures[3]]
        Path("names.txt").write_text("\n".join(map(str, names)) + "\n")
        same = ("--top", 3, "--engine", "onnxruntime")  # another precision is chosen for a batch than for few images
        outcome = sil("query", "--batch", "names.txt", *same, "--set", "gallery.batch=2")
        assert outcome.code == 0
        lines = self.lines(outcome.out)
        assert [line["image"].split("/")[-1] for line in lines] == [Path(name).name for name in names]
        assert [line["error"] for line in lines] == [
            None,
            "not an image",
            None,
            "No such file or directory",
            None,
        ]
        for line, picture in zip(lines, names, strict=True):
            if line["error"] is None:
                single = ask(picture, *same)["matches"]
                assert [match["id"] for match in line["matches"]] == [match["id"] for match in single]
                for one, other in zip(line["matches"], single, strict=True):
                    assert one["score"] == pytest.approx(other["score"], abs=1e-5)
        assert "2 of 5 images could not be used" in outcome.error

    def test_a_data_set_gives_its_queries_and_their_identities(self, pictures) -> None:
        outcome = sil("query", "--batch", pictures[0].parents[2], "--out", "found.jsonl", "--json")
        assert outcome.document["queries"] == len(pictures)
        lines = self.lines(Path("found.jsonl").read_text())
        assert [Path(line["image"]).name for line in lines] == [picture.name for picture in pictures]
        assert {line["identity"] for line in lines} == {picture.name.split("_")[0] for picture in pictures}

    def test_paths_on_stdin_and_boxes_in_a_table(self, pictures) -> None:
        outcome = piped(f"{pictures[0]}\0{pictures[1]}".encode() + b"\0\xff\0", "query", "--batch", "-", "--top", 1)
        lines = self.lines(outcome.out)
        assert [line["error"] for line in lines] == [None, None, "a name that is not UTF-8"]
        shutil.copy(pictures[0], "frame.jpg")
        Path("boxes.csv").write_text('path,box\nframe.jpg,"0,0,16,40"\nframe.jpg,"900,0,16,40"\nframe.jpg,x\n')
        lines = self.lines(sil("query", "--batch", "boxes.csv", "--top", 1).out)
        assert [line["box"] for line in lines] == [[0, 0, 16, 40], [900, 0, 16, 40], None]
        assert "leaves less than" in lines[1]["error"]
        assert "is not left,top,width,height" in lines[2]["error"]

    def test_a_slow_stream_is_answered_as_it_comes(self, pictures, here) -> None:
        process = start_sil("query", "--batch", "-", "--top", 1, cwd=here, stdin=subprocess.PIPE)
        process.stdin.write(f"{pictures[0]}\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["matches"]
        process.stdin.close()
        process.stdin = None
        out, _ = process.communicate(timeout=60)
        assert (process.returncode, out) == (0, "")

    def test_lines_go_into_a_pipe_that_is_named_and_through_a_link(self, pictures, here) -> None:
        os.mkfifo("pipe")
        Path("lines").mkdir()
        Path("link").symlink_to("lines/today.jsonl")
        with subprocess.Popen(["cat", "pipe"], stdout=subprocess.PIPE) as reader:
            try:
                assert sil("query", "--batch", pictures[0], "--out", "pipe").code == 0
                read, _ = reader.communicate(timeout=20)
            finally:
                reader.kill()
        assert Path("pipe").is_fifo()
        assert sil("query", "--batch", pictures[0], "--out", "link").code == 0
        assert Path("link").is_symlink()
        assert Path("lines/today.jsonl").read_bytes() == read
        assert [path.name for path in Path("lines").iterdir()] == ["today.jsonl"]

    def test_the_reader_of_a_pipe_that_is_named_leaves(self, pictures, here) -> None:
        os.mkfifo("pipe")
        (here / "list.txt").write_text(f"{pictures[0].absolute()}\n" * 300)
        with subprocess.Popen(["head", "-c", "10", "pipe"], stdout=subprocess.DEVNULL) as reader:
            try:
                outcome = sil("query", "--batch", "list.txt", "--top", 20, "--out", "pipe")
            finally:
                reader.kill()
        assert outcome.code == 1
        assert "The program that read pipe has ended." in outcome.error
        assert "Traceback" not in outcome.err

    def test_a_reader_that_leaves(self, pictures, here) -> None:
        Path("names.txt").write_text(f"{pictures[0]}\n" * 300)
        process = start_sil("query", "--batch", "names.txt", cwd=here)
        process.stdout.close()
        err = process.stderr.read()
        process.stderr.close()
        assert process.wait(timeout=120) == 1
        assert "Traceback" not in err

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("--batch", "data", "--json"), ("wants a single document", "--out FILE")),
            (("--batch", "data", "x.jpg"), ("--batch and an image don't go together",)),
            (("--batch", "data", "--id", "1"), ("--batch and --id",)),
            (("--batch", "data", "--fuse"), ("--batch and --fuse",)),
            (("--batch", "data", "--box", "1,2,3,4"), ("--batch and --box", "a .csv table")),
            (("--batch", "data", "--html", "x.html"), ("--batch and --html",)),
            (("--batch", "data", "--sheet", "x.jpg"), ("--batch and --sheet don't go together",)),
            (("--batch", "data", "--all", "--top", "1"), ("--all and --top don't go together",)),
            (("x.jpg", "--all", "--top", "1"), ("--all and --top don't go together", "--min-score S with --top K")),
            (("--batch", "nowhere"), ("no file or folder nowhere",)),
            (("x.jpg", "--out", "x.jsonl"), ("--out only works with --batch",)),
        ],
    )
    def test_what_makes_no_sense(self, here, arguments, words) -> None:
        refuse(2, *words, arguments=arguments)

    def test_nothing_usable(self, here) -> None:
        Path("names.txt").write_text("a.jpg\n")
        outcome = sil("query", "--batch", "names.txt")
        assert outcome.code == 1
        assert self.lines(outcome.out)[0]["error"] == "No such file or directory"
        assert piped(b"", "query", "--batch", "-").code == 1


class TestNarrowTerminals:
    @pytest.mark.parametrize("columns", [20, 40, 60, 80, 200])
    @pytest.mark.parametrize("options", [(), ("--group", "identity"), ("--group", "camera")], ids=str)
    def test_numbers_and_paths_are_whole(self, pictures, monkeypatch, columns, options) -> None:
        query = ("query", pictures[0], "--top", 2, *options)
        found = sil(*query, "--json").document
        monkeypatch.setenv("COLUMNS", str(columns))
        shown = sil(*query).out
        words = shown.split()
        for row in found["groups"] or found["matches"]:
            assert f"{row['score']:.4f}" in words
            if not found["groups"]:
                assert str(row["id"]) in words
                assert row["path"] in words
        for visit in found["trail"] or []:
            assert f"{visit['score']:.4f}" in words
        table = [line for line in shown.splitlines() if "─" in line or "0." in line]
        longest = max(len(row["path"]) for row in found["matches"])
        assert max(len(line.rstrip()) for line in table) <= max(columns, longest + 12)

    def test_what_is_left_out_is_said(self, pictures, monkeypatch) -> None:
        monkeypatch.setenv("COLUMNS", "60")
        narrow = sil("query", pictures[0], "--top", 2)
        assert "This terminal has no room for: " in narrow.out
        assert "camera" in narrow.out.split("This terminal")[1]
        assert " camera " not in narrow.out.split("This terminal")[0]
        monkeypatch.setenv("COLUMNS", "200")
        assert "no room" not in sil("query", pictures[0], "--top", 2).out


class TestBadInput:
    @pytest.mark.parametrize(
        ("code", "words", "arguments"),
        [
            (2, ("No image is named", "--id N"), ()),
            (1, ("has no entry 99999",), ("--id", "99999")),
            (1, (f"has no entry {10**23}",), ("--id", str(10**23))),
            (2, ("is not LEFT,TOP,WIDTH,HEIGHT",), ("a.png", "--box", "1,2,3")),
            (2, ("is not LEFT,TOP,WIDTH,HEIGHT",), ("a.png", "--box", "1,2,3,0")),
            (2, ("A box was named, but no image",), ("--box", "1,2,3,4")),
            (2, ("3 boxes don't pair with 2 images",), ("a", "b", *["--box", "1,2,3,4"] * 3)),
            (1, ("leaves less than 8 pixels",), ("a.png", "--box", "100,100,20,20")),
            (2, ("query.min_score = 3.0",), ("a.png", "--min-score", "3")),
            (2, ("is not a time zone",), ("a.png", "--timezone", "Nowhere")),
        ],
    )
    def test_is_one_clear_line(self, here, code, words, arguments) -> None:
        Image.effect_noise((24, 48), 80).convert("RGB").save("a.png")
        refuse(code, *words, arguments=arguments)

    def test_an_empty_gallery(self, here) -> None:
        with open_gallery(Path("gallery")) as gallery:
            model, ids = dict(gallery.model), list(range(1, 1 + len(gallery)))
        with LocalStore(Path("gallery")).writer(model) as writer:
            writer.remove(ids, "everything")
            writer.finish()
        Image.effect_noise((24, 48), 80).convert("RGB").save("a.png")
        refuse(1, "is empty", "sil index-gallery", arguments=("a.png",))
