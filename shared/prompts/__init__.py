"""Prompts belong to models: a *set* is a folder of prompt files written for the models that read them.

Sets of the product: `bundled` (the texts that tiny-vl was trained on; changing one means training it again) and `full`
(written for Qwen2.5-VL-7B, OmniCaptioner and the policy). A user's own set is a folder with files of the same names.
A recipe and a phase name their set (`prompts = "full"`); a file is named `NAME.md`, or `NAME.zh.md` where there is one
for Chinese questions.

A file may open with a header that is never sent (`<!-- for: ... source: ... date: ... -->`). What follows is one text,
or two under the lines `[system]` and `[user]`. Nothing else is interpreted, and the final newline is not sent.
Not covered: chat templates (those belong to a checkpoint).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

from shared.errors import UsageError, did_you_mean
from shared.fingerprint import bytes_hash, fingerprint

BUNDLED = "bundled"
"""The set of tiny-vl, and of no other model."""
FULL = "full"
"""The set of the real models."""
SETS = (BUNDLED, FULL)
SET_OF_PROFILE = {"full": FULL, "local": BUNDLED}
"""Taken where a recipe or phase file names no set."""

_FOLDER = Path(__file__).parent
_HEADER = ("<!--", "-->\n")
_PARTS = ("[system]\n", "\n[user]\n")


@dataclass(frozen=True)
class Prompt:
    """One prompt file.

    Attributes:
        name: The file's name without `.md`, or the path of a file of one's own as it was given.
        file: Where it lies.
        about: The header: `for`, `source`, `date`; empty where the file has none.
        system: What stands under `[system]`; empty in a file of one text.
        user: What stands under `[user]`; empty in a file of one text.
        text: What is sent; the whole text of a file of one text, both parts of the other kind.
    """

    name: str
    file: Path
    about: Mapping[str, str] = field(hash=False)
    system: str
    user: str
    text: str

    def turns(self, alone: Literal["system", "user"]) -> tuple[str, str]:
        """System message and user's words; a file of one text gives the turn `alone`."""
        if self.system or self.user:
            return self.system, self.user
        return (self.text, "") if alone == "system" else ("", self.text)

    @property
    def sha256(self) -> str:
        """Hash of what is sent: header and file name do not count."""
        if self.system and self.user:
            return fingerprint([self.system, self.user])
        return bytes_hash((self.system or self.user or self.text).encode())


def set_folder(prompts: str) -> Path:
    """Folder of a set.

    Args:
        prompts: `bundled`, `full`, or a folder.

    Raises:
        UsageError: neither; names the nearest set.
    """
    if prompts in SETS:
        return _FOLDER / prompts
    folder = Path(prompts).expanduser()
    if not folder.is_dir():
        raise UsageError(
            f"no prompt set named {prompts!r}, and no such folder", did_you_mean(prompts, SETS) + ", or name a folder"
        )
    return folder


def prompt_names(prompts: str = BUNDLED) -> tuple[str, ...]:
    """Names of all prompt files of a set, sorted."""
    return tuple(sorted(path.name.removesuffix(".md") for path in set_folder(prompts).glob("*.md")))


def load_prompt(named: str, prompts: str = BUNDLED, language: str = "") -> Prompt:
    """Prompt of a set by name, or a file of one's own by path (ending in `.md` or `.txt`).

    Args:
        named: `caption_chart`, or `folder/mine.md`.
        prompts: The set that holds the name.
        language: `zh` takes `NAME.zh.md` where the set has it; a path has one language only.

    Raises:
        UsageError: no such prompt; names the nearest one.
    """
    if named.endswith((".md", ".txt")):
        file = Path(named).expanduser()
        if not file.is_file():
            raise UsageError(
                f"prompt file {named} does not exist", f"Name a file, or one of: {', '.join(prompt_names(prompts))}"
            )
        return _read(named, file, file.stat().st_mtime_ns)
    folder = set_folder(prompts)
    for name in (f"{named}.{language}", named) if language else (named,):
        file = folder / f"{name}.md"
        if "/" not in named and file.is_file():
            return _read(name, file, file.stat().st_mtime_ns)
    known = prompt_names(prompts)
    message = f"unknown prompt {named!r} in the prompt set {prompts}"
    raise UsageError(message, did_you_mean(named, known) if known else f"Copy the files of {_FOLDER / FULL} there")


def prompt(name: str, prompts: str = BUNDLED) -> str:
    """Text of a prompt file of one text (see `load_prompt`)."""
    return load_prompt(name, prompts).text


@cache
def _read(name: str, file: Path, _changed: int) -> Prompt:
    text = file.read_text(encoding="utf-8")
    about: dict[str, str] = {}
    if text.startswith(_HEADER[0]) and _HEADER[1] in text:
        header, _, text = text.removeprefix(_HEADER[0]).partition(_HEADER[1])
        fields = (line.partition(":") for line in header.splitlines() if ":" in line)
        about = {key.strip(): value.strip() for key, _, value in fields}
        text = text.lstrip("\n")
    text = text.rstrip("\n")
    system = user = ""
    if text.startswith(_PARTS[0]):
        system, _, user = (part.strip("\n") for part in text.removeprefix(_PARTS[0]).partition(_PARTS[1]))
        text = "\n".join(part for part in (system, user) if part)
    return Prompt(name, file, about, system, user, text)


def render(name: str, prompts: str = BUNDLED, **fields: str) -> str:
    """Prompt `name` with each `{field}` replaced by its value, in one pass: braces inside values stay as they are.

    Raises:
        UsageError: the prompt has no such field, or there is no such prompt.
    """
    text = prompt(name, prompts)
    for missing in sorted(named for named in fields if f"{{{named}}}" not in text):
        raise UsageError(f"prompt {name!r} has no field {missing!r}", f"Write {{{missing}}} where it belongs")
    return re.sub(r"\{(\w+)\}", lambda found: fields.get(found[1], found[0]), text)
