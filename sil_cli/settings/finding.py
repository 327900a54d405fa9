"""The settings of what is done with a model: embedding, evaluating, galleries, queries and reports."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from sil_cli.settings.fields import (
    Count,
    EngineName,
    FalseAcceptRate,
    Moment,
    Positive,
    Precision,
    Section,
    Seed,
    Share,
)


class InferenceSettings(Section):
    """How embeddings are computed."""

    engine: EngineName = Field(
        "auto", description="`auto`: the fastest that is installed and exported; torch on an accelerator"
    )
    precision: Precision = Field(
        "auto",
        description="`auto`: bfloat16 where the export measured a cosine of 0.9999 to float32; evaluating, float32",
    )


class ExportSettings(Section):
    """Writing a model as ONNX."""

    model: Path | None = Field(None, description="a run folder; default: the latest finished run")
    out: Path | None = Field(None, description="a folder or an .onnx file; default: the run folder")
    int8: bool = Field(False, description="quantise to int8, which makes a different model")
    calibrate_on: Path | None = Field(
        None, description="crops to calibrate int8 on and to compare with torch; default: generated people"
    )


class EvaluateSettings(Section):
    """Scoring a model on a data set."""

    model: Path | None = Field(None, description="a run folder; default: the latest finished run")
    target: Path | None = Field(None, description="a prepared data set; default: the one left out")
    batch: Positive = Field(128, description="images per forward pass")
    embeddings: Path | None = Field(None, description="an .npz file of any project's embeddings, instead of a model")
    metric: Literal["cosine", "euclidean"] = Field("cosine", description="how embeddings are compared")
    save_embeddings: Path | None = Field(None, description="an .npz file to write the embeddings to")
    out: Path | None = Field(None, description="where results go; default: into the run, or beside the embeddings")
    fused: tuple[Path, ...] = Field((), description="further models; similarity is the mean of all models'")
    flip: bool = Field(False, description="embed each image and its mirror, and take the mean")
    height: int | None = Field(None, ge=16, le=1024, description="input height; default: the trained one")
    width: int | None = Field(None, ge=16, le=1024, description="input width; default: the trained one")
    tracklets: bool = Field(False, description="the mean of the queries of one identity and camera is one query")
    expand_queries: Count = Field(0, description="draw each query towards this many gallery images")
    augment_gallery: Count = Field(0, description="draw each gallery image towards this many others")
    expansion_alpha: float = Field(3.0, ge=0.0, description="of both: similarity^α is a neighbour's weight; 0: mean")
    rerank: bool = Field(False, description="re-rank by k-reciprocal encoding")


class CompareSettings(Section):
    """Comparing two models on one target."""

    target: str | None = Field(None, description="the target's name; default: the one that both were evaluated on")
    changed: Count = Field(5, description="how many of the most improved queries to name, and of the most worsened")


class CalibrateSettings(Section):
    """Measuring the score above which two images show one person."""

    model: Path | None = Field(None, description="a run folder; default: the latest finished run")
    on: Path | None = Field(
        None, description="a labelled, prepared data set; default: people of the sources who were not trained on"
    )
    images: int = Field(
        3000, ge=2, lt=2**31, description="at most this many images of each data set, with all of each person's"
    )
    seed: Seed = Field(0, description="draws the people when there are more")
    match: FalseAcceptRate = Field("1e-3", description="false accept rate allowed for a match")
    possible: FalseAcceptRate = Field("1e-2", description="false accept rate allowed for a possible match")
    ask: int | None = Field(
        None, ge=1, le=500, description="pairs of a gallery to draw, so that somebody says whether each is one person"
    )
    sheet: Path = Field(
        Path("questions.jpg"), description="where these are drawn; the table for the answers goes beside it, as .csv"
    )
    answers: Path | None = Field(None, description="that table with answers, to be kept in the gallery")


class BenchmarkSettings(Section):
    """Running whole protocols."""

    methods: tuple[str, ...] = Field((), description="what to compare, the baseline first; default: the recipe")
    seeds: tuple[Seed, ...] = Field((1,), min_length=1, description="every case is trained once with each")
    out: Path = Field(Path("benchmarks"), description="where runs and tables go")


class RerankSettings(Section):
    """k-reciprocal re-ranking, in evaluation and in queries; the defaults are its authors' (CVPR 2017)."""

    k1: Positive = Field(20, description="neighbours considered")
    k2: Positive = Field(6, description="neighbours whose encodings are averaged; 1: none")
    weight: Share = Field(0.3, description="λ: weight of the original distance beside the Jaccard distance")


class GallerySettings(Section):
    """The searchable gallery."""

    folder: Path = Field(Path("gallery"), description="where the gallery is kept")
    store: str | None = Field(
        None,
        description="milvus://HOST:PORT/COLLECTION or a Milvus Lite file NAME.db; default: the folder itself",
    )
    patience: float = Field(
        120.0, gt=0.0, le=3600.0, description="seconds to keep trying while a Milvus server doesn't answer"
    )
    images: tuple[Path, ...] = Field(
        (), description="folders, prepared data sets, .csv tables, lists of paths, or - for a stream of paths"
    )
    root: Path | None = Field(None, description="paths in tables and lists are relative to it, and tables stay in it")
    pattern: str | None = Field(
        None, description="named groups identity, camera, time, tracklet, … matched in each path"
    )
    time_format: str = Field(
        "auto", description="`auto`: any of one reading; `epoch`, `epoch-ms`, or a strptime pattern"
    )
    timezone: str = Field("UTC", description="time zone of times that don't name one, and of times shown; or `local`")
    exif: bool = Field(False, description="take time and camera from EXIF tags when nothing else gives them")
    tracklets: Literal["off", "named", "folder"] = Field(
        "off", description="one entry for all images of a tracklet: by its name, or by folder"
    )
    prune: bool = Field(False, description="remove entries whose files are missing")
    model: Path | None = Field(None, description="a run folder; default: the latest finished run")
    batch: Positive = Field(128, description="images per forward pass and per commit")
    export: bool = Field(
        True, description="export the model, if it isn't yet and can be, so that queries start at once"
    )
    purpose: str | None = Field(None, max_length=2000, description="what the gallery is kept for, in words")
    legal_basis: str | None = Field(
        None, max_length=2000, description="the law or consent under which it is kept, in words"
    )
    log: bool = Field(False, description="log in the gallery who searched, decided, removed and exported what")
    require_purpose: bool = Field(False, description="every search must say what it is for")
    keep_days: float | None = Field(
        None, gt=0.0, le=36_500.0, description="entries taken more days ago than this are removed"
    )
    camera_keep_days: tuple[str, ...] = Field((), description="CAMERA=DAYS: the same for one camera")
    index: str | None = Field(
        None,
        description="`auto` (by size), `exact`, or FAISS's name of an index; default: unchanged, `auto` when new",
    )


class FilterSettings(Section):
    """Which entries of the gallery may be found."""

    camera: tuple[str, ...] = Field((), description="only from these cameras")
    exclude_camera: tuple[str, ...] = Field((), description="not from these cameras")
    after: Moment | None = Field(
        None,
        description="taken at this time or later (2024, 2024-05-31T08:30, …; without a zone, in `gallery.timezone`)",
    )
    before: Moment | None = Field(None, description="taken before this time")
    identity: tuple[str, ...] = Field((), description="only these people")
    where: tuple[str, ...] = Field(
        (), description="KEY=VALUE of any metadata; several values of one key mean any of them"
    )


class QuerySettings(Section):
    """Searching the gallery."""

    images: tuple[Path, ...] = Field((), description="images of people to find")
    ids: tuple[int, ...] = Field((), description="ids of gallery entries to find more like")
    boxes: tuple[str, ...] = Field((), description="left,top,width,height in pixels: the person in a larger image")
    detector: str | None = Field(
        None, description="who finds people in larger images: as `crop.detector`; default: images are of one person"
    )
    person: Positive | None = Field(None, description="whom of the people found is meant, counted from the left")
    people: Path = Field(Path("people.jpg"), description="where the people found are shown with their numbers")
    fuse: bool = Field(False, description="all images show one person: search by their mean")
    batch: Path | None = Field(None, description="a source of many queries, answered as JSON lines")
    out: Path | None = Field(None, description="where the JSON lines go; default: standard output")
    model: Path | None = Field(None, description="a run folder; default: the copy that the gallery keeps")
    top: Positive = Field(10, description="matches to list")
    all: bool = Field(False, description="list every match above the threshold of `possible`, or above min_score")
    min_score: float | None = Field(None, ge=-1.0, le=1.0, description="leave out matches below this cosine")
    match: float = Field(
        0.1, gt=0.0, le=1e6, description="a match: at its score, up to this many false matches are expected"
    )
    possible: float = Field(5.0, gt=0.0, le=1e6, description="a possible match: likewise")
    exclude_self: bool = Field(False, description="leave out gallery entries made from the query's own file")
    group: Literal["none", "identity", "person", "camera"] = Field(
        "none",
        description="`identity`: the best of each; `person`: of each whom `sil people` found; `camera`: the person's "
        "path through cameras and time",
    )
    gap: float = Field(60.0, ge=0.0, le=1e9, description="seconds without an image after which a new visit begins")
    context: bool = Field(False, description="show the frame around matches that were cut out of footage")
    sheet: Path = Field(Path("matches.jpg"), description="where the contact sheet is written; `none`: nowhere")
    rerank: bool = Field(False, description="re-rank the short list by k-reciprocal encoding")
    shortlist: Positive = Field(200, description="matches that are re-ranked among each other")
    html: Path | None = Field(None, description="where a page with the matches is written")
    purpose: str | None = Field(None, max_length=2000, description="what the search is for; written into the log")
    blur: bool = Field(False, description="on sheets and pages, blur people who are no match or possible match")
    filter: FilterSettings = FilterSettings()


class PeopleSettings(Section):
    """Grouping a gallery's entries into people."""

    again: bool = Field(
        False, description="group everything again, except what somebody named, merged, split, confirmed or rejected"
    )
    threshold: float = Field(
        0.5,
        ge=0.0,
        le=20.0,
        description="mean weight of links above which groups are one person; higher: purer, smaller groups",
    )
    overlap: tuple[str, ...] = Field(
        ("auto",),
        description="cameras that see the same place, as c1+c2; `all`; `none`; `auto`: as the entries show",
    )
    at_once: float = Field(
        1.0, ge=0.0, le=86_400.0, description="within so many seconds nobody can be seen by two cameras"
    )


Role = Literal["look", "judge", "administer"]


class ServeSettings(Section):
    """The page and the API over a gallery."""

    address: str = Field("127.0.0.1", description="address to listen on; any but loopback needs tokens or a proxy")
    port: int = Field(8765, ge=0, le=65535, description="port to listen on; 0: a free one")
    hosts: tuple[str, ...] = Field((), description="further names by which the server is reached")
    tokens: Path | None = Field(
        None, description="file of the tokens' hashes; default: sil/serve-tokens.json among the user's own settings"
    )
    proxy: tuple[str, ...] = Field((), description="addresses of proxies that say who asks")
    proxy_header: str = Field("X-Forwarded-User", description="the header in which they say it")
    proxy_roles: tuple[str, ...] = Field(
        (), description="USER=look, judge or administer: whom they may let in; *=ROLE for everyone else"
    )
    certificate: Path | None = Field(None, description="certificate of TLS, a .pem file")
    key: Path | None = Field(None, description="its key, a .pem file")
    rate: Positive = Field(120, description="searches a minute, for each user")
    waiting: Positive = Field(128, description="requests that may wait for the gallery at once")
    max_upload: float = Field(32.0, gt=0.0, le=4096.0, description="MiB that a request may have")


class ShowSettings(Section):
    """Looking at prepared data."""

    datasets: tuple[Path, ...] = Field((), description="prepared data sets; default: all in the data folder")
    split: Literal["train", "query", "gallery"] | None = Field(None, description="only this split's images")
    identities: Positive = Field(8, description="people on the sheet, of each data set")
    sample: Positive = Field(
        200_000, description="images to open of each data set, drawn by the seed; all if it has no more"
    )
    seed: Seed = Field(0, description="draws the people on the sheet and the sample")
    sheet: Path = Field(
        Path("show.jpg"), description="the contact sheet; the style chart lies beside it; `none`: neither"
    )


class ReportSettings(Section):
    """The page of pictures."""

    runs: tuple[Path, ...] = Field((), description="run folders; default: the latest finished run")
    target: str | None = Field(
        None,
        description="a target, or a folder within: viaduct/flip; default: the one they were all tested on",
    )
    out: Path | None = Field(None, description="a folder or an .html file; default: `report` in the run folder")
    queries: int = Field(3, ge=1, le=20, description="best, typical and worst queries to show, this many of each")
    projection: Literal["auto", "pca", "tsne"] = Field(
        "auto", description="map of embeddings; `auto`: t-SNE where scikit-learn is installed"
    )
    similarity_maps: bool = Field(True, description="show where images agree; runs the model on a few images")
    source_images: int = Field(
        150, ge=0, le=1000, description="images of each source to embed for the map by domain; 0: none"
    )
