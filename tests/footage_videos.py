"""Small videos for tests, made of drawn pictures: people as boxes of two colours that walk over a grey wall."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT, RATE = 160, 96, 10
PERSON = (16, 48)
SPEED = 3


def picture(index: int, people: int = 2, size: tuple[int, int] = (WIDTH, HEIGHT)) -> np.ndarray:
    """The frame of a number; each person walks to the right, at a height of their own."""
    image = np.full((size[1], size[0], 3), 120, dtype=np.uint8)
    image[::7] = 110
    for number in range(people):
        left, top, width, height = person_box(index, number)
        image[top : top + height // 2, left : left + width] = (200 - 60 * number, 40 + 50 * number, 40)
        image[top + height // 2 : top + height, left : left + width] = (30, 60 * number, 200 - 70 * number)
        image[top : top + 8, left + 4 : left + 12] = (220, 180, 150)
    return image


def person_box(index: int, number: int) -> tuple[int, int, int, int]:
    return (4 + SPEED * index + 40 * number) % (WIDTH - PERSON[0]), 8 + 30 * number, *PERSON


def detections(frames: int, people: int = 2) -> str:
    """The boxes of all frames, as `det.txt` has them."""
    rows = []
    for index in range(frames):
        for number in range(people):
            left, top, width, height = person_box(index, number)
            rows.append(f"{index + 1},-1,{left + 1},{top + 1},{width},{height},0.9")
    return "\n".join(rows) + "\n"


def make_video(
    path: Path,
    frames: int = 20,
    *,
    codec: str = "libx264",
    created: str | None = None,
    times: list[float] | None = None,
    people: int = 2,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
) -> Path:
    """Write a video; `times` are the frames' own, in seconds, where the rate varies."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        if created is not None:
            container.metadata["creation_time"] = created
        stream = container.add_stream(codec, rate=RATE, options={"g": "10", **(options or {})})
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        container.start_encoding()
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(index, people, size), format="rgb24")
            frame.pts = round(1000 * (times[index] if times else index / RATE))
            frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def turn(path: Path) -> Path:
    """Tell players to turn an .mp4 by 90 degrees clockwise, as phones do."""
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 4 + 4 + 20 + 16
    content[place : place + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path


def make_sound(path: Path) -> Path:
    """A file without pictures."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 8000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def make_frames(folder: Path, frames: int = 10, *, people: int = 2) -> Path:
    """A folder of images."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(frames):
        Image.fromarray(picture(index, people)).save(folder / f"{index}.png")
    return folder
