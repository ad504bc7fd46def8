"""Benchmarks as rows: MATH500, MathVerse, MathVision, OlympiadBench, MathVista, and any file with problems and answers.

The real field names are known by `shared.benchmark_files`, which the trainer's evaluation shares. A file that names
pictures without holding them (a json with names only) is read as text alone, row by row, and `missing_images` in
`extra` says so. Items that cannot be scored (proofs, no answer) become rejections.
"""

from __future__ import annotations

from collections.abc import Iterator

from data_engine.sources.base import BytesImage, Rejection, SourceRow
from data_engine.sources.file_hashes import file_hashes, needed_hashes
from data_engine.sources.places import Place, files_revision
from data_engine.sources.virl39k import mend_text
from shared.benchmark_files import BenchmarkRow, benchmark_files, fields_taken, read_benchmark
from shared.errors import InfiMmrError
from shared.image_tags import place_image_tags, words_of
from shared.placeholders import harmless, harmless_question

HUB_PATTERNS = ("*.parquet", "**/*.parquet", "*.json", "*.jsonl", "**/*.jsonl", "images/**")
_REASONS = {"answer_missing": "missing_answer", "question_missing": "missing_question"}


class Benchmark:
    """The benchmark `name` at a place; see `Source` for the attributes."""

    def __init__(self, name: str, place: Place, licence: str = "") -> None:
        if place.path is None:
            raise InfiMmrError(f"benchmark {name}: mini is drawn, not read", "Use the mini source")
        self.name = name
        self._path = place.path
        files = benchmark_files(name, place.path)
        hashes = needed_hashes(files, f"benchmark {name}: ")
        named = [(name, place.commit)] if place.commit else [(file.name, hashes[file]) for file in files]
        if not place.commit:
            # Pictures may lie beside the files by name: their contents belong to the identity.
            beside = sorted(path for path in (files[0].parent / "images").rglob("*") if path.is_file())
            named += [(path.name, digest) for path, digest in file_hashes(beside).items()]
        self._fingerprint, short = files_revision(named)
        self.location = place.location
        self.licence = licence
        self.revision = place.commit or short
        taken = ", ".join(f"{role} from {column}" for role, column in fields_taken(name, place.path).items())
        self.taken = f"{', '.join(file.name for file in files)}: {taken}"

    def fingerprint(self) -> str:
        """Hash over the files' contents."""
        return self._fingerprint

    def count(self) -> int | None:
        """Unknown before reading."""
        return None

    def rows(self) -> Iterator[SourceRow | Rejection]:
        """One item per item of the benchmark, in file order."""
        for item in read_benchmark(self.name, self._path):
            yield benchmark_row(item)


def benchmark_row(item: BenchmarkRow) -> SourceRow | Rejection:
    """Turn one item into a row; an item whose pictures are not in the files becomes text alone and says so."""
    if item["problem"]:
        reason = _REASONS.get(item["problem"], item["problem"])
        return Rejection(item["source_id"], reason, "the item cannot be scored", item["question"], item["answer_raw"])
    extra = dict(item["extra"])
    images = tuple(BytesImage(image["bytes"], image["path"]) for image in item["images"])
    question = item["question"]
    if item["missing_images"]:
        extra["missing_images"] = item["missing_images"]
        question = place_image_tags(question, len(images))
        if not words_of(question) and not images:
            return Rejection(item["source_id"], "image_missing", ", ".join(item["missing_images"]), question, "")
    return SourceRow(
        source_id=item["source_id"],
        question=harmless_question(mend_text(question)),
        answer=item["answer"],
        answer_raw=item["answer_raw"],
        choices=tuple(harmless(choice) for choice in item["choices"]),
        images=images,
        category=item["category"],
        extra=extra,
    )
