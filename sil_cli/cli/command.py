"""Commands made from settings: a flag takes its type, its help and its default from the setting that it gives."""

from __future__ import annotations

import inspect
import keyword
import types
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, Union, get_args, get_origin

import typer
from typer.core import TyperCommand, TyperGroup

from sil_cli.cli.session import Common, Session, session
from sil_cli.errors import UsageError
from sil_cli.settings import setting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

SHARED = "Options of every command"
_PLAIN = (bool, int, float, Path)
"""What typer reads; everything else it hands on as text, which the settings read."""


@dataclass(frozen=True)
class Option:
    """A flag of a command.

    Attributes:
        flag: Its name, `--top`; of a switch that can also be turned off, `--maps/--no-maps`.
        key: The setting that it gives, `query.top`; None where it is no setting, and stands in `Session.given`.
        metavar: What stands for its value in the help; of a few words to choose from, these words.
        help: What it is for, with `{choices}` for the words that the setting takes; by default its description.
        panel: The group of options that it is shown in.
        kind: Its type, where it is no setting.
        required: The command can't do without.
    """

    flag: str
    key: str | None = None
    metavar: str | None = None
    help: str | None = None
    panel: str | None = None
    kind: Any = bool
    required: bool = False

    @property
    def name(self) -> str:
        """What the command's function calls it."""
        name = self.flag.partition("/")[0].strip("-").replace("-", "_")
        return f"{name}_" if keyword.iskeyword(name) else name

    def in_panel(self, panel: str) -> Option:
        """The same, shown in another group of options."""
        return replace(self, panel=panel)

    def annotation(self) -> Any:
        """Its type and its help, as typer reads them."""
        kind, text, metavar = _described(self)
        written = (self.flag,) if self.flag.startswith("--") else ()
        options = {"metavar": metavar, "help": text, "rich_help_panel": self.panel}
        maker: Any = typer.Option if written else typer.Argument
        return Annotated[kind if self.required else kind | None, maker(*written, show_default=False, **options)]


class Module(Protocol):
    """A module of this package that is a command; its examples are lines of markup."""

    OPTIONS: Sequence[Option]
    EXAMPLES: str

    def run(self, current: Session) -> BaseModel | None:
        """Do it, show people the result, and return what `--json` prints; the docstring is the command's help."""


COMMON = (
    Option("--config", metavar="FILE", help="Settings file instead of sil.toml.", panel=SHARED, kind=Path),
    Option("--device", "device", help="Where the network runs.", panel=SHARED),
    Option("--shared", "shared", help="Let others use what is written, as the umask says.", panel=SHARED),
    Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any setting, for example train.epochs=5; may be repeated.",
        panel=SHARED,
        kind=list[str],
    ),
    Option("--json", help="One JSON document on stdout; messages on stderr.", panel=SHARED),
    Option("--debug", help="Show tracebacks.", panel=SHARED),
)
ENGINE = Option(
    "--engine",
    "inference.engine",
    "NAME",
    "What computes embeddings: {choices}; default: the fastest available.",
)
GALLERY = Option("--gallery", "gallery.folder", "DIR", "The gallery; default: gallery.")
GALLERY_ARGUMENT = Option("folder", "gallery.folder", "[GALLERY]", "The gallery, unless --gallery names it.")
STORE = Option("--store", "gallery.store", "ADDRESS")
PERSON = Option("person", metavar="PERSON", help="A person's number or name.", kind=str, required=True)
BY = Option("--by", metavar="NAME", help="Who says so; default: whoever is logged in.", kind=str)
WHICH = "Which entries"
FILTER = (
    Option("--camera", "query.filter.camera", "NAME", panel=WHICH),
    Option("--exclude-camera", "query.filter.exclude_camera", "NAME", panel=WHICH),
    Option("--after", "query.filter.after", "TIME", panel=WHICH),
    Option("--before", "query.filter.before", "TIME", panel=WHICH),
    Option("--identity", "query.filter.identity", "NAME", panel=WHICH),
    Option("--where", "query.filter.where", "KEY=VALUE", panel=WHICH),
)
"""Which entries of a gallery are meant."""


def add_command(app: typer.Typer, name: str, *, package: str = "sil_cli.cli", several: bool = False) -> None:
    """Make a command of the module of its name in a package; `several` as for `make_command`."""
    module: Any = import_module(f"{package}.{name.replace('-', '_')}")
    examples = "\n\n".join(["[bold]Examples[/]", *module.EXAMPLES.strip().splitlines()])
    app.command(name, cls=PlainCommand, epilog=examples)(make_command(module, several=several))


def make_command(module: Module, *, several: bool = False) -> Callable[..., None]:
    """A command's module as the function that typer calls.

    Args:
        module: Says which options there are, and what is done.
        several: Several processes can run it together, which torchrun starts.
    """
    options = (*module.OPTIONS, *COMMON)

    def command(**given: Any) -> None:
        common = Common(given["config"], given["set"] or [], as_json=bool(given["json"]), debug=bool(given["debug"]))
        with session(common, several=several) as current:
            current.given = given
            current.options = _nested(options, given)
            result = module.run(current)
            if result is not None:
                current.finish(result)
            if not current.is_complete:
                raise typer.Exit(1)

    signature = [
        inspect.Parameter(
            each.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if each.required else None,
            annotation=each.annotation(),
        )
        for each in options
    ]
    command.__signature__ = inspect.Signature(signature)  # type: ignore[attr-defined]  # which typer reads
    command.__doc__ = module.run.__doc__
    return command


class PlainCommand(TyperCommand):
    """A command whose help shows no type where an option takes no value, and none where a word stands for it."""

    def get_params(self, ctx: Any) -> Any:
        """The parameters, as typer shows them."""
        return _without_types(super().get_params(ctx))


class PlainGroup(TyperGroup):
    """Commands under one name, whose own help is as a `PlainCommand`'s."""

    def get_params(self, ctx: Any) -> Any:
        """The parameters, as typer shows them."""
        return _without_types(super().get_params(ctx))


def _without_types(params: Any) -> Any:
    for each in params:
        if getattr(each, "is_flag", False):
            each.metavar = ""
        if each.param_type_name == "argument":
            setattr(each, "display_type_rich", lambda ctx: None)  # noqa: B010 - a method, of this object alone
    return params


def _nested(options: Sequence[Option], given: dict[str, Any]) -> dict[str, Any]:
    """The settings that were given, by section.

    Raises:
        UsageError: A setting was given twice, as an argument and by a flag, and not alike.
    """
    nested: dict[str, Any] = {}
    for option in options:
        value = given[option.name]
        if option.key is None or value is None or value == []:
            continue
        *sections, last = option.key.split(".")
        table = nested
        for section in sections:
            table = table.setdefault(section, {})
        value = tuple(value) if isinstance(value, list) else value
        if table.setdefault(last, value) != value:
            raise UsageError(f"{option.flag} is {value}, but the argument is {table[last]}.", "Name one of them.")
    return nested


def _described(option: Option) -> tuple[Any, str, str | None]:
    """The type that typer is to read, the help, and what stands for a value in it."""
    if option.key is None:
        return option.kind, option.help or "", option.metavar
    field = setting(option.key)
    kind, several = _plain(field.annotation)
    text = option.help or _sentence(field, several=several)
    choices = _choices(field.annotation)
    text = text.replace("{choices}", ", ".join(choices))
    return (types.GenericAlias(list, (kind,)) if several else kind), text, option.metavar or "|".join(choices) or None


def _plain(annotation: Any) -> tuple[Any, bool]:
    """The plain type of a setting, and whether it takes several values."""
    kinds = [each for each in _alternatives(annotation) if each is not type(None)]
    for kind in kinds:
        if get_origin(kind) is tuple and Ellipsis in get_args(kind):
            return _plain(get_args(kind)[0])[0], True
        if get_origin(kind) is Literal and all(type(word) is int for word in get_args(kind)):
            return int, False
    return (kinds[0] if len(kinds) == 1 and kinds[0] in _PLAIN else str), False


def _alternatives(annotation: Any) -> Iterator[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for each in get_args(annotation):
            yield from _alternatives(each)
    else:
        yield annotation


def _choices(annotation: Any) -> list[str]:
    """The words that a setting takes, where it takes nothing else."""
    kinds = [each for each in _alternatives(annotation) if each is not type(None)]
    if not all(get_origin(each) is Literal for each in kinds):
        return []
    return [str(word) for each in kinds for word in get_args(each)]


def _sentence(field: FieldInfo, *, several: bool) -> str:
    """A setting's description as a sentence, with its default."""
    text = (field.description or "").replace("`", "")
    if several:
        text += "; may be repeated"
    default = field.default
    shown = isinstance(default, int | float | str | Path) and not isinstance(default, bool) and default not in ("", 0)
    if shown and "default:" not in text:
        text += f"; default: {default}"
    first = (field.description or "").partition(" ")[0]
    is_name = first.startswith("`") or "://" in first  # which is written as it is typed
    return f"{text}." if is_name else f"{text[:1].upper()}{text[1:]}."
