"""`croissant.json`: a prepared data set described for search engines and loaders (MLCommons' Croissant 1.0)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sil_cli.data.manifest import MANIFEST_FILE, ImageRecord, load_dataset
from sil_cli.files import write_json
from sil_cli.results import Result

if TYPE_CHECKING:
    from sil_cli.data.manifest import Dataset

CROISSANT_FILE = "croissant.json"
_VERSION = "http://mlcommons.org/croissant/1.0"
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The format's own, of section "Appendix 1: JSON-LD context"."""

_FIELDS = {
    "path": ("sc:Text", "The image, relative to the folder of the images."),
    "identity": ("sc:Text", "The person, unique within the data set."),
    "camera": ("sc:Text", "The camera; absent where unknown."),
    "split": ("sc:Text", "train, query or gallery."),
    "domain": ("sc:Text", "The camera network."),
    "time": ("sc:Text", "When the image was taken, in ISO 8601."),
    "frame": ("sc:Integer", "The frame's number in its camera's recording."),
    "distractor": ("sc:Boolean", "An image of the gallery of nobody who is a query."),
    "junk": ("sc:Boolean", "An image that evaluation ignores."),
}
"""Of a line of the manifest; boxes, lists of four numbers, are read from the manifest itself."""


class CroissantResult(Result):
    """The outcome of `sil show --croissant`.

    Attributes:
        dataset: The prepared data set.
        file: What was written.
        images: How many images it describes; none of them is in it.
    """

    dataset: Path
    file: Path
    images: int


def write_croissant(folder: Path, licence: str | None, citation: str | None) -> CroissantResult:
    """Describe a prepared data set in `croissant.json` beside its manifest.

    Args:
        folder: Of the data set.
        licence: Its name or address, as whoever published the data states it; None where nobody said.
        citation: How to cite the data; None likewise.

    Raises:
        DataError: It is no prepared data set, or damaged.
    """
    dataset = load_dataset(folder)
    file = folder / CROISSANT_FILE
    write_json(file, _document(dataset, licence, citation))
    return CroissantResult(dataset=folder, file=file, images=len(dataset.records))


def _document(dataset: Dataset, licence: str | None, citation: str | None) -> dict[str, Any]:
    info = dataset.info
    kind = "drawn" if info.generated else "photographed"
    counts = ", ".join(
        f"{split}: {each.images:,} images of {each.identities:,} people by {each.cameras:,} cameras"
        for split, each in info.splits.items()
        if each.images
    )
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": info.name,
        "description": f"Person re-identification; people who were {kind}, read as '{info.reader}'. {counts}. "
        "The images are not part of this description: whoever has them finds them by the paths.",
        "conformsTo": _VERSION,
        **({"license": licence} if licence else {}),
        **({"citeAs": citation} if citation else {}),
        "version": f"{info.format}.0.0",
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": MANIFEST_FILE,
                "name": MANIFEST_FILE,
                "description": "One line of JSON for each image.",
                "contentUrl": MANIFEST_FILE,
                "contentSize": f"{(dataset.folder / MANIFEST_FILE).stat().st_size} B",
                "encodingFormat": "application/jsonlines",
                "sha256": info.manifest_sha256,
            }
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "images",
                "name": "images",
                "field": [
                    {
                        "@type": "cr:Field",
                        "@id": f"images/{name}",
                        "name": f"images/{name}",
                        "description": description,
                        "dataType": kind,
                        "source": {"fileObject": {"@id": MANIFEST_FILE}, "extract": {"column": name}},
                    }
                    for name, (kind, description) in _FIELDS.items()
                    if _is_written(name, dataset)
                ],
            }
        ],
    }


def _is_written(name: str, dataset: Dataset) -> bool:
    """Whether any line of the manifest has a value of this name."""
    usual = ImageRecord.model_fields[name].default
    return any(getattr(record, name) != usual for record in dataset.records)
