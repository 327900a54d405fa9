"""`sil crop` through its door: what it writes, what others take of it, and what a kill at any moment leaves."""

import contextlib
import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT, sil, start_sil
from detector_graphs import yolo
from footage_videos import detections, make_frames, make_sound, make_video, person_box, picture
from PIL import Image
from rtsp_server import Camera, make_film

from sil_cli.files import TEMPORARY_MARK
from sil_cli.footage import crop as cropping
from sil_cli.footage.crop import crop
from sil_cli.footage.crop_folder import COLUMNS
from sil_cli.installing import extra_command
from sil_cli.runtime import SilentReporter
from sil_cli.settings import load_settings

FRAMES = 60


@pytest.fixture
def lobby(empty) -> Path:
    """A folder with a video and its boxes."""
    make_video(empty / "lobby.mp4", FRAMES, created="2024-05-31T08:30:00Z")
    (empty / "det.txt").write_text(detections(FRAMES))
    return empty


def known(*more: object) -> list[object]:
    return ["crop", "lobby.mp4", "--detector", "det.txt", "--every", 0, "--model", "none", *more]


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(newline="") as stream:
        return list(csv.DictReader(stream))


def content_of(folder: Path) -> dict[str, bytes]:
    """All that a folder holds for others: without its own notes, which name times of files."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "writer.lock"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files if path.parent.name != "state"}


def test_crops_and_their_table_say_who_was_seen_when_and_where(lobby) -> None:
    outcome = sil(*known("--json"))
    assert outcome.code == 0, outcome.err
    (footage,) = outcome.document["footage"]
    assert (footage["camera"], footage["frames"], footage["detections"]) == ("lobby", FRAMES, 2 * FRAMES)
    assert footage["start"] == "2024-05-31T08:30:00+00:00"
    rows = rows_of(lobby / "crops/crops.csv")
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == outcome.document["crops"] == footage["crops"]
    for row in rows:
        box = tuple(map(int, row["frame_box"].split(",")))
        assert box in [person_box(int(row["frame"]), number) for number in range(2)]
        with Image.open(lobby / "crops" / row["path"]) as image:
            assert image.size == box[2:]
        assert row["time"] == f"2024-05-31T08:30:0{float(row['seconds']):.3f}+00:00"
        assert (lobby / "crops" / row["video"]).resolve() == lobby / "lobby.mp4"


def test_boxes_of_all_frames_are_listed_and_people_seen_too_shortly_are_not(lobby) -> None:
    with Path("det.txt").open("a") as stream:
        stream.write("30,-1,100,60,12,34,0.9\n")  # one frame long, and far from everybody
    assert sil(*known("--set", "crop.track.shortest=5")).code == 0
    boxes = rows_of(Path("crops/tracks/lobby.csv"))
    assert [int(row["frame"]) for row in boxes if row["frame"] != "29"] == sorted([*range(29), *range(30, FRAMES)] * 2)
    lasting = {row["tracklet"] for row in boxes}
    assert all(sum(row["tracklet"] == each for row in boxes) >= 5 for each in lasting)
    crops = rows_of(Path("crops/crops.csv"))
    assert {row["tracklet"] for row in crops} == {f"lobby-{int(each):04d}" for each in lasting}
    assert all(sum(row["tracklet"] == each["tracklet"] for row in crops) <= 5 for each in crops)


def test_a_gallery_and_a_data_set_take_the_table_as_it_is(in_world, tmp_path) -> None:
    video = make_video(tmp_path / "hall.mp4", 20, created="2024-05-31T08:30:00Z")
    (tmp_path / "det.txt").write_text(detections(20))
    assert sil("crop", video, "--detector", tmp_path / "det.txt", "--out", tmp_path / "crops").code == 0
    indexed = sil(
        *("index-gallery", tmp_path / "crops/crops.csv", "--tracklets", "named", "--gallery", tmp_path / "g", "--json")
    )
    assert indexed.code == 0, indexed.err
    assert indexed.document["failed"] == []
    assert 0 < indexed.document["total"] <= len(rows_of(tmp_path / "crops/crops.csv"))
    image = next((tmp_path / "crops/images/hall").glob("*.jpg"))
    found = sil("query", image, "--gallery", tmp_path / "g", "--json", "--sheet", tmp_path / "s.jpg")
    assert found.code == 0, found.err
    best = found.document["matches"][0]
    assert best["camera"] == "hall"
    assert {"video", "frame", "frame_box", "seconds"} <= set(best["metadata"])


def test_what_is_done_is_not_done_again_and_other_options_need_force(lobby) -> None:
    assert sil(*known()).code == 0
    before = content_of(lobby / "crops")
    again = sil(*known("--json"))
    assert again.document["footage"][0]["unchanged"] is True
    assert content_of(lobby / "crops") == before
    other = sil(*known("--min-height", 40))
    assert other.code == 2
    assert "crop.min_height = 32, not 40" in other.error
    assert sil(*known("--min-height", 49, "--force")).code == 0
    assert rows_of(lobby / "crops/crops.csv") == []
    assert not list((lobby / "crops").rglob("*.jpg"))


@pytest.mark.thorough
def test_footage_is_added_to_a_folder_and_names_are_told_apart(lobby) -> None:
    make_video(lobby / "other/lobby.mp4", 10)
    assert sil(*known()).code == 0
    count = len(rows_of(lobby / "crops/crops.csv"))
    added = sil("crop", "other/lobby.mp4", "--detector", "det.txt", "--every", 0, "--model", "none", "--json")
    assert added.code == 0, added.err
    assert added.document["footage"][0]["name"] == "lobby-2"
    rows = rows_of(lobby / "crops/crops.csv")
    assert len(rows) > count
    assert len({row["path"] for row in rows}) == len(rows)


def test_broken_footage_is_named_and_passed_over(lobby) -> None:
    make_sound(lobby / "sound.mp4")
    (lobby / "cut.mp4").write_bytes((lobby / "lobby.mp4").read_bytes()[:3000])
    outcome = sil(*known("sound.mp4", "cut.mp4", "--json"))
    assert outcome.code == 1
    assert [each["path"] for each in outcome.document["failed"]] == ["sound.mp4", "cut.mp4"]
    assert outcome.document["crops"] > 0


def test_nothing_but_broken_footage_is_a_failure_that_names_each(lobby) -> None:
    make_sound(lobby / "sound.mp4")
    make_video(lobby / "late.mkv", 10)  # its header is whole, its frames are too large
    (lobby / "cut.mp4").write_bytes((lobby / "lobby.mp4").read_bytes()[:3000])
    Image.new("RGB", (8, 8)).save(lobby / "still.png")
    Path("still.png").rename("still.mp4")
    given = ("--detector", "det.txt", "--model", "none")
    outcome = sil("crop", "sound.mp4", "cut.mp4", "still.mp4", *given)
    assert (outcome.code, outcome.out) == (1, "")
    for name, why in (("sound.mp4", "sound without"), ("cut.mp4", "not a video, or"), ("still.mp4", "a still image")):
        assert f"{name} ({why}" in outcome.error
    outcome = sil("crop", "sound.mp4", "late.mkv", *given, "--set", "data.max_megapixels=0.01", "--json")
    assert outcome.code == 1
    assert "late.mkv (frames of 160×96 pixels" in outcome.document["error"]["what"]


def test_a_detector_that_finds_nobody_leaves_an_empty_table(lobby) -> None:
    Path("det.txt").write_text("frame,id,left,top,width,height,score\n")
    outcome = sil(*known())
    assert len(rows_of(Path("crops/tracks/lobby.csv"))) == FRAMES
    assert outcome.code == 0, outcome.err
    assert "Nobody was found" in outcome.out
    assert rows_of(Path("crops/crops.csv")) == []


@pytest.mark.thorough
def test_a_detector_that_finds_ten_thousand_is_held_to_the_most_certain(lobby) -> None:
    rng = np.random.default_rng(0)
    corners = rng.integers(1, 80, (10_000, 2))
    Path("det.txt").write_text(
        "".join(
            f"1,-1,{x},{y},16,40,0.{score}\n" for (x, y), score in zip(corners, rng.integers(4, 9, 10_000), strict=True)
        )
    )
    outcome = sil(*known("--json"))
    assert outcome.code == 0, outcome.err
    assert outcome.document["footage"][0]["detections"] <= 500


def test_a_detector_in_a_file_is_used_for_all_frames(lobby) -> None:
    yolo(lobby / "people.onnx", transposed=True, divide=0.5)
    make_frames(lobby / "frames", 4)
    outcome = sil("crop", "frames", "--detector", "people.onnx", "--every", 0, "--model", "none", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.document["footage"][0]["detections"] == 4


@pytest.mark.thorough
def test_a_sequence_of_motchallenge_is_cropped_by_its_own_boxes(empty) -> None:
    make_frames(empty / "MOT-1/img1", 10)
    (empty / "MOT-1/det").mkdir()
    (empty / "MOT-1/det/det.txt").write_text(detections(10))
    (empty / "MOT-1/seqinfo.ini").write_text("[Sequence]\nframeRate=5\n")
    for footage, detector in (
        ("MOT-1", "MOT-1/det/det.txt"),
        ("MOT-1", "MOT-1"),
        ("MOT-1/img1", "."),
        (".", empty),
    ):
        outcome = sil(
            *("crop", footage, "--detector", detector, "--every", 0, "--model", "none", "--json"),
            *("--out", "crops", "--force"),
        )
        assert outcome.code == 0, outcome.err
        (cropped,) = outcome.document["footage"]
        assert (cropped["camera"], cropped["detections"], cropped["seconds"]) == ("MOT-1", 20, 1.8)
    assert (empty / "crops/tracks/mot-1.csv").is_file()


def test_boxes_lie_in_a_folder_by_the_name_of_the_footage(lobby) -> None:
    make_video(lobby / "Yard.mp4", 10)
    for name in ("lobby.txt", "Yard/det/det.txt"):
        (lobby / "boxes" / name).parent.mkdir(parents=True, exist_ok=True)
        (lobby / "boxes" / name).write_text(detections(10))
    given = ("--detector", "boxes", "--every", 0, "--model", "none")
    outcome = sil("crop", "lobby.mp4", "Yard.mp4", *given, "--json")
    assert outcome.code == 0, outcome.err
    assert [each["detections"] for each in outcome.document["footage"]] == [20, 20]
    make_video(lobby / "hall.mp4", 10)
    missing = sil("crop", "hall.mp4", *given, "--out", "other")
    assert missing.code == 1
    assert "boxes has no boxes of hall" in missing.error
    assert "boxes/hall/det/det.txt" in missing.error


def test_a_found_file_opens_no_stream(lobby) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        Path("sil.toml").write_text(f"[crop]\nvideos = ['{address}']\ndetector = 'det.txt'\npatience = 0.2\n")
        outcome = sil("crop")
        assert outcome.code == 2
        assert f"crop.videos = {address} was set by a file found in the working folder" in outcome.error
        with pytest.raises(BlockingIOError):
            server.accept()
        assert sil("crop", "--config", "sil.toml").code == 1
        server.accept()[0].close()


@pytest.mark.thorough
def test_hog_looks_at_frames(lobby) -> None:
    pytest.importorskip("cv2")
    make_video(lobby / "large.mp4", 3, size=(320, 240))
    assert sil("crop", "large.mp4", "--detector", "hog", "--model", "none").code == 0


@pytest.mark.parametrize("detector", ["yolo", "people.pth", "missing.onnx"])
def test_a_detector_that_is_none_is_refused(lobby, detector) -> None:
    outcome = sil("crop", "lobby.mp4", "--detector", detector, "--model", "none")
    assert outcome.code == 2
    assert len(outcome.err.strip().splitlines()) == 2


def test_without_the_library_it_is_said_which_one(lobby, monkeypatch) -> None:
    monkeypatch.setattr("sil_cli.footage.videos.is_installed", lambda name: False)
    outcome = sil(*known())
    assert outcome.code == 2
    assert extra_command("video") in outcome.error


class _KilledError(BaseException):
    """The process is killed here."""


OTHER_BATCHES = [pytest.param(each, marks=pytest.mark.thorough) for each in (0, 1, 6)]


@pytest.mark.parametrize("batch", [3, *OTHER_BATCHES])
def test_after_a_kill_in_any_batch_the_same_comes_out(lobby, monkeypatch, batch) -> None:
    monkeypatch.setattr(cropping, "SECONDS_BETWEEN_SAVES", 0.0)
    settings = load_settings(
        flags={"crop": {"videos": ["lobby.mp4"], "detector": "det.txt", "every": 0, "model": "none", "out": "whole"}}
    )
    crop(settings, SilentReporter())
    stopped = settings.model_copy(update={"crop": settings.crop.model_copy(update={"out": Path("stopped")})})
    follow, seen = cropping._Follower.follow, []

    def killed(self, *given):
        written = follow(self, *given)
        seen.append(written)
        if len(seen) == batch + 1:
            os.close(os.open(f"stopped/images/lobby/{TEMPORARY_MARK}{'0' * 16}.jpg", os.O_CREAT | os.O_WRONLY))
            raise _KilledError
        return written

    with monkeypatch.context() as patch:
        patch.setattr(cropping._Follower, "follow", killed)
        with pytest.raises(_KilledError):
            crop(stopped, SilentReporter())
    looked = []
    with monkeypatch.context() as patch:
        patch.setattr(cropping._Follower, "follow", lambda self, *given: looked.append(1) or follow(self, *given))
        crop(stopped, SilentReporter())
    assert len(looked) == 8 - batch
    assert content_of(Path("stopped")) == content_of(Path("whole"))


@pytest.mark.parametrize(
    "how",
    [signal.SIGINT, *(pytest.param(each, marks=pytest.mark.thorough) for each in (signal.SIGTERM, signal.SIGKILL))],
)
def test_a_process_that_is_stopped_leaves_whole_files_and_goes_on(empty, how) -> None:
    make_video(empty / "lobby.mp4", 600)
    (empty / "det.txt").write_text(detections(600))
    assert sil(*known("--out", "whole")).code == 0
    process = start_sil(*known("--out", "stopped"), cwd=empty)
    deadline = time.monotonic() + 60
    while not list(empty.glob("stopped/images/lobby/*.jpg")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(how)
    _, err = process.communicate(timeout=60)
    if how is not signal.SIGKILL and process.returncode != 0:
        assert process.returncode == 130, err
        for row in rows_of(empty / "stopped/crops.csv"):
            assert (empty / "stopped" / row["path"]).is_file()
    for image in empty.glob("stopped/images/lobby/[!.]*.jpg"):
        with Image.open(image) as opened:
            opened.load()
    assert sil(*known("--out", "stopped")).code == 0
    assert content_of(empty / "stopped") == content_of(empty / "whole")


def test_footage_is_not_gone_on_with_by_another_model(lobby) -> None:
    assert sil(*known()).code == 0
    state = Path("crops/state/lobby.json")
    begun = json.loads(state.read_text()) | {"done": False, "next_frame": 30, "model": "another"}
    state.write_text(json.dumps(begun))
    outcome = sil(*known())
    assert outcome.code == 2
    assert "was begun with another model" in outcome.error


def test_a_full_disk_is_said_and_nothing_is_half_written(lobby, monkeypatch) -> None:
    def full(self, path, content):
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("sil_cli.footage.crop_folder.FootageFiles._write", full)
        outcome = sil(*known())
    assert outcome.code == 1
    assert "disk is full" in outcome.error.lower()
    assert sil(*known()).code == 0
    assert all((lobby / "crops" / row["path"]).is_file() for row in rows_of(lobby / "crops/crops.csv"))


_ON_A_SMALL_DISK = """
mount -t tmpfs -o size=128k none small || exit 77
"$@"; echo "code $?"
cp -a small/crops full
mount -o remount,size=8m small
"$@"; echo "code $?"
cp -a small/crops after
"""


@pytest.mark.thorough
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_a_disk_that_is_really_full_is_said_and_gone_on_with(empty) -> None:
    make_video(empty / "lobby.mp4", 200)
    (empty / "det.txt").write_text(detections(200))
    keep = ("--keep", 100)
    assert sil(*known(*keep, "--out", "large/crops")).code == 0
    (empty / "small").mkdir()
    words = [sys.executable, "-m", "sil_cli", *map(str, known(*keep, "--out", "small/crops"))]
    command = ["unshare", "-rm", "sh", "-c", _ON_A_SMALL_DISK, "sh", *words]
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=empty, env=variables, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip("no disk may be mounted here")
    assert [line for line in done.stdout.splitlines() if line.startswith("code")] == ["code 1", "code 0"], done.stderr
    assert done.stderr.count("Error: The disk is full") == 1, done.stderr
    assert "Traceback" not in done.stderr
    for image in empty.glob("full/images/lobby/[!.]*.jpg"):
        with Image.open(image) as opened:
            opened.load()
    assert content_of(empty / "after") == content_of(empty / "large/crops")  # as deep, for the paths in it


@pytest.mark.thorough
def test_a_damaged_state_is_named(lobby) -> None:
    assert sil(*known()).code == 0
    Path("crops/state/lobby.json").write_text("{")
    outcome = sil(*known())
    assert outcome.code == 1
    assert "crops/state/lobby.json is damaged" in outcome.error


@pytest.mark.thorough
def test_only_the_owner_may_read_crops(lobby) -> None:
    assert sil(*known()).code == 0
    shutil.rmtree(lobby / "crops/state")
    assert all(path.stat().st_mode & 0o077 == 0 for path in (lobby / "crops").rglob("*"))


@contextlib.contextmanager
def served(content: bytes, *, stalls_at: int | None = None) -> Iterator[str]:
    """The address of a stream of so many bytes, which then says nothing for as long as anybody listens."""
    ended = threading.Event()

    def serve(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, contextlib.suppress(OSError):
            for start in range(0, stalls_at or len(content), 2000):
                connection.sendall(content[start : start + 2000])
                time.sleep(0.02)
            ended.wait(60)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        yield f"tcp://user:secret@127.0.0.1:{server.getsockname()[1]}"
        ended.set()
        thread.join()


def test_a_stream_is_cropped_for_as_long_as_it_is_asked_for(empty) -> None:
    (empty / "det.txt").write_text(detections(80))
    with served(make_video(empty / "live.ts", 80, codec="mpeg4").read_bytes()) as address:
        outcome = sil(
            *("crop", address, "--detector", "det.txt", "--model", "none", "--camera", "gate", "--every", 0),
            *("--for", 1, "--set", "crop.patience=5", "--json"),
        )
    assert outcome.code == 0, outcome.err
    (footage,) = outcome.document["footage"]
    assert footage["camera"] == "gate"
    assert footage["frames"] > 0
    assert footage["seconds"] <= 1.0
    assert not any(b"secret" in path.read_bytes() for path in empty.glob("crops/**/*.*") if path.is_file())


def test_what_was_seen_of_a_stream_that_stalls_is_kept(empty) -> None:
    content = make_video(empty / "live.ts", 80, codec="mpeg4").read_bytes()
    (empty / "det.txt").write_text(detections(80))
    with served(content, stalls_at=len(content) // 2) as address:
        given = ("--detector", "det.txt", "--model", "none", "--every", 0, "--set", "crop.patience=1", "--json")
        outcome = sil("crop", address, *given)
    assert outcome.code == 1
    (footage,) = outcome.document["footage"]
    assert footage["frames"] > 0
    (failed,) = outcome.document["failed"]
    assert "the stream broke off: it says nothing for 1 s" in failed["reason"]
    assert rows_of(empty / "crops/crops.csv")
    assert (empty / "crops/tracks").is_dir()


def test_images_of_several_sizes_and_broken_ones_are_said_also_after_a_kill(empty, monkeypatch) -> None:
    monkeypatch.setattr(cropping, "SECONDS_BETWEEN_SAVES", 0.0)
    make_frames(empty / "frames", 24)
    Image.fromarray(picture(2, size=(200, 120))).save("frames/2.png")
    (empty / "frames/4.png").write_bytes(b"no image")
    (empty / "det.txt").write_text(detections(24))
    given = {"videos": ["frames"], "detector": "det.txt", "every": 0, "model": "none"}
    settings = load_settings(flags={"crop": given})
    follow = cropping._Follower.follow

    def killed(self, frames, *more):
        if frames[0].index > 10:
            raise _KilledError
        return follow(self, frames, *more)

    with monkeypatch.context() as patch:
        patch.setattr(cropping._Follower, "follow", killed)
        with pytest.raises(_KilledError):
            crop(settings, SilentReporter())
    (footage,) = crop(settings, SilentReporter()).footage
    assert footage.frames == 23
    assert footage.odd == ["1 damaged piece is passed over", "its frames have 2 sizes"]


def watched(camera: Camera, *more: object, login: str = "me:s3cret"):
    """What `sil crop` makes of a camera; the password must be nowhere."""
    Path("det.txt").write_text(detections(60))
    with camera.listening():
        outcome = sil(
            *("crop", f"rtsp://{login}@127.0.0.1:{camera.port}/live", "--detector", "det.txt", "--model", "none"),
            *("--every", 0, "--for", 1, "--set", "crop.patience=1", *more),
        )
    secret = login.partition(":")[2]
    assert secret not in outcome.out + outcome.err
    files = [path for path in Path().rglob("*") if path.is_file()]
    assert not [path for path in files if secret in str(path) or secret.encode() in path.read_bytes()]
    return outcome


def test_a_camera_is_cropped_by_rtsp_and_gets_its_password(empty) -> None:
    camera = Camera(make_film(empty / "film.h264", 60), login="me:s3cret")
    outcome = watched(camera, "--json")
    assert outcome.code == 0, outcome.err
    assert camera.methods[:5] == ["OPTIONS", "DESCRIBE", "DESCRIBE", "SETUP", "PLAY"]
    (footage,) = outcome.document["footage"]
    assert footage["camera"] == f"127.0.0.1:{camera.port}/live"
    assert footage["frames"] > 0
    assert footage["odd"] == []
    rows = rows_of(Path("crops/crops.csv"))
    assert {row["video"] for row in rows} == {f"rtsp://127.0.0.1:{camera.port}/live"}
    for row in rows:  # the pictures are whole: a crop is as its frame was drawn
        index = int(row["frame"])
        left, top, width, height = map(int, row["frame_box"].split(","))
        drawn = picture(index)[top : top + height, left : left + width].astype(float)
        with Image.open(Path("crops") / row["path"]) as image:
            assert np.abs(np.asarray(image, dtype=float) - drawn).mean() < 12


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"login": "me:other"}, "401 Unauthorized"),
        ({"refuses": "404 Not Found"}, "404 Not Found"),
        ({"refuses": "503 Service Unavailable"}, "5XX Server Error"),
        ({"rubbish": b"\0\xff rubbish\r\n\r\n" * 50}, "what it answers is no video"),
    ],
)
def test_a_camera_that_refuses_is_named_without_its_password(empty, how, why) -> None:
    outcome = watched(Camera(make_film(empty / "film.h264", 10), **how))
    assert outcome.code == 1
    assert why in outcome.error
    assert "Replace or correct these" in outcome.error


def test_what_was_seen_of_a_camera_that_stalls_or_leaves_is_kept(empty) -> None:
    film = make_film(empty / "film.h264", 60)
    stalled = watched(Camera(film, stalls_after=12), "--for", 30, "--out", "stalled", "--json")
    assert stalled.code == 1
    assert "the stream broke off: it says nothing for 1 s" in stalled.document["failed"][0]["reason"]
    left = watched(Camera(film, closes_after=12), "--for", 30, "--out", "left", "--json")
    assert left.code == 0, left.err
    assert left.document["footage"][0]["odd"] == ["the other side ended the stream"]
    assert left.document["footage"][0]["frames"] == 12
    assert rows_of(Path("stalled/crops.csv"))
    assert rows_of(Path("left/crops.csv"))
