"""Videos as they come: of varying rate, turned, cut short, without pictures; what is odd is said, times are right."""

import os
import socket
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from footage_videos import HEIGHT, RATE, WIDTH, make_frames, make_sound, make_video, picture, turn
from PIL import Image

from sil_cli.errors import UsageError
from sil_cli.footage import videos
from sil_cli.footage.frames import Place
from sil_cli.footage.sources import FootageReader, natural, overlaps
from sil_cli.footage.videos import (
    Clock,
    Oddities,
    VideoError,
    digest_of,
    next_due,
    read_facts,
    read_video,
    shown_address,
)
from sil_cli.settings import CropSettings, GallerySettings

MOST = 50_000_000


def frames_of(path: Path, **options):
    oddities = Oddities()
    options = {"every": 0.0, "max_pixels": MOST, **options}
    read = read_video(path, path.name, oddities=oddities, **options)
    return [(place.index, place.seconds, image) for place, image in read], oddities


def reader(*videos: object, names: dict | None = None, **wanted) -> FootageReader:
    settings = CropSettings(videos=tuple(map(str, videos)), **{"every": 0.0, **wanted})
    return FootageReader(settings, GallerySettings(**(names or {})), max_pixels=MOST)


def read(*videos: object, **wanted):
    """The first piece of footage, and its frames."""
    reads = reader(*videos, **wanted)
    footage = reads.find()[0]
    reads.look_at(footage)
    return footage, list(reads.frames(footage))


def test_every_frame_comes_with_its_number_its_time_and_its_picture(tmp_path) -> None:
    frames, oddities = frames_of(make_video(tmp_path / "plain.mp4", 12))
    assert [(index, round(seconds, 3)) for index, seconds, _ in frames] == [(n, n / RATE) for n in range(12)]
    difference = np.abs(frames[5][2].astype(int) - picture(5))
    assert frames[5][2].shape == (HEIGHT, WIDTH, 3)
    assert difference.mean() < 8
    assert oddities == Oddities()


def test_frames_are_taken_by_their_times_not_by_their_numbers(tmp_path) -> None:
    times = [0.0, 0.04, 0.08, 0.5, 1.0, 1.02, 1.04, 3.0, 3.04, 3.5]
    frames, _ = frames_of(make_video(tmp_path / "varying.mkv", 10, times=times), every=0.5)
    assert [round(seconds, 2) for _, seconds, _ in frames] == [0.0, 0.5, 1.0, 3.0, 3.5]
    assert [index for index, _, _ in frames] == [0, 3, 4, 7, 9]


KINDS = {
    "mp4": ("libx264", {"bf": "3"}),
    "open.mkv": ("libx264", {"x264-params": "open-gop=1:bframes=3"}),
    "refresh.mkv": ("libx264", {"x264-params": "intra-refresh=1:keyint=10"}),
    "mpeg4.ts": ("mpeg4", {"bf": "2"}),
    "ts": ("libx264", {"bf": "3"}),
    "webm": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
    "avi": ("mpeg4", {"bf": "2"}),
    "h264": ("libx264", {}),
}
SOUGHT = ("mp4", "open.mkv", "mpeg4.ts", "ts", "webm")
"""Of these a key frame is found; of the others, everything is decoded again."""


@pytest.mark.parametrize("every", [0.0, 0.25])
@pytest.mark.parametrize(
    "kind", [each if each in ("mp4", "avi") else pytest.param(each, marks=[pytest.mark.thorough]) for each in KINDS]
)
def test_reading_goes_on_behind_a_frame_as_if_it_had_never_stopped(tmp_path, monkeypatch, kind, every) -> None:
    codec, options = KINDS[kind]
    video = make_video(tmp_path / f"video.{kind}", 45, codec=codec, options=options)
    given = {"every": every, "max_pixels": MOST}
    whole = list(read_video(video, "whole", oddities=Oddities(), **given))
    decoded, seen = videos._decoded, []
    monkeypatch.setattr(videos, "_decoded", lambda *args: (seen.append(frame) or frame for frame in decoded(*args)))
    for at, (place, image) in enumerate(whole):
        seen.clear()
        after = replace(place, digest=digest_of(image))
        oddities = Oddities()
        later = list(read_video(video, "later", oddities=oddities, after=after, **given))
        assert oddities == Oddities()
        assert [each for each, _ in later] == [each for each, _ in whole[at + 1 :]]
        assert all(np.array_equal(one, other) for (_, one), (_, other) in zip(later, whole[at + 1 :], strict=True))
    if kind in SOUGHT:
        assert len(seen) < 30


def test_a_frame_that_is_not_found_again_as_it_was_is_looked_for_from_the_start(tmp_path) -> None:
    video = make_video(tmp_path / "video.mp4", 30)
    whole = list(read_video(video, "whole", oddities=Oddities(), every=0.0, max_pixels=MOST))
    for after in (replace(whole[20][0], digest="another"), replace(whole[20][0], stamp=7), Place(20, 2.0, 2.0)):
        later = list(read_video(video, "later", oddities=Oddities(), every=0.0, max_pixels=MOST, after=after))
        assert [each for each, _ in later] == [each for each, _ in whole[21:]]


def test_a_video_that_a_phone_has_turned_is_upright(tmp_path) -> None:
    video = make_video(tmp_path / "phone.mp4", 3)
    upright = frames_of(video)[0][0][2]
    turned = frames_of(turn(video))[0][0][2]
    assert np.array_equal(turned, np.rot90(upright, -1))


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "options"),
    [("libx264", "gray", {}), ("libx264", "yuv420p", {"x264-params": "tff=1:interlaced=1"}), ("mjpeg", "yuvj420p", {})],
    ids=["grey", "interlaced", "mjpeg"],
)
def test_grey_interlaced_and_other_videos_are_read(tmp_path, codec, pix_fmt, options) -> None:
    frames, _ = frames_of(make_video(tmp_path / "kind.mkv", 4, codec=codec, pix_fmt=pix_fmt, options=options))
    assert len(frames) == 4
    assert frames[0][2].shape == (HEIGHT, WIDTH, 3)
    if "x264-params" in options:  # one field alone: no line differs from the one below it in its pair
        assert np.array_equal(frames[3][2][::2], frames[3][2][1::2])


def test_a_video_that_was_cut_short_is_read_to_the_cut_and_it_is_said(tmp_path) -> None:
    import av

    whole = make_video(tmp_path / "whole.mp4", 60)
    with (
        av.open(str(tmp_path / "fast.mp4"), "w", options={"movflags": "faststart"}) as out,
        av.open(str(whole)) as given,
    ):
        stream = out.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    content = (tmp_path / "fast.mp4").read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(content[: len(content) * 6 // 10])
    frames, oddities = frames_of(cut)
    assert 5 < len(frames) < 55
    assert oddities.cut > 0.5
    assert any("cut short" in said for said in oddities.described())


@pytest.mark.thorough
def test_damaged_pieces_are_passed_over(tmp_path) -> None:
    video = make_video(tmp_path / "hurt.mkv", 60, codec="mpeg4")
    content = bytearray(video.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 300] = b"\xff" * 300
    video.write_bytes(content)
    frames, _ = frames_of(video)
    assert len(frames) > 20


def nothing(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def still(path: Path) -> Path:
    Image.fromarray(picture(0)).save(path.with_suffix(".png"))
    return path.with_suffix(".png").rename(path)


def playlist(path: Path) -> Path:
    make_video(path.parent / "secret.ts", 5)
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.ts\n#EXT-X-ENDLIST\n")
    return path


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (pipe, "neither a file nor a folder"),
        (nothing, "an empty file"),
        (still, "a still image"),
        (make_sound, "sound without pictures"),
        (playlist, "a list of other files"),
        (lambda path: make_video(path, 0), "no frames|not a video"),
    ],
    ids=["pipe", "empty", "still", "sound", "playlist", "no-frames"],
)
@pytest.mark.parametrize("suffix", ["mp4", "m3u8"])
def test_what_is_no_video_is_named(tmp_path, make, why, suffix) -> None:
    path = make(tmp_path / "odd.mp4").rename(tmp_path / f"odd-file.{suffix}")
    with pytest.raises(VideoError, match=why):
        frames_of(path)


def test_frames_of_too_many_pixels_are_refused(tmp_path) -> None:
    with pytest.raises(VideoError, match="160×96 pixels, more than 10,000"):
        frames_of(make_video(tmp_path / "large.mp4", 2), max_pixels=10_000)


def test_clocks_that_jump_back_go_on_and_gaps_stay() -> None:
    clock = Clock(0.1)
    assert [round(clock.seconds(own), 2) for own in (5.0, 5.1, 5.2, 1.0, 1.1, None, 300.0)] == [
        *(0.0, 0.1, 0.2, 0.3, 0.4, 0.5),
        299.3,
    ]
    assert clock.jumps == 1


def test_recordings_strung_together_go_on_where_the_clock_jumps_back(tmp_path) -> None:
    """A camera that was switched off and on writes both into one transport stream."""
    parts = [make_video(tmp_path / f"{name}.ts", 20, people=name).read_bytes() for name in (1, 2)]
    (tmp_path / "both.ts").write_bytes(b"".join(parts))
    frames, oddities = frames_of(tmp_path / "both.ts")
    assert [index for index, _, _ in frames] == list(range(40))
    assert np.diff([seconds for _, seconds, _ in frames]) == pytest.approx(1 / RATE, abs=0.05)
    assert oddities.jumps == 1
    assert any("its clock jumps once" in said for said in oddities.described())


@pytest.mark.parametrize(("suffix", "first"), [("mkv", 0), ("mp4", 10)])
def test_times_before_zero_are_times_as_well(tmp_path, suffix, first) -> None:
    """With frames that are predicted from later ones. An MP4 says that nothing before zero is to be shown."""
    times = [at / RATE - 1.0 for at in range(20)]
    options = {"bf": "3", "x264-params": "bframes=3:b-adapt=0"}
    frames, oddities = frames_of(make_video(tmp_path / f"early.{suffix}", 20, times=times, options=options))
    assert [round(seconds, 3) for _, seconds, _ in frames] == [at / RATE for at in range(20 - first)]
    for at in (0, 7, 9):
        assert np.abs(frames[at][2].astype(int) - picture(first + at)).mean() < 8
    assert oddities == Oddities()


@pytest.mark.thorough
def test_frames_of_4k_are_read(tmp_path) -> None:
    frames, _ = frames_of(make_video(tmp_path / "large.mp4", 3, size=(3840, 2160)))
    assert [image.shape for _, _, image in frames] == [(2160, 3840, 3)] * 3


@pytest.mark.thorough
def test_a_video_whose_frames_change_their_size_is_read_on(tmp_path) -> None:
    parts = [make_video(tmp_path / f"{size[0]}.ts", 10, size=size).read_bytes() for size in ((160, 96), (320, 192))]
    (tmp_path / "both.ts").write_bytes(b"".join(parts))
    assert [image.shape[1] for _, _, image in frames_of(tmp_path / "both.ts")[0]] == [160] * 10 + [320] * 10


def test_frames_are_due_on_a_grid_that_begins_anew_after_a_gap() -> None:
    assert next_due(1.0, 1.03, 0.5) == 1.5
    assert next_due(1.0, 9.0, 0.5) == 9.5


def test_a_start_comes_from_the_user_the_pattern_the_container_or_the_name(tmp_path) -> None:
    video = make_video(tmp_path / "gate_20240501T120000.mp4", 2, created="2024-05-31T08:30:00Z")
    bare = make_video(tmp_path / "yard_2024-05-01_13-30-00.mkv", 2)
    nameless = make_video(tmp_path / "no-time.mkv", 2)
    pattern = r"(?P<camera>[^/_]+)_(?P<time>\d{8}T\d{6})"
    assert read(video, start="2024-01-01T00:00")[0].start == datetime(2024, 1, 1, tzinfo=UTC)
    named, frames = read(video, pattern=pattern)
    assert (named.camera, named.start) == ("gate", datetime(2024, 5, 1, 12, tzinfo=UTC))
    assert frames[1].time == datetime(2024, 5, 1, 12, 0, 0, 100_000, tzinfo=UTC)
    assert read(video)[0].start == datetime(2024, 5, 31, 8, 30, tzinfo=UTC)
    assert read(bare)[0].start == datetime(2024, 5, 1, 13, 30, tzinfo=UTC)
    assert read(nameless)[0].start is None
    assert read(nameless, camera="hall")[0].camera == "hall"
    assert read(nameless)[0].camera == "no-time"


def test_a_video_ends_where_for_and_until_say(tmp_path) -> None:
    video = make_video(tmp_path / "long.mp4", 30, created="2024-05-31T08:30:00Z")
    assert len(read(video, lasting=1.0)[1]) == 11
    assert len(read(video, until="2024-05-31T08:30:02Z")[1]) == 21


def test_frames_of_a_folder_have_the_rate_of_seqinfo_and_come_in_the_order_of_their_numbers(tmp_path) -> None:
    make_frames(tmp_path / "MOT-1" / "img1", 12)
    (tmp_path / "MOT-1" / "seqinfo.ini").write_text("[Sequence]\nname=MOT-1\nframeRate=5\n")
    footage, frames = read(tmp_path / "MOT-1")
    assert [frame.seconds for frame in frames] == pytest.approx([n / 5 for n in range(12)])
    assert np.array_equal(frames[10].image, picture(10))
    assert footage.camera == "MOT-1"
    assert [frame.index for frame in read(tmp_path / "MOT-1", every=1.0)[1]] == [0, 5, 10]


def test_images_have_the_times_of_their_names_and_unreadable_ones_are_counted(tmp_path) -> None:
    names = ["c1_20240501T120000", "c1_20240501T120002", "c1_20240501T120009"]
    for number, name in enumerate(names):
        Image.fromarray(picture(number, size=(WIDTH + number, HEIGHT))).save(tmp_path / f"{name}.png")
    (tmp_path / "c1_20240501T120005.png").write_bytes(b"no image")
    footage, frames = read(tmp_path, pattern=r"(?P<time>\d{8}T\d{6})")
    assert [frame.seconds for frame in frames] == [0.0, 2.0, 9.0]
    assert frames[2].time == datetime(2024, 5, 1, 12, 0, 9, tzinfo=UTC)
    assert footage.oddities.damaged == 1
    assert len({frame.image.shape for frame in frames}) == 3


@pytest.mark.thorough
def test_a_list_names_images_and_videos(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_frames(Path("some"), 3)
    make_video(Path("one.mp4"), 2)
    Path("list.txt").write_text("some/0.png\nsome/2.png\none.mp4\n")
    found = reader("list.txt").find()
    assert [(each.kind, each.camera, len(each.frames)) for each in found] == [
        ("frames", "list", 2),
        ("video", "one", 0),
    ]


@pytest.mark.parametrize(
    ("videos", "why"), [((), "No footage"), (("none.mp4",), "no file or folder"), (("a.mp4", "./a.mp4"), "twice")]
)
def test_what_is_not_there_or_named_twice_is_refused(tmp_path, monkeypatch, videos, why) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.mp4").write_bytes(b"x")
    with pytest.raises(UsageError, match=why):
        reader(*videos).find()


def test_footage_of_one_camera_that_overlaps_is_named(tmp_path) -> None:
    videos = [make_video(tmp_path / f"{name}.mp4", 50, created=f"2024-05-31T08:30:0{name}Z") for name in (0, 2, 8)]
    reads = reader(*videos, camera="hall")
    found = reads.find()
    for each in found:
        reads.look_at(each)
    (said,) = overlaps(found)
    assert "0.mp4 and" in said
    assert "overlap by 3 s" in said


def test_a_stream_that_accepts_and_says_nothing_is_given_up(tmp_path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []
        threading.Thread(target=lambda: held.append(server.accept()[0]), daemon=True).start()
        address = f"rtsp://user:secret@127.0.0.1:{server.getsockname()[1]}/live"
        footage = reader(address, patience=0.5).find()[0]
        began = time.monotonic()
        with pytest.raises(VideoError, match=r"says nothing for 0\.5 s") as raised:
            next(reader(address, patience=0.5).frames(footage))
        assert time.monotonic() - began < 20
        held[0].close()
    assert "secret" not in str(raised.value)
    assert "secret" not in footage.name + footage.camera + footage.label


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://me:pass@cam.example/a\x1b", "rtsp://cam.example/a\\x1b"),
        ("rtsp://me:p@ss@cam.example:554/live", "rtsp://cam.example:554/live"),
        ("rtsp://me:p/ss@cam.example/live", "rtsp://cam.example/live"),
        ("rtsp://me:p?ss@cam.example/live", "rtsp://cam.example/live"),
        ("http://cam.example/v.cgi?user=me&pwd=pass&channel=2", "http://cam.example/v.cgi?user=…&pwd=…&channel=2"),
        ("http://cam.example:81/stream?access_token=pass", "http://cam.example:81/stream?access_token=…"),
        ("http://cam.example:81/stream?mail=me@home", "http://cam.example:81/stream?mail=me@home"),
    ],
)
def test_addresses_are_shown_without_passwords(address, shown) -> None:
    assert shown_address(address) == shown


def test_numbers_in_names_are_compared_as_numbers() -> None:
    assert sorted(["10.jpg", "2.jpg", "a1.jpg"], key=natural) == ["2.jpg", "10.jpg", "a1.jpg"]


def test_headers_say_how_long_a_video_is(tmp_path) -> None:
    facts = read_facts(make_video(tmp_path / "facts.mp4", 20, created="2024-05-31T08:30:00Z"), "facts")
    assert facts.seconds == pytest.approx(2.0, abs=0.11)
    assert facts.created == datetime(2024, 5, 31, 8, 30, tzinfo=UTC)
