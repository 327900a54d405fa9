"""`sil prepare-data synthetic --footage`: films of generated people, in MOTChallenge's layout."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.data.images import load_image
from sil_cli.data.reading import SYNTHETIC
from sil_cli.errors import SilError, UsageError
from sil_cli.files import read_json, staging_folder, write_json, write_text
from sil_cli.installing import extra_command
from sil_cli.preparation.prepare import refuse_options_of_readers
from sil_cli.report.video import can_write_videos, writing_video
from sil_cli.results import Result
from sil_cli.runtime import cpu_count
from sil_cli.settings import refuse_outside
from sil_cli.synthetic.footage import FILMED_FROM, Stretch, draw_stretch, simulate_detections
from sil_cli.synthetic.generate import domain_names, in_processes
from sil_cli.synthetic.seeds import Purpose, stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sil_cli.runtime import Reporter
    from sil_cli.settings import DataSettings, Settings
    from sil_cli.synthetic.footage import SeenPerson

FOOTAGE_FILE, PEOPLE_FILE = "footage.json", "people.csv"
FOOTAGE_VERSION = 1
"""Of what is drawn: other pictures or boxes for the same settings have a higher one."""
_FRAMES_AT_ONCE = 25


class FilmedCamera(Result):
    """One camera's film.

    Attributes:
        folder: Its frames in `img1`, the boxes in `gt/gt.txt`, what a simulated detector finds in `det/det.txt`.
        video: The same frames as a video; None where none could be written.
        frames: How many there are.
        people: How many pass.
        boxes: How many boxes are in `gt/gt.txt`.
    """

    name: str
    folder: Path
    video: Path | None
    frames: int
    people: int
    boxes: int


class FootageResult(Result):
    """The outcome of `sil prepare-data synthetic --footage`.

    Attributes:
        network: Whose cameras film.
        people: How many people pass any camera.
        table: Who passes which camera from when to when.
        unchanged: It stood already, drawn by the same settings.
    """

    network: str
    folder: Path
    people: int
    table: Path
    cameras: list[FilmedCamera]
    unchanged: bool = False


def prepare_footage(settings: Settings, reporter: Reporter) -> FootageResult:
    """Draw films of people who walk past the cameras of one network.

    The same settings give the same frames and tables; a video's bytes also depend on the encoder.

    Raises:
        SilError: Something else stands in the way, or the network isn't one of those that are generated.
    """
    data = settings.data
    if data.out is None:
        refuse_outside(settings, "data.folder")
    if data.reader != SYNTHETIC or data.protocol is not None:
        raise UsageError("Footage is drawn of generated people only.", "Run `sil prepare-data synthetic --footage`.")
    refuse_options_of_readers(data)
    domain = data.synthetic.domains - 1 if data.footage.network is None else data.footage.network
    if domain >= data.synthetic.domains:
        raise SilError(
            f"There is no network {domain}: {data.synthetic.domains} are generated, counted from 0.",
            "Choose another data.footage.network.",
        )
    folder = data.out or data.folder / "footage"
    wanted = {
        "version": FOOTAGE_VERSION,
        "network": domain_names(data.synthetic.domains)[domain],
        "synthetic": data.synthetic.model_dump(mode="json"),
        "footage": data.footage.model_dump(mode="json", exclude={"enabled"}),
    }
    standing = _standing(folder, wanted, force=data.force)
    if standing is not None:
        reporter.note("This footage is here already; it is kept.")
        return standing
    if not can_write_videos():
        reporter.note(f"Only frames are written; for videos as well: `{extra_command('video')}`")
    with staging_folder(folder.parent) as staging:
        made = staging / "footage"
        cameras = _draw(made, data, domain, reporter)
        write_json(made / FOOTAGE_FILE, wanted | {"cameras": [each.model_dump(mode="json") for each in cameras]})
        if folder.exists():
            shutil.rmtree(folder)
        made.rename(folder)
    return _result(folder, wanted, cameras, unchanged=False)


def _standing(folder: Path, wanted: dict[str, object], *, force: bool) -> FootageResult | None:
    """What was drawn there by the same settings; None where there is room to draw.

    Raises:
        SilError: Something else is there.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    record = folder / FOOTAGE_FILE
    if not record.is_file():
        raise SilError(f"{folder} is in the way: it holds something else.", "Choose another place with --out DIR.")
    held = read_json(record, what="the settings of generated footage", fix="Replace the footage with --force.")
    cameras = held.pop("cameras", []) if isinstance(held, dict) else []
    if held == wanted and not force:
        return _result(folder, wanted, [FilmedCamera.model_validate(each) for each in cameras], unchanged=True)
    if not force:
        raise SilError(
            f"{folder} holds footage drawn with other settings.",
            "Choose another place with --out DIR, or replace it with --force.",
        )
    return None


def _result(
    folder: Path, wanted: dict[str, object], cameras: Sequence[FilmedCamera], *, unchanged: bool
) -> FootageResult:
    placed = [
        each.model_copy(
            update={"folder": folder / each.folder, "video": None if each.video is None else folder / each.video}
        )
        for each in cameras
    ]
    table = folder / PEOPLE_FILE
    people = {row.split(",")[0] for row in table.read_text(encoding="utf-8").splitlines()[1:]}
    return FootageResult(
        network=str(wanted["network"]),
        folder=folder,
        people=len(people),
        table=table,
        cameras=placed,
        unchanged=unchanged,
    )


def _draw(folder: Path, data: DataSettings, domain: int, reporter: Reporter) -> list[FilmedCamera]:
    """Draw all cameras' films into a new folder; the paths in the result are relative to it."""
    synthetic, footage = data.synthetic, data.footage
    frames = max(1, round(footage.seconds * footage.frames_per_second))
    names = [f"c{number + 1}" for number in range(synthetic.cameras)]
    stretches = []
    for camera, name in enumerate(names):
        (folder / name / "img1").mkdir(parents=True)
        for start in range(0, frames, _FRAMES_AT_ONCE):
            part = range(start, min(start + _FRAMES_AT_ONCE, frames))
            stretches.append(Stretch(synthetic, footage, domain, camera, part, folder / name / "img1"))
    seen: dict[int, list[SeenPerson]] = {camera: [] for camera in range(len(names))}
    with reporter.task("Drawing footage", frames * len(names), "frames") as task:
        for camera, count, people in in_processes(_draw_stretch, stretches, cpu_count()):
            seen[camera] += people
            task.advance(count)
    films = []
    with reporter.task("Writing videos", len(names), "videos") as task:
        for camera, name in enumerate(names):
            people = sorted(seen[camera], key=lambda each: (each.frame, each.person))
            _write_tables(folder / name, people, data, domain, camera, frames)
            video = _write_video(folder, name, frames, footage.frames_per_second) if can_write_videos() else None
            count = len({each.person for each in people})
            films.append(
                FilmedCamera(name=name, folder=Path(name), video=video, frames=frames, people=count, boxes=len(people))
            )
            task.advance()
    _write_people(folder / PEOPLE_FILE, names, seen, footage.frames_per_second)
    return films


def _draw_stretch(stretch: Stretch) -> tuple[int, int, list[SeenPerson]]:
    """The camera, how many frames were drawn of it, and who is in them."""
    return stretch.camera, len(stretch.frames), draw_stretch(stretch)


def _write_tables(
    folder: Path, seen: list[SeenPerson], data: DataSettings, domain: int, camera: int, frames: int
) -> None:
    """Write a sequence's `gt/gt.txt`, `det/det.txt` and `seqinfo.ini`; frames, people and pixels count from 1."""
    synthetic, footage = data.synthetic, data.footage
    for name in ("gt", "det"):
        (folder / name).mkdir()
    truth = [
        f"{each.frame + 1},{each.person + 1},{each.box[0] + 1},{each.box[1] + 1},{each.box[2]},{each.box[3]},1,1,"
        f"{each.visible:.3f}\n"
        for each in seen
    ]
    write_text(folder / "gt" / "gt.txt", "".join(truth))
    rng = stream(Purpose.FOOTAGE, synthetic.seed, domain, camera, frames, 2)
    found = [
        f"{frame + 1},-1,{left + 1:.1f},{top + 1:.1f},{width:.1f},{height:.1f},{score:.3f},-1,-1,-1\n"
        for frame, (left, top, width, height), score in simulate_detections(seen, footage, frames, rng)
    ]
    write_text(folder / "det" / "det.txt", "".join(found))
    write_text(
        folder / "seqinfo.ini",
        f"[Sequence]\nname={folder.name}\nimDir=img1\nframeRate={footage.frames_per_second:g}\nseqLength={frames}\n"
        f"imWidth={footage.width}\nimHeight={footage.height}\nimExt=.jpg\n",
    )


def _write_video(folder: Path, name: str, frames: int, frames_per_second: float) -> Path:
    path = Path(f"{name}.mp4")
    with writing_video(folder / path, started=FILMED_FROM) as video:
        for frame in range(frames):
            image = load_image(folder / name / "img1" / f"{frame + 1:06d}.jpg")
            video.write(np.asarray(image), frame / frames_per_second)
    return path


def _write_people(path: Path, names: list[str], seen: dict[int, list[SeenPerson]], frames_per_second: float) -> None:
    """Write who passes which camera: identity, camera, first and last frame and second, and how many boxes."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["identity", "camera", "first_frame", "last_frame", "first_second", "last_second", "boxes"])
    rows = []
    for camera, people in seen.items():
        for person in {each.person for each in people}:
            frames = [each.frame for each in people if each.person == person]
            first, last = min(frames), max(frames)
            seconds = (first / frames_per_second, last / frames_per_second)
            shown = [f"{each:.3f}" for each in seconds]
            rows.append((person, first, [person + 1, names[camera], first + 1, last + 1, *shown, len(frames)]))
    table.writerows(row for _, _, row in sorted(rows))
    write_text(path, text.getvalue())
