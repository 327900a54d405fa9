"""Videos and streams as frames with their times, by PyAV, which is FFmpeg as a library.

A video is bad input as a rule: cut short, turned by a tag, of a frame rate that varies, with clocks that jump. What can
be decoded is handed on, upright, with the time that each frame carries; what can't be is counted. A file opens no
others (a playlist could name any) and no connections.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from sil_cli.data.image_formats import READ, START, describe
from sil_cli.errors import DataError, UsageError, one_line, visible
from sil_cli.files import open_file
from sil_cli.footage.frames import Place
from sil_cli.installing import extra_command
from sil_cli.runtime import import_quietly, is_installed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

STREAM = re.compile(
    r"(?P<scheme>rtsps?|rtmps?|https?|udp|rtp|tcp|srt)://(?:[^?]*@|[^/?#]*:(?!\d*[/?#]).*@)?(?P<rest>.+)", re.IGNORECASE
)
"""An address that FFmpeg opens as a stream; the name and the password in it are shown and written nowhere.

They end at the last `@`, since a password may hold one, or a slash or a question mark that nobody escaped."""

_SECRET = re.compile(
    r"(?<=[?&;])(?P<key>[^=&;]*(?:user|usr|login|account|pass|pwd|pw|token|key|auth|secret|sig|session|sid)[^=&;]*)=[^&;]*",
    re.IGNORECASE,
)
"""What a camera is told of who asks, in the query of its address: `?user=me&pwd=…`."""

_CONTAINERS = (
    "mov,matroska,webm,avi,mpeg,mpegts,mpegvideo,m4v,h264,hevc,vvc,asf,flv,live_flv,ogg,mxf,ivf,mjpeg,yuv4mpegpipe,dhav,gif,"
    "nut,wtv,rm,dv,vc1,av1,obu,mp3,aac,wav,flac"
)
"""The formats that a file may have: none of those that lead to other files, as playlists do."""

_FIRST_YEAR = 1990
"""Containers whose clock was never set say 1904 or 1970."""

_MOST_DAMAGED = 500
"""Packets in a row that can't be decoded, after which a video counts as at its end."""

_HALF_FRAME = 0.004
"""Seconds that a frame may lie before the moment that is asked for: tables have three digits."""

_WITH_STAMPS = {"mov", "matroska", "mpegts"}
"""Containers that give each frame a time of its own; elsewhere it is guessed from the frames before it."""

_SECONDS_BACK = (0, 2, 10)
"""A key frame is looked for before a frame, and so much earlier where that leads behind it, as in transport streams."""

_JUMP = 86_400.0
"""Seconds that a frame may lie after the one before it: recorders that wait for motion leave gaps, but none as long."""


class VideoError(DataError):
    """A video that can't be used.

    Attributes:
        reason: Why, without its name: short enough for a table.
    """

    def __init__(self, name: str, reason: str, fix: str = "Replace the file, or leave it out.") -> None:
        super().__init__(f"{name}: {reason}.", fix)
        self.reason = reason


@dataclass(frozen=True)
class VideoFacts:
    """What a container says of its video.

    Attributes:
        seconds: How long it is; None where nobody knows, as of a stream.
        rate: Frames a second on the average; None where nobody knows.
        created: When it was recorded, in UTC; None where it doesn't say.
    """

    seconds: float | None = None
    rate: float | None = None
    created: datetime | None = None


@dataclass
class Oddities:
    """What was odd in a video while it was read.

    Attributes:
        damaged: Packets that can't be decoded.
        jumps: Frames whose clock lay before the frame before them, or more than a day after.
        cut: Seconds that are missing at its end, of those that the container promised.
        closed: A stream was ended by whoever sent it.
    """

    damaged: int = 0
    jumps: int = 0
    cut: float = 0.0
    closed: bool = False

    def described(self) -> list[str]:
        """What there is to say of it, in a few words each."""
        said = []
        if self.cut:
            said.append(f"it ends {self.cut:,.1f} s before its length: cut short, or still being written")
        if self.closed:
            said.append("the other side ended the stream")
        if self.damaged:
            pieces = "1 damaged piece is" if self.damaged == 1 else f"{self.damaged:,} damaged pieces are"
            said.append(f"{pieces} passed over")
        if self.jumps:
            jumps = "once" if self.jumps == 1 else f"{self.jumps:,} times"
            said.append(f"its clock jumps {jumps}; times after that are of the first clock")
        return said


class Clock:
    """Times that never fall, of frames whose own may.

    Where a frame lies before the one before it, or far behind it, the clock has jumped: from there on the frame counts
    as the usual distance after the one before, and later ones as they lie to it.

    Attributes:
        offset: What it adds to the frames' own times; None before the first.
        jumps: How often that happened.
    """

    def __init__(self, step: float) -> None:
        self._step = step
        self._last = 0.0
        self.offset: float | None = None
        self.jumps = 0

    def set_to(self, offset: float, seconds: float) -> None:
        """Go on as a clock that has not jumped went on behind a frame."""
        self.offset, self._last = offset, seconds

    def seconds(self, own: float | None) -> float:
        """The seconds since the first frame, of a frame that says `own`; the usual distance where it says nothing."""
        if self.offset is None:
            self.offset = -(own or 0.0)
            return 0.0
        now = self._last + self._step if own is None else own + self.offset
        if not self._last <= now <= self._last + _JUMP:
            self.jumps += 1
            now = self._last + self._step
            self.offset = now - (own or 0.0)
        self._last = now
        return now


def require_video_library() -> Any:
    """PyAV, quiet.

    Raises:
        UsageError: It is not installed.
    """
    if not is_installed("av"):
        raise UsageError(
            "Reading videos needs PyAV.", f"Install it with `{extra_command('video')}`, or give frames as images."
        )
    av = import_quietly("av")
    av.logging.set_level(None)  # what goes wrong arrives as an exception, or as an odd frame
    return av


def shown_address(address: str) -> str:
    """A stream's address without the name and the password before its host or in its query, on one line."""
    found = STREAM.fullmatch(address)
    if found is None:
        return visible(address)
    rest = _SECRET.sub(lambda secret: f"{secret['key']}=…", found["rest"])
    return visible(f"{found['scheme']}://{rest}")


@contextlib.contextmanager
def _opened(source: Path | str, name: str, patience: float) -> Iterator[tuple[Any, Any]]:
    """The container and its video.

    Raises:
        VideoError: There is none that can be read, or the stream doesn't answer.
    """
    av = require_video_library()
    live = isinstance(source, str)
    if not isinstance(source, str) and source.exists() and not source.is_file():  # a pipe would be waited for, for ever
        raise VideoError(name, "neither a file nor a folder")
    options: dict[str, str] = {}
    form = None
    if isinstance(source, str) and source.startswith("/dev/"):
        form = "v4l2"
    elif isinstance(source, str):
        options = {"rtsp_transport": "tcp"} if source.lower().startswith("rtsp") else {}
    else:
        options = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}
    again = "Check the address and the camera, and run the same command again."
    began = time.monotonic()
    try:
        container = av.open(
            str(source),
            format=form,
            options=options,
            timeout=(patience, patience) if live else None,
            metadata_errors="replace",
        )
    except av.error.FFmpegError as error:
        if isinstance(source, str):
            waited = time.monotonic() - began >= patience  # RTSP says "invalid data" of an answer that never came
            raise VideoError(
                name, f"it says nothing for {patience:g} s" if waited else _why(error, patience), again
            ) from error
        raise VideoError(name, _what_it_is(source) or _why(error, None)) from error
    with container:
        videos = [each for each in container.streams.video if not each.disposition & av.stream.Disposition.attached_pic]
        if not videos:
            has_sound = "sound without pictures" if container.streams.audio else "no pictures in it"
            raise VideoError(name, f"{has_sound}, not a video")
        yield container, videos[0]


def _why(error: Exception, patience: float | None) -> str:
    av = import_quietly("av")
    if patience is not None and isinstance(error, av.error.ExitError | TimeoutError):
        return f"it says nothing for {patience:g} s"
    if patience is not None:  # FFmpeg names the whole address in what it says, with the password
        answers = "what it answers is no video" if isinstance(error, av.error.InvalidDataError) else None
        return answers or visible(getattr(error, "strerror", None) or type(error).__name__)
    if isinstance(error, av.error.InvalidDataError):
        return "not a video, or one that was cut before its end was written"
    return one_line(error)


def _what_it_is(path: Path) -> str | None:
    """What a file is that is no video; None where that can't be told."""
    try:
        with open_file(path) as stream:
            start = stream.read(START)
    except OSError as error:
        return one_line(error)
    if not start:
        return "an empty file"
    if start.startswith(b"#EXTM3U"):
        return "a list of other files, which is not followed"
    if any(re.match(pattern, start, re.DOTALL) for pattern, _ in READ):
        return "a still image, not a video"
    what = describe(start).what
    return what.replace("not an image but ", "not a video but ") if " but " in what and "a video" not in what else None


def read_facts(source: Path, name: str) -> VideoFacts:
    """What the header of a video file says.

    Raises:
        VideoError: It can't be used.
    """
    with _opened(source, name, 0.0) as (container, video):
        return _facts(container, video)


def _facts(container: Any, video: Any) -> VideoFacts:
    seconds = None
    if video.duration and video.time_base:
        seconds = float(video.duration * video.time_base)
    elif container.duration:
        seconds = container.duration / 1e6
    rate = float(video.average_rate) if video.average_rate else None
    return VideoFacts(
        seconds if seconds and seconds > 0 else None, rate, _created({**container.metadata, **video.metadata})
    )


def _created(metadata: dict[str, str]) -> datetime | None:
    for key in ("com.apple.quicktime.creationdate", "creation_time"):
        with contextlib.suppress(ValueError):
            moment = datetime.fromisoformat(metadata.get(key, ""))
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            if _FIRST_YEAR <= moment.year <= 2200:
                return moment
    return None


def read_video(
    source: Path | str,
    name: str,
    *,
    every: float,
    oddities: Oddities,
    max_pixels: int,
    patience: float = 10.0,
    after: Place | None = None,
) -> Iterator[tuple[Place, NDArray[np.uint8]]]:
    """The frames of a video or a stream, as many of them as are wanted.

    Args:
        source: A file, or the address of a stream or a device.
        name: What an error calls it.
        every: Seconds from one frame to the next; 0 for all.
        oddities: Gets what is odd.
        max_pixels: Frames of more are refused.
        patience: Seconds that a stream may say nothing.
        after: Only frames behind this one are handed on. It is looked for from the key frame before it on; where it
            isn't found again as it was, everything is decoded from the start.

    Yields:
        Where a frame stands, and the picture as in `Frame`.

    Raises:
        VideoError: It can't be read, or holds no frame.
    """
    live = isinstance(source, str)
    with contextlib.ExitStack() as files:

        def begin() -> tuple[Any, Any]:
            container, video = files.enter_context(_opened(source, name, patience))
            video.thread_type = "AUTO"
            return container, video

        container, video = begin()
        frames = None if after is None else _behind(after, container, video, name, oddities)
        found = frames is not None
        if after is not None and not found:
            files.close()
            container, video = begin()
            oddities.damaged = 0
        if frames is None:
            frames = _decoded(container, video, oddities, name, patience if live else None)
        facts = _facts(container, video)
        clock, due, index, seconds = Clock(1 / facts.rate if facts.rate else 0.04), 0.0, -1, 0.0
        stamp: int | None = None
        if after is not None and found:
            index, seconds, due, stamp = after.index, after.seconds, after.due, after.stamp
            clock.set_to(after.offset, seconds)
        began = 0.0
        for frame in frames:
            index += 1
            seconds = clock.seconds(frame.time)
            earlier, stamp = stamp, frame.pts
            if live:  # cameras' own clocks drift and jump; the time of arrival doesn't
                began = began or time.monotonic()
                seconds = time.monotonic() - began
            if seconds < due - 1e-6:
                continue
            due = next_due(due, seconds, every)
            if after is None or index > after.index:
                if frame.width * frame.height > max_pixels:
                    raise VideoError(
                        name,
                        f"frames of {frame.width}×{frame.height} pixels, more than {max_pixels:,} in all",
                        "If you trust it, raise data.max_megapixels.",
                    )
                alone = not clock.jumps and not oddities.damaged and (earlier is None or (stamp or 0) > earlier)
                place = Place(index, seconds, due, oddities.damaged, stamp if alone else None, clock.offset or 0.0)
                yield place, _upright(frame)
        oddities.jumps = 0 if live else clock.jumps
        oddities.closed = live and index >= 0
        if index < 0:
            raise VideoError(name, "no frame in it can be decoded" if oddities.damaged else "no frames in it")
        missing = (facts.seconds or 0.0) - seconds - clock_margin(facts)
        oddities.cut = missing if missing > 0 and not live and not clock.jumps else 0.0


def digest_of(image: NDArray[np.uint8]) -> str:
    """Tells whether a frame that is found again is the same."""
    return hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest()


def _behind(place: Place, container: Any, video: Any, name: str, oddities: Oddities) -> Iterator[Any] | None:
    """The frames behind a place, decoded from a key frame before it on; None where it isn't found as it was."""
    av = require_video_library()
    if place.stamp is None or not set(container.format.name.split(",")) & _WITH_STAMPS:
        return None
    for back in _SECONDS_BACK:
        try:
            container.seek(place.stamp - round(back / video.time_base), stream=video)
        except (av.error.FFmpegError, OverflowError):
            continue
        frames = _decoded(container, video, oddities, name, None)
        at = next((frame for frame in frames if frame.pts is None or frame.pts >= place.stamp), None)
        if oddities.damaged:
            return None
        if at is not None and at.pts == place.stamp and digest_of(_upright(at)) == place.digest:
            return frames
    return None


def read_frame(source: Path, name: str, seconds: float, *, max_pixels: int) -> NDArray[np.uint8]:
    """The frame of a video file at so many seconds after its first one, without decoding all before it.

    Raises:
        VideoError: It can't be read, or is not as long.
    """
    with _opened(source, name, 0.0) as (container, video):
        oddities = Oddities()
        first = next(_decoded(container, video, oddities, name, None), None)
        wanted = (first.time or 0.0) + seconds - _HALF_FRAME if first is not None else 0.0
        if first is not None and seconds > 0 and video.time_base:
            container.seek(max(0, int(wanted / video.time_base)), stream=video)  # to the key frame before it
        frames = _decoded(container, video, oddities, name, None) if seconds > 0 else iter([first] if first else [])
        for frame in frames:
            if seconds > 0 and (frame.time is None or frame.time < wanted):
                continue
            if frame.width * frame.height > max_pixels:
                raise VideoError(name, f"frames of more than {max_pixels:,} pixels", "Raise data.max_megapixels.")
            return _upright(frame)
    raise VideoError(name, f"it has no frame at {seconds:.1f} s")


def next_due(due: float, seconds: float, every: float) -> float:
    """The time from which on the next frame is wanted: on a grid of `every` seconds, which begins anew after a gap."""
    return due + every if due + every > seconds else seconds + every


def clock_margin(facts: VideoFacts) -> float:
    """How much the last frame may lie before a video's length without anything being missing."""
    return max(1.0, 0.02 * (facts.seconds or 0.0), 2 / (facts.rate or 25.0))


def _decoded(container: Any, video: Any, oddities: Oddities, name: str, patience: float | None) -> Iterator[Any]:
    """Every frame that can be decoded.

    Raises:
        VideoError: A stream has said nothing for so long, or has broken off before its first frame.
    """
    av = require_video_library()
    in_a_row, found = 0, False
    packets = container.demux(video)
    while True:
        try:
            packet = next(packets, None)
            frames = packet.decode() if packet is not None else []
        except av.error.EOFError:
            return
        except (av.error.ExitError, TimeoutError, ConnectionError) as error:
            if patience is None or found:
                if patience is not None:
                    raise VideoError(
                        name, f"the stream broke off: {_why(error, patience)}", "Run the same command again."
                    ) from error
                return
            raise VideoError(name, _why(error, patience), "Check the address and the camera.") from error
        except av.error.FFmpegError:
            oddities.damaged += 1
            in_a_row += 1
            if in_a_row >= _MOST_DAMAGED:
                return
            continue
        if packet is None:
            return
        in_a_row = 0
        for frame in frames:
            found = True
            yield frame


def _upright(frame: Any) -> NDArray[np.uint8]:
    """A decoded frame as pixels: RGB, turned as its tag says, without the comb of interlacing."""
    image: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    if frame.interlaced_frame:
        image = np.repeat(image[::2], 2, axis=0)[: image.shape[0]]  # one field: half the lines, all of one moment
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image
