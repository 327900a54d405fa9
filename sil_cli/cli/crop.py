"""`sil crop`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.cli.command import ENGINE, Option
from sil_cli.cli.terminal import escape, print_table
from sil_cli.errors import quoted

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.footage.crop import CropResult

EXAMPLES = """
sil crop lobby.mp4 yard.mp4
sil crop recordings --pattern '(?P<camera>[^/]+)_(?P<time>\\d{8}T\\d{6})' --timezone Europe/Berlin --every 0.5
sil crop frames/lobby --fps 10 --start 2024-05-31T08:30 --camera lobby
sil crop yard.mp4 --detector person-detection.xml --keep 3 --out yard-crops
sil crop lobby.mp4 --overlay lobby-seen.mp4 --html lobby.html
sil crop rtsp://camera.example/stream --for 3600 --camera gate
sil crop MOT17-02 --detector MOT17-02/det/det.txt --every 0
"""
READING = "Which camera, and when"
FINDING = "Finding people"
OPTIONS = (
    Option(
        "videos",
        "crop.videos",
        "[FOOTAGE...]",
        "Videos, folders of videos or of frames, lists of images (.txt), streams (rtsp://…), /dev/video0.",
    ),
    Option("--out", "crop.out", "DIR", "Where crops and crops.csv go; default: crops."),
    Option(
        "--every", "crop.every", "SECONDS", "Seconds between the frames that are looked at, 0 for all; default: 0.2."
    ),
    Option("--for", "crop.lasting", "SECONDS", "Stop after this much of each piece of footage."),
    Option("--until", "crop.until", "TIME", "Stop at this time."),
    Option("--keep", "crop.keep", "N", "Crops to keep of each tracklet; default: 5."),
    Option("--overlay", "crop.overlay", "FILE.mp4|DIR", "A video with boxes and tracklets; a folder for several."),
    Option("--html", "crop.html", "FILE", "A page with people's paths, and when they took them."),
    Option("--model", "crop.model", "RUN|none", "Its embeddings help to follow people; default: the latest run's."),
    ENGINE,
    Option("--force", "crop.force", help="Replace crops that were made with other options."),
    Option("--detector", "crop.detector", "NAME|FILE", panel=FINDING),
    Option("--min-score", "crop.min_score", "SCORE", panel=FINDING),
    Option("--min-height", "crop.min_height", "PIXELS", panel=FINDING),
    Option("--camera", "crop.camera", "NAME", panel=READING),
    Option("--start", "crop.start", "TIME", panel=READING),
    Option("--pattern", "crop.pattern", "REGEX", panel=READING),
    Option("--fps", "crop.fps", "RATE", panel=READING),
    Option("--timezone", "gallery.timezone", "ZONE", "Of times that don't name one; default: UTC.", panel=READING),
    Option(
        "--time-format",
        "gallery.time_format",
        "FORMAT",
        "Of times in names: auto, epoch, epoch-ms, or like %d.%m.%Y-%H%M%S.",
        panel=READING,
    ),
)
LEAST = ("start", "detections", "footage s", "frames")


def run(current: Session) -> CropResult:
    """Cut people out of videos, frames or a stream; what is done already is skipped."""
    settings = current.settings()
    from sil_cli.footage.crop import crop

    result = crop(settings, current.reporter)
    columns = {
        "footage": [escape(each.video) for each in result.footage],
        "camera": [escape(each.camera) for each in result.footage],
        "start": [(each.start or "")[:19].replace("T", " ") for each in result.footage],
        "footage s": [f"{each.seconds:,.0f}" for each in result.footage],
        "frames": [f"{each.frames:,}" for each in result.footage],
        "detections": [f"{each.detections:,}" for each in result.footage],
        "tracklets": [f"{each.tracklets:,}" for each in result.footage],
        "crops": [f"{each.crops:,}" for each in result.footage],
        "note": ["unchanged" if each.unchanged else "" for each in result.footage],
    }
    print_table(current.out, "Footage", columns, left=("footage", "camera", "note"), optional=LEAST)
    for each in result.footage:
        for odd in each.odd:
            current.reporter.warn(f"{each.video}: {odd}.")
    current.name_first([f"Passed over: {each.path} ({each.reason})" for each in result.failed])
    current.is_complete = not result.failed
    if result.frames_per_second is not None:
        spent = {name: seconds for name, seconds in result.stages.items() if seconds >= 0.05}
        shares = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in spent.items())
        current.say(f"  {result.frames_per_second:,.1f} frames/s: {shares}.")
    drawn = [*result.overlays, *([] if result.page is None else [result.page])]
    if drawn:
        current.say(f"  Drawn: {escape(', '.join(map(str, drawn)))}.")
    if not result.crops:
        current.next_command(f"Nobody was found; {result.table} is empty. Try --detector, or a lower --min-score.")
        return result
    current.next_command(
        f"{result.crops:,} crops in {result.table}.", f"sil index-gallery {quoted(result.table)} --tracklets named"
    )
    return result
