r"""Which golds of the real sets beside a checkout does the grader now judge otherwise, and why?

`python benchmarks/gold_changes.py dump FILE` writes one line per different gold and options of `../shared/data`: its
place, the gold, its kind, whether it is verified, the reason where it is not. Run it with the code before a change and
with the code after. `python benchmarks/gold_changes.py table BEFORE AFTER WHY.json` writes what changed as
benchmarks/results/gold_changes.md; WHY.json maps places (`file/id`) to the reason that a person who looked wrote down,
and the command fails while one is missing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / ".." / "shared" / "data"
TABLE = ROOT / "benchmarks" / "results" / "gold_changes.md"
sys.path.insert(0, str(ROOT))

SHOWN = 60
"""Characters of a gold that the table shows: rows are public data, and not copied at length."""
LISTED = 20
"""Rows of one file that changed alike are listed up to this many, else three of them; ViRL-like rows all are."""
HEAD = """# Golds that are judged otherwise

{count} different golds of the real sets (`../shared/data`), looked through by hand (GSM8K's solutions by rule and
sample). Made by `benchmarks/gold_changes.py` from the grader before and after answers were taken out of golds, names
and units were compared, and Chinese statements were told from quantities.
"""
NAMES = {
    "virl_like/virl_like.parquet": ("answer", "qid", ""),
    "text/gsm8k_train.parquet": ("answer", "", ""),
    "text/gsm8k_test.parquet": ("answer", "", ""),
    "text/math500.parquet": ("answer", "unique_id", ""),
    "text/deepscaler_partial.parquet": ("answer", "", ""),
    "text/extra_deepmath_5k.parquet": ("ground_truth", "id", ""),
    "text/olympiadbench_oe_tp_maths_en.parquet": ("final_answer", "id", ""),
    "text/bench_aime24.parquet": ("answer", "id", ""),
    "text/bench_amc23.parquet": ("answer", "id", ""),
    "text/bench_cmath.parquet": ("answer", "", ""),
    "text/bench_cn_middle_school.parquet": ("answer", "", ""),
    "text/bench_college_math.parquet": ("answer", "question_number", ""),
    "text/bench_gaokao2023en.parquet": ("answer", "id", ""),
    "text/bench_gaokao_math_cloze.parquet": ("answer", "", ""),
    "text/bench_omni_math_num_500.parquet": ("answer", "", ""),
    "text/agentica_test_minerva.json": ("answer", "idx", ""),
    "bench/dynamath_60x3variants.parquet": ("answer", "id", "options"),
    "bench/mathverse_via_solidgeo_150.parquet": ("answer", "id", "options"),
    "bench/mathvision_via_solidgeo_120.parquet": ("answer", "id", "options"),
    "bench/mathvision_test_text.jsonl": ("answer", "id", "options"),
    "bench/mathverse_testmini_text_only.json": ("answer", "sample_index", ""),
    "bench/mathvista_testmini_text.json": ("answer", "pid", "choices"),
}
"""Each file's columns of the gold, of the id (empty: the row's number) and of the options (empty: none)."""


def records(path: Path) -> list[dict[str, Any]]:
    """Rows of a parquet, JSON or JSON Lines file."""
    if path.suffix == ".parquet":
        import polars as pl

        return pl.read_parquet(path).to_dicts()
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in text.split("\n") if line]
    found = json.loads(text)
    return list(found.values()) if isinstance(found, dict) else list(found)


def golds() -> Iterator[tuple[str, str, list[str] | None]]:
    """Place, gold and options of every row, as the sources hand them to the check; equal ones once."""
    from data_engine.sources.base import plain_answer, unbox
    from shared.option_lists import choices_in_question

    seen: set[tuple[str, tuple[str, ...]]] = set()
    for file, (gold_name, id_name, options_name) in NAMES.items():
        for number, row in enumerate(records(DATA / file)):
            gold = unbox(plain_answer(row[gold_name]))
            options = row.get(options_name) or []
            options = list(options) if isinstance(options, list) else [o.strip() for o in str(options).split(";")]
            if file.startswith("virl_like"):
                options = list(choices_in_question(row["question"]))
            if (key := (gold, tuple(options))) not in seen:
                seen.add(key)
                yield f"{file}/{row.get(id_name) if id_name else number}", gold, options or None


def dump(target: Path) -> None:
    """Write what the grader of this checkout says of each gold."""
    from shared.answers import check_gold

    def judged(one: tuple[str, str, list[str] | None]) -> str:
        place, gold, choices = one
        found = check_gold(gold, choices=choices)
        line = {"place": place, "gold": gold, "kind": found.kind, "status": found.status, "reason": found.reason}
        return json.dumps(line, ensure_ascii=False)

    with ThreadPoolExecutor(2) as pool:
        target.write_text("".join(f"{line}\n" for line in pool.map(judged, golds())), encoding="utf-8")


def changes(before: Path, after: Path) -> list[tuple[str, str, str, str]]:
    """Place, gold, verdict before and verdict after, of every gold that is judged otherwise."""
    old, new = ({row["place"]: row for row in map(json.loads, file.open(encoding="utf-8"))} for file in (before, after))

    def words(row: dict[str, Any]) -> str:
        return f"{row['kind']}, {row['status']}" + (f" ({row['reason']})" if row["reason"] else "")

    return [
        (place, row["gold"], words(old[place]), words(row))
        for place, row in new.items()
        if place in old and words(old[place]) != words(row)
    ]


def table(before: Path, after: Path, why: Path) -> None:
    """Write the table. Exits where a change has no reason."""
    reasons = json.loads(why.read_text(encoding="utf-8"))
    found = changes(before, after)
    missing = [place for place, *_ in found if place not in reasons]
    if missing:
        sys.exit(f"{len(missing)} of {len(found)} changes have no reason in {why}, for example {missing[0]}")
    groups: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for place, gold, old, new in found:
        groups.setdefault((place.rpartition("/")[0], old, new, reasons[place]), []).append((place, gold))
    lines = [HEAD.format(count=len(found)), "| place | gold | before | after | why |", "|---|---|---|---|---|"]
    for (file, old, new, reason), rows in groups.items():
        shown = rows if len(rows) <= LISTED or file.startswith("virl_like") else rows[:3]
        lines += [_line(place, gold, old, new, reason) for place, gold in shown]
        if len(rows) > len(shown):
            lines.append(_line(f"{file}: {len(rows) - len(shown)} more", "", old, new, reason))
    TABLE.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _line(place: str, gold: str, *cells: str) -> str:
    short = " ".join(gold.split())
    short = short if len(short) <= SHOWN else short[: SHOWN - 1] + "…"
    row = (place, f"`{short}`" if short else "", *cells)
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |"


def main() -> None:
    """`dump FILE` or `table BEFORE AFTER WHY.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("dump", "table"))
    parser.add_argument("files", nargs="+", type=Path)
    arguments = parser.parse_args()
    (dump if arguments.command == "dump" else table)(*arguments.files)


if __name__ == "__main__":
    main()
