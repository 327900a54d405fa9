"""Writing videos: one frame after another, so that no more than a few are held at a time."""

from __future__ import annotations

import contextlib
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from sil_cli.errors import SilError, one_line
from sil_cli.files import writing
from sil_cli.installing import extra_command
from sil_cli.runtime import is_installed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from numpy.typing import NDArray

_FORMATS = {".mp4": "mp4", ".mkv": "matroska", ".mov": "mov"}
_CODECS = (("libx264", {"preset": "veryfast", "crf": "23"}), ("mpeg4", {"qscale": "3"}))
"""The encoders that are tried, in order: builds of FFmpeg without the first one have the second."""
_TICKS = 90_000  # a second, as MPEG counts time


def can_write_videos() -> bool:
    """Whether the package that encodes them is installed."""
    return is_installed("av")


class VideoWriter:
    """A video that is being written; frames come in order."""

    def __init__(self, container: Any, stream: Any) -> None:
        """See `writing_video`, which makes it."""
        self._container, self._stream = container, stream
        self._last = -1

    def write(self, image: NDArray[np.uint8], seconds: float) -> None:
        """Add a frame.

        Args:
            image: (height, width, 3), RGB; cut or padded to the size of the first one.
            seconds: When it is shown, since the video's start; one that isn't later than the frame before is
                shown right after it.
        """
        import av

        if not self._stream.width:
            self._stream.height, self._stream.width = (side + side % 2 for side in image.shape[:2])
        height, width = self._stream.height, self._stream.width
        if image.shape[:2] != (height, width):
            padded = np.zeros((height, width, 3), np.uint8)
            cut = image[:height, :width]
            padded[: cut.shape[0], : cut.shape[1]] = cut
            image = padded
        self._last = max(self._last + 1, round(seconds * _TICKS))
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.pts, frame.time_base = self._last, Fraction(1, _TICKS)
        self._container.mux(self._stream.encode(frame))

    def _flush(self) -> None:
        if self._stream.width:
            self._container.mux(self._stream.encode(None))


@contextlib.contextmanager
def writing_video(path: Path, *, started: datetime | None = None, users_own: bool = True) -> Iterator[VideoWriter]:
    """Open a video that is at `path` whole when the block ends, or not at all.

    Args:
        path: Its ending says the container: .mp4, .mkv or .mov.
        started: When its first frame was taken, for its tags.
        users_own: As in `files.writing`.

    Raises:
        SilError: The ending is another one, PyAV is missing or can't encode.
        OSError: The file can't be written.
    """
    require_video_format(path)
    import av
    from av.error import FFmpegError

    codec, options = next((each for each in _CODECS if each[0] in av.codecs_available), _CODECS[-1])
    try:
        with writing(path, users_own=users_own) as file:
            container = av.open(file, mode="w", format=_FORMATS[path.suffix.lower()])
            with container:
                if started is not None:
                    container.metadata["creation_time"] = started.isoformat()
                stream: Any = container.add_stream(codec, rate=25, options=options)
                stream.width = stream.height = 0
                stream.pix_fmt = "yuv420p"
                stream.codec_context.time_base = Fraction(1, _TICKS)
                writer = VideoWriter(container, stream)
                yield writer
                writer._flush()
    except FFmpegError as error:
        raise SilError(
            f"{path} can't be encoded: {one_line(error)}.", "Choose another size or another ending."
        ) from error


def require_video_format(path: Path) -> None:
    """Refuse what is not written as a video.

    Raises:
        SilError: The ending is another one, or PyAV is missing.
    """
    if path.suffix.lower() not in _FORMATS:
        raise SilError(f"{path} is not the name of a video.", f"Choose one that ends with {', '.join(_FORMATS)}.")
    if not can_write_videos():
        raise SilError(f"Writing {path} needs the package av.", f"Install it with `{extra_command('video')}`.")
