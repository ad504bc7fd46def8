"""One self-contained HTML page about a version: look at it, search it, send it to somebody.

Counts, distributions, the funnel of steps, removed rows beside the benchmark items that they repeat, and sampled rows
with their pictures and captions. No network: styles, script and pictures (small JPEG copies) are inside, and the page's
own security policy forbids anything else. Every text is escaped by the template engine; the one script is allowed by
its hash.

Not covered: all rows (a page of 39,000 pictures opens nowhere); `rows` says how many are drawn, evenly.
"""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import polars as pl
import pyarrow.parquet as pq

from data_engine.findings import pictures_table, shown_entries
from data_engine.sharing.diff import removals
from data_engine.sharing.export_files import coverage_tables, planted_rows
from data_engine.sharing.preview_charts import Chart, counted, histogram
from data_engine.sharing.readable_text import readable, readable_answer
from shared.caption_leaks import caption_leak
from shared.dataset_version import DatasetVersion
from shared.dataset_version.iterate import row_groups
from shared.errors import UsageError
from shared.images import small_jpeg
from shared.number_text import human_bytes
from shared.schema import RATING
from shared.store.folder import folder_told
from shared.whole_file import write_whole

_MOST_JUDGED = 2000
"""Captioned rows whose captions are judged for the page: two milliseconds each."""
_MOST_GROUPS = 24
"""Row groups that are read for sampled rows: at 100 MB each a page never reads more than 2.4 GB."""
THIS_ROW, REPEATED = "this row", "what it repeats"
FILTERS = ("category", "source", "split")
"""Columns that rows can be filtered by, beside the kinds of answers and pictures."""
_PICTURE_PIXELS = 640
"""Longer side of a sampled row's picture, so that a chart can be read where it is opened large."""
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small picture inside the page, with its sides in pixels."""

    uri: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Side:
    """One of two texts of an evidence: pieces of text, each marked or not as the matching part."""

    title: str
    pieces: list[tuple[str, bool]]
    pictures: Sequence[Thumbnail] = ()


@dataclass(frozen=True, slots=True)
class Removed:
    """A row of the ledger, ready to be shown."""

    row: dict[str, Any]
    sides: list[Side]
    facts: list[tuple[str, str]]


def write_preview(version: DatasetVersion, path: str | Path, *, rows: int = 200) -> dict[str, Any]:
    """Write the page; return its path and what is on it. Raises `InfiMmrError` where it cannot be written."""
    target = Path(path).expanduser().absolute()
    if target.is_dir():
        raise UsageError(f"--to {path} is a folder", "Name a file in it, e.g. preview.html")
    page, shown = render(version, rows=rows)
    with folder_told(target.parent, "folder", "--to"):
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, page)
    found = {"dataset": version.name, "version": version.version, "path": str(target), "bytes": len(page.encode())}
    return found | shown


def render(version: DatasetVersion, *, rows: int = 200) -> tuple[str, dict[str, int]]:
    """Return the page and how many rows and removed rows are on it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"readable": readable, "readable_answer": readable_answer}
    script = (_TEMPLATES / "preview.js").read_text(encoding="utf-8")
    manifest = version.manifest
    removed = removed_rows(version)
    samples = sampled_rows(version, rows)
    rules = Counter(f"{entry.row['step']} / {entry.row['rule']}" for entry in removed)
    page = environment.get_template("preview.html").render(
        manifest=manifest,
        size=human_bytes(manifest.bytes),
        charts=charts(version),
        funnel=funnel(version),
        coverage=coverage_tables(manifest.decontamination),
        planted_duplicates=planted_table(manifest.planted_duplicates),
        removed=removed,
        rules=sorted(rules),
        rows=samples,
        kinds=sorted({row["answer_kind"] for row in samples}),
        filters={name: sorted({row["filters"][name] for row in samples} - {""}) for name in FILTERS},
        types=sorted({kind for row in samples for kind in row["image_types"] if kind}),
        recipe=json.dumps(manifest.recipe, indent=2, ensure_ascii=False, sort_keys=True),
        models=[json.dumps(model, ensure_ascii=False, sort_keys=True) for model in manifest.models],
        style=(_TEMPLATES / "preview.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    return page, {"rows": len(samples), "removed": len(removed)}


def charts(version: DatasetVersion) -> list[Chart]:
    """Return the distributions, read without the pictures."""
    columns = ["question", "choices", "answer", "answer_kind", "image_types", "captions", "category", "source"]
    columns += ["difficulty", *(["split"] if version.manifest.splits else [])]
    frame = version.scan().select(*columns, pl.col("image_hashes").list.len().alias("pictures")).collect()
    if frame.height == 0:
        return []
    rates = frame["difficulty"].struct.field("pass_rate_large").drop_nulls()
    captions = frame["captions"].explode().drop_nulls()
    found = [
        counted("Answer kinds", "rows", frame["answer_kind"]),
        counted("Image types", "images", frame["image_types"].explode()),
        counted("Categories", "rows", frame["category"]),
        counted("Sources", "rows", frame["source"]),
        *([counted("Splits", "rows", frame["split"])] if "split" in frame.columns else []),
        histogram("Question length", "characters", frame["question"].str.len_chars().to_list()),
        histogram("Caption length", "characters", captions.str.len_chars().to_list()),
        leak_chart(frame),
        histogram("Images per row", "images", frame["pictures"].to_list()),
        histogram("Pass rate of the large model", "0 is hard, 1 is easy", rates.to_list(), bins=11),
        *rating_charts(version),
    ]
    return [chart for chart in found if chart is not None]


def rating_charts(version: DatasetVersion) -> list[Chart | None]:
    """Return the distributions of the policy's own pass rates, where the recipe had `rate_difficulty`."""
    if RATING.name not in version.scan().collect_schema().names():
        return []
    rates = version.scan().select(pl.col(RATING.name).struct.unnest()).drop_nulls("pass_rate").collect()
    mean = sum(rates["pass_rate"].to_list()) / max(rates.height, 1)
    note = f"{rates.height} rows rated, mean {mean:.2f}"
    return [
        histogram("Pass rate of the policy", note, rates["pass_rate"].to_list(), bins=11),
        histogram("Answer length of the policy", "tokens, mean per row", rates["answer_tokens"].to_list()),
    ]


def leak_chart(frame: pl.DataFrame) -> Chart | None:
    """Return how many captioned rows have the gold in a caption and not in the question.

    Judged here and now, whether the recipe had `caption_leaks` or not; of many rows an even sample.
    """
    captioned = frame.filter(pl.col("captions").list.drop_nulls().list.len() > 0)
    if captioned.height == 0:
        return None
    sample = captioned[_evenly(captioned.height, min(captioned.height, _MOST_JUDGED))]
    columns = sample.select("question", "choices", "answer", "captions").iter_rows()
    told = [
        any(caption_leak(question, choices, answer, caption) for caption in captions if caption)
        for question, choices, answer, captions in columns
    ]
    share = f"{sum(told) / len(told):.1%} of {len(told)} captioned rows"
    if sample.height < captioned.height:
        share += f", sampled evenly from {captioned.height}"
    words = ["gold in the caption, not in the question" if leaks else "no gold in the caption alone" for leaks in told]
    return counted("Captions that give the answer away", share, pl.Series(words))


def funnel(version: DatasetVersion) -> list[dict[str, Any]]:
    """Return the steps with rows in and out and what each rule of theirs removed."""
    removed = removals(version).most_common()
    counts = version.manifest.counts
    most = max((count.rows_in for count in counts), default=1) or 1
    return [
        {
            "count": count,
            "kept": count.rows_out / most,
            "lost": (count.rows_in - count.rows_out) / most,
            "rules": [(rule, rows) for (step, rule), rows in removed if step == count.name],
        }
        for count in counts
    ]


def planted_table(counts: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return where planted duplicates were looked for, and for each kind of edit how many were found there."""
    found = {(kind, where): f"{found} of {planted}" for where, kind, found, planted in planted_rows(counts)}
    places = list(dict.fromkeys(where for _, where in found))
    kinds = list(dict.fromkeys(kind for kind, _ in found))
    return places, [[kind, *(found.get((kind, where), "") for where in places)] for kind in kinds]


def removed_rows(version: DatasetVersion) -> list[Removed]:
    """Return the ledger's entries that the page shows, with the pictures that the build kept of them."""
    entries = list(shown_entries(version.ledger()))
    others = [f"{row['benchmark']}/{row['item']}" if row["benchmark"] else row["item"] or "" for row in entries]
    keys = [*(row["id"] for row in entries), *others]
    known = pictures_table(version.store, version.manifest.build_key).lookup(keys) if keys else {}
    shown: list[Removed] = []
    for row, other in zip(entries, others, strict=True):
        try:
            evidence = json.loads(row["evidence"])
        except ValueError:
            evidence = {"evidence": row["evidence"]}
        sides, facts = read_evidence(evidence if isinstance(evidence, dict) else {"evidence": evidence})
        shown.append(Removed(row, _with_pictures(sides, known, row["id"], other), facts))
    return shown


def _with_pictures(sides: list[Side], known: dict[str, dict[str, Any]], row: str, other: str) -> list[Side]:
    """Put the pictures of a row and of what it repeats beside their texts; a side without text gets one for them."""
    made = {side.title: side for side in sides}
    for title, key in ((THIS_ROW, row), (REPEATED, other)):
        pictures = [shown_jpeg(data) for data in known.get(key, {}).get("pictures", ())]
        if pictures:
            made[title] = Side(title, made[title].pieces if title in made else [], pictures)
    return [made[title] for title in (THIS_ROW, REPEATED) if title in made]


def read_evidence(evidence: dict[str, Any]) -> tuple[list[Side], list[tuple[str, str]]]:
    """Split an evidence into the two texts to be read side by side and the remaining facts.

    Steps write the row's text under `row` (or `question`) and the other one under `item` (`item_question`, `kept`),
    each a plain text or ``{"text", "span": [start, end], "offset"}``, its matching part in characters of the whole.
    """
    rest = dict(evidence)
    sides = []
    for title, names in ((THIS_ROW, ("row", "question")), (REPEATED, ("item", "item_question", "kept"))):
        name = next((name for name in names if rest.get(name)), None)
        if name is not None:
            pieces = _pieces(rest.pop(name))
            if pieces:
                sides.append(Side(title, pieces))
    facts = [(name.replace("_", " "), _said(value)) for name, value in rest.items() if value not in (None, "", [], {})]
    return sides, facts


def _said(value: Any) -> str:
    """Return a fact of an evidence as a person reads it; another finding is where it was found, by which rule."""
    match value:
        case bool():
            said = "yes" if value else "no"
        case float():
            said = f"{value:.3f}"
        case list():
            said = "; ".join(_said(part) for part in value)
        case {"benchmark": benchmark, "item": item, "rule": rule}:
            said = " ".join(_said(part) for part in (benchmark, item, rule, value.get("score")) if part is not None)
            said += ", near miss" if value.get("removes") is False else ""
        case dict():
            said = ", ".join(f"{name} {_said(part)}" for name, part in value.items())
        case _:
            said = str(value)
    return said


def _pieces(value: Any) -> list[tuple[str, bool]]:
    if isinstance(value, str):
        return [(value, False)]
    if not isinstance(value, dict) or not isinstance(value.get("text"), str):
        return [(json.dumps(value, ensure_ascii=False), False)]
    text = value["text"]
    span = value.get("span")
    if not (isinstance(span, list) and len(span) == 2 and all(isinstance(edge, int) for edge in span)):
        return [(text, False)]
    offset = value["offset"] if isinstance(value.get("offset"), int) else 0
    start, end = (min(max(edge - offset, 0), len(text)) for edge in span)
    # White space at the ends is what is left of <image> tags; marked, it would look like a finding.
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    pieces = [(text[:start].lstrip(), False), (text[start:end], True), (text[end:].rstrip(), False)]
    return [piece for piece in pieces if piece[0]]


def sampled_rows(version: DatasetVersion, wanted: int) -> list[dict[str, Any]]:
    """Return rows drawn evenly over some row groups, pictures as small data URIs."""
    groups = row_groups(version.files())
    chosen = [groups[int(place)] for place in _evenly(len(groups), min(_MOST_GROUPS, len(groups)))]
    total = sum(rows for *_, rows in chosen)
    places = _evenly(total, max(0, min(wanted, total)))
    shown: list[dict[str, Any]] = []
    start = 0
    for file, group, rows in chosen:
        here = places[(places >= start) & (places < start + rows)] - start
        start += rows
        if not len(here):
            continue
        with pq.ParquetFile(file) as parquet:
            table = parquet.read_row_group(group)
        shown += [_shown(table.slice(int(place), 1).to_pylist()[0]) for place in here]
    return shown


def _evenly(total: int, wanted: int) -> np.ndarray:
    return np.linspace(0, total - 1, wanted).round().astype(int) if wanted else np.empty(0, dtype=int)


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    told = (itertools.chain(row[name], itertools.repeat(None)) for name in ("image_types", "captions"))
    pictures = [
        {"small": thumbnail(image["bytes"], _PICTURE_PIXELS), "type": kind, "caption": caption}
        for image, kind, caption in zip(row["images"], *told, strict=False)
    ]
    names = ("id", "source_id", "question", "answer", "category", "source")
    words = [*(row[name] for name in names), *row["captions"]]
    text = " ".join(word for word in words if word).lower()
    # A bar stands between the values of one entry where the page's script filters.
    filters = {name: (row.get(name) or "").replace("|", "/") for name in FILTERS}
    filters["source"] = filters["source"] or row["source_name"]
    shown = {name: value for name, value in row.items() if name != "images"}
    return {**shown, "pictures": pictures, "text": text, "filters": filters}


def thumbnail(data: bytes | None, pixels: int) -> Thumbnail | None:
    """Return a JPEG copy of a picture of at most `pixels` a side; None where it cannot be decoded."""
    small = small_jpeg(data, pixels)
    return None if small is None else shown_jpeg(small)


def shown_jpeg(small: bytes) -> Thumbnail:
    """Return a small JPEG file as a page holds it, with its sides: the page's length is known before it loads."""
    from PIL import Image

    with Image.open(io.BytesIO(small), formats=["JPEG"]) as picture:
        width, height = picture.size
    return Thumbnail(f"data:image/jpeg;base64,{base64.b64encode(small).decode()}", width, height)
