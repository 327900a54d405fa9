"""Write docs/commands.md, docs/settings.md and docs/json.md from the program itself: `make docs`."""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer.main
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sil_cli import doctor
from sil_cli.benchmark import results as benchmark_results
from sil_cli.cli.app import make_app
from sil_cli.cli.command import SHARED
from sil_cli.evaluation import calibrate, compare
from sil_cli.evaluation import results as evaluation_results
from sil_cli.footage import crop, evaluate_tracks
from sil_cli.gallery import results as gallery_results
from sil_cli.models import import_model
from sil_cli.models.engines import export, import_graph
from sil_cli.people import asking, dataset, decisions, find, overview, telling
from sil_cli.preparation import prepare, prepare_footage
from sil_cli.preparation.croissant import CroissantResult
from sil_cli.report.report import ReportResult
from sil_cli.report.run_exports import HubFolderResult, TrackingResult
from sil_cli.report.show import ShowResult
from sil_cli.search import person, query_results
from sil_cli.serve import access as serve_access
from sil_cli.serve import run as serve_run
from sil_cli.settings import Section, Settings, read_recipe, recipe_names
from sil_cli.training import train

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
TABLE = ("| argument | meaning |", "|---|---|")
ABOUT_ALL = (
    "A command ends with code 0 when it is done, 1 when it failed, 2 for wrong usage or settings, 130 when it was",
    "stopped (Ctrl-C, SIGTERM). Errors are two lines on stderr: what is wrong, and what to do. With `--json` stdout",
    "holds one JSON document. Its rates are fractions, where tables show percent. An error's document is",
    '`{"error": {"what": …, "fix": …, "exit_code": …}}`.',
    "",
    "All commands take:",
    "",
)
DOCUMENTS: dict[str, tuple[type[BaseModel], ...]] = {
    "prepare-data": (prepare.PrepareResult, prepare_footage.FootageResult),
    "show": (ShowResult, CroissantResult),
    "train": (train.TrainResult,),
    "import-model": (import_model.ImportResult, import_graph.GraphImportResult),
    "evaluate": (evaluation_results.EvaluateResult, evaluation_results.TargetsResult, evaluate_tracks.TrackResult),
    "report": (ReportResult, TrackingResult),
    "compare": (compare.CompareResult,),
    "benchmark": (benchmark_results.BenchmarkResult,),
    "calibrate": (calibrate.CalibrateResult, asking.CalibrateGalleryResult),
    "export": (export.ModelExportResult, HubFolderResult),
    "crop": (crop.CropResult,),
    "index-gallery": (gallery_results.IndexResult,),
    "serve": (serve_run.ServeResult, serve_access.TokenResult),
    "query": (query_results.QueryResult, query_results.QueryResults, query_results.BatchResult),
    "doctor": (doctor.Report,),
    "gallery info": (gallery_results.GalleryInfo,),
    "gallery verify": (gallery_results.VerifyResult,),
    "gallery repair": (gallery_results.RepairResult,),
    "gallery compact": (gallery_results.CompactResult,),
    "gallery remove": (gallery_results.RemoveResult,),
    "gallery export": (gallery_results.ExportResult, dataset.DatasetResult),
    "gallery copy": (gallery_results.CopyResult,),
    "gallery rebuild": (gallery_results.RebuildResult,),
    "gallery tune": (gallery_results.TuneResult,),
    "gallery policy": (gallery_results.PolicyResult,),
    "gallery log": (gallery_results.LogResult,),
    "gallery expire": (gallery_results.ExpireResult,),
    "people verdict": (telling.VerdictResult,),
    "people verdicts": (telling.VerdictsResult,),
    "people find": (find.FindResult,),
    "people list": (overview.PeopleList,),
    "people show": (person.PersonResult,),
    "people name": (decisions.PersonChange,),
    "people merge": (decisions.PersonChange,),
    "people split": (decisions.PersonChange,),
    "people confirm": (decisions.PersonChange,),
    "people reject": (decisions.PersonChange,),
    "people export": (overview.PeopleExport,),
}
"""What each command prints with `--json`; of several documents which one it is depends on what was asked for."""

JSON_TYPES = {
    str: "string",
    Path: "path",
    int: "integer",
    float: "number",
    bool: "boolean",
    type(None): "null",
    datetime: "string",
    Any: "anything",
}
MARKUP = re.compile(r"\[/?[a-z ]*\]")


def commands_page() -> str:
    """Every command with its arguments, options and examples."""
    program: Any = typer.main.get_command(make_app())
    commands = _flattened(program)
    lines = ["# Commands", "", "Made by `make docs` from the program's own help.", "", *ABOUT_ALL, *TABLE]
    lines += [_row(parameter) for parameter in commands[0][1].params if _is_shared(parameter)]
    lines += ["", "`sil --version` prints the version, `sil --install-completion` lets the shell complete words.", ""]
    for name, command in commands:
        lines += [f"## sil {name}", "", command.help, "", *TABLE]
        lines += [_row(parameter) for parameter in command.params if not _is_shared(parameter)]
        examples = [line for line in MARKUP.sub("", command.epilog).splitlines() if line and line != "Examples"]
        lines += ["", "```", *examples, "```", ""]
    return "\n".join(lines)


def _is_shared(parameter: Any) -> bool:
    return parameter.name == "help" or getattr(parameter, "rich_help_panel", None) == SHARED


def _row(parameter: Any) -> str:
    panel = getattr(parameter, "rich_help_panel", None)
    heading = f"*{panel}.* " if panel and panel != SHARED else ""
    return f"| `{_written(parameter)}` | {heading}{parameter.help} |"


def _flattened(group: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Every command with its full name, those of groups after each other."""
    found: list[tuple[str, Any]] = []
    for name, command in group.commands.items():
        inner = getattr(command, "commands", None)
        found += _flattened(command, f"{prefix}{name} ") if inner else [(prefix + name, command)]
    return found


def settings_page() -> str:
    """Every setting with its default and what the recipes make of it."""
    recipes = {name: read_recipe(name) for name in recipe_names()}
    lines = [
        "# Settings",
        "",
        "Made by `make docs` from `sil_cli/settings/`. Strongest first: flags (`--set KEY=VALUE` reaches every key),",
        "environment (`SIL_TRAIN__EPOCHS=5`), `sil.toml` or `--config FILE`, the protocol, the recipe of `sil train`,",
        "the default. A `sil.toml` in the working folder:",
        "",
        "```toml",
        'device = "cpu"',
        "",
        "[train]",
        "epochs = 20",
        "milestones = [10, 15]",
        "",
        "[style]",
        'name = "dbs"',
        "```",
        "",
        'Values of `--set` are TOML too, or else plain text: `--set "train.milestones=[10, 15]"`,',
        "`--set style.name=dbs`.",
        "",
        "A `sil.toml` that is merely found may be a stranger's: the outputs that it names must stay in the working",
        "folder and pass through no link, a store that it names gets no credentials, and nothing is fetched that it",
        "alone asks for, unless the user names them:",
        "by a flag, a variable, or `--config sil.toml` ([security.md](security.md)).",
        "",
        f"| key | default | {' | '.join(recipes)} | meaning |",
        "|---|---|" + "---|" * (len(recipes) + 1),
    ]
    lines += _rows(Settings, "", recipes)
    return "\n".join([*lines, ""])


def _rows(model: type[BaseModel], prefix: str, recipes: dict[str, dict[str, Any]]) -> list[str]:
    rows = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            inner = {recipe: values.get(name, {}) for recipe, values in recipes.items()}
            rows += _rows(kind, f"{prefix}{name}.", inner)
        else:
            values = [_shown(values[name]) if name in values else "" for values in recipes.values()]
            cells = [f"`{prefix}{name}`", _shown(field.default), *values, (field.description or "").replace("|", "\\|")]
            rows.append(f"| {' | '.join(cells)} |")
    return rows


def json_page() -> str:
    """Every key of every document that `--json` prints."""
    lines = ["# What `--json` prints", "", "Made by `make docs` from the classes that the program checks it by.", ""]
    lines += [
        "One document on stdout for each command. Keys are as jq takes them: `.matches[].score` is one for each match,",
        "`{}` stands for keys that depend on the data. Rates, mAP and ranks are fractions, scores cosine similarities",
        "in -1..1, times ISO 8601, lengths of time seconds. Later versions may add keys. The lines of",
        "`sil query --batch` are in [query.md](query.md#many-queries-sil-query---batch-source), errors in",
        "[commands.md](commands.md).",
        "",
    ]
    described = {document: name for name, documents in DOCUMENTS.items() for document in documents}
    for name, documents in DOCUMENTS.items():
        lines += [f"## sil {name}", ""]
        for document in documents:
            lines += [_about(document), "", "| key | type | meaning |", "|---|---|---|"]
            lines += [f"| `{key}` | {kind} | {meaning} |" for key, kind, meaning in _keys(document, "", described)]
            lines.append("")
    return "\n".join(lines)


def _about(document: type) -> str:
    return str(inspect.getdoc(document)).partition("\n\n")[0].replace("\n", " ")


def _keys(document: type, prefix: str, described: dict[type, str]) -> Iterator[tuple[str, str, str]]:
    """Key, type and meaning of all that a document holds, and what lies within it unless some command prints that."""
    meanings = _meanings(document)
    for name, annotation in _fields(document).items():
        key, within = f"{prefix}.{name}", list(_documents_within(annotation))
        others = [f"What `sil {described[inner]}` prints." for _, inner in within if inner in described]
        yield key, _kind(annotation), " ".join([*filter(None, [meanings.get(name)]), *others])
        for steps, inner in within:
            if inner not in described:
                yield from _keys(inner, key + steps, described)


def _fields(document: type) -> dict[str, Any]:
    """The types of a document's keys: those of a model, or of a dataclass without what it keeps to itself."""
    if issubclass(document, BaseModel):
        document.model_rebuild()
        return {name: field.annotation for name, field in document.model_fields.items()}
    hints = get_type_hints(document, include_extras=True)
    kinds = {field.name: hints[field.name] for field in dataclasses.fields(document)}
    return {name: kind for name, kind in kinds.items() if not _is_excluded(kind)}


def _is_excluded(kind: Any) -> bool:
    return any(isinstance(each, FieldInfo) and each.exclude for each in getattr(kind, "__metadata__", ()))


def _meanings(document: type) -> dict[str, str]:
    """What the `Attributes` of its docstring and of those that it inherits from say, by key."""
    found: dict[str, str] = {}
    for base in reversed(document.__mro__):
        found |= _own_meanings(base)
    return found


def _own_meanings(document: type) -> dict[str, str]:
    _, _, attributes = inspect.cleandoc(document.__doc__ or "").partition("Attributes:\n")
    found: dict[str, str] = {}
    names: list[str] = []
    text = ""
    for line in attributes.splitlines():
        if begins := re.match(r"    (\w+(?:, \w+)*): (.*)", line):
            names, text = begins[1].split(", "), begins[2]
        elif line.startswith("        "):
            text += f" {line.strip()}"
        found |= dict.fromkeys(names, text)
    return {name: re.sub(r"\bNone\b", "`null`", text).replace("|", "\\|") for name, text in found.items()}


def _kind(kind: Any) -> str:
    """A type in the words of JSON."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _kind(arguments[0])
    if origin in (Union, types.UnionType):
        return " or ".join(_kind(each) for each in arguments)
    if origin is Literal:
        return " or ".join(f'`"{each}"`' if isinstance(each, str) else f"`{each}`" for each in arguments)
    if origin in (dict, Mapping):
        return f"object of {_kind(arguments[1])}"
    if origin is tuple and Ellipsis not in arguments:
        return f"array of {len(arguments)}, each {_kind(arguments[0])}"
    if origin in (list, tuple):
        return f"array of {_kind(arguments[0])}"
    return "object" if _is_document(kind) else JSON_TYPES[kind]


def _is_document(kind: Any) -> bool:
    return isinstance(kind, type) and (issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind))


def _documents_within(kind: Any) -> Iterator[tuple[str, type]]:
    """Documents that a type holds, each with the steps that lead to it: `[]`, `.{}`."""
    if _is_document(kind):
        yield "", kind
        return
    origin = get_origin(kind)
    step = {list: "[]", tuple: "[]", dict: ".{}", Mapping: ".{}"}.get(origin, "")
    for each in get_args(kind):
        yield from ((step + steps, document) for steps, document in _documents_within(each))


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple | list):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _written(parameter: Any) -> str:
    option = str(parameter.opts[0])
    if not option.startswith("--"):
        return str(parameter.metavar).replace("|", "\\|")
    if parameter.is_flag:
        return "`, `".join([option, *parameter.secondary_opts])
    return f"{option} {parameter.metavar}".replace("|", "\\|")


def main() -> None:
    """Write all pages."""
    pages = {"commands.md": commands_page(), "settings.md": settings_page(), "json.md": json_page()}
    for name, page in pages.items():
        (HERE / name).write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
