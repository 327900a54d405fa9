"""`sil crop`: people cut out of footage, followed within each camera, and listed for a gallery."""

from __future__ import annotations

import contextlib
import math
import os
import queue
import shutil
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sil_cli.data.images import MIN_SIDE, pixels_in
from sil_cli.data.manifest import Skipped
from sil_cli.defaults import model_folder
from sil_cli.errors import DataError, ModelError, UsageError
from sil_cli.files import sha256_of_file
from sil_cli.footage.crop_folder import Candidate, CropFolder, FootageFiles
from sil_cli.footage.detectors import make_detector
from sil_cli.footage.frames import Place
from sil_cli.footage.quality import BestCrops, crop_quality
from sil_cli.footage.sources import FootageReader, overlaps
from sil_cli.footage.tracker import Tracker
from sil_cli.footage.videos import VideoError, digest_of
from sil_cli.locks import writer_lock
from sil_cli.models.embed import embed
from sil_cli.models.load import load
from sil_cli.output_checks import require_writable
from sil_cli.results import Result
from sil_cli.settings import refuse_fetching

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from sil_cli.footage.frames import Detection, Detector, Frame
    from sil_cli.footage.sources import Footage
    from sil_cli.models.engines.engine import Engine
    from sil_cli.runtime import Reporter, Task
    from sil_cli.settings import Settings

SECONDS_BETWEEN_SAVES = 10.0
_BATCH_BYTES = 64 * 2**20
"""Of decoded frames in a batch, of which three are held: the one at hand, the next one, and one in the making."""

_ESTIMATED_AFTER = 100
"""Frames by which the room that all the crops will need is reckoned."""

_DECIDING = (
    *("every", "lasting", "until", "start", "camera", "fps", "detector", "min_score", "min_height", "person_class"),
    *("detector_bgr", "detector_scale", "detector_size", "batch", "keep", "track"),
)
"""Settings that decide what comes out."""


class CroppedFootage(Result):
    """What became of one piece of footage.

    Attributes:
        video: What it was named by.
        name: Of its crops' folder and its tracklets.
        camera: Which camera took it.
        start: When it begins, ISO 8601; None where nobody says.
        seconds: Of footage that was looked at.
        frames: Frames looked at.
        detections: People found in them.
        tracklets: People followed, of whom there is a crop.
        crops: Crops kept.
        unchanged: It had been done before.
        odd: What was odd in it, a sentence each.
    """

    video: str
    name: str
    camera: str
    start: str | None
    seconds: float
    frames: int
    detections: int
    tracklets: int
    crops: int
    unchanged: bool
    odd: list[str]


class CropResult(Result):
    """What `sil crop` made.

    Attributes:
        table: The table of all crops in the folder.
        crops: Lines in it.
        footage: What became of each piece of footage.
        failed: Footage that was passed over, and why.
        frames_per_second: Of those looked at in this run; None where there was none.
        stages: Seconds of this run in each stage; `decode` runs beside the others, `waiting` is what is waited for it.
        overlays: Videos with boxes and tracklets that were written.
        page: The page with the ways that people took; None where none was wanted, or it could not be written.
    """

    table: Path
    crops: int
    footage: list[CroppedFootage]
    failed: list[Skipped]
    frames_per_second: float | None
    stages: dict[str, float]
    overlays: list[Path]
    page: Path | None


@dataclass
class Stages:
    """The seconds that each stage took."""

    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("decode", "waiting", "detect", "embed", "track", "write"), 0.0)
    )

    @contextlib.contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Count the time of the block."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - start


def crop(settings: Settings, reporter: Reporter) -> CropResult:
    """Cut people out of footage.

    Raises:
        UsageError: No footage is named, there is none of that name, or it was cropped with other options before.
        DataError: Nothing of it can be used.
        SilError: The detector or the model can't be used, or the folder can't be written.
    """
    wanted = settings.crop
    reader = FootageReader(wanted, settings.gallery, max_pixels=pixels_in(settings.data.max_megapixels))
    found = reader.find()
    if any(each.kind == "stream" for each in found):
        refuse_fetching(settings, "crop.videos")
    require_writable(wanted.out, option="--out")
    if wanted.overlay is not None:
        from sil_cli.footage.overlay import check_overlay

        check_overlay(wanted.overlay, len(found))
    usable, failed = _looked_at(reader, found)
    if not usable:
        raise _nothing_usable(failed)
    for line in overlaps(usable):
        reporter.warn(line)
    wanted.out.mkdir(parents=True, exist_ok=True)
    with writer_lock(
        wanted.out,
        while_held="Wait until that has ended, or use --out DIR for another folder.",
        elsewhere="Use --out DIR for another folder.",
    ):
        folder = CropFolder(wanted.out)
        options = _options(settings)
        pieces = [(each, folder.files(each, options, force=wanted.force)) for each in usable]
        done = {files.label for _, files in pieces if files.progress.done}
        stages, began, looked = Stages(), time.perf_counter(), 0
        try:
            if len(done) < len(pieces):
                run = _Run(settings, reporter, reader, folder, stages)
                failed += run.all([(each, files) for each, files in pieces if files.label not in done])
                looked = run.looked
        finally:
            count = folder.write_table()
        seconds = time.perf_counter() - began
        overlays, page = _draw(settings, reader, pieces, reporter)
    gone = {each.path for each in failed}
    cropped = [each for each in pieces if each[0].name not in gone or each[1].progress.frames]
    if not cropped:
        raise _nothing_usable(failed)
    return CropResult(
        table=wanted.out / "crops.csv",
        crops=count,
        footage=[_result(each, files, files.label in done) for each, files in cropped],
        failed=failed,
        frames_per_second=round(looked / seconds, 2) if looked else None,
        stages={name: round(value, 3) for name, value in stages.seconds.items()},
        overlays=overlays,
        page=page,
    )


def _nothing_usable(failed: Sequence[Skipped]) -> DataError:
    reasons = "; ".join(f"{each.path} ({each.reason})" for each in failed)
    return DataError(f"Nothing that was named can be used: {reasons}.", "Replace or correct these, or name others.")


def _draw(
    settings: Settings, reader: FootageReader, pieces: Sequence[tuple[Footage, FootageFiles]], reporter: Reporter
) -> tuple[list[Path], Path | None]:
    """Draw what is wanted of the footage that is done."""
    if settings.crop.overlay is None and settings.crop.html is None:
        return [], None
    from sil_cli.footage.overlay import draw_footage

    done = [(footage, files.label) for footage, files in pieces if files.progress.done]
    return draw_footage(settings, reader, done, reporter)


def _looked_at(reader: FootageReader, found: Sequence[Footage]) -> tuple[list[Footage], list[Skipped]]:
    """The footage whose header can be read, with what it says; and what can't be used."""
    usable, failed = [], []
    for footage in found:
        try:
            reader.look_at(footage)
            usable.append(footage)
        except VideoError as error:
            failed.append(Skipped(path=footage.name, reason=error.reason))
    return usable, failed


def _options(settings: Settings) -> dict[str, Any]:
    """What decides the result, as it is kept beside it."""
    wanted = settings.crop.model_dump(mode="json", include=set(_DECIDING))
    detector = Path(settings.crop.detector)
    if detector.is_file():
        wanted["detector"] = f"sha256 {sha256_of_file(detector)}"
    wanted["model"] = None if settings.crop.model is None else str(settings.crop.model)
    return wanted


class _Run:
    """What the pieces of footage of one command share: the detector, the model, the progress."""

    def __init__(
        self, settings: Settings, reporter: Reporter, reader: FootageReader, folder: CropFolder, stages: Stages
    ) -> None:
        self._settings = settings
        self._wanted = settings.crop
        self._reporter = reporter
        self._reader = reader
        self._folder = folder
        self._stages = stages
        self._engine = _engine(settings, reporter)
        self._shared: Detector | None = None
        self._written = 0
        self._estimated = False
        self.looked = 0

    def all(self, pieces: Sequence[tuple[Footage, FootageFiles]]) -> list[Skipped]:
        """Crop all of them; returns those that can't be used."""
        totals = [_frames_in(footage, self._wanted.every, self._wanted.lasting) for footage, _ in pieces]
        total = None if any(each is None for each in totals) else sum(each or 0 for each in totals)
        self._expected = total
        failed = []
        with self._reporter.task("Cropping", total, "frames") as task:
            for footage, files in pieces:
                try:
                    self._one(footage, files, task)
                except VideoError as error:
                    failed.append(Skipped(path=footage.name, reason=error.reason))
        return failed

    def _detector(self, footage: Footage) -> Detector:
        """The detector, one for all footage unless its boxes come from a folder of files."""
        if Path(self._wanted.detector).is_dir():
            return make_detector(self._settings, footage.title, self._reporter)
        if self._shared is None:
            self._shared = make_detector(self._settings, footage.title, self._reporter)
        return self._shared

    def _one(self, footage: Footage, files: FootageFiles, task: Task) -> None:
        model = None if self._engine is None else self._engine.fingerprint
        if files.progress.next_frame and files.progress.model != model:
            raise UsageError(
                f"{footage.name} was begun with another model, or with none, and would be followed differently.",
                "Name that one with --model, or use --out DIR for another folder.",
            )
        files.progress.model = model
        detector = self._detector(footage)
        try:
            with files.opened():
                self._read(footage, files, detector, task)
        except VideoError:
            if not files.progress.frames:
                self._folder.drop(files)
            raise

    def _read(self, footage: Footage, files: FootageFiles, detector: Detector, task: Task) -> None:
        """Crop what is still to be looked at of a piece of footage.

        Raises:
            VideoError: It can't be read, or broke off; what was seen until then is kept.
        """
        follower = _Follower(self._settings, footage, files, self._stages)
        task.advance(files.progress.frames)
        saved = time.monotonic()
        live = footage.kind == "stream"
        after, behind = files.progress.after, files.progress.next_frame
        if after is None and behind:  # an earlier version stopped there
            after = Place(behind - 1, files.progress.ends, 0.0)
        frames_to_come = self._reader.frames(footage, after=after)
        ahead = _FramesAhead(frames_to_come, self._wanted.batch, self._stages, live=live)
        broken: VideoError | None = None
        try:
            with contextlib.closing(ahead.batches()) as batches:
                for frames in batches:
                    self._batch(frames, detector, follower)
                    task.advance(len(frames))
                    if time.monotonic() - saved >= SECONDS_BETWEEN_SAVES:
                        follower.save()
                        saved = time.monotonic()
        except VideoError as error:
            if not files.progress.frames:
                raise
            broken = error
        except KeyboardInterrupt:
            if live:  # it can't be gone on with: what was seen is the result
                follower.finish(ahead.dropped)
            elif follower.is_whole:  # else the last save counts
                follower.save()
            raise
        self._written += follower.finish(ahead.dropped)
        if broken is not None:
            raise broken

    def _batch(self, frames: list[Frame], detector: Detector, follower: _Follower) -> None:
        with self._stages.timed("detect"):
            found = detector.detect(frames)
        lowest = self._wanted.min_height
        found = [[each for each in some if each.box[3] >= lowest and each.box[2] >= MIN_SIDE] for some in found]
        with self._stages.timed("embed"):
            embeddings = self._embedded(frames, found)
        self._written += follower.follow(frames, found, embeddings)
        self.looked += len(frames)
        self._estimate()

    def _embedded(
        self, frames: Sequence[Frame], found: Sequence[Sequence[Detection]]
    ) -> list[NDArray[np.float32] | None]:
        """Embeddings of the people in each frame, (n, D) each, zeros for uncertain ones; None without a model."""
        if self._engine is None:
            return [None] * len(frames)
        sure = np.array([each.score >= self._wanted.track.high for some in found for each in some], dtype=bool)
        crops = [cut(frame.image, each) for frame, some in zip(frames, found, strict=True) for each in some]
        rows = np.zeros((len(crops), self._engine.dimension), dtype=np.float32)
        rows[sure] = embed(self._engine, [crops[number] for number in np.flatnonzero(sure)])
        ends = np.cumsum([len(some) for some in found])
        return [rows[end - len(some) : end] for end, some in zip(ends, found, strict=True)]

    def _estimate(self) -> None:
        """Once some frames are done, say how much room all of them will take, and warn where there is less."""
        if self._estimated or self._expected is None or self.looked < min(_ESTIMATED_AFTER, self._expected):
            return
        self._estimated = True
        needed = self._written / self.looked * max(0, self._expected - self.looked)
        free = shutil.disk_usage(self._wanted.out).free
        if needed > free:
            self._reporter.warn(
                f"At this rate the crops will take some {needed / 1e6:,.0f} MB more, and {free / 1e6:,.0f} MB are "
                "free: use --keep, --every or another --out."
            )
        elif self._expected >= 10 * _ESTIMATED_AFTER:
            self._reporter.note(f"The crops will take some {needed / 1e6:,.0f} MB more; {free / 1e6:,.0f} MB are free.")


@dataclass
class _FollowedPerson:
    """Somebody who is followed: how many boxes there are of them, and the crops that may be kept."""

    boxes: int
    best: BestCrops[Candidate]

    def stored(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        return {"boxes": self.boxes, "crops": [item.stored() for _, _, item in self.best.held()]}

    @classmethod
    def of(cls, stored: dict[str, Any], keep: int) -> _FollowedPerson:
        """That of which `stored` was made."""
        best: BestCrops[Candidate] = BestCrops(keep)
        for each in map(Candidate.of, stored["crops"]):
            best.offer(each.seconds, each.quality, each)
        return cls(int(stored["boxes"]), best)


class _Follower:
    """Follows the people of one piece of footage, and keeps the best crops of each.

    Attributes:
        is_whole: No batch is half followed.
    """

    def __init__(self, settings: Settings, footage: Footage, files: FootageFiles, stages: Stages) -> None:
        self._footage = footage
        self._files = files
        self._progress = files.progress
        self._stages = stages
        self._video = _reference(footage, files.folder)
        self.is_whole = True
        self._shortest, self._keep = settings.crop.track.shortest, settings.crop.keep
        self._tracker = Tracker(settings.crop.track, self._progress.tracker)
        self._last: Frame | None = None
        self._people = {
            number: _FollowedPerson.of(stored, self._keep) for number, stored in self._progress.held.items()
        }

    def follow(
        self,
        frames: Sequence[Frame],
        found: Sequence[Sequence[Detection]],
        embeddings: Sequence[NDArray[np.float32] | None],
    ) -> int:
        """Join what was found in a batch of frames to tracklets; returns the bytes of crops that were written."""
        self.is_whole = False
        written = 0
        for frame, detections, looks in zip(frames, found, embeddings, strict=True):
            with self._stages.timed("track"):
                followed = self._tracker.update(frame, detections, looks)
                qualities = crop_quality(frame.image, [each.box for each, _ in followed])
                for (detection, number), quality in zip(followed, qualities, strict=True):
                    person = self._people.setdefault(number, _FollowedPerson(0, BestCrops(self._keep)))
                    person.boxes += 1
                    candidate = self._candidate(frame, detection, float(quality))
                    person.best.offer(frame.seconds, candidate.quality, candidate)
            with self._stages.timed("write"):
                self._files.add_boxes(_track_rows(frame, followed))
                written += self._flush(self._tracker.ended())
            self._progress.frames += 1
            self._progress.detections += len(detections)
            self._progress.next_frame = frame.index + 1
            self._progress.ends = frame.seconds
            size = frame.image.shape[1], frame.image.shape[0]
            if size not in self._progress.sizes:
                self._progress.sizes.append(size)
        self._last = frames[-1]
        self.is_whole = True
        return written

    def _flush(self, numbers: Sequence[int]) -> int:
        """Write the best crops of tracklets that are over."""
        written = 0
        for number in numbers:
            person = self._people.pop(number, None)
            if person is None or person.boxes < self._shortest:
                continue
            self._progress.tracklets += 1
            written += sum(self._files.add_crop(number, each) for each in person.best.chosen())
        return written

    def _candidate(self, frame: Frame, detection: Detection, quality: float) -> Candidate:
        row = {
            "camera": self._footage.camera,
            "time": "" if frame.time is None else frame.time.isoformat(timespec="milliseconds"),
            "video": self._video,
            "frame": str(frame.index),
            "seconds": f"{frame.seconds:.3f}",
            "frame_box": ",".join(map(str, detection.box)),
            "score": f"{detection.score:.4f}",
        }
        return Candidate(frame.index, frame.seconds, quality, row, cut(frame.image, detection).copy())

    def save(self) -> None:
        """Say durably how far the footage is."""
        self._progress.tracker = self._tracker.state()
        self._progress.held = {number: person.stored() for number, person in self._people.items()}
        if self._last is not None and self._last.place is not None:
            self._progress.after = replace(self._last.place, digest=digest_of(self._last.image))
        self._files.save()

    def finish(self, dropped: int) -> int:
        """End all tracklets; returns the bytes of crops that were written."""
        written = self._flush(self._tracker.finish())
        self._progress.oddities = self._footage.oddities.described()
        if dropped:
            self._progress.oddities.append(
                f"{dropped:,} frames came faster than they could be looked at, and are left out"
            )
        if len(self._progress.sizes) > 1:
            self._progress.oddities.append(f"its frames have {len(self._progress.sizes):,} sizes")
        self._files.finish(self._shortest)
        return written


class _FramesAhead:
    """Frames in batches, decoded in a thread while the batch before is looked at.

    Of a stream, frames that come while nobody has time for them are dropped, the oldest first, so that what is looked
    at is always of now. Of a file none is, and batches are always cut alike.

    Attributes:
        dropped: How many frames of a stream nobody had time for.
    """

    def __init__(self, frames: Iterator[Frame], batch: int, stages: Stages, *, live: bool) -> None:
        self._frames = frames
        self._batch = batch
        self._stages = stages
        self._live = live
        self._stop = threading.Event()
        self._coming: queue.Queue[list[Frame] | BaseException | None] = queue.Queue(batch if live else 1)
        self.dropped = 0

    def batches(self) -> Generator[list[Frame], None, None]:
        """The batches, in order.

        Raises:
            VideoError: As whoever reads the frames does.
        """
        threading.Thread(target=self._read, daemon=True, name="sil-frames").start()
        try:
            while True:
                with self._stages.timed("waiting"):
                    got = self._coming.get()
                if self._live and isinstance(got, list):
                    while len(got) < self._batch and not self._coming.empty():
                        more = self._coming.get()
                        if not isinstance(more, list):
                            yield got
                            got = more
                            break
                        got = got + more
                if isinstance(got, BaseException):
                    raise got
                if got is None:
                    return
                yield got
        finally:
            self._stop.set()
            with contextlib.suppress(queue.Empty):
                self._coming.get_nowait()  # whoever waits for room goes on, and ends

    def _read(self) -> None:
        last: BaseException | None = None
        try:
            for frames in self._gathered():
                if not self._put(frames):
                    return
        except BaseException as error:
            last = error
        self._put(last)

    def _gathered(self) -> Iterator[list[Frame]]:
        """One frame at a time of a stream; else as many as a batch has, by number or by their size."""
        some: list[Frame] = []
        size = 0
        iterator = iter(self._frames)
        while True:
            with self._stages.timed("decode"):
                frame = next(iterator, None)
            if frame is None:
                break
            some.append(frame)
            size += frame.image.nbytes
            if self._live or len(some) == self._batch or size >= _BATCH_BYTES:
                yield some
                some, size = [], 0
        if some:
            yield some

    def _put(self, item: list[Frame] | BaseException | None) -> bool:
        """Hand something on; False where nobody wants it any more."""
        while not self._stop.is_set():
            try:
                self._coming.put(item, timeout=0.0 if self._live else 0.2)
                return True
            except queue.Full:
                if self._live and isinstance(item, list):
                    with contextlib.suppress(queue.Empty):
                        self._coming.get_nowait()
                        self.dropped += 1
        return False


def cut(image: NDArray[np.uint8], detection: Detection) -> NDArray[np.uint8]:
    """The part of a frame that a detection's box shows, a view."""
    left, top, width, height = detection.box
    return image[top : top + height, left : left + width]


def _track_rows(frame: Frame, followed: Sequence[tuple[Detection, int]]) -> Iterator[list[str]]:
    """The lines of a frame in the table of boxes; one without a box where nobody was followed."""
    head = [str(frame.index), f"{frame.seconds:.3f}"]
    if not followed:
        yield [*head, "", "", "", "", "", ""]
    for detection, number in followed:
        yield [*head, str(number), *map(str, detection.box), f"{detection.score:.4f}"]


def _engine(settings: Settings, reporter: Reporter) -> Engine | None:
    """The model that tells people apart while they are followed; None where there is none, or none is wanted."""
    wanted = settings.crop.model
    if (wanted is not None and str(wanted) == "none") or not settings.crop.track.appearance:
        return None
    try:
        folder = model_folder(wanted, settings.train.runs)
    except ModelError:
        if wanted is not None:
            raise
        reporter.note("There is no trained model yet: people are followed by their motion alone.")
        return None
    return load(folder, settings, reporter).engine


def _frames_in(footage: Footage, every: float, lasting: float | None) -> int | None:
    """How many frames will be looked at, as far as the header says; None where it doesn't."""
    seconds, rate = footage.facts.seconds, footage.facts.rate
    if seconds is None:
        return None if lasting is None or not every else math.ceil(lasting / every)
    seconds = min(seconds, lasting or seconds)
    if every and (rate is None or every > 1 / rate):
        return max(1, math.ceil(seconds / every))
    return None if rate is None else max(1, round(seconds * rate))


def _reference(footage: Footage, folder: Path) -> str:
    """How crops name their footage: by the path as seen from their folder, or a stream's address."""
    if footage.path is None:
        return footage.name
    return Path(os.path.relpath(footage.path.resolve(), folder.resolve())).as_posix()


def _result(footage: Footage, files: FootageFiles, unchanged: bool) -> CroppedFootage:
    progress = files.progress
    return CroppedFootage(
        video=footage.name,
        name=files.label,
        camera=footage.camera,
        start=None if footage.start is None else footage.start.isoformat(),
        seconds=round(progress.ends, 3),
        frames=progress.frames,
        detections=progress.detections,
        tracklets=progress.tracklets,
        crops=progress.crops,
        unchanged=unchanged,
        odd=progress.oddities,
    )
