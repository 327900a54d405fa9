"""MOTChallenge (MOT15 to MOT20 and sets in their format): frames of sequences, with the box of each person in them."""

from __future__ import annotations

import configparser
import csv
import re
from typing import TYPE_CHECKING, NamedTuple

from sil_cli.data.manifest import ImageRecord, Skipped
from sil_cli.data.readers.layout import FolderLayout, Sign, check_layout, child_folders, has
from sil_cli.data.readers.named_files import left_out
from sil_cli.data.reading import Reading
from sil_cli.data.walking import find_image_files
from sil_cli.errors import DataError, one_line
from sil_cli.files import read_text

if TYPE_CHECKING:
    from pathlib import Path

_BOXES = "gt/gt.txt"
_FRAMES = "img1"
_DETECTOR = re.compile(r"(?P<sequence>MOT\d+-\d+)-(DPM|FRCNN|SDP)")
_PEDESTRIANS = {1, -1}
"""The class of pedestrians; MOT15 has -1 for all."""

_LEAST_VISIBLE = 0.3
_MOST_BYTES = 2 * 10**9


class _Seen(NamedTuple):
    """One line of `gt.txt`: a person's box in a frame."""

    frame: int
    person: int
    box: tuple[int, int, int, int]


def _sequences(folder: Path) -> list[Path]:
    """The sequences in a folder, or it alone where it is one."""
    if has(folder, _BOXES):
        return [folder]
    return [child for child in child_folders(folder) if has(child, _BOXES)]


def _signs(folder: Path) -> Sign | None:
    found = _sequences(folder)
    if not found:
        return None
    return Sign(f"{_BOXES} in {'it' if found == [folder] else ', '.join(each.name for each in found[:3])}")


MOTCHALLENGE = FolderLayout("MOTChallenge", "sequences, each with gt/gt.txt and the frames in img1", look=_signs)


def read_motchallenge(root: Path, *, name: str | None = None) -> Reading:
    """Read the people of MOTChallenge's sequences (Milan et al., arXiv 1603.00831), for training.

    A sequence is a camera, and its people are its own: nobody is known again in another one, so that all is training
    data. A record names a frame and the box in it; no crop is written. What is no pedestrian, is flagged to be
    ignored, or is visible by less than three tenths is left out. Of a sequence that comes once for each detector
    (MOT17-02-DPM, -FRCNN, -SDP), the first is read.

    Args:
        root: The folder of the sequences, such as MOT17/train, or a single one.
        name: The domain's name; `motchallenge` when None.

    Raises:
        DataError: There is no sequence, or its boxes are not as MOTChallenge writes them.
    """
    check_layout(root, MOTCHALLENGE)
    domain = name or "motchallenge"
    records: list[ImageRecord] = []
    skipped: list[Skipped] = []
    read: dict[str, str] = {}
    for folder in _sequences(root):
        within = "" if folder == root else f"{folder.name}/"
        detector = _DETECTOR.fullmatch(folder.name)
        camera = detector["sequence"] if detector else folder.resolve().name
        if camera in read:
            skipped.append(Skipped(path=within, reason=f"the frames of {read[camera]}"))
            continue
        read[camera] = folder.name
        frames_folder = _frames_folder(folder)
        found = find_image_files(folder / frames_folder)
        frames = {int(number[0]): path for path in found.paths if (number := re.search(r"\d+(?=\.\w+$)", path))}
        seen, ignored = _boxes(folder / _BOXES)
        missing = [each for each in seen if each.frame not in frames]
        records += [
            ImageRecord(
                path=f"{within}{frames_folder}/{frames[each.frame]}",
                identity=f"{camera}-{each.person:04d}",
                camera=camera,
                split="train",
                domain=domain,
                frame=each.frame,
                box=each.box,
            )
            for each in seen
            if each.frame in frames
        ]
        skipped += [Skipped(path=f"{within}{frames_folder}/{each.path}", reason=each.reason) for each in found.skipped]
        skipped += left_out(f"{within}{_BOXES}", ignored, "no pedestrian, to be ignored, or hardly visible")
        skipped += left_out(f"{within}{frames_folder}/*", len(missing), f"not there, but in {_BOXES}")
    return Reading(domain, "motchallenge", root, records, skipped)


def _frames_folder(sequence: Path) -> str:
    """Where the frames lie, which `seqinfo.ini` says."""
    about = configparser.ConfigParser(interpolation=None)
    try:
        about.read_string(read_text(sequence / "seqinfo.ini"))
        named = about.get("Sequence", "imDir", fallback=_FRAMES).strip()
    except (OSError, ValueError, configparser.Error):
        named = _FRAMES
    return named if re.fullmatch(r"\w[\w.-]*", named) else _FRAMES


def _boxes(path: Path) -> tuple[list[_Seen], int]:
    """The people of `gt.txt`, each once a frame, in its order, and how many lines were left out.

    A line is frame, person, left, top, width, height, flag, class, visibility; pixels are counted from 1.
    """
    seen: dict[tuple[int, int], _Seen] = {}
    rows, ignored = csv.reader(()), 0
    try:
        rows = csv.reader(read_text(path, most=_MOST_BYTES).splitlines())
        for row in rows:
            if not row:
                continue
            frame, person = int(float(row[0])), int(float(row[1]))
            left, top, width, height = (round(float(cell)) for cell in row[2:6])
            flag, kind, visible = ([float(cell) for cell in row[6:9]] + [1.0, 1.0, 1.0][len(row[6:9]) :])[:3]
            if not flag or kind not in _PEDESTRIANS or 0 <= visible < _LEAST_VISIBLE or width < 1 or height < 1:
                ignored += 1
            else:
                seen.setdefault((frame, person), _Seen(frame, person, (left - 1, top - 1, width, height)))
    except (OSError, ValueError, IndexError, OverflowError, csv.Error) as error:
        raise DataError(
            f"{path}, line {rows.line_num}, is not as MOTChallenge writes boxes: {one_line(error)}.",
            "A line is frame, person, left, top, width, height, flag, class, visibility.",
        ) from error
    return list(seen.values()), ignored
