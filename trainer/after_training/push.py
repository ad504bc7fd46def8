"""Share a checkpoint on the Hugging Face Hub: weights and their files, the card, the run record, in one commit.

Input: checkpoint folder and ``owner/name``. Output: what was sent (or, with `dry_run`, would be), by name and bytes.
A repository that another checkpoint or somebody else filled is refused unless its replacement is asked for. Pickled
weights and hidden files stay here; paths of this machine are cut out of the run record.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from shared.command import say
from shared.errors import InfiMmrError, UsageError
from shared.hub_upload import Read, check_hub_id, commit_files, foreign_files, hub_token
from shared.store import shown_url
from shared.vlm.checkpoint import BUNDLED_FOLDER, checkpoint_hash, is_folder
from shared.whole_file import json_table
from trainer.after_training.model_card import card_text
from trainer.after_training.places import local_checkpoint, meant_checkpoint
from trainer.checkpoint import NOT_COPIED, WEIGHTS
from trainer.evaluation.cli import default_folder
from trainer.evaluation.results import RESULT_FILE, read_result
from trainer.run_record import FILE_IN_CHECKPOINT

MARK = "infi_mmr.json"
"""File by which a repository is known to hold an earlier push: its checkpoint's name and files."""
WRITTEN = (FILE_IN_CHECKPOINT, "README.md", RESULT_FILE, MARK)
"""Files that are made here, whatever lies in the folder under their names."""
STAYS = tuple(pattern for pattern in NOT_COPIED if pattern not in {*WEIGHTS, *WRITTEN})


@dataclass(frozen=True)
class Parcel:
    """What a push sends. `files` holds paths for what lies in the checkpoint and bytes for what was made."""

    name: str
    card: str
    files: dict[str, str | bytes]
    left_here: list[str]
    notes: list[str]

    def sizes(self) -> list[dict[str, Any]]:
        """Names and bytes, in the order of names."""
        return [
            {"name": name, "bytes": len(content) if isinstance(content, bytes) else Path(content).stat().st_size}
            for name, content in sorted(self.files.items())
        ]


def parcel(checkpoint: str, hub_id: str, results: Path | None = None) -> Parcel:
    """What a push of `checkpoint` holds; `results` names another evaluation than the one in its run folder.

    Raises:
        UsageError: the checkpoint lies on the Hub already.
        InfiMmrError: no such folder, or one that could not be loaded from the Hub again; unreadable results.

    """
    checkpoint = meant_checkpoint(checkpoint)
    if not is_folder(checkpoint):
        raise UsageError(f"{checkpoint} is not a folder here", "Name the folder of a checkpoint")
    folder = local_checkpoint(checkpoint)
    record = _record(folder)
    name = str(record.get("phase", {}).get("name") or folder.resolve().name)
    evaluation, notes = _evaluation(checkpoint, folder, results)
    inside = sorted(path.name for path in folder.iterdir() if path.is_file())
    stays = [file for file in inside if any(PurePosixPath(file).match(pattern) for pattern in STAYS)]
    files: dict[str, str | bytes] = {
        file: str(folder / file) for file in inside if file not in stays and file not in WRITTEN
    }
    card = card_text(folder, hub_id.partition("/")[2], record, evaluation, _base(folder))
    files["README.md"] = card.encode()
    if record:
        files[FILE_IN_CHECKPOINT] = _json(record)
    if evaluation:
        files[RESULT_FILE] = _json(_public(evaluation))
    files[MARK] = _json({"name": name, "files": sorted({*files, MARK})})
    return Parcel(name, card, files, stays, notes)


def push(parcel: Parcel, hub_id: str, token: str, *, replace: bool = False) -> dict[str, Any]:
    """Upload a parcel to the model repository ``owner/name``, made private where it does not exist yet.

    Raises:
        InfiMmrError: a repository of something else (unless `replace`), or the Hub refuses or cannot be reached;
            nothing is changed there then.

    """

    def stale(names: Sequence[str], read: Read) -> list[str]:
        before = _marked(read(MARK)) if MARK in names else {}
        held = foreign_files(names, "push")
        if held and MARK in names:
            held = (
                "" if before.get("name") == parcel.name else f"checkpoint {before.get('name') or 'of something else'}"
            )
        if held and not replace:
            message = f"{hub_id} holds {held}; a push of {parcel.name} would replace its card and weights"
            raise InfiMmrError(message, "Name a new repository, or add --replace")
        earlier = before.get("files")
        ours = {str(name) for name in earlier} if isinstance(earlier, list) else set()
        return [name for name in names if name in ours and name not in parcel.files]

    message = f"{parcel.name}: weights, card and run record"
    done = commit_files(hub_id, "model", parcel.files, stale, message, token)
    return {"removed": done.removed, "commit": done.commit}


def push_command(
    checkpoint: str, hub_id: str, results: Path | None, *, dry_run: bool, replace: bool, as_json: bool
) -> dict[str, Any]:
    """`trainer push`."""
    check_hub_id(hub_id)
    token = "" if dry_run else hub_token(hub_id, "look first with --dry-run")
    found = parcel(checkpoint, hub_id, results)
    sizes = found.sizes()
    total = sum(file["bytes"] for file in sizes)
    document = {
        "checkpoint": found.name, "to": f"hf://{hub_id}", "dry_run": dry_run, "files": sizes, "bytes": total,
        "left_here": found.left_here, "notes": found.notes,
    }  # fmt: skip
    tell: Callable[[str], None] = (lambda _: None) if as_json else say
    for line in _lines(found, sizes, total, hub_id, dry_run=dry_run):
        tell(line)
    if dry_run:
        if not as_json:
            sys.stdout.write(found.card)
        return {**document, "card": found.card}
    document |= push(found, hub_id, token, replace=replace)
    tell(f"pushed: {document['commit']}")
    return document


def _lines(
    found: Parcel, sizes: Sequence[Mapping[str, Any]], total: int, hub_id: str, *, dry_run: bool
) -> Iterator[str]:
    yield f"{'would send' if dry_run else 'sending'} to {hub_id}, {len(sizes)} files, {total:,} bytes:"
    for file in sizes:
        yield f"  {file['bytes']:>16,}  {file['name']}"
    if found.left_here:
        yield f"left here: {', '.join(found.left_here)}"
    yield from found.notes


def _record(folder: Path) -> dict[str, Any]:
    """The run record without paths of this machine; empty where the folder holds none that can be read."""
    found = json_table(folder / FILE_IN_CHECKPOINT)
    return dict(_public(found)) if isinstance(found.get("phase"), dict) else {}


def _public(value: Any) -> Any:
    """JSON without what belongs to this machine: absolute paths keep their last two names, addresses lose keys."""
    if isinstance(value, dict):
        return {key: _public(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_public(one) for one in value]
    if isinstance(value, str) and "://" in value:
        return shown_url(value)
    if isinstance(value, str) and value.startswith(("/", "~")) and "\n" not in value:
        return "/".join(PurePosixPath(value).parts[-2:]).lstrip("/")
    return value


def _evaluation(checkpoint: str, folder: Path, results: Path | None) -> tuple[dict[str, Any], list[str]]:
    """The evaluation of these very weights, and what to say where there is none."""
    place = results or default_folder(checkpoint, None)
    if results is None and not (place / RESULT_FILE).is_file():
        return {}, [f"no results: {checkpoint} was not evaluated (trainer evaluate --checkpoint {checkpoint})"]
    found = read_result(place)
    if found.get("engine", {}).get("checkpoint") != f"sha256:{checkpoint_hash(folder)}":
        if results is not None:
            message = f"{results} holds results of other weights than {checkpoint}"
            raise InfiMmrError(message, f"Evaluate these: trainer evaluate --checkpoint {checkpoint}")
        return {}, [f"no results: those in {place} are of other weights"]
    return found, []


def _base(folder: Path) -> str:
    """Hub id from which the curriculum of a checkpoint began, as far as its parents are at hand; empty if unknown."""
    for _ in range(20):
        start = json_table(folder / FILE_IN_CHECKPOINT).get("phase", {}).get("model", {}).get("start", "")
        if not isinstance(start, str) or not start:
            return ""
        if not is_folder(start):
            return start
        folder = BUNDLED_FOLDER if start == BUNDLED_FOLDER.name else Path(start)
    return ""


def _marked(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()
