"""People in images as annotation tools write them: COCO's JSON, CVAT's XML 1.1 and FiftyOne's JSON, both ways."""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from sil_cli.data.manifest import first_problem
from sil_cli.errors import DataError, one_line
from sil_cli.files import open_file, parse_json, read_bytes, read_text, write_json, writing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

PERSON = "person"
ATTRIBUTES = ("identity", "camera", "time", "split", "tracklet", "domain", "gallery_id")
"""What is read and written of a person beside the box, by the names that it has in all three formats."""

FIFTYONE_FILE = "samples.json"
"""What FiftyOne calls the samples of a data set that it exports."""

SUFFIXES = (".json", ".xml")
_PEOPLE = frozenset({"person", "persons", "people", "pedestrian", "human"})
_MOST_BYTES = 400_000_000
_LONGEST = 1000  # letters of an attribute
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_FIX = "Export it again as COCO, 'CVAT for images 1.1', 'CVAT for video 1.1' or FiftyOneDataset."

Finite = Annotated[float, Field(allow_inf_nan=False)]
Edges = tuple[Finite, Finite, Finite, Finite]


@dataclass(frozen=True)
class Annotation:
    """One person in one image.

    Attributes:
        file: The image, as the document names it; empty for a frame of a video.
        size: Width and height of the image in pixels; None where the document doesn't say.
        box: Left, top, width and height in pixels; None for the whole image.
        frame: The frame's number, from 0, where the document counts frames.
        score: Of a detector; None where nobody says.
        attributes: What else is known, by names of `ATTRIBUTES`.
    """

    file: str
    size: tuple[int, int] | None = None
    box: Edges | None = None
    frame: int | None = None
    score: float | None = None
    attributes: dict[str, str] = field(default_factory=dict)


def is_annotations(path: Path) -> bool:
    """Whether a file is one of annotations by its name and, for XML, by its first element: networks are .xml, too.

    Raises:
        OSError: It can't be read, or is not a file.
    """
    if path.suffix.lower() == ".xml":
        with open_file(path) as stream:
            return _root_of(stream.read(4096)) == "annotations"
    return path.suffix.lower() == ".json"


def _root_of(beginning: bytes) -> str | None:
    """The name of a document's first element; None where it isn't there, or this is not XML."""
    parser, names = expat.ParserCreate(), list[str]()
    parser.StartElementHandler = lambda name, _: names.append(name)
    with contextlib.suppress(expat.ExpatError):
        parser.Parse(beginning, False)
    return names[0] if names else None


def read_annotations(path: Path) -> list[Annotation]:
    """The people of a document, in its order; what it says of anything else is left out.

    Raises:
        DataError: It can't be read, or is none of the three formats.
    """
    try:
        if path.suffix.lower() == ".xml":
            found = _Cvat().read(read_bytes(path, most=_MOST_BYTES))
        else:
            document = parse_json(read_text(path, most=_MOST_BYTES))
            keys = document.keys() if isinstance(document, dict) else ()
            if "samples" in keys:
                found = _of_fiftyone(_Samples.model_validate(document))
            elif {"images", "annotations"} <= set(keys):
                found = _of_coco(_Coco.model_validate(document))
            else:
                raise DataError(f"{path} has neither COCO's images and annotations nor FiftyOne's samples.", _FIX)
    except ValidationError as error:
        raise DataError(f"{path} is not as its format has it: {first_problem(error)}.", _FIX) from error
    except FileNotFoundError as error:
        raise DataError(f"There is no {path}.", "Check the path.") from error
    except (OSError, ValueError, expat.ExpatError) as error:
        raise DataError(f"{path} can't be read as annotations: {one_line(error)}.", _FIX) from error
    return [replace(each, box=None) if each.size and each.box == (0, 0, *each.size) else each for each in found]


class _Read(BaseModel):
    """What is read of a stranger's document: what it has beside passes by."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class _CocoImage(_Read):
    id: int | str
    file_name: str
    width: int | None = Field(None, ge=1)
    height: int | None = Field(None, ge=1)


class _CocoCategory(_Read):
    id: int
    name: str


class _CocoAnnotation(_Read):
    image_id: int | str
    category_id: int
    bbox: Edges
    iscrowd: int = 0
    score: Finite | None = None
    track_id: int | str | None = None
    attributes: dict[str, Any] = {}


class _Coco(_Read):
    images: list[_CocoImage]
    annotations: list[_CocoAnnotation]
    categories: list[_CocoCategory]


def _of_coco(document: _Coco) -> list[Annotation]:
    images = {image.id: image for image in document.images}
    people = {each.id for each in document.categories if each.name.lower() in _PEOPLE}
    found = []
    for each in document.annotations:
        if each.category_id not in people or each.iscrowd:
            continue
        image = images.get(each.image_id)
        if image is None:
            raise ValueError(f"an annotation is of image {str(each.image_id)[:40]}, which isn't listed")
        known = _attributes({"tracklet": each.track_id, **each.attributes})
        found.append(Annotation(image.file_name, _size(image), each.bbox, None, each.score, known))
    return found


class _Metadata(_Read):
    width: int | None = Field(None, ge=1)
    height: int | None = Field(None, ge=1)


class _Samples(_Read):
    samples: list[dict[str, Any]]


class _Detection(_Read):
    label: str | None = None
    bounding_box: Edges
    confidence: Finite | None = None
    index: int | None = None
    attributes: Any = None


_FILE, _LIST, _OBJECT = TypeAdapter(str), TypeAdapter(list[Any]), TypeAdapter(dict[str, Any])


def _of_fiftyone(document: _Samples) -> list[Annotation]:
    """Each detection of a person in any field; of a sample without any, the whole image as `identity` names it."""
    found = []
    for sample in document.samples:
        file = _FILE.validate_python(sample.get("filepath"))
        size = _size(_Metadata.model_validate(_OBJECT.validate_python(sample.get("metadata") or {})))
        shared = _attributes(sample)
        fields = [value for value in sample.values() if isinstance(value, dict) and value.get("_cls") == "Detections"]
        boxes = [each for value in fields for each in _LIST.validate_python(value.get("detections"))]
        for raw in boxes:
            one = _Detection.model_validate(_OBJECT.validate_python(raw))
            known = shared | _attributes({"tracklet": one.index, **raw})
            if (one.label or "").lower() in _PEOPLE:
                found.append(Annotation(file, size, _in_pixels(one, size, file), None, one.confidence, known))
        if not boxes:
            found.append(Annotation(file, size, attributes=shared))
    return found


def _in_pixels(one: _Detection, size: tuple[int, int] | None, file: str) -> Edges | None:
    """The box of a detection, which FiftyOne gives in shares of the image; None for all of it."""
    left, top, wide, high = one.bounding_box
    if (left, top, wide, high) == (0, 0, 1, 1):
        return None
    if size is None:
        raise ValueError(f"{file[:80]!r} has boxes and no size: call compute_metadata() before the export")
    width, height = size
    return left * width, top * height, wide * width, high * height


def _size(image: _CocoImage | _Metadata) -> tuple[int, int] | None:
    return (image.width, image.height) if image.width and image.height else None


def _attributes(values: dict[str, Any]) -> dict[str, str]:
    """Those that are known, as text; a label of FiftyOne's by its name, and its dates as they are written."""
    known = {}
    for name in ATTRIBUTES:
        value = values.get(name)
        if isinstance(value, dict):
            value = value.get("label", value.get("$date"))
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        text = str(value)[:_LONGEST].strip() if isinstance(value, str | int | float) else ""
        if text:
            known[name] = text
    return known


class _Cvat:
    """Reads CVAT's XML, element by element; a document type is refused, and with it entities that grow."""

    def __init__(self) -> None:
        self._found: list[Annotation] = []
        self._image: Annotation | None = None
        self._track: dict[str, str] | None = None
        self._shape: Annotation | None = None
        self._attribute: str | None = None
        self._text = ""

    def read(self, content: bytes) -> list[Annotation]:
        """The people of a document.

        Raises:
            ValueError: It is not CVAT's.
            expat.ExpatError: It is not XML.
        """
        parser = expat.ParserCreate()
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = _refuse_doctype
        parser.Parse(content, True)
        return self._found

    def _start(self, name: str, values: dict[str, str]) -> None:
        if name == "image":
            size = (_number(values, "width"), _number(values, "height"))
            self._image = Annotation(
                values.get("name", ""), size if min(size) > 0 else None, frame=_number(values, "id")
            )
        elif name == "track":
            self._track = values
        elif name in ("box", "tag") and (self._image or (self._track is not None and name == "box")):
            self._shape = self._shape_of(name, values)
        elif name == "attribute" and self._shape is not None:
            self._attribute, self._text = values.get("name", ""), ""

    def _shape_of(self, name: str, values: dict[str, str]) -> Annotation | None:
        track = self._track or {}
        if values.get("label", track.get("label", "")).lower() not in _PEOPLE or values.get("outside") == "1":
            return None
        whole = self._image or Annotation(
            "", frame=_number(values, "frame"), attributes=_attributes({"tracklet": track.get("id")})
        )
        if name == "tag":
            return whole
        left, top, right, bottom = (_real(values, edge) for edge in ("xtl", "ytl", "xbr", "ybr"))
        return replace(whole, box=(left, top, right - left, bottom - top))

    def _characters(self, text: str) -> None:
        if self._attribute is not None and len(self._text) < _LONGEST:
            self._text += text

    def _end(self, name: str) -> None:
        if name == "attribute" and self._shape is not None and self._attribute is not None:
            said = _attributes({self._attribute: self._text})
            self._shape = replace(self._shape, attributes=self._shape.attributes | said)
            self._attribute = None
        elif name in ("box", "tag") and self._shape is not None:
            self._found.append(self._shape)
            self._shape = None
        elif name == "image":
            self._image = None
        elif name == "track":
            self._track = None
        elif name == "annotations" and not self._found:
            raise ValueError("it has nobody: no box or tag with the label person")


def _refuse_doctype(*_: object) -> None:
    raise ValueError("it has a document type, which CVAT doesn't write and entities could hide in")


def _number(values: dict[str, str], name: str) -> int:
    text = values.get(name, "")
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        raise ValueError(f"{name}={text[:40]!r} is not a whole number")
    return int(text)


def _real(values: dict[str, str], name: str) -> float:
    text = values.get(name, "")
    if not re.fullmatch(r"-?\d{1,9}(\.\d{1,20})?", text, re.ASCII):
        raise ValueError(f"{name}={text[:40]!r} is not a number of pixels")
    return float(text)


def write_annotations(path: Path, annotations: Iterable[Annotation]) -> list[Path]:
    """Write people as a file's name says: `.xml` is CVAT's, `samples.json` FiftyOne's, other `.json` COCO's.

    Args:
        path: The file.
        annotations: Each with the size of its image; boxes of one image stand together in the file.

    Returns:
        The files that were written: beside FiftyOne's samples lies `metadata.json`.
    """
    images: dict[str, list[Annotation]] = {}
    for each in annotations:
        images.setdefault(each.file, []).append(each)
    if path.suffix.lower() == ".xml":
        text = _as_cvat(images)
    else:
        document = _as_fiftyone(images) if path.name == FIFTYONE_FILE else _as_coco(images)
        text = json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    with writing(path) as stream:
        stream.write(text.encode("utf-8", "replace"))
    if path.name != FIFTYONE_FILE:
        return [path]
    about = path.with_name("metadata.json")
    write_json(about, {"media_type": "image", "info": {"classes": [PERSON], "written_by": "sil gallery export"}})
    return [path, about]


def _box(one: Annotation) -> tuple[float, float, float, float]:
    width, height = one.size or (1, 1)
    return one.box or (0, 0, width, height)


def _as_coco(images: dict[str, list[Annotation]]) -> dict[str, Any]:
    listed: list[dict[str, Any]] = []
    people: list[dict[str, Any]] = []
    for number, (file, some) in enumerate(images.items(), 1):
        width, height = some[0].size or (1, 1)
        listed.append({"id": number, "file_name": file, "width": width, "height": height})
        for each in some:
            box = _box(each)
            person = {"id": len(people) + 1, "image_id": number, "category_id": 1, "bbox": list(box)}
            person |= {"area": box[2] * box[3], "iscrowd": 0, "segmentation": [], "attributes": each.attributes}
            people.append(person if each.score is None else person | {"score": each.score})
    category = {"id": 1, "name": PERSON, "supercategory": PERSON}
    return {"images": listed, "annotations": people, "categories": [category]}


def _as_fiftyone(images: dict[str, list[Annotation]]) -> dict[str, Any]:
    """Samples without ids or a schema, which FiftyOne gives them when it reads them."""
    samples = []
    for file, some in images.items():
        width, height = some[0].size or (1, 1)
        sample: dict[str, Any] = {"filepath": file, "tags": []}
        sample["metadata"] = {"_cls": "ImageMetadata", "width": width, "height": height}
        if [each.box for each in some] == [None]:
            known = dict(some[0].attributes)
            identity = known.pop("identity", None)
            named = {} if identity is None else {"identity": {"_cls": "Classification", "label": identity}}
            samples.append(sample | named | known)
            continue
        boxes = [_as_detection(each, width, height) for each in some]
        samples.append(sample | {"people": {"_cls": "Detections", "detections": boxes}})
    return {"samples": samples}


def _as_detection(one: Annotation, width: int, height: int) -> dict[str, Any]:
    left, top, wide, high = _box(one)
    box = [left / width, top / height, wide / width, high / height]
    sure = {} if one.score is None else {"confidence": one.score}
    return {"_cls": "Detection", "label": PERSON, "bounding_box": box, **sure, **one.attributes}


_CVAT_LABELS = "\n".join(
    [
        f"  <meta><task><labels><label><name>{PERSON}</name><attributes>",
        *(
            f"    <attribute><name>{name}</name><mutable>False</mutable><input_type>text</input_type></attribute>"
            for name in ATTRIBUTES
        ),
        "  </attributes></label></labels></task></meta>",
    ]
)
"""What a task of CVAT needs for these people: the label and its attributes."""


def _as_cvat(images: dict[str, list[Annotation]]) -> str:
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "  <version>1.1</version>", _CVAT_LABELS]
    for number, (file, some) in enumerate(images.items()):
        width, height = some[0].size or (1, 1)
        lines.append(f'  <image id="{number}" name={_quoted(file)} width="{width}" height="{height}">')
        for each in some:
            lines += _cvat_shape(each)
        lines.append("  </image>")
    return "\n".join([*lines, "</annotations>", ""])


def _cvat_shape(one: Annotation) -> Sequence[str]:
    kind, place = "tag", ""
    if one.box is not None:
        left, top, width, height = one.box
        kind = "box"
        edges = {"xtl": left, "ytl": top, "xbr": left + width, "ybr": top + height}
        place = f""" occluded="0" {" ".join(f'{edge}="{at:.2f}"' for edge, at in edges.items())} z_order="0\""""
    inner = [
        f"      <attribute name={_quoted(name)}>{escape(_NOT_XML.sub('�', value))}</attribute>"
        for name, value in one.attributes.items()
    ]
    return [f'    <{kind} label="{PERSON}" source="manual"{place}>', *inner, f"    </{kind}>"]


def _quoted(text: str) -> str:
    return quoteattr(_NOT_XML.sub("�", text))
