"""The files of an exported version: a folder that `datasets.load_dataset` opens and the Hub shows.

    README.md       the card: YAML (configurations, features, licence), counts, decontamination, licences, citation
    data/*.parquet  the shards, byte for byte
    ledger/*.parquet  the removed and near-missed rows, a configuration of its own
    croissant.json  Croissant 1.0 metadata with the sha256 of every file
    manifest.json   the manifest, as in the store

Not covered: other formats than Parquet. The card's words come from the manifest only.
"""

from __future__ import annotations

import bisect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shared.dataset_version import DatasetVersion, Manifest, Shard
from shared.dataset_version.blobs import has_blob
from shared.dataset_version.manifest import manifest_bytes
from shared.dataset_version.names import blob_path
from shared.errors import InfiMmrError
from shared.schema import COLUMNS, SPLIT
from shared.store.folder import copy_file

_CITATION = """@article{infi-mmr,
  title={Infi-MMR: Curriculum-based Unlocking Multimodal Reasoning via Phased Reinforcement Learning in
         Multimodal Small Language Models},
  author={Liu, Zeyu and Liu, Yuhang and Zhu, Guanghao and Xie, Congkai and Li, Zhen and Yuan, Jianbo and Wang, Xinyao
          and Li, Qing and Cheung, Shing-Chi and Zhang, Shengyu and Wu, Fei and Yang, Hongxia},
  journal={arXiv preprint arXiv:2505.23091},
  year={2025}
}"""


def write_folder(version: DatasetVersion, folder: Path) -> list[str]:
    """Write all files of the export into an existing folder; return their relative names.

    Raises `InfiMmrError` where a shard is missing or damaged.
    """
    names = []
    for name, shard, source in exported_shards(version.local()):
        target = folder / name
        target.parent.mkdir(exist_ok=True)
        target.touch()
        with source.open("rb") as file:
            arrived = copy_file(file.fileno(), target)
        if arrived != (shard.sha256, shard.bytes):
            raise InfiMmrError(f"shard {shard.file} of {version.label} is damaged", "Pull the version again")
        names.append(name)
    texts = exported_texts(version.manifest)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [*names, *texts]


def exported_shards(local: DatasetVersion) -> Iterator[tuple[str, Shard, Path]]:
    """Yield each shard of a version in a folder with its name in the export and its local file, not yet verified.

    Raises `InfiMmrError` where one is missing.
    """
    for shard in local.manifest.files():
        source = local.store.local_path(blob_path(shard.sha256))
        if source is None or not has_blob(local.store, shard.sha256, shard.bytes, check_bytes=False):
            raise InfiMmrError(f"shard {shard.file} of {local.label} is missing", "See what data-engine verify says")
        yield exported_name(local.manifest, shard), shard, source


def exported_texts(manifest: Manifest) -> dict[str, str]:
    """Return the files of an export that tell about the shards, by name."""
    return {
        "README.md": card(manifest),
        "croissant.json": json.dumps(croissant(manifest), indent=2, ensure_ascii=False) + "\n",
        "manifest.json": manifest_bytes(manifest).decode(),
    }


def exported_name(manifest: Manifest, shard: Shard) -> str:
    """Return a shard's place in the export; the split's name is what `datasets` reads from ``train-00000-of-00002``."""
    if manifest.ledger is not None and shard == manifest.ledger:
        return "ledger/ledger.parquet"
    split = manifest.split_of(shard)
    beside = [other for other in manifest.shards if manifest.split_of(other) == split]
    return f"data/{split or 'train'}-{beside.index(shard):05d}-of-{len(beside):05d}.parquet"


def card(manifest: Manifest) -> str:
    """Return the card. Every word from the manifest is quoted or escaped, so that none becomes YAML or Markdown."""
    licences = _licences(manifest)
    splits = _splits(manifest)
    rows_of = [{"split": split["name"], "path": f"data/{split['name']}-*.parquet"} for split in splits]
    configs: list[dict[str, Any]] = [{"config_name": "default", "default": True, "data_files": rows_of}]
    if manifest.ledger:
        ledger = {"split": "train", "path": "ledger/ledger.parquet"}
        configs.append({"config_name": "ledger", "data_files": [ledger]})
    known = {licence.lower() for licence in licences.values()}
    told = known.pop() if len(known) == 1 and re.fullmatch(r"[a-z0-9.-]+", min(known)) else ""
    head: dict[str, Any] = {
        "pretty_name": f"{manifest.name} {manifest.version}",
        "license": told or ("other" if known else "unknown"),  # the Hub's words for several or an odd one, and for none
        "size_categories": [_size_category(manifest.rows)],
        "task_categories": ["visual-question-answering"],
        "tags": ["infi-mmr", manifest.profile, "croissant"],
        "configs": configs,
        "dataset_info": [{"config_name": "default", "features": _card_features(manifest), "splits": splits}],
    }
    yaml = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items()]  # JSON is YAML
    lines = ["---", *yaml, "---", "", f"# {manifest.name} {manifest.version}", ""]
    lines += [
        f"`{manifest.label}`, fingerprint `{manifest.fingerprint}`, built {_cell(manifest.created_at)}.",
        f"{manifest.rows} rows; {manifest.rejected} were removed or refused, {manifest.near_misses} are near misses.",
        "",
        "```python",
        "import datasets",
        f'rows = datasets.load_dataset("path/to/this/folder", split="{splits[0]["name"]}")',
        "```",
        "",
        "## How it came about",
        "",
        *_table(["step", "rows in", "rows out"], [[c.name, c.rows_in, c.rows_out] for c in manifest.counts]),
        "## Sources and licences",
        "",
        *_table(
            ["input", "location", "revision", "rows", "licence"],
            [[i.name, i.location, i.revision, i.rows, licences.get(i.name, "see its source")] for i in manifest.inputs],
        ),
        "## Decontamination",
        "",
        "Items of each benchmark that each rule could see at all:",
        "",
    ]
    for step, names, rows in coverage_tables(manifest.decontamination):
        lines += [f"{_cell(step)}:", ""] if step else []
        lines += _table(["benchmark", *map(_cell, names)], rows)
    if manifest.planted_duplicates:
        lines += ["Planted duplicates that were found again:", ""]
        lines += _table(["where", "kind", "found", "planted"], list(planted_rows(manifest.planted_duplicates)))
    if manifest.warnings:
        lines += ["## Notes", "", *[f"- {_cell(warning)}" for warning in manifest.warnings], ""]
    lines += [
        "## Columns",
        "",
        *_table(
            ["column", "meaning"], [[c.name, c.meaning] for c in [*COLUMNS, *([SPLIT] if manifest.splits else [])]]
        ),
    ]
    return "\n".join([*lines, "## Citation", "", "```bibtex", _CITATION, "```", ""])


def coverage_tables(decontamination: dict[str, Any]) -> list[tuple[str, list[str], list[list[Any]]]]:
    """Return, for each step, its name, the names of its counts, and a row of them for each benchmark (name first)."""
    steps: dict[str, dict[str, dict[str, Any]]] = {}
    for benchmark, value in decontamination.items():
        for step, counts in value.items() if isinstance(value, dict) else ():
            if isinstance(counts, dict):
                steps.setdefault(step, {}).setdefault(benchmark, {}).update(counts)
            else:
                steps.setdefault("", {}).setdefault(benchmark, {})[step] = counts
    tables = []
    for step, benchmarks in steps.items():
        names = list(dict.fromkeys(name for counts in benchmarks.values() for name in counts))
        rows = [[benchmark, *(counts.get(name, "") for name in names)] for benchmark, counts in benchmarks.items()]
        tables.append((step, names, rows))
    return tables


def planted_rows(counts: dict[str, Any], where: str = "") -> list[list[Any]]:
    """Return (where, kind, found, planted) of a manifest's planted duplicates, whatever their depth."""
    rows: list[list[Any]] = []
    for kind, value in counts.items():
        if isinstance(value, dict) and {"planted", "found"} <= value.keys():
            rows.append([where, kind, value["found"], value["planted"]])
        elif isinstance(value, dict):
            rows += planted_rows(value, f"{where} {kind}".strip())
    return rows


def croissant(manifest: Manifest) -> dict[str, Any]:
    """Return Croissant 1.0 metadata (mlcommons.org/croissant/1.0): every file with its hash, every column."""
    files = [
        {
            "@type": "cr:FileObject",
            "@id": exported_name(manifest, shard),
            "name": exported_name(manifest, shard),
            "contentUrl": exported_name(manifest, shard),
            "contentSize": f"{shard.bytes} B",
            "encodingFormat": "application/x-parquet",
            "sha256": shard.sha256,
        }
        for shard in manifest.files()
    ]
    group = {
        "@type": "cr:FileSet",
        "@id": "shards",
        "name": "shards",
        "encodingFormat": "application/x-parquet",
        "includes": "data/*.parquet" if manifest.splits else "data/train-*.parquet",
    }
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"rows/{column.name}",
            "name": column.name,
            "description": column.meaning,
            "dataType": "sc:ImageObject" if column.name == "images" else "sc:Text",
            "source": {"fileSet": {"@id": "shards"}, "extract": {"column": column.name}},
            **({"repeated": True} if str(column.type).startswith("list") else {}),
        }
        for column in COLUMNS
    ]
    return {
        "@context": {
            "@language": "en",
            "@vocab": "https://schema.org/",
            "sc": "https://schema.org/",
            "cr": "http://mlcommons.org/croissant/",
            "dct": "http://purl.org/dc/terms/",
            "conformsTo": "dct:conformsTo",
            "column": "cr:column",
            "extract": "cr:extract",
            "field": "cr:field",
            "fileSet": "cr:fileSet",
            "includes": "cr:includes",
            "recordSet": "cr:recordSet",
            "repeated": "cr:repeated",
            "source": "cr:source",
            "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
        },
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": manifest.name,
        "version": f"{manifest.version.removeprefix('v')}.0.0",
        "description": f"{manifest.label}: verified, decontaminated rows for multimodal reasoning.",
        "identifier": manifest.fingerprint,
        "datePublished": manifest.created_at,
        "license": sorted(set(_licences(manifest).values())) or ["see the sources"],
        "citeAs": " ".join(_CITATION.split()),
        "distribution": [*files, group],
        "recordSet": [{"@type": "cr:RecordSet", "@id": "rows", "name": "rows", "field": fields}],
    }


def _licences(manifest: Manifest) -> dict[str, str]:
    told = manifest.licences
    named = told.items() if isinstance(told, dict) else enumerate(told)
    return {str(name): str(licence) for name, licence in named}


def _splits(manifest: Manifest) -> list[dict[str, Any]]:
    return [
        {
            "name": split or "train",
            "num_bytes": sum(shard.bytes for shard in manifest.shards if manifest.split_of(shard) == split),
            "num_examples": rows,
        }
        for split, rows in (manifest.splits or {"": manifest.rows}).items()
    ]


def _size_category(rows: int) -> str:
    words = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "n>1M")
    return words[bisect.bisect_right((1_000, 10_000, 100_000, 1_000_000), rows)]


def _card_features(manifest: Manifest) -> list[dict[str, Any]]:
    from datasets import Features

    from shared.schema import RATING, row_schema

    rated = "rate_difficulty" in manifest.recipe.get("steps", {})
    more = [*([RATING.name] if rated else []), *([SPLIT.name] if manifest.splits else [])]
    features = Features.from_arrow_schema(row_schema(more))
    return list(features._to_yaml_list())  # noqa: SLF001  (the only way to the card's form of features)


def _cell(value: Any) -> str:
    """Return text that stays one table cell and one line, without markup."""
    text = " ".join(str(value).split())
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", text)


def _table(head: list[str], rows: list[list[Any]]) -> list[str]:
    lines = [head, ["---"] * len(head), *[[_cell(cell) for cell in row] for row in rows]]
    return [*(f"| {' | '.join(cells)} |" for cells in lines), ""]
