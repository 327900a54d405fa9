"""The settings of what is done with footage: reading it, finding people in it, following and cutting them out."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from sil_cli.settings.fields import Count, Moment, Positive, Section, Share


class TracksSettings(Section):
    """Scoring the tracklets of footage."""

    found: Path | None = Field(
        None, description="tracklets to score instead of a model: a folder of `sil crop`, or of MOTChallenge results"
    )
    truth: Path | None = Field(None, description="for tracks: their ground truth, sequences that each have gt/gt.txt")
    groups: Path | None = Field(
        None, description="for tracks: a .csv with columns person and tracklet, or path, scored over all cameras"
    )


class TrackSettings(Section):
    """Following people within a camera."""

    high: Share = Field(0.5, description="detections of this score and above are joined first")
    low: Share = Field(0.1, description="detections down to this score may then continue a tracklet just seen")
    new: Share = Field(0.6, description="an unmatched detection of at least this score begins a tracklet")
    patience: float = Field(2.5, ge=0.0, le=600.0, description="seconds unseen after which a tracklet ends")
    appearance: float = Field(
        1.0, ge=0.0, le=10.0, description="weight of what people look like beside how they move; 0: motion alone"
    )
    shortest: Positive = Field(3, description="tracklets of fewer detections are left out")
    most: int = Field(300, ge=1, le=2000, description="people followed at a time; a frame's most certain ones")


class CropSettings(Section):
    """From footage to crops."""

    videos: tuple[str, ...] = Field((), description="videos, folders or lists of frames, streams, /dev/video0")
    out: Path = Field(Path("crops"), description="where crops and crops.csv go")
    camera: str | None = Field(None, min_length=1, description="the camera of all that is named; default: by file name")
    pattern: str | None = Field(None, description="named groups camera and time, matched in each path")
    start: Moment | None = Field(
        None, description="when footage begins; default: what the pattern, the container or its name says"
    )
    every: float = Field(
        0.2, ge=0.0, le=86_400.0, description="seconds between the frames that are looked at; 0: all of them"
    )
    lasting: float | None = Field(None, gt=0.0, description="seconds of each piece of footage to look at; default: all")
    until: Moment | None = Field(None, description="ignore what was taken later")
    fps: float | None = Field(
        None, gt=0.0, le=1000.0, description="frames a second of images; default: what seqinfo.ini says, or 25"
    )
    patience: float = Field(10.0, gt=0.0, le=3600.0, description="seconds that a stream may send nothing")
    detector: str = Field(
        "torchvision",
        min_length=1,
        description="`torchvision`, an .onnx or .xml file, boxes (.txt, COCO, CVAT or FiftyOne) or a folder of "
        "their files, or `hog`",
    )
    min_score: Share = Field(0.1, description="detections of lower scores are ignored")
    min_height: Positive = Field(
        32, description="people smaller than this in a frame, in pixels of height, are left out"
    )
    person_class: Count | None = Field(None, description="which class of a detector file is a person; default: its own")
    detector_bgr: bool | None = Field(None, description="a detector file takes blue, green, red; default: by its form")
    detector_scale: float | None = Field(
        None, gt=0.0, description="a detector file takes pixels divided by this; default: by its form"
    )
    detector_size: int = Field(640, ge=32, le=4096, description="side of what a detector file of any size is given")
    batch: Positive = Field(8, description="frames looked at together")
    keep: Positive = Field(5, description="crops to keep of each tracklet")
    track: TrackSettings = TrackSettings()
    model: Path | None = Field(
        None,
        description="a run folder whose embeddings help to join boxes; default: the latest finished run; `none`: "
        "motion alone",
    )
    overlay: Path | None = Field(
        None,
        description="a video with boxes and tracklets over the frames; a folder, where there are several",
    )
    html: Path | None = Field(None, description="where a page with people's paths is written")
    force: bool = Field(False, description="replace crops that were made with other options")
