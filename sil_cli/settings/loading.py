"""Where settings come from: flags, environment, files, recipes; and what is said of a wrong one."""

from __future__ import annotations

import json
import os
import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from sil_cli.errors import UsageError, did_you_mean, in_plain_words, nearest, one_line
from sil_cli.files import parse_toml, read_text
from sil_cli.settings.fields import Section
from sil_cli.settings.tree import OUTPUTS, Settings, refuse_outside

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic.fields import FieldInfo

CONFIG_FILE = Path("sil.toml")
ENVIRONMENT_PREFIX = "SIL_"
COMMAND_LINE = "the command line"
NOT_SETTINGS = ("SIL_MILVUS_TOKEN", "SIL_TEST_MILVUS")
"""Variables of our own that no settings file may hold: a secret, and where tests find a server."""

_LONGEST_SHOWN = 200  # characters of a wrong value


def load_settings(
    *, flags: dict[str, Any] | None = None, config: Path | None = None, recipe: dict[str, Any] | None = None
) -> Settings:
    """Resolve all settings: flags over environment over file over recipe over defaults.

    Args:
        flags: Nested values that the command line gave, `{"train": {"seed": 3}}`.
        config: A TOML file; None reads `sil.toml` in the working folder where there is one, which may be a stranger's
            (`trust.py`).
        recipe: Nested values of a recipe (`read_recipe`).

    Raises:
        UsageError: A file can't be read, a key is unknown or a value is out of range; says where it stands. Or a file
            that was merely found names an output outside of the working folder.
    """
    file = config or CONFIG_FILE
    from_file = read_toml(file) if config or file.exists() else {}
    own = {**_from_environment(), COMMAND_LINE: flags or {}}
    users_own = [from_file, *own.values()] if config else own.values()
    layers = {"the recipe": recipe or {}, str(file): from_file, **own}
    return resolve(layers, users_own=frozenset().union(*map(keys_in, users_own)))


def resolve(layers: Mapping[str, dict[str, Any]], *, users_own: Iterable[str]) -> Settings:
    """Settings from layers of nested values.

    Args:
        layers: The weakest first, each by what a message calls it.
        users_own: The keys, in dotted form, that the user named (`Settings.is_users_own`).

    Raises:
        UsageError: A key is unknown or a value is out of range; says where it stands. Or a layer that is not the
            user's own names an output outside of the working folder, or opens files to others.
    """
    values: dict[str, Any] = {}
    for layer in layers.values():
        values = merge(values, layer)
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise _explain(error, layers) from None
    settings = settings.with_users_own(users_own)
    refuse_outside(settings, *OUTPUTS)
    if settings.shared and not settings.is_users_own("shared"):
        raise UsageError(
            "shared = true was set by a file found in the working folder, which may not open your files to others.",
            "If you want that, use --shared or SIL_SHARED=true, or --config sil.toml where that file is your own.",
        )
    return settings


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file.

    Raises:
        UsageError: It is missing, unreadable or not TOML.
    """
    try:
        return parse_toml(read_text(path))
    except FileNotFoundError:
        raise UsageError(f"There is no file {path}.", "Check the path, or leave the option out.") from None
    except OSError as error:
        fix = "Name a readable TOML file, not a pipe or a device."
        raise UsageError(f"{path} can't be read: {one_line(error)}.", fix) from error
    except ValueError as error:
        raise UsageError(f"{path} can't be read: {one_line(error)}.", "Correct the file.") from error


def recipe_names() -> list[str]:
    """The names of the recipes that come with this program."""
    folder = resources.files("sil_cli") / "recipes"
    return sorted(Path(file.name).stem for file in folder.iterdir() if file.name.endswith(".toml"))


def read_recipe(name: str) -> dict[str, Any]:
    """A recipe's values, by its name or by the path of a .toml file.

    Raises:
        UsageError: There is no such recipe.
    """
    if name.endswith(".toml"):
        return read_toml(Path(name))
    if name not in recipe_names():
        raise UsageError(f"There is no recipe '{name}'.", did_you_mean(name, recipe_names()))
    text = (resources.files("sil_cli") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def parse_assignment(text: str) -> dict[str, Any]:
    """Turn `train.epochs=5` into `{"train": {"epochs": 5}}`; the value is TOML, or else plain text.

    Raises:
        UsageError: There is no `=`, or the key is empty.
    """
    key, equals, raw = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise UsageError(f"--set {text} is not KEY=VALUE.", "For example: --set train.epochs=5")
    value = _value(key.strip(), raw)
    for part in reversed(parts):
        value = {part: value}
    assert isinstance(value, dict)  # noqa: S101 - parts is never empty
    return value


def _value(key: str, raw: str) -> Any:
    """A value as TOML has it, or else as plain text.

    Raises:
        UsageError: It goes on after the value, is nested too deeply, or is a number of too many digits.
    """
    try:
        table = parse_toml(f"value = {raw}")
    except tomllib.TOMLDecodeError:
        return raw
    except ValueError as error:
        raise UsageError(
            f"The value of --set {key} can't be read: {one_line(error)}.",
            "Write it as TOML: a number, true or false, 'text', or a list.",
        ) from error
    if len(table) > 1:  # a line break, as from a file that was pasted
        raise UsageError(f"--set {key} holds more than one value.", "Give --set once for each key.")
    return table["value"]


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over` put in, table by table."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def known_keys(model: type[BaseModel] = Settings, prefix: str = "") -> list[str]:
    """Every settings key in dotted form, in order."""
    keys: list[str] = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            keys += known_keys(kind, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys


def keys_in(values: dict[str, Any]) -> frozenset[str]:
    """The settings, in dotted form, that nested values have a value for."""
    return frozenset(key for key in known_keys() if _names(values, key))


def _names(values: Any, key: str) -> bool:
    """Whether nested values have one for a key in dotted form."""
    for part in key.split("."):
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return True


def setting(key: str) -> FieldInfo:
    """What is known of one setting: its type, default and description.

    Args:
        key: In dotted form, `train.epochs`.
    """
    *sections, name = key.split(".")
    model: type[BaseModel] = Settings
    for section in sections:
        kind = model.model_fields[section].annotation
        assert isinstance(kind, type)  # noqa: S101 - sections are classes
        model = kind
    return model.model_fields[name]


def _from_environment() -> dict[str, dict[str, Any]]:
    """What each variable says, by its name and not yet validated.

    Raises:
        UsageError: One is no setting, or is to be JSON and is not.
    """
    names = [name for name in sorted(os.environ) if name.upper().startswith(ENVIRONMENT_PREFIX)]
    names = [name for name in names if name not in NOT_SETTINGS]
    if not names:
        return {}
    from pydantic_settings import (  # 0.07 s, which most commands go without
        BaseSettings,
        EnvSettingsSource,
        SettingsConfigDict,
        SettingsError,
    )

    class Variables(Settings, BaseSettings):
        model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter="__")

    source, values = EnvSettingsSource(Variables), {}
    for name in names:
        source.env_vars = {name.lower(): os.environ[name]}  # one by one: its errors don't say which
        try:
            values[name] = source()
        except (SettingsError, RecursionError) as error:
            raise UsageError(
                f"{name} = {_shown(os.environ[name])} can't be read as JSON.",
                f"Lists and tables are given as JSON, for example {_as_list(name)}.",
            ) from error
        if not values[name]:
            known = [ENVIRONMENT_PREFIX + key.upper().replace(".", "__") for key in known_keys()]
            raise UsageError(
                f"The environment variable {name} is not a setting.",
                f"Did you mean {nearest(name.upper(), known) or known[0]}? Unset it if not.",
            )
    return values


def _as_list(variable: str) -> str:
    """How a shell sets a variable to a list: to what it is set to, where that is plain words with commas."""
    key, words = variable.upper().removeprefix(ENVIRONMENT_PREFIX).replace("__", ".").lower(), os.environ[variable]
    if key not in known_keys() or set(words) & set("[]{}\"'\\") or len(words) > _LONGEST_SHOWN:
        return "SIL_TRAIN__MILESTONES='[3, 5]'"
    values = [int(word) if word.strip().isdecimal() else word.strip() for word in words.split(",")]
    return f"{variable}='{json.dumps(values, ensure_ascii=False)}'"


def _explain(error: ValidationError, layers: Mapping[str, dict[str, Any]]) -> UsageError:
    problem = error.errors()[0]
    path = [str(part) for part in problem["loc"]]
    key = ".".join(path)
    if not path:  # a key with bytes that are not UTF-8: pydantic says no more of it
        return UsageError("A key of the settings is not text.", "Write it in UTF-8.")
    where = next((name for name, values in reversed(list(layers.items())) if _holds(values, path)), "the settings")
    where = f"{'on' if where == COMMAND_LINE else 'in'} {where}"
    if problem["type"] == "extra_forbidden":
        near = nearest(key, known_keys() if len(path) > 1 else Settings.model_fields)
        fix = f"Did you mean '{near}'?" if near else f"Known sections: {', '.join(Settings.model_fields)}."
        return UsageError(f"{_shown(key)} is not a setting ({where}).", fix)
    key = _key_of(path)
    same = [each for each in error.errors() if _key_of([str(part) for part in each["loc"]]) == key]
    said = " or ".join(in_plain_words(each["msg"]) for each in same).replace(" or it must be ", " or ")
    choices = [word for each in same for word in re.findall(r"'([^']+)'", each.get("ctx", {}).get("expected", ""))]
    near = nearest(str(problem["input"]), choices) if choices else None
    fix = f"{said[:1].upper()}{said[1:]}." + (f" Did you mean '{near}'?" if near else "")
    return UsageError(f"{key} = {_shown(problem['input'])} is not valid ({where}).", fix)


def _shown(value: object) -> str:
    """A value as Python writes it, where that can be done, and not more of it than a line bears."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, lists of a thousand levels
        return "…"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def _key_of(path: list[str]) -> str:
    """The setting that a path leads into; what follows its key names an element, or one of several kinds."""
    known = known_keys()
    prefixes = [".".join(path[:length]) for length in range(1, len(path) + 1)]
    return next((prefix for prefix in prefixes if prefix in known), prefixes[-1])


def _holds(values: Any, path: list[str]) -> bool:
    for part in path:
        if not isinstance(values, dict) or part not in values:
            return not isinstance(values, dict)
        values = values[part]
    return True
