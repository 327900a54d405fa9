"""`sil import-model`: a published checkpoint becomes a model folder, which every other command takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from sil_cli.defaults import RECORD_FILE
from sil_cli.errors import ModelError, UsageError, did_you_mean
from sil_cli.models.embedder import Embedder, architecture, load_embedder, save_model
from sil_cli.models.families import Published, recognise
from sil_cli.models.record import LIKE, WEIGHTS_FILE, Architecture, ModelCard, read_record
from sil_cli.models.weights import TOLD, load_pretrained, load_strictly
from sil_cli.results import Result
from sil_cli.runs.weight_file import read_state

if TYPE_CHECKING:
    from sil_cli.models.download import Origin
    from sil_cli.settings import Settings


@dataclass(frozen=True)
class ImportRequest:
    """What a user says of a weights file beside settings of the model.

    Attributes:
        origin: The file, and where it came from.
        folder: Where the model goes.
        like: A name in `LIKE`, whose code wrote the file.
        neck: `before` or `after`: which side of its last batch norm is the embedding.
        camera: The camera, or `mean`, for files that learnt something of each.
    """

    origin: Origin
    folder: Path
    like: str | None = None
    neck: str | None = None
    camera: str | None = None


class ImportResult(Result):
    """The outcome of `sil import-model`.

    Attributes:
        model: The folder that other commands take as the model.
        weights: Where they came from.
        family: Whose the file is, by its names.
        backbone: Its network.
        dimension: Numbers in an embedding.
        fingerprint: A hash of weights and preprocessing: equal ones embed alike.
        architecture: All that embeddings depend on beside the weights.
        assumed: Those of it that the file doesn't tell and nobody gave, and that its family always has.
        dropped: What the file holds that no embedding needs.
        notes: What else the file tells.
        card: Where it came from.
    """

    model: Path
    weights: str
    family: str = ""
    backbone: str
    dimension: int
    fingerprint: str
    architecture: Architecture
    assumed: list[str] = Field(default_factory=list)
    dropped: list[str] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    card: ModelCard


HOW = {
    "last_stride": "--stride 1 or 2",
    "stem_relu": "--set model.stem_relu=true or false",
    "neck": "--neck before or after",
    "pooling": "--pooling average or gem",
    "mean": "--mean R,G,B",
    "std": "--std R,G,B",
    "camera": "--camera N or --camera mean",
}
"""How what a file leaves open is said."""

NAMED = {
    "last_stride": "the stride of the last stage",
    "stem_relu": "whether a ReLU follows the first batch norm",
    "stem_pooling": "the max pooling in the stem",
    "neck": "which side of the last batch norm is the embedding",
    "pooling": "the pooling",
    "mean": "the mean that images are normalised by",
    "std": "the deviation that images are normalised by",
    "camera": "the camera, of which it learnt an embedding each",
    "height": "the input height",
    "width": "the input width",
}
"""What those are, in words."""


def import_model(settings: Settings, request: ImportRequest) -> ImportResult:
    """Load a weights file, strictly, and write `model.safetensors` and `model.json`.

    What its embeddings depend on is taken from its names and shapes, from what its family always has, or from what the
    user gives, which is refused where the file says otherwise.

    Args:
        settings: `model` says what the file itself does not.
        request: The rest.

    Raises:
        UsageError: The folder holds something already, or something has to be said that the file leaves open.
        ModelError: The file can't be read, is of a family that is not built here, or does not fit.
    """
    folder, path = request.folder, request.origin.path
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty.", "Choose another folder with --out DIR.")
    given = _given(settings, request)
    embedder, published, assumed, dropped = _loaded(path, settings, request, given)
    folder.mkdir(parents=True, exist_ok=True)
    family, notes = (published.family, published.notes) if published else ("", ())
    known = read_record(path.parent).card if _is_own(path) else None
    card = known or request.origin.card(family, notes)
    record = save_model(folder, embedder.eval(), card)
    return ImportResult(
        model=folder,
        weights=settings.model.weights,
        family=family,
        backbone=embedder.architecture.backbone,
        dimension=record.dimension,
        fingerprint=record.fingerprint,
        architecture=record.architecture,
        assumed=assumed,
        dropped=list(dropped),
        notes=[*notes, *card.warnings],
        card=card,
    )


def _given(settings: Settings, request: ImportRequest) -> dict[str, Any]:
    """What the user says of the model, by the fields of `Architecture`."""
    if request.like is not None and request.like not in LIKE:
        raise UsageError(f"--like {request.like} is not known.", did_you_mean(request.like, LIKE))
    if request.neck not in (None, "before", "after"):
        raise UsageError(f"--neck {request.neck} is not known.", "Choose before or after.")
    model = settings.model
    given = {name: getattr(model, name) for name in model.model_fields_set - {"weights"}}
    return given | ({} if request.neck is None else {"neck": request.neck == "after"})


def _loaded(
    path: Path, settings: Settings, request: ImportRequest, given: dict[str, Any]
) -> tuple[Embedder, Published | None, list[str], tuple[str, ...]]:
    """The model, whose it is, what was assumed of it, and what was left out; one of this program says all itself."""
    backbone = given.get("backbone")
    if _is_own(path):
        return load_embedder(path.parent)[0], None, [], ()
    if backbone is not None and backbone not in TOLD:
        return _of_named_backbone(path, settings, request)
    state = read_state(path)
    published = recognise(str(path), state)
    if published is None:
        raise _unknown(path, state)
    if backbone not in (None, published.backbone):
        raise ModelError(
            f"{path} is {published.family}: a {published.backbone}, not a {backbone}.", "Leave --backbone out."
        )
    fields, assumed = _decided(path, published, request, given)
    state = published.state if request.camera is None else published.seen_by(request.camera)
    unused = (*([] if fields["neck"] else ["neck."]), *([] if fields["pooling"] == "gem" else ["pool."]))
    kept = {name: value for name, value in state.items() if not name.startswith(unused or ("\0",))}
    embedder = Embedder(Architecture(backbone=published.backbone, **fields))
    load_strictly(embedder, kept, str(path))
    dropped = (*published.dropped, *(name for name in state if name not in kept))
    return embedder, published, assumed, dropped


def _is_own(path: Path) -> bool:
    """Whether a file is the weights of a model of this program, whose record lies beside it."""
    return path.name == WEIGHTS_FILE and (path.parent / RECORD_FILE).is_file()


def _of_named_backbone(
    path: Path, settings: Settings, request: ImportRequest
) -> tuple[Embedder, None, list[str], tuple[str, ...]]:
    """The model of a file whose network the user names, and whose neck, if any, is this program's own."""
    if request.camera is not None:
        raise UsageError("--camera is for TransReID's and CLIP-ReID's transformers.", "Leave it out.")
    named = architecture(settings.model)
    if request.neck is not None:
        named = named.model_copy(update={"neck": request.neck == "after"})
    embedder = Embedder(named)
    dropped = load_pretrained(embedder, str(path))
    return embedder, None, [], dropped


def _decided(
    path: Path, published: Published, request: ImportRequest, given: dict[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """The fields of `Architecture`, and in words those that nobody said.

    Raises:
        UsageError: Something is still open, or what was given is not what the file says.
    """
    told = {name: value for name, value in given.items() if name != "backbone" and value is not None}
    for name, value in published.fixed.items():
        if name in told and told[name] != value and value is not None:
            raise UsageError(
                f"{path} has {name} {_shown(value)}, by its names and shapes; {_shown(told[name])} was given.",
                f"Leave model.{name} out.",
            )
    if request.like is not None and request.like not in published.like:
        fits = f"Choose {' or '.join(published.like)}." if published.like else "Leave --like out."
        raise UsageError(f"{path} is not like {request.like}: it is {published.family}.", fits)
    like = LIKE[request.like] if request.like else {}
    missing = [name for name in published.open if name not in told and name not in like]
    if request.camera is not None:
        missing = [name for name in missing if name != "camera"]
    if missing:
        raise _open(path, published, missing)
    fields = {**published.usual, **like, **told, **published.fixed}
    words = [f"{name} {_shown(published.usual[name])}" for name in published.usual.keys() - told.keys() - like.keys()]
    return fields, sorted(words)


def _open(path: Path, published: Published, missing: list[str]) -> UsageError:
    ways = [HOW[name] for name in missing if name in HOW]
    said = f"Say it: {', '.join(ways)}"
    if published.like and any(name in like for like in map(LIKE.get, published.like) for name in missing if like):
        likes = "; ".join(f"--like {name} ({_shown_fields(LIKE[name])})" for name in published.like)
        camera = f", and {HOW['camera']}" if "camera" in missing else ""
        said = f"Say whose it is: {likes}{camera}"
        if len(ways) == len(missing):
            said += f". Or each by itself: {', '.join(ways)}"
    return UsageError(
        f"{path} is {published.family}, and doesn't say {', '.join(NAMED[name] for name in missing)}.", f"{said}."
    )


def _shown_fields(fields: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_shown(value)}" for name, value in fields.items())


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _unknown(path: Path, state: dict[str, Any]) -> ModelError:
    if any(name.startswith("neck.") for name in state):
        return ModelError(
            f"{path} is of a model of this program, without its {RECORD_FILE}.",
            "Keep both in one folder, and name that.",
        )
    some = ", ".join(sorted(state)[:3])
    return ModelError(
        f"{path} holds no network that its parameters' names tell: it holds {some}.",
        "Name its network with --backbone: mobilenet_v3_large, vit_b_16, timm:NAME and others; see docs/backbones.md.",
    )
