"""What the program shows of itself, as text that can be stored and compared.

Each kind of pin is a function in `KINDS` that gives the text of each file in the folder of that name.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from commands import generator, settings_flags, sil
from pydantic import TypeAdapter

from sil_cli.settings import Settings

HERE = Path(__file__).parent
FIXTURES = HERE.parent / "fixtures" / "world"

TINY = {
    "model.backbone": "osnet_x0_25",
    "model.height": 64,
    "model.width": 32,
    "train.epochs": 1,
    "train.iterations": 1,
    "train.identities": 2,
    "train.instances": 2,
    "train.warmup_epochs": 0,
    "train.milestones": [1],
    "train.precision": "float32",
    "train.calibrate": False,
}
DRAWN = {
    "domains": 2,
    "train_identities": 2,
    "test_identities": 2,
    "cameras": 2,
    "images_per_camera": 2,
    "height": 64,
    "width": 32,
}


def copy_of_fixtures(folder: Path) -> Path:
    """The data sets, runs and gallery that an earlier program made, where they may be changed."""
    shutil.copytree(FIXTURES, folder, dirs_exist_ok=True)
    return folder


def commands() -> list[str]:
    """The name of every command, groups among them."""
    names = list(generator().DOCUMENTS)
    return ["", *sorted({*names, *(name.rpartition(" ")[0] for name in names)} - {""})]


def help_pages(_: Path) -> dict[str, str]:
    """What `--help` prints of every command, 80 columns wide and without colour."""
    plain = {"COLUMNS": "80", "TERM": "dumb", "NO_COLOR": "1"}
    pages = {}
    with patch.dict("os.environ", plain):
        for name in commands():
            printed = sil(*name.split(), "--help").out
            lines = [line.rstrip() for line in printed.strip().splitlines()]
            pages["-".join(["sil", *name.split()]) + ".txt"] = "\n".join([*lines, ""])
    return pages


def settings_tree(_: Path) -> dict[str, str]:
    """Key, type and default of every setting."""
    schema = Settings.model_json_schema()
    lines: list[str] = []

    def walk(node: dict[str, Any], prefix: str) -> None:
        for name, each in node["properties"].items():
            inner = _resolved(each, schema)
            if "properties" in inner:
                walk(inner, f"{prefix}{name}.")
            else:
                kind = " or ".join(sorted(_kinds(each, schema)))
                lines.append(f"{prefix}{name}: {kind} = {json.dumps(each.get('default'), ensure_ascii=False)}")

    walk(schema, "")
    return {"tree.txt": "\n".join([*lines, ""])}


def schemas(_: Path) -> dict[str, str]:
    """Path and type of all keys of every document that `--json` can print, by the classes that check it, sorted."""
    pages = {}
    for name, documents in generator().DOCUMENTS.items():
        parts = []
        for document in documents:
            schema = TypeAdapter(document).json_schema(mode="serialization")
            lines: dict[str, None] = {}
            _walk(schema, schema, "", lines)
            parts.append("\n".join([*sorted(lines), ""]))
        pages[f"{name.replace(' ', '-')}.txt"] = "--- or ---\n".join(parts)
    return pages


def _walk(node: dict[str, Any], schema: dict[str, Any], path: str, lines: dict[str, None]) -> None:
    """List what lies below a node of a JSON schema: `.matches[].score: number`."""
    node = _resolved(node, schema)
    for option in node.get("anyOf", node.get("oneOf", [])):
        _walk(option, schema, path, lines)
    for name, each in node.get("properties", {}).items():
        lines[f"{path}.{name}: {' or '.join(sorted(_kinds(each, schema)))}"] = None
        _walk(each, schema, f"{path}.{name}", lines)
    if isinstance(each := node.get("additionalProperties"), dict):
        lines[f"{path}.{{}}: {' or '.join(sorted(_kinds(each, schema)))}"] = None
        _walk(each, schema, f"{path}.{{}}", lines)
    for each in [node["items"]] if isinstance(node.get("items"), dict) else node.get("prefixItems", []):
        _walk(each, schema, f"{path}[]", lines)


def _resolved(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    return node


LIMITS = {
    "minimum": ">=",
    "maximum": "<=",
    "exclusiveMinimum": ">",
    "exclusiveMaximum": "<",
    "minItems": "items >=",
    "maxItems": "items <=",
    "minLength": "length >=",
    "pattern": "like",
}


def _kinds(node: dict[str, Any], schema: dict[str, Any]) -> set[str]:
    """The types that a node of a JSON schema allows, with their limits."""
    node = _resolved(node, schema)
    options = node.get("anyOf", node.get("oneOf"))
    if options is not None:
        return {kind for option in options for kind in _kinds(option, schema)}
    values = node.get("enum", [node["const"]] if "const" in node else [])
    if values:
        return {json.dumps(value) for value in values}
    kind = node.get("type", "anything")
    if kind == "array":
        inner = [node["items"]] if isinstance(node.get("items"), dict) else node.get("prefixItems", [])
        kind += f" of {' or '.join(sorted({kind for each in inner for kind in _kinds(each, schema)})) or 'anything'}"
    limits = [f" {sign} {node[key]}" for key, sign in LIMITS.items() if key in node]
    return {kind + "".join(limits)}


def documents(folder: Path) -> dict[str, str]:
    """What commands print with `--json` on the fixtures, and write into files that others read.

    Left out is what another machine or day changes. `sil export` would take as long as all others together; its
    document is among the schemas, and `tests/workflows/test_export_workflow.py` holds it against them.
    """
    found: dict[str, Any] = {}

    def keep(name: str, *arguments: object, code: int = 0) -> None:
        outcome = sil(*arguments, "--json")
        assert outcome.code == code, outcome.err
        found[name] = normalised(outcome.document, folder)

    copy_of_fixtures(folder)
    for number in (1, 2):
        shutil.copytree(FIXTURES / "data/orchard", folder / f"splits/split-0{number}")
    queries, gallery = "data/orchard/images/query", "data/orchard/images/gallery"
    query, other = f"{queries}/0005_c1_01.jpg", f"{queries}/0006_c1_01.jpg"
    torch, finished = ("--engine", "torch"), ("--model", "runs/finished")
    drawn, tiny = settings_flags(DRAWN, "data.synthetic."), settings_flags(TINY)
    with contextlib.chdir(folder), patch.dict("os.environ", SIL_DEVICE="cpu"):
        keep("prepare-data", "prepare-data", "--out", "drawn", *drawn)
        keep("show", "show", "data/orchard", "data/harbour", "--split", "query", "--identities", 2)
        keep("train", "train", *tiny, "--source", "drawn/harbour", "--run", "runs/trained")
        size = ("--backbone", "osnet_x0_25", "--height", 64, "--width", 32)
        keep("import-model", "import-model", "runs/finished/model.safetensors", *size, "--out", "imported")
        keep("evaluate", "evaluate", *finished, *torch, "--target", "data/orchard", "--out", "first")
        keep("evaluate-flip", "evaluate", *finished, *torch, "--flip", "--rerank", "--out", "second")
        keep("evaluate-splits", "evaluate", *finished, *torch, "--target", "splits", "--out", "third")
        keep("compare", "compare", "first", "second", "--changed", 1)
        keep("report", "report", "runs/finished", "--projection", "pca", "--no-similarity-maps")
        loose = settings_flags({"calibrate.match": "1e-2", "calibrate.possible": "1e-2"})
        keep("calibrate", "calibrate", *finished, "--on", "data/orchard", *loose)
        keep("benchmark", "benchmark", "generated", "--set", "data.folder=drawn", *drawn, *tiny)
        keep("index-gallery", "index-gallery", other, *torch, *finished)
        keep("query", "query", query, "--top", 2, *torch, "--html", "matches.html", "--rerank")
        keep("query-several", "query", query, other, "--top", 1, *torch)
        keep("query-identities", "query", query, "--group", "identity", "--top", 2, *torch)
        keep("query-sightings", "query", f"{gallery}/0018_c1_02.jpg", "--group", "camera", "--top", 3, *torch)
        keep("query-batch", "query", "--batch", queries, "--out", "lines.jsonl", "--top", 1, *torch)
        keep("gallery-copy", "gallery", "copy", "gallery", "copied")
        keep("gallery-verify", "gallery", "verify", *torch)
        keep("gallery-repair", "gallery", "repair")
        keep("gallery-remove", "gallery", "remove", "--id", 2, "--yes")
        keep("gallery-info", "gallery", "info")
        keep("gallery-compact", "gallery", "compact")
        keep("gallery-export", "gallery", "export", "gallery.npz")
        keep("gallery-rebuild", "gallery", "rebuild", *finished, *torch)
        keep("gallery-tune", "gallery", "tune", "--index", "HNSW4")
        keep("doctor", "doctor")
        keep("error", "query", "missing.jpg", code=1)
        keep("usage-error", "query", "--top", "few", code=2)
    for name in ("doctor", "gallery-tune"):  # what they find and how often is the machine's
        found[name] = keys_only(found[name])
    for name in ("runs/trained/run.json", "runs/trained/model.json", "drawn/harbour/dataset.json"):
        path = folder / name
        found[f"file-{path.stem}"] = normalised(json.loads(path.read_text()), folder)
    found["file-run"]["versions"] = keys_only(found["file-run"]["versions"])
    for name in ("lines.jsonl", "runs/trained/metrics.jsonl", "drawn/harbour/manifest.jsonl", "first/queries.jsonl"):
        path = folder / name
        found[f"file-{path.stem}-line"] = normalised(json.loads(path.read_text().splitlines()[0]), folder)
    with np.load(folder / "gallery.npz") as arrays:
        found["file-gallery-npz"] = {name: f"{each.dtype.kind} {list(each.shape)}" for name, each in arrays.items()}
    return {
        f"{name}.json": json.dumps(each, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
        for name, each in found.items()
    }


TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)?")
HASH = re.compile(r"\b[0-9a-f]{64}\b")
FRACTION = re.compile(r"-?\d+\.\d+")


def normalised(value: Any, folder: Path) -> Any:
    """A document in which floats, times, checksums and the working folder are named, not given."""
    if isinstance(value, dict):
        return {key: "<integer>" if "bytes" in key else normalised(each, folder) for key, each in value.items()}
    if isinstance(value, list):
        return [normalised(each, folder) for each in value]
    if isinstance(value, float):
        return "<number>"
    if isinstance(value, str):
        value = HASH.sub("<checksum>", TIME.sub("<time>", value.replace(str(folder), "<folder>")))
        return FRACTION.sub("<fraction>", value)
    return value


def keys_only(value: Any) -> Any:
    """A document without its values; of elements of a list that have the same keys only one stands."""
    if isinstance(value, dict):
        return {key: keys_only(each) for key, each in value.items()}
    if isinstance(value, list):
        found: list[Any] = []
        for each in map(keys_only, value):
            found += [] if each in found else [each]
        return found
    return "<value>"


CURVES = {
    "ubs": {"style.name": "ubs"},
    "dbs": {"style.name": "dbs"},
    "fb": {"style.name": "none", "train.second_pass": False},
}
"""What is set beside `TINY`. `fb` updates prototypes by the first pass's features, without style."""

STEPS = 5


def losses(name: str, folder: Path) -> list[float]:
    """The loss of each of the first iterations on the fixtures' data, from the fixtures' weights.

    An epoch has one iteration, so that the run's own metrics hold every loss.
    """
    # At the usual rate Adam makes much of rounding errors, and other machines' curves would part.
    values = TINY | {"train.epochs": STEPS, "train.learning_rate": 1e-5, "train.identities": 4, "train.divergence": 0}
    values |= CURVES[name]
    weights, run = FIXTURES / "runs/finished/model.safetensors", folder / name
    source = folder / "data/harbour"
    shutil.copytree(FIXTURES / "data/harbour", source, dirs_exist_ok=True)  # its decoded pixels are kept beside it
    flags = ["--recipe", "generated", "--device", "cpu", "--weights", weights, "--source", source, "--run", run]
    outcome = sil("train", *flags, *settings_flags(values))
    assert outcome.code == 0, outcome.err
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def curves(folder: Path) -> dict[str, str]:
    """The losses of all curves, one a line."""
    return {f"{name}.txt": "".join(f"{loss:.6f}\n" for loss in losses(name, folder)) for name in CURVES}


QUERIES = ("0005_c1_01", "0009_c1_01", "0015_c1_01")


def answers(folder: Path) -> dict[str, str]:
    """What queries in the fixtures' gallery find, and the rates of its model."""
    return {"fixtures.json": json.dumps(fixtures_answers(folder), indent=2) + "\n"}


def fixtures_answers(folder: Path) -> dict[str, Any]:
    """Entries and scores that queries find, and the rates of evaluations."""
    copy_of_fixtures(folder)
    found: dict[str, Any] = {}
    with contextlib.chdir(folder), patch.dict("os.environ", SIL_DEVICE="cpu"):
        for name in QUERIES:
            outcome = sil("query", f"data/orchard/images/query/{name}.jpg", "--top", 5, "--engine", "torch", "--json")
            found[f"{name} ids"] = [match["id"] for match in outcome.document["matches"]]
            found[f"{name} scores"] = [match["score"] for match in outcome.document["matches"]]
        for target in ("orchard", "harbour"):
            arguments = ["--model", "runs/finished", "--target", f"data/{target}", "--out", target]
            document = sil("evaluate", *arguments, "--engine", "torch", "--json").document
            rates = [document["mAP"], document["mINP"], *document["cmc"].values()]
            found[f"{target} mAP, mINP, ranks"] = rates
    return found


KINDS = {
    "help": help_pages,
    "settings": settings_tree,
    "schemas": schemas,
    "documents": documents,
    "losses": curves,
    "answers": answers,
}


def stored(kind: str) -> dict[str, str]:
    """The stored pins of a kind."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted((HERE / kind).glob("*"))}
