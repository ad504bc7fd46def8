"""The manifest: everything that is known about one dataset version, in one small JSON file.

It is written last and claims the version's number; what it says is checked by its own checksum and by the
fingerprint. `fingerprint` is the content's identity: name, profile, resolved recipe, the inputs' fingerprints and the
hashes of shards and ledger; not times, hosts or commits, so that two builds of the same inputs have the same one.

A field that is added later has a default, raises `FORMAT` and is named in `ADDED`: older manifests are read with the
default and written as they were, byte for byte; a newer one is refused with what to do (docs/pages/versions.md). One
that gets another name raises `FORMAT` too, and `RENAMED` says what older manifests call it.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError

from shared.config import Strict
from shared.dataset_version.names import LEDGER_FILE, checked_name, checked_sha256, checked_shard_file, checked_version
from shared.errors import InfiMmrError, UsageError
from shared.fingerprint import bytes_hash, canonical_json, fingerprint

FORMAT = 2
"""Format of the manifests that this release writes; it reads every one from `OLDEST` on."""
OLDEST = 1
ADDED: dict[int, frozenset[str]] = {}
"""Fields by the format that brought them."""
RENAMED = {2: {"planted_duplicates": "canaries"}}
"""Fields by the format that gave them their name, with the one they had before. A step's setting of this name counts in
the fingerprint by the earlier one: a word is no content, and what was built before is found again."""


def _name(text: str) -> str:
    try:
        return checked_name(text)
    except UsageError as error:
        raise ValueError(str(error)) from None


Name = Annotated[str, AfterValidator(_name)]
Sha256 = Annotated[str, AfterValidator(checked_sha256)]
Count = Annotated[int, Field(ge=0)]


class Shard(Strict):
    """One Parquet file."""

    file: Annotated[str, AfterValidator(checked_shard_file)] = Field(description="Name in the version's folder.")
    sha256: Sha256 = Field(description="Hash of the file's bytes, and its address among the blobs.")
    bytes: Count = Field(description="Size of the file.")
    rows: Count = Field(description="Rows in the file.")
    row_groups: Count = Field(description="Row groups in the file.")


class StepCount(Strict):
    """What one step of the build did."""

    name: str = Field(description="The step.")
    rows_in: Count = Field(description="Rows that came in.")
    rows_out: Count = Field(description="Rows that went on.")
    computed: Count = Field(default=0, description="Cells asked or computed in this build.")
    reused: Count = Field(default=0, description="Cells found in the store.")
    seconds: float = Field(default=0.0, description="Wall-clock seconds.")


class Input(Strict):
    """One source or benchmark that was read."""

    name: str = Field(description="Source or benchmark.")
    location: str = Field(description="Hub id or folder name, never an absolute path.")
    revision: str = Field(default="", description="Hub commit, or hash of the files read.")
    rows: Count = Field(default=0, description="Rows read.")
    fingerprint: str = Field(default="", description="Hash of what was read.")


class Prompt(Strict):
    """One prompt file that was used."""

    name: str = Field(description="The prompt's file name.")
    sha256: Sha256 = Field(description="Hash of its text.")


class ManifestDraft(Strict):
    """What a build knows before its version has a number. `publish` adds the rest."""

    name: Name = Field(description="Dataset name, which is the recipe's name.")
    profile: str = Field(description="`full` or `local`: part of the version's identity.")
    build_key: str = Field(default="", description="Hash of all that determines the build, known before it runs.")
    created_at: str = Field(default="", description="UTC time, ISO 8601; empty takes the moment of publishing.")
    code_commit: str = Field(default="", description="Commit of this project that built it, where known.")
    packages: dict[str, str] = Field(default_factory=dict, description="Versions of the packages that matter.")
    recipe: dict[str, Any] = Field(default_factory=dict, description="The resolved recipe.")
    inputs: list[Input] = Field(default_factory=list, description="Sources and benchmarks with revisions.")
    counts: list[StepCount] = Field(default_factory=list, description="Rows in and out per step, in order.")
    models: list[dict[str, Any]] = Field(default_factory=list, description="Models with revisions and parameters.")
    prompts: list[Prompt] = Field(default_factory=list, description="Prompts by hash.")
    decontamination: dict[str, Any] = Field(default_factory=dict, description="Coverage per benchmark.")
    planted_duplicates: dict[str, Any] = Field(default_factory=dict, description="Planted and found, per kind of edit.")
    warnings: list[str] = Field(default_factory=list, description="What a reader should know.")
    rejected: Count = Field(default=0, description="Rows that the build removed or refused.")
    near_misses: Count = Field(default=0, description="Rows kept although a rule came near.")
    licences: dict[str, Any] | list[Any] = Field(default_factory=dict, description="Licence per source.")


class Manifest(ManifestDraft):
    """A published version."""

    format: int = Field(description="Format of this file.")
    version: Annotated[str, AfterValidator(checked_version)] = Field(description="vN")
    label: str = Field(description="What people say: `virl39k-captioned@v3 (local)`.")
    fingerprint: Sha256 = Field(description="Identity of the content; see the module.")
    rows: Count = Field(description="Rows in all shards.")
    bytes: Count = Field(description="Bytes of all shards and the ledger.")
    shards: list[Shard] = Field(description="The rows, in order.")
    ledger: Shard | None = Field(default=None, description="The removed and near-missed rows.")

    def files(self) -> list[Shard]:
        """Return the shards and, where there is one, the ledger."""
        return [*self.shards, *([self.ledger] if self.ledger else [])]

    @property
    def splits(self) -> dict[str, int]:
        """Rows by split, in the recipe's order; empty where the recipe names none."""
        told = self.recipe.get("splits")
        return {
            name: sum(shard.rows for shard in self.shards if self.split_of(shard) == name)
            for name in (told if isinstance(told, dict) else ())
        }

    def split_of(self, shard: Shard) -> str:
        """The split of a shard's rows, from its name (`NAME-SPLIT-00000-of-00001.parquet`); empty for none."""
        words = shard.file.removeprefix(f"{self.name}-").split("-")
        return words[0] if len(words) > 1 and words[0] in (self.recipe.get("splits") or ()) else ""

    def with_version(self, version: str) -> Manifest:
        """Return the same content under another number."""
        label = f"{self.name}@{version} ({self.profile})"
        return self.model_copy(update={"version": checked_version(version), "label": label})

    def content_fingerprint(self) -> str:
        """Compute what `fingerprint` must be."""
        return _content_fingerprint(self, self.shards, self.ledger)


def manifest_hash(manifest: Manifest) -> str:
    """Return the `manifest_sha256` of the file: the hash of everything else in it."""
    return bytes_hash(canonical_json(_fields(manifest)).encode())


def _fields(manifest: Manifest) -> dict[str, Any]:
    """Return the fields that a manifest of this format has, by their names in it, as JSON values."""
    later = {name for brought, names in ADDED.items() if brought > manifest.format for name in names}
    earlier = _earlier_names(manifest.format)
    fields = manifest.model_dump(mode="json", exclude=later)
    return {earlier.get(name, name): value for name, value in fields.items()}


def _earlier_names(written: int) -> dict[str, str]:
    """Return what fields are called in manifests of that format, by the names they have now, where they differ."""
    return {now: then for since, names in RENAMED.items() if since > written for now, then in names.items()}


def manifest_bytes(manifest: Manifest) -> bytes:
    """Return the file: sorted, indented JSON with `manifest_sha256`."""
    fields = {**_fields(manifest), "manifest_sha256": manifest_hash(manifest)}
    return (json.dumps(fields, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_manifest(data: bytes, where: str) -> Manifest:
    """Read and check a manifest; `where` names it in errors.

    Any changed bit is found: the fields must hash to `manifest_sha256`, the shards to `fingerprint`, and the file must
    be byte for byte what `manifest_bytes` writes.
    """
    try:
        fields = json.loads(data)
        if isinstance(fields, dict) and fields.get("format", FORMAT) not in range(OLDEST, FORMAT + 1):
            raise _other_format(where, fields["format"])
        fields.pop("manifest_sha256")
        now = {then: now for now, then in _earlier_names(fields["format"]).items()}
        manifest = Manifest.model_validate({now.get(name, name): value for name, value in fields.items()})
    except (ValueError, ValidationError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise damaged(where, f"cannot be read ({type(error).__name__})") from error
    if manifest_bytes(manifest) != data:
        raise damaged(where, "does not have the checksum that it states")
    if manifest.content_fingerprint() != manifest.fingerprint:
        raise damaged(where, "does not have the fingerprint that it states")
    names = [shard.file for shard in manifest.files()]
    if len(set(names)) != len(names) or any(shard.file == LEDGER_FILE for shard in manifest.shards):
        raise damaged(where, "names one file twice")
    if manifest.rows != sum(shard.rows for shard in manifest.shards):
        raise damaged(where, "counts other rows than its shards")
    return manifest


def _other_format(where: str, written: object) -> InfiMmrError:
    """Return the error for a manifest of another age."""
    if not isinstance(written, int):
        return damaged(where, f"has the format {written!r}, which none ever had")
    older = written < OLDEST
    step = "Build the version again, or read it with the release that wrote it" if older else "Update infi-mmr"
    reads = str(FORMAT) if OLDEST == FORMAT else f"{OLDEST} to {FORMAT}"
    return InfiMmrError(f"{where} has format {written}; this release reads {reads}", step)


def damaged(where: str, how: str) -> InfiMmrError:
    """Return the error for a manifest that must not be believed."""
    return InfiMmrError(f"the manifest {where} {how}", "Pull the version again from another store, or build it again")


def complete(draft: ManifestDraft, shards: list[Shard], ledger: Shard | None, version: str) -> Manifest:
    """Return the manifest of `draft` with these files and this number."""
    return Manifest(
        **dict(draft),
        format=FORMAT,
        version=version,
        label=f"{draft.name}@{version} ({draft.profile})",
        fingerprint=_content_fingerprint(draft, shards, ledger),
        rows=sum(shard.rows for shard in shards),
        bytes=sum(shard.bytes for shard in [*shards, *([ledger] if ledger else [])]),
        shards=shards,
        ledger=ledger,
    )


def _content_fingerprint(draft: ManifestDraft, shards: list[Shard], ledger: Shard | None) -> str:
    return fingerprint(
        {
            "name": draft.name,
            "profile": draft.profile,
            "recipe": _with_first_names(draft.recipe),
            "inputs": [[entry.name, entry.fingerprint] for entry in draft.inputs],
            "shards": [shard.sha256 for shard in shards],
            "ledger": ledger.sha256 if ledger else None,
        }
    )


def _with_first_names(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return the recipe with the names that its steps' settings had in the first format."""
    first, steps = _earlier_names(0), recipe.get("steps")
    if not isinstance(steps, dict):
        return recipe

    def renamed(settings: Any) -> Any:
        return {first.get(key, key): settings[key] for key in settings} if isinstance(settings, dict) else settings

    return {**recipe, "steps": {step: renamed(settings) for step, settings in steps.items()}}
