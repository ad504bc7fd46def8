"""Embeddings of rows (pictures and words together), cached as annotations, and their parity with reference vectors.

Input: rows with `question` and `image_hashes`. Output: float32 vectors, L2-normalised, which stay on the store until
somebody asks for those of some rows. A vector is stored under the hash of what was embedded (words and picture hashes),
so equal content is computed once and a vector never depends on what else a build holds.

Parity: thresholds such as cosine 0.95 were chosen for the reference implementation's vectors. `parity` embeds the pairs
of a reference file again and compares; below 0.999 it warns, loudly and in the manifest.
Not covered: search and thresholds (decontaminate_embeddings).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_engine.ask_blocks import Asked, ask_frame
from data_engine.ask_job import Asking
from data_engine.asking import told_elsewhere
from shared.annotations import PartitionedCells, StoredCells
from shared.errors import InfiMmrError
from shared.fingerprint import bytes_hash, fingerprint
from shared.vlm.checkpoint import engine_identity, engine_record, maker

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from data_engine.step import StepContext
    from shared.images import ImageSource
    from shared.vlm.spec import EngineSpec

STEP = "embeddings"
PARITY_COSINE = 0.999
"""Cosine above which two implementations count as the same (facts: models)."""


@dataclass(frozen=True)
class Embedding(Asking):
    """Asks for vectors; a line is a row: `key` of its content, `question`, `image_hashes`."""

    def asks(self, lines: pl.DataFrame, context: StepContext) -> pl.DataFrame:
        """In the order of their keys."""
        del context
        return lines.select("key", "table", text="question", images="image_hashes").sort("key")


def embedding_of(context: StepContext, engine: EngineSpec) -> dict[str, Any]:
    """What every `Embedding` by this engine is made of."""
    about = {"step": STEP, "engine": engine_record(engine)}
    here = fingerprint({"engine": engine_identity(engine)})
    table = PartitionedCells(context.store, STEP, here, about=about, made_by=maker(engine))
    return {"name": STEP, "tables": (table,), "words": (("", ""),), "engine": engine, "sampling": None}


def lines_of(rows: pl.DataFrame) -> pl.DataFrame:
    """Lines of rows with `question` and `image_hashes`; other columns stay."""
    import polars as pl

    rows = rows.with_columns(pl.col("question").fill_null("None"), pl.col("image_hashes").fill_null([]))
    keys = [content_key(text, pictures) for text, pictures in rows.select("question", "image_hashes").iter_rows()]
    return rows.with_columns(pl.Series("key", keys, dtype=pl.String), table=pl.lit(0, pl.Int32))


@dataclass(frozen=True)
class Embedded:
    """Rows whose vectors are on the store.

    Attributes:
        cells: Where the vectors are.
        keys: Content key of each row.
        failures: Row number -> reason.
        computed: Distinct contents embedded now.
        reused: Distinct contents found in the store.
        warnings: For people and the manifest.

    """

    cells: StoredCells
    keys: list[str]
    failures: dict[int, str]
    computed: int
    reused: int
    warnings: list[str]

    @property
    def vectors(self) -> np.ndarray:
        """All of them, float32 [rows, dim], read from the store now.

        In the rows' order; zeros where a row failed (its cosine with anything is 0).
        """
        known = self.cells.columns(self.keys)
        return np.zeros((len(self.keys), 0), np.float32) if known is None else vectors_of(known, self.keys)


def vectors_of(cells: pa.Table, keys: Sequence[str]) -> np.ndarray:
    """Vectors of `keys`, float32 [keys, dim], from a table with `key` and `vector`; zeros for keys it does not have."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = cells.column("vector").combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), column.type.list_size)
    index = np.asarray(pc.index_in(pa.array(keys, pa.string()), value_set=cells.column("key")).fill_null(-1))
    vectors = np.zeros((len(keys), flat.shape[1]), np.float32)
    vectors[index >= 0] = flat[index[index >= 0]]
    return vectors


def content_key(text: str, image_hashes: Sequence[str]) -> str:
    """Hash of what is embedded: the words as they are and the pictures by their sha256, in order."""
    return fingerprint([text, list(image_hashes)])


def embed_rows(
    context: StepContext,
    engine: EngineSpec,
    rows: pl.DataFrame,
    images: ImageSource,
    *,
    description: str = "embed rows",
) -> Embedded:
    """Embed `question` with the pictures of `image_hashes` for each row; only contents never embedded are computed."""
    asking = Embedding(**embedding_of(context, engine))
    lines = lines_of(rows.select("question", "image_hashes"))
    asked = ask_frame(context, asking, lines, images, unit="texts", description=description)
    return embedded(asking, asked, [lines["key"].to_list()], description=description)[0]


def embedded(
    asking: Asking, asked: Asked, keys: Sequence[list[str]], *, description: str, rows: pl.DataFrame | None = None
) -> list[Embedded]:
    """What was embedded of each frame, by the keys of its lines.

    `rows`, where the first frame is the rows of a build and nobody holds their keys: `key` and `reason` of those that
    failed. What is told of it then stands in the first result, without keys.
    """
    table = asking.tables[0].fresh()
    assert isinstance(table, StoredCells)  # noqa: S101  as `embedding_of` makes it
    reasons = {key.rpartition("/")[0]: reason for key, reason in asked.failed.items()}
    warnings = [*asked.warnings, *told_elsewhere(STEP, asked.elsewhere)]
    seen: set[str] = set()
    made = []
    for number, some in enumerate(([], *keys) if rows is not None else keys):
        failures = {row: reasons[key] for row, key in enumerate(some) if key in reasons}
        lost = {key for key in some if key in reasons}
        if rows is not None and number == 0:
            failures, lost = dict(enumerate(rows["reason"])), set(rows["key"])
        if failures:
            first_reason = next(iter(failures.values()))
            warnings = [*warnings, f"{description}: {len(failures)} rows could not be embedded, first: {first_reason}"]
        fresh = asked.fresh[number]
        made.append(Embedded(table, some, failures, fresh - len(lost - seen), asked.distinct[number] - fresh, warnings))
        warnings, seen = [], seen | lost
    return made


class FirstOf:
    """Pictures of several sources, each looked for in their order; as small to pickle as they are."""

    def __init__(self, sources: Sequence[ImageSource]) -> None:
        self.sources = list({id(source): source for source in sources}.values())

    def get(self, sha256: str) -> bytes:
        """Original bytes of the picture; where none has it, what the first source said is raised."""
        refused: Exception | None = None
        for source in self.sources:
            try:
                return source.get(sha256)
            except (InfiMmrError, KeyError, OSError) as error:
                refused = refused or error
        raise refused or KeyError(sha256)


def read_reference(path: Path) -> tuple[str, list[tuple[list[bytes], str]], np.ndarray]:
    """Read what `benchmarks/gme_reference.py` wrote: checkpoint, pairs, vectors.

    Raises:
        InfiMmrError: missing or damaged file.

    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            pairs = [
                ([file.get_tensor(f"image.{n}.{p}").tobytes() for p in range(one["images"])], str(one["text"]))
                for n, one in enumerate(json.loads(metadata["pairs"]))
            ]
            return metadata["checkpoint"], pairs, file.get_tensor("vectors")
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        message = f"reference vectors {path} cannot be read ({type(error).__name__})"
        raise InfiMmrError(message, "Write them with benchmarks/gme_reference.py.") from error


def parity(context: StepContext, engine: EngineSpec, reference: Path | None) -> dict[str, Any]:
    """Compare the embedder with stored reference vectors; what it computes is stored like any row's vector.

    A checkpoint that follows a reference implementation (`pooling = "gme"`) and has no vectors to be compared with gets
    a warning. One that is embedded as its own architecture has it is its own reference: that is noted in the record.

    Returns:
        JSON values for the manifest: `lowest_cosine` over the `pairs` (None where there was nothing to compare with),
        the cosine `required`, `warnings`, and the `note` why nothing was compared.

    """
    import polars as pl

    name = engine.model.rsplit("/", 1)[-1]
    told: dict[str, Any] = {"lowest_cosine": None, "pairs": 0, "required": PARITY_COSINE, "warnings": [], "note": ""}
    if reference is None and engine.pooling == "model":
        return told | {"note": f"{name} is embedded as its architecture has it: there is no other to compare"}
    if reference is None:
        warning = (
            f"no reference vectors for {name}: whether its cosines mean what the threshold assumes was not checked "
            "(benchmarks/gme_reference.py writes them)"
        )
        return told | {"warnings": [warning], "note": warning}
    checkpoint, pairs, expected = read_reference(reference)
    pictures = {bytes_hash(picture): picture for images, _ in pairs for picture in images}
    rows = pl.DataFrame(
        {
            "question": [text for _, text in pairs],
            "image_hashes": [[bytes_hash(picture) for picture in images] for images, _ in pairs],
        },
        schema={"question": pl.String, "image_hashes": pl.List(pl.String)},
    )
    vectors = embed_rows(context, engine, rows, HeldImages(pictures), description="embedding parity").vectors
    told["pairs"] = len(pairs)
    if vectors.shape != expected.shape:
        shapes = f"{tuple(vectors.shape)} against {tuple(expected.shape)}"
        return told | {"warnings": [f"EMBEDDING PARITY FAILED: {name} gives vectors of another shape ({shapes})"]}
    lowest = told["lowest_cosine"] = round(float((vectors * expected).sum(axis=1).min()), 6)
    if lowest < PARITY_COSINE:
        told["warnings"].append(
            f"EMBEDDING PARITY FAILED: {name} differs from the reference vectors of {checkpoint} "
            f"(lowest cosine {lowest}, required {PARITY_COSINE}): do not trust thresholds made for the reference"
        )
    return told


class HeldImages:
    """An `ImageSource` over a few pictures held in memory (reference pairs, planted duplicates)."""

    def __init__(self, pictures: dict[str, bytes]) -> None:
        self._pictures = pictures

    def get(self, sha256: str) -> bytes:
        """Return the picture, or raise `InfiMmrError`."""
        try:
            return self._pictures[sha256]
        except KeyError as error:
            message = f"no image with sha256 {sha256[:16]} is held here"
            raise InfiMmrError(message) from error
