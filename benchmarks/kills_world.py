"""What the builds that `kills.py` strikes are made of: drawn rows with and without pictures, recipes, a stand-in.

`opened_world` also builds once undisturbed, here and in one block: what every other build must give.
"""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import io
import json
import os
import random
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROWS, FILES, ITEMS, BLOCK_ROWS = 96, 3, 24, 16
PICTURED_ROWS, PICTURE_SIDE = 120, 1024
"""Rows with pictures, and the pictures' side: some milliseconds of decoding each."""
SOURCE = """
[{table}]
reader = "table"
location = "{folder}/{name}"
licence = "MIT"
"""
TEXT_STEPS = """
[steps.verify_answers]
[steps.decontaminate_ngrams]
planted_duplicates = 2
[steps.decontaminate_embeddings]
planted_duplicates = 1
[steps.decontaminate_embeddings.engine]
model = "standin"
endpoint = "{url}"
runner = "pooling"
batch_size = 8
[steps.dedup_minhash]
planted_duplicates = 2
[steps.rate_difficulty]
samples = 2
[steps.rate_difficulty.engine]
model = "standin"
endpoint = "{url}"
batch_size = 8
[assemble]
cosine_threshold = 1.01
cosine_near = 1.01
[benchmarks.drawn]
location = "{folder}/items.jsonl"
"""
PICTURED_STEPS = """
[steps.verify_answers]
[steps.dedup_minhash]
planted_duplicates = 2
"""


@dataclass
class World:
    """What all builds of a run share: the recipe, what an undisturbed one gives, a folder for stores."""

    folder: Path
    recipe: Path
    drawn: random.Random
    reference: dict[str, Any] = field(default_factory=dict)
    stores: int = 0

    def store(self) -> Path:
        """Folder of a new store."""
        self.stores += 1
        return self.folder / f"store-{self.stores}"


def write_texts(folder: Path) -> str:
    """Draw rows, with copies, and a benchmark of which some are among the rows; returns the recipe's source."""
    import polars as pl
    from drawn_texts import draw

    texts = draw(ROWS, copies=0.3, changes=1).cast(pl.String)
    rows = pl.DataFrame({"id": [f"k{n}" for n in range(ROWS)], "question": texts, "answer": ["7"] * ROWS})
    (folder / "rows").mkdir()
    for number in range(FILES):
        rows.slice(number * ROWS // FILES, ROWS // FILES).write_ndjson(folder / "rows" / f"train-{number}.jsonl")
    items = [*texts.gather_every(ROWS // 4), *draw(ITEMS, seed=3, words=40).cast(pl.String)]
    lines = [json.dumps({"id": f"i{n}", "question": text, "answer": str(n)}) for n, text in enumerate(items)]
    (folder / "items.jsonl").write_text("\n".join(lines) + "\n")
    return SOURCE.format(table="source", folder=folder, name="rows")


def write_pictured(folder: Path) -> str:
    """Draw rows with pictures, some twice or with two answers, in three forms; returns the recipe's sources."""
    import polars as pl
    from drawn_texts import draw

    texts = draw(PICTURED_ROWS * 5 // 6, words=30).cast(pl.String).to_list()
    forms = {"shards": _as_shards, "lines": _as_lines, "beside": _as_files}
    for place, (name, write) in enumerate(forms.items()):
        (folder / name).mkdir()
        numbers = range(place, PICTURED_ROWS, len(forms))
        write(folder / name, [_pictured_row(number, texts) for number in numbers])
    return "".join(SOURCE.format(table=f"sources.{name}", folder=folder, name=name) for name in forms)


def _pictured_row(number: int, texts: list[str]) -> tuple[dict[str, Any], bytes]:
    """A row and its picture; the last sixth repeat earlier ones, every other with another answer."""
    import numpy as np
    from PIL import Image

    again = number >= len(texts)
    content = number % len(texts)
    colours = np.random.default_rng(content).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    out = io.BytesIO()
    picture = Image.fromarray(colours).resize((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.NEAREST)
    picture.save(out, "PNG")
    answer = "8" if again and number % 2 else "7"
    return {"id": f"p{number}", "question": texts[content], "answer": answer}, out.getvalue()


def _as_shards(folder: Path, rows: list[tuple[dict[str, Any], bytes]]) -> None:
    for shard in range(FILES):
        with tarfile.open(folder / f"train-{shard}.tar", "w") as out:
            for row, picture in rows[shard::FILES]:
                for ending, data in (("json", json.dumps(row).encode()), ("png", picture)):
                    about = tarfile.TarInfo(f"{row['id']}.{ending}")
                    about.size = len(data)
                    out.addfile(about, io.BytesIO(data))


def _as_lines(folder: Path, rows: list[tuple[dict[str, Any], bytes]]) -> None:
    with (folder / "train.jsonl").open("w") as out:
        out.writelines(json.dumps({**row, "image": base64.b64encode(picture).decode()}) + "\n" for row, picture in rows)


def _as_files(folder: Path, rows: list[tuple[dict[str, Any], bytes]]) -> None:
    with (folder / "train.jsonl").open("w") as out:
        for row, picture in rows:
            (folder / f"{row['id']}.png").write_bytes(picture)
            out.write(json.dumps({**row, "image": f"{row['id']}.png"}) + "\n")


@contextlib.contextmanager
def opened_world(
    folder: Path, seed: int, undisturbed: Callable[[World], dict[str, Any]], *, pictured: bool
) -> Iterator[World]:
    """Draw the inputs, start the stand-in, build once by `undisturbed`.

    Nothing is remembered of files that were hashed before, so that each build hashes its source.
    """
    spec = importlib.util.spec_from_file_location(
        "standin", Path(__file__).resolve().parent.parent / "tests" / "standin.py"
    )
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    os.environ["INFI_MMR_CACHE"] = f"{os.devnull}/nothing"
    server = module.StandIn()
    try:
        source = write_pictured(folder) if pictured else write_texts(folder)
        steps = PICTURED_STEPS if pictured else TEXT_STEPS.format(folder=folder, url=server.url)
        recipe = folder / "drawn.toml"
        recipe.write_text(source + steps)
        world = World(folder, recipe, random.Random(seed))
        world.reference.update(undisturbed(world))
        yield world
    finally:
        server.close()
