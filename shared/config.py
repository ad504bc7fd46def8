"""Configuration: TOML written by people, one resolved JSON written by the program.

A recipe or phase file holds the values of every profile and may override some in ``[profile.full]`` and
``[profile.local]``; `--set KEY=VALUE` overrides both. Models are strict: a misspelt key is answered with the nearest
right one and the file it stands in. This module imports no heavy library; choosing a profile does not import torch.
"""

from __future__ import annotations

import os
import typing
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import pydantic

from shared.devices import cuda_device
from shared.errors import InfiMmrError, UsageError, nearest

PROFILES = ("full", "local")


NO_IDENTITY: dict[str, Any] = {"identity": False}
"""Mark of a field that says where or on what something runs: `Field(..., json_schema_extra=NO_IDENTITY)`. Such a field
changes neither fingerprints nor stored keys."""


class Strict(pydantic.BaseModel):
    """Base of every configuration model: unknown keys are errors, instances do not change."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _plain_number(cls, value: Any, info: pydantic.ValidationInfo) -> Any:
        """Refuse what pydantic takes for a number and nobody means as one: true (1), or more than 64 bits hold."""
        annotation: Any = cls.model_fields[info.field_name or ""].annotation
        kinds = _kinds_in(annotation)
        if any(isinstance(kind, type) and issubclass(kind, pydantic.BaseModel) for kind in kinds):
            return value  # it looks at its own
        for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else (value,):
            if isinstance(one, bool) and kinds & {int, float} and not kinds & {bool, Any}:
                raise ValueError("true and false are no numbers")
            if type(one) is int and not -(2**63) <= one < 2**63:
                raise ValueError("no number here is so large")
        return value


Model = TypeVar("Model", bound=pydantic.BaseModel)


class Profile(Strict):
    """The profile in force and the sentence that says why and how to get the other one."""

    name: Literal["full", "local"]
    why: str


def pick_profile(name: str) -> Profile:
    """Resolve `auto`, `full` or `local`; `auto` takes `full` where a CUDA device is seen (torch is not imported).

    Raises `UsageError` for another name.
    """
    if name in PROFILES:
        return Profile(name=typing.cast("Literal['full', 'local']", name), why=f"profile {name}: as asked")
    if name != "auto":
        close = nearest(name, ("auto", *PROFILES))
        hint = f"Did you mean {close}?" if close else "Known: auto, full, local"
        raise UsageError(f"unknown profile {name!r}", hint)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").strip()
    seen = cuda_device() or (f"CUDA_VISIBLE_DEVICES={visible}" if visible not in {"", "-1"} else "")
    if seen:
        return Profile(name="full", why=f"profile full: {seen} (--profile local takes the small sets and tiny-vl)")
    return Profile(
        name="local",
        why="profile local: no CUDA device seen, so the project's own small sets and tiny-vl "
        "(--profile full takes the hub's datasets and the full models)",
    )


def read_toml(path: Path | str, what: str = "recipe") -> dict[str, Any]:
    """Return a TOML file as nested dicts, or raise `UsageError` naming the line."""
    import tomllib

    file = Path(path)
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise UsageError(f"{what} file {path} does not exist", "Check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{what} file {file.name} is not valid TOML: {error}", "Correct the line it names") from error
    except OSError as error:
        raise InfiMmrError(f"cannot read the {what} file {path}: {error.strerror}", "Check its permissions") from error


def build_model(
    table: dict[str, Any],
    model: type[Model],
    overrides: Sequence[str] = (),
    *,
    what: str = "recipe",
    profile: str | None = None,
    file: str = "",
) -> Model:
    """Lay the profile's table and the overrides over the table of `file`, and validate it.

    `overrides` are ``a.b=VALUE`` with VALUE in TOML (a bare word counts as a string). `profile` names the
    ``[profile.NAME]`` table to merge; both tables are taken out before validation.

    Raises:
        UsageError: an unknown key (with the nearest right one), or a value of the wrong type.
    """
    table = dict(table)
    profiles = table.pop("profile", {}) if "profile" not in model.model_fields else {}
    if not isinstance(profiles, dict) or any(not isinstance(value, dict) for value in profiles.values()):
        raise UsageError(f"{what} {file}: profile must hold tables", "Write [profile.full] and [profile.local]")
    for name in profiles:
        if name not in PROFILES:
            raise UsageError(f"{what} {file}: unknown profile table [profile.{name}]", "Known: full, local")
    if profile is not None:
        table = merge(table, profiles.get(profile, {}))
    for text in overrides:
        table = merge(table, parse_override(text))
    try:
        return model.model_validate(table)
    except pydantic.ValidationError as error:
        raise _explain(error, model, what, file, overrides, table) from error


def beside(table: dict[str, Any], folder: Path, is_place: Callable[[str, str], bool]) -> dict[str, Any]:
    """Return a file's table with relative paths that exist beside the file leading there, wherever one works.

    What does not exist there stays: a hub id, a name, or a path from the working directory. `is_place` is told a key
    and its text; a function of a file (`my_reward.py:score`) counts as its file.
    """

    def placed(key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: placed(key if key == "prompts" else name, item) for name, item in value.items()}
        if isinstance(value, list):
            return [placed(key, item) for item in value]
        if not isinstance(value, str) or not value or not is_place(key, value):
            return value
        file, colon, function = value.partition(":") if ".py:" in value else (value, "", "")
        path = folder / Path(file).expanduser()
        return f"{path}{colon}{function}" if path.exists() else value

    return {key: placed(key, value) for key, value in table.items()}


def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Lay one nested dict over another: tables merge key by key, everything else is replaced."""
    out = dict(below)
    for key, value in above.items():
        old = out.get(key)
        out[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return out


def parse_override(text: str) -> dict[str, Any]:
    """Turn ``a.b=VALUE`` into ``{"a": {"b": VALUE}}``; VALUE is TOML, a bare word counts as a string.

    Raises `UsageError` for what is not KEY=VALUE.
    """
    import tomllib

    key, equals, value = text.partition("=")
    keys = [part.strip() for part in key.split(".")]
    if not equals or not all(keys):
        raise UsageError(
            f"--set {text!r} is not KEY=VALUE", "Write e.g. source.limit=100 (recipe) or data.split=train (phase)"
        )
    try:
        parsed = value.strip() if "\n" in value else tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    for part in reversed(keys):
        parsed = {part: parsed}
    return typing.cast("dict[str, Any]", parsed)


_TOML_KINDS = {"dict_type": "a table", "model_type": "a table", "list_type": "a list", "tuple_type": "a list"}
"""What TOML calls the kinds that pydantic asks for, by the type of its error."""


def _explain(  # noqa: PLR0917 - what `build_model` was told
    error: pydantic.ValidationError,
    model: type[pydantic.BaseModel],
    what: str,
    file: str,
    overrides: Sequence[str],
    table: dict[str, Any],
) -> UsageError:
    # A misspelt key often is what lacks elsewhere: it tells more.
    first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    keys = list(_written(first["loc"], table, missing=first["type"] == "missing"))
    dotted = ".".join(keys)
    from_set = any(f"{text.partition('=')[0].strip()}.".startswith(f"{dotted}.") for text in overrides)
    place = "--set" if from_set else f"{what} {file}".strip()
    if first["type"] == "extra_forbidden":
        options = _known_keys(model, first["loc"][:-1])
        # A key of one of the tables here, written without the table.
        inner = next((at for at in options if keys[-1] in _known_keys(model, (*first["loc"][:-1], at))), None)
        close = f"{inner}.{keys[-1]}" if inner else nearest(keys[-1], options)
        prefix = ".".join([*keys[:-1], ""]) if len(keys) > 1 else ""
        hint = f"Did you mean {prefix}{close}?" if close else f"Known here: {', '.join(sorted(options))}"
        return UsageError(f"{place}: unknown key {dotted}", hint)
    if first["type"] == "missing":
        return UsageError(f"{place}: the key {dotted} is missing", "Add it to the file or with --set")
    reason = first["msg"].removeprefix("Value error, ")
    if isinstance(first["input"], dict) and first["type"] == "value_error":  # the reason names what does not fit
        section = f"{dotted}: " if keys else ""
        return UsageError(f"{place}: {section}{reason}", "Correct one of them in the file or with --set")
    if first["type"] in _TOML_KINDS:
        reason = f"Input should be {_TOML_KINDS[first['type']]}"
    given = repr(first["input"])
    shown = given if len(given) <= 60 else f"{given[:57]}..."
    return UsageError(f"{place}: {dotted} = {shown}: {reason}", "Correct the value")


def _written(location: tuple[int | str, ...], table: Any, *, missing: bool) -> Iterator[str]:
    """The parts of an error's place that lead into the table; the others are pydantic's names of a type's options."""
    for number, part in enumerate(location, 1):
        if isinstance(table, dict) and part in table:
            table = table[part]
        elif isinstance(table, list | tuple) and isinstance(part, int):
            table = table[part] if part < len(table) else None
        elif not (missing and number == len(location)):
            continue
        yield str(part)


@cache
def _kinds_in(annotation: Any) -> frozenset[Any]:
    """The types in an annotation, those of its options and items among them."""
    arguments = typing.get_args(annotation)
    return frozenset().union(*map(_kinds_in, arguments)) if arguments else frozenset([annotation])


def _known_keys(model: type[pydantic.BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the keys that stand at `location`, following fields, unions, lists and dicts."""
    kinds = [model]
    for part in location:
        fields = [kind.model_fields[str(part)] for kind in kinds if str(part) in kind.model_fields]
        # A list index or a dict key stays within the same annotation.
        kinds = [inner for field in fields for inner in _models_in(field.annotation)] if fields else kinds
    return [name for kind in kinds for name in kind.model_fields]


def _models_in(annotation: Any) -> list[type[pydantic.BaseModel]]:
    if typing.get_origin(annotation) is None and isinstance(annotation, type):
        return [annotation] if issubclass(annotation, pydantic.BaseModel) else []
    return [kind for argument in typing.get_args(annotation) for kind in _models_in(argument)]
