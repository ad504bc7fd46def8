"""Samples of each step with their pictures for TensorBoard and Weights & Biases, beside the numbers that OpenRLHF logs.

Input: a step's rollouts (`rollouts/step-*.parquet`) and the prompt file of the run. Output: in TensorBoard's folder
`samples/` one table (text) and the pictures of its rows (images) per step; in the phase's wandb project a run named
`PHASE samples` with one table per step whose cells are pictures and texts.
Not covered: more than `SAMPLES` rollouts of a step; `trainer watch` and the rollouts' files have all.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SAMPLES = 8
_COLUMNS = ("row", "question", "gold", "output", "reward", "accuracy", "kind", "verdict")
_LONGEST = 4000
"""Characters of a cell."""
_SIDE = 256
"""Pixels of a picture's longer side."""


class SampleTables:
    """Writes samples of one run; nothing of it may end a training, so that what fails is told once and left out."""

    def __init__(self, folder: Path, name: str, project: str, tell: Any) -> None:
        """Take a run folder, the phase's name, its wandb project (empty: none) and a way to tell people something."""
        self._folder, self._name, self._project, self._tell = folder, name, project, tell
        self._places = _lines(folder / "prompts.jsonl")
        self._events: Any = None
        self._run: Any = None
        self._failed = False

    def write(self, step: int) -> None:
        """Write the samples of a finished step; a step without rollouts has none."""
        if self._failed:
            return
        try:
            rows = self._rows(step)
            if rows:
                self._to_tensorboard(step, rows)
                self._to_wandb(step, rows)
        except Exception as error:  # noqa: BLE001 - another program's files and services must not stop a training
            self._failed = True
            self._tell(f"samples are no longer logged ({type(error).__name__}: {str(error)[:200]})")

    def close(self) -> None:
        """End what was begun."""
        for end in (self._events and self._events.close, self._run and self._run.finish):
            try:
                if end:
                    end()
            except Exception as error:  # noqa: BLE001 - as above
                self._tell(f"samples may lack the last step ({type(error).__name__}: {str(error)[:200]})")

    def _rows(self, step: int) -> list[dict[str, Any]]:
        """Rollouts of a step, drawn evenly from the lowest reward to the highest, with their pictures as PNG."""
        import polars as pl

        file = self._folder / "rollouts" / f"step-{step:06d}.parquet"
        if not file.is_file():
            return []
        frame = pl.read_parquet(file).sort("reward", "prompt_id", "output", nulls_last=True)
        count = min(SAMPLES, frame.height)
        chosen = frame[[place * (frame.height - 1) // max(count - 1, 1) for place in range(count)]]
        rows = []
        for row in chosen.iter_rows(named=True):
            told = {name: row["prompt_id"] if name == "row" else row[name] for name in _COLUMNS}
            rows.append({**told, "pictures": [_small(Path(name)) for name in self._pictures(row["prompt_id"])]})
        return rows

    def _pictures(self, identity: str) -> Sequence[str]:
        place = self._places.get(identity)
        if place is None:
            return ()
        with (self._folder / "prompts.jsonl").open("rb") as file:
            file.seek(place)
            return list(json.loads(file.readline()).get("images", ()))

    def _to_tensorboard(self, step: int, rows: Sequence[dict[str, Any]]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.text.summary_v2 import text_pb
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        if self._events is None:
            self._events = EventFileWriter(str(self._folder / "tensorboard" / "samples"))
        lines = ["|".join(["", *_COLUMNS, ""]), "|---" * len(_COLUMNS) + "|"]
        lines += ["|".join(["", *(_cell(row[name]) for name in _COLUMNS), ""]) for row in rows]
        self._events.add_event(Event(step=step, summary=text_pb("samples", "\n".join(lines))))
        for place, row in enumerate(rows):
            values = [
                Summary.Value(
                    tag=f"samples/{place}/{number}",
                    image=Summary.Image(encoded_image_string=data, width=width, height=height, colorspace=3),
                )
                for number, (data, (width, height)) in enumerate(row["pictures"])
            ]
            if values:
                self._events.add_event(Event(step=step, summary=Summary(value=values)))
        self._events.flush()

    def _to_wandb(self, step: int, rows: Sequence[dict[str, Any]]) -> None:
        if not self._project:
            return
        import wandb
        from PIL import Image

        if self._run is None:
            if os.environ.get("WANDB_MODE") not in {"offline", "disabled"} and not wandb.api.api_key:
                raise PermissionError("wandb knows no key: set WANDB_API_KEY")  # it would ask for one on a terminal
            self._run = wandb.init(
                project=self._project,
                name=f"{self._name} samples",
                dir=str(self._folder),
                settings=wandb.Settings(silent=True, console="off"),
            )
        most = max(len(row["pictures"]) for row in rows)
        table = wandb.Table(columns=["step", *_COLUMNS, *(f"picture_{number + 1}" for number in range(most))])
        shown = []
        for row in rows:
            pictures = [
                wandb.Image(Image.open(io.BytesIO(data)), caption=f"{row['row']}: {row['gold']}")
                for data, _ in row["pictures"]
            ]
            shown += pictures
            empty = [None] * (most - len(pictures))
            table.add_data(step, *(_short(row[name]) for name in _COLUMNS), *pictures, *empty)
        self._run.log({"samples": table, "sample_pictures": shown, "global_step": step})


def _lines(path: Path) -> dict[str, int]:
    """Where in the prompt file the line of each row begins."""
    places: dict[str, int] = {}
    at = 0
    if path.is_file():
        with path.open("rb") as file:
            for text in file:
                places.setdefault(json.loads(json.loads(text)["label"])["id"], at)
                at += len(text)
    return places


def _small(path: Path) -> tuple[bytes, tuple[int, int]]:
    """A picture of the cache as a small PNG, and its sides."""
    from PIL import Image

    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail((_SIDE, _SIDE))
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue(), picture.size


def _short(value: object) -> object:
    return f"{value[:_LONGEST]} ..." if isinstance(value, str) and len(value) > _LONGEST else value


def _cell(value: object) -> str:
    """A value as one cell of a Markdown table, in which nothing is markup."""
    text = f"{value:.3g}" if isinstance(value, float) else str(_short(value))
    text = "".join(f"\\{one}" if one in "\\`*_{}[]()#+-.!|~<>" else one for one in text)
    return "<br>".join(text.replace("&", "&amp;").splitlines()) or " "
