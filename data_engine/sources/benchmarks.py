"""Benchmarks as rows: MATH500, MathVerse, MathVision, OlympiadBench, MathVista, and any file with problems and answers.

Items are read as the trainer's evaluation reads them (`shared.item_source`), by what the benchmark's own file or a task
file says of its columns. A file that names pictures without holding them (a json with names only) is read as text
alone, row by row, and `missing_images` in `extra` says so. Items that cannot be scored (proofs, no answer) become
rejections where they are to be rows; rows are compared with every item whose question can be read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from data_engine.sources.base import BytesImage, Rejection, SourceRow
from data_engine.sources.file_hashes import file_hashes, needed_hashes
from data_engine.sources.places import Place, files_revision
from data_engine.sources.virl39k import mend_text
from shared.benchmark_files import BenchmarkRow, question_problem
from shared.code_points import carried_value
from shared.errors import InfiMmrError
from shared.fingerprint import fingerprint
from shared.image_tags import place_image_tags, words_of
from shared.item_source import ItemReader, declared_reader, fields_taken, read_benchmark
from shared.number_text import counts_text
from shared.placeholders import harmless, harmless_question

HUB_PATTERNS = ("*.parquet", "**/*.parquet", "*.json", "*.jsonl", "**/*.jsonl", "images/**")
_REASONS = {"answer_missing": "missing_answer", "question_missing": "missing_question"}


class Benchmark:
    """The benchmark `name` at a place; see `Source` for the attributes.

    Args:
        name: Its name.
        place: Where it is.
        licence: Of its rows.
        reader: How a task file says that its items are read; None: as the benchmark's own file does.
        compared: Whether rows are compared with the items, which then need no answer.

    Raises:
        InfiMmrError: nothing readable there, or no item that rows could be compared with.

    """

    def __init__(
        self, name: str, place: Place, licence: str = "", *, reader: ItemReader | None = None, compared: bool = False
    ) -> None:
        if place.path is None:
            raise InfiMmrError(f"benchmark {name}: mini is drawn, not read", "Use the mini source")
        self.name = name
        self._path = place.path
        self._reader = reader or declared_reader(name)
        self._compared = compared
        files = self._reader.files(name, place.path)
        hashes = needed_hashes(files, f"benchmark {name}: ")
        named = [(name, place.commit)] if place.commit else [(file.name, hashes[file]) for file in files]
        if not place.commit:
            # Pictures may lie beside the files by name: their contents belong to the identity.
            folders = {"images", self._reader.told.pictures.strip("/") or "images"}
            near = (path for folder in folders for path in (files[0].parent / folder).rglob("*") if path.is_file())
            named += [(path.name, digest) for path, digest in file_hashes(sorted(near)).items()]
        if reader is not None:  # what the project's own files say is part of its code
            named.append(("source", fingerprint(reader.told.model_dump(mode="json", exclude={"location"}))))
        self._fingerprint, short = files_revision(named)
        self.location = place.location
        self.licence = licence
        self.revision = place.commit or short
        roles = fields_taken(name, place.path, self._reader).items()
        taken = ", ".join(f"{role} from {column}" for role, column in roles)
        self.taken = f"{', '.join(file.name for file in files)}: {taken}"
        if compared:
            self._check_comparable()

    def fingerprint(self) -> str:
        """Hash over the files' contents."""
        return self._fingerprint

    def count(self) -> int | None:
        """Unknown before reading."""
        return None

    def rows(self) -> Iterator[SourceRow | Rejection]:
        """One item per item of the benchmark, in file order."""
        return self._rows()

    def _rows(self, *, images: bool = True) -> Iterator[SourceRow | Rejection]:
        for item in read_benchmark(self.name, self._path, self._reader, images=images, scored=False):
            yield benchmark_row(item, compared=self._compared)

    def _check_comparable(self) -> None:
        """Raise before anything else is read where no question can be; a readable first item ends the search."""
        reasons = Counter[str]()
        for row in self._rows(images=False):
            if isinstance(row, SourceRow):
                return
            reasons[row.reason] += 1
        raise none_comparable(self.name, reasons)


def none_comparable(name: str, reasons: Mapping[str, int]) -> InfiMmrError:
    """Return the error of a benchmark that would guard nothing, with the reasons of its items counted."""
    why = f"none of its {sum(reasons.values())} items can be compared with ({counts_text(reasons)})"
    return InfiMmrError(
        f"benchmark {name}: {why if reasons else 'it has no items (none fits its `where`, or the file is empty)'}",
        "Name the columns of question and images under [source] of its task file, or leave the benchmark out",
    )


def benchmark_row(item: BenchmarkRow, *, compared: bool = False) -> SourceRow | Rejection:
    """Turn one item into a row; an item whose pictures are not in the files becomes text alone and says so.

    An item that rows are only `compared` with needs a question and nothing else.
    """
    problem = item["problem"]
    if compared:
        problem = problem if problem == "unreadable" else question_problem(item["question"], item["extra"])
        # Half a character refuses a row; the rest of an item's words guard as well.
        for field in ("question", "answer", "answer_raw", "choices"):
            item[field] = carried_value(item[field])
    if problem:
        reason = _REASONS.get(problem, problem)
        detail = "the item has no question" if compared else "the item cannot be scored"
        return Rejection(item["source_id"], reason, detail, item["question"], item["answer_raw"])
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
