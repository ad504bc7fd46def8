"""Does `data-engine inspect` on a million rows cost one scan of the file, and how much memory does it take?

    python benchmarks/inspect_million.py [--rows 1000000] [--turns 3] [--formats parquet,jsonl,...] [--scratch FOLDER]

Draws rows of text problems (every question and key another; golds are whole numbers, decimals, fractions and, a tenth,
expressions that all differ) and writes them as Parquet, JSON lines, a JSON list, CSV, conversations and JSON lines with
options. For each it runs in processes of their own, in turns: two scans, and what the command `inspect` runs.

- `scan`: a loop that turns every record into a Python value once and does nothing with it, by the library of the
  format, on as many cores as that takes: `to_pylist` of `pyarrow.parquet.ParquetFile.iter_batches(4096)` (its default:
  columns are decoded by threads), `json.loads` of each line of an opened file, `json.load` of a list,
  `csv.DictReader`. This is the peer of all earlier results.
- `columns`: pyarrow reads the file as columns with all cores (`iter_batches`, `open_json`, `open_csv`) and drops them:
  the least that reading by it costs, without a value of a record. It does not read a JSON list.

Once, on a tenth of the rows: the scan that a build makes (every record becomes a row). Written: the best seconds of
processor time and by the clock, the start of Python and all imports counted in; what they take of ten rows, which is
start alone; ratios; the peak of resident memory by getrusage. Checked: memory below 500 MB, all rows counted. Bytecode
is kept, as it is on anybody's machine. Where others use the machine, processor time is the number that holds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from machine import machine

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "inspect_million.json"
LIMIT_BYTES = 500_000_000
FORMATS = {
    "parquet": "rows.parquet",
    "jsonl": "rows.jsonl",
    "json": "rows.json",
    "csv": "rows.csv",
    "conversations": "talks.jsonl",
    "options": "options.jsonl",
}
SCAN = """
import sys
path, kind = sys.argv[1:]
n = 0
if kind == "parquet":
    import pyarrow.parquet as pq
    for batch in pq.ParquetFile(path).iter_batches(batch_size=4096):
        n += len(batch.to_pylist())
elif path.endswith(".jsonl"):
    import json
    for line in open(path, encoding="utf-8"):
        n += isinstance(json.loads(line), dict)
elif kind == "json":
    import json
    n = len(json.load(open(path, encoding="utf-8")))
else:
    import csv
    for row in csv.DictReader(open(path, encoding="utf-8", newline="")):
        n += 1
import resource
spent = resource.getrusage(resource.RUSAGE_SELF)
print(n, spent.ru_utime + spent.ru_stime, spent.ru_maxrss * 1024)
"""
COLUMNS = """
import sys
path, kind = sys.argv[1:]
n = 0
if kind == "parquet":
    import pyarrow.parquet as pq
    batches = pq.ParquetFile(path).iter_batches()
elif path.endswith(".jsonl"):
    import pyarrow.json as pj
    batches = pj.open_json(path)
else:
    import pyarrow.csv as pc
    batches = pc.open_csv(path)
for batch in batches:
    n += batch.num_rows
import resource
spent = resource.getrusage(resource.RUSAGE_SELF)
print(n, spent.ru_utime + spent.ru_stime, spent.ru_maxrss * 1024)
"""
READ = """
import sys
from data_engine.inputs import open_table
from data_engine.recipe_settings import SourceSettings
import itertools
rows = open_table(SourceSettings(reader="table", location=sys.argv[1]), "read").rows()
n = sum(1 for _ in itertools.islice(rows, int(sys.argv[2])))
import resource
spent = resource.getrusage(resource.RUSAGE_SELF)
print(n, spent.ru_utime + spent.ru_stime, spent.ru_maxrss * 1024)
"""
INSPECT = """
import sys
from data_engine.allocators import keep_freed_memory
keep_freed_memory()  # as the command does
from data_engine.inspect import inspect_place
found = inspect_place(sys.argv[1])
import resource
spent = resource.getrusage(resource.RUSAGE_SELF)
print(found["records"], spent.ru_utime + spent.ru_stime, spent.ru_maxrss * 1024)
"""


def rows(count: int) -> Iterator[dict[str, Any]]:
    """Problems with golds of the usual kinds."""
    rng = random.Random(5)
    for number in range(count):
        a, b, c = rng.randint(2, 999), rng.randint(2, 99), rng.randint(2, 9)
        question = (
            f"Problem {number}: a train covers ${a}$ kilometres in ${b}$ hours and stops {c} times, five minutes each. "
            f"Find its mean speed while it moves, in kilometres per hour, and express it in terms of $v_{c}$ if needed."
        )
        kind = number % 10
        answer = (
            f"\\frac{{{a}}}{{{b}}}"
            if kind < 3
            else f"{a / b:.2f}"
            if kind == 3
            else f"{number}v_{c}+{b}"
            if kind == 4
            else str(a * b)
        )
        yield {
            "id": f"row-{number}",
            "question": question,
            "answer": answer,
            "subject": ("algebra", "motion")[number % 2],
        }


def write(count: int, folder: Path) -> None:
    """The rows in all formats."""
    import polars as pl

    frame = pl.DataFrame(list(rows(count)))
    frame.write_parquet(folder / "rows.parquet")
    frame.write_ndjson(folder / "rows.jsonl")
    frame.write_json(folder / "rows.json")
    frame.write_csv(folder / "rows.csv")
    with (
        (folder / "talks.jsonl").open("w", encoding="utf-8") as talks,
        (folder / "options.jsonl").open("w", encoding="utf-8") as picked,
    ):
        for number, row in enumerate(frame.iter_rows(named=True)):
            asked = {"from": "human", "value": row["question"]}
            said = {"from": "gpt", "value": f"The answer is {row['answer']}."}
            talks.write(json.dumps({"id": row["id"], "conversations": [asked, said]}) + "\n")
            options = [str(number), row["answer"], f"{number} km/h", "none of these"]
            picked.write(json.dumps({**row, "options": options, "answer": "ABCD"[number % 4]}) + "\n")


def run(code: str, *words: str) -> tuple[int, float, int, float]:
    """Records, processor seconds, peak bytes and seconds by the clock of a process."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(Path(tempfile.gettempdir()) / "inspect-million-bytecode")
    begun = time.perf_counter()
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment)
    records, seconds, peak = done.stdout.split()
    return int(records), float(seconds), int(peak), time.perf_counter() - begun


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--scratch", default=None)
    parser.add_argument("--formats", default=",".join(FORMATS), help="Measure these; others keep what was measured.")
    parser.add_argument("--write", help="Only write the rows to this folder.")
    given = parser.parse_args()
    if given.write:
        write(given.rows, Path(given.write))
        return
    result: dict[str, Any] = {"machine": machine(), "rows": given.rows, "formats": {}}
    before = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {}
    if all(before.get(part) == result[part] for part in ("machine", "rows")):
        result["formats"] = before["formats"]
    with tempfile.TemporaryDirectory(dir=given.scratch) as folder:
        # In a process of its own: a child's getrusage counts what its parent held when it was started.
        subprocess.run([sys.executable, __file__, "--rows", str(given.rows), "--write", folder], check=True)
        few = Path(folder) / "few"
        few.mkdir()
        write(10, few)
        run(INSPECT, str(few / "rows.parquet"))  # bytecode
        result["start_processor_seconds"] = {
            "scan": round(run(SCAN, str(few / "rows.jsonl"), "jsonl")[1], 2),
            "scan of parquet": round(run(SCAN, str(few / "rows.parquet"), "parquet")[1], 2),
            "inspect": round(run(INSPECT, str(few / "rows.parquet"))[1], 2),
        }
        for kind in given.formats.split(","):
            file = Path(folder) / FORMATS[kind]
            asked = {"scan": (SCAN, str(file), kind), "columns": (COLUMNS, str(file), kind)}
            asked = {name: asked[name] for name in asked if name == "scan" or kind != "json"}
            asked["inspect"] = (INSPECT, str(file))
            turns = [{name: run(*words) for name, words in asked.items()} for _ in range(given.turns)]
            assert all(found[0] == given.rows for turn in turns for found in turn.values())
            spent, clock = ({name: min(turn[name][place] for turn in turns) for name in turns[0]} for place in (1, 3))
            read = 10 * run(READ, str(file), str(given.rows // 10))[1]
            peak = max(turn["inspect"][2] for turn in turns)
            result["formats"][kind] = {
                "megabytes": round(file.stat().st_size / 1e6, 1),
                **{f"{name}_processor_seconds": round(seconds, 2) for name, seconds in spent.items()},
                "ratio_to_scan": round(spent["inspect"] / spent["scan"], 2),
                **({"ratio_to_columns": round(spent["inspect"] / spent["columns"], 2)} if "columns" in spent else {}),
                **{f"{name}_seconds": round(seconds, 2) for name, seconds in clock.items()},
                "ratio_to_scan_by_the_clock": round(clock["inspect"] / clock["scan"], 2),
                "build_scan_processor_seconds": round(read),
                "ratio_to_build_scan": round(spent["inspect"] / read, 3),
                "load": round(os.getloadavg()[0], 1),
                "scan_peak_megabytes": round(max(turn["scan"][2] for turn in turns) / 1e6),
                "inspect_peak_megabytes": round(peak / 1e6),
            }
            print(kind, result["formats"][kind], flush=True)
            assert peak < LIMIT_BYTES, f"{peak} bytes"
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
