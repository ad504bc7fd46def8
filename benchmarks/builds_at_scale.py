"""What a whole build of text rows costs its driver and one machine, against the build of an earlier checkout.

Data: drawn texts of 69 words, 15% near copies, in one Parquet file; source, answers, n-grams, duplicates, assemble,
shards and publish, with a benchmark of 500 drawn items. Each build in a process of its own. Processor time and memory
of the driver are those of that process alone, counted after Ray is up and a small build has run; memory is private
memory above what it was then.

    git worktree add ../before 08fd0b1
    python benchmarks/builds_at_scale.py --before ../before [--rows 10000,100000] [--local 10000,100000,1000000]
        [--peer python-with-datatrove]
    python benchmarks/builds_at_scale.py --rebuilds 10000,100000,1000000

Versions of both must have the same fingerprint, on Ray and here. Writes results/builds_at_scale.json; sizes that are
not asked for keep what stands there. The second command writes results/rebuilds_at_scale.json: what it costs to build
again with nothing new, with another threshold, and with a new benchmark.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from drawn_texts import RESULTS, draw, measured
from machine import machine

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parent.parent
RECIPE = """
[source]
reader = "table"
location = "mini"
[steps.verify_answers]
[steps.decontaminate_ngrams]
[steps.dedup_minhash]
"""
ITEMS, PEER_ROWS = 500, 5000
OBJECT_STORE_BYTES = 512 * 2**20


def write_rows(count: int, file: Path) -> None:
    """Draw a source."""
    import polars as pl

    texts = draw(count).cast(pl.String)
    answers = [str(number % 1000) for number in range(count)]
    pl.DataFrame({"id": [f"k{n}" for n in range(count)], "question": texts, "answer": answers}).write_parquet(file)


def private_bytes() -> int:
    """Private memory of this process, without what lies in Ray's shared memory."""
    import psutil

    areas = psutil.Process().memory_maps(grouped=True)
    return sum(int(a.private_clean + a.private_dirty) for a in areas if not a.path.startswith("/dev/shm"))


@contextlib.contextmanager
def watched(found: dict[str, Any]) -> Iterator[None]:
    """Note processor time, time and highest private memory above the start."""
    start, over = private_bytes(), threading.Event()
    peak, looking = [start], [0.0]

    def watch() -> None:
        while not over.wait(0.5):
            peak[0] = max(peak[0], private_bytes())
            looking[0] = time.thread_time()  # a good part of a long run, and none of the build's

    before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    yield
    after = resource.getrusage(resource.RUSAGE_SELF)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found["cpu_seconds"] = round(spent - looking[0], 2)
    found["wall_seconds"] = round(time.monotonic() - began, 1)
    over.set()
    watcher.join()
    found["above_start_mb"] = round((max(peak[0], private_bytes()) - start) / 2**20, 1)
    found["peak_mb"] = round((max(peak[0], private_bytes())) / 2**20, 1)


def measure(runner: str, source: str, small: str, folder: str, *, again: bool) -> dict[str, Any]:
    """Build once, see the module; `again`: also by the same command, with another threshold, with a new benchmark."""
    from data_engine.allocators import give_back_freed_memory

    give_back_freed_memory()  # as the command does
    from data_engine.build import BuildRequest, build
    from shared.progress import Progress

    recipe = Path(folder) / "text.toml"
    recipe.write_text(RECIPE)
    if runner == "ray":
        import ray

        os.environ["RAY_BACKEND_LOG_LEVEL"] = "fatal"
        ray.init(address="local", include_dashboard=False, log_to_driver=False, object_store_memory=OBJECT_STORE_BYTES)

    def run(rows: str, store: str, *overrides: str, benchmarks: Sequence[str] = ("drawn",)) -> Any:
        request = BuildRequest(
            recipe=str(recipe),
            profile="local",
            store=str(Path(folder) / store),
            source=rows,
            runner=runner,  # type: ignore[arg-type]
            licence="MIT",
            overrides=overrides,
            benchmarks=[f"{name}={Path(folder) / name}.jsonl" for name in benchmarks],
        )
        return build(request, Progress())

    run(small, "warm")
    found: dict[str, Any] = {}
    with watched(found):
        made = run(source, "store")
    manifest = made.version.manifest
    steps = {step.name: step.seconds for step in made.steps}
    found |= {"fingerprint": manifest.fingerprint, "kept": manifest.rows, "seconds_of": steps}
    if again:
        hashes = Path(folder) / "store" / "annotations" / "text_hashes"
        found["same_command"] = same_command(recipe, source, folder)
        more: dict[str, Any] = {"other_threshold": [("assemble.jaccard_threshold=0.9",), ("drawn",)]}
        more["new_benchmark"] = [(), ("drawn", "others")]
        for name, (overrides, benchmarks) in more.items():
            found[name], known = {}, cells_in(hashes)
            with watched(found[name]):
                made = run(source, "store", *overrides, benchmarks=benchmarks)
            found[name] |= {"computed": {step.name: step.computed for step in made.steps if step.computed}}
            found[name] |= {"texts_hashed": cells_in(hashes) - known, "kept": made.version.manifest.rows}
    return found


def same_command(recipe: Path, source: str, folder: str) -> dict[str, Any]:
    """What the command of the first build costs again, as a process of its own."""
    words = [sys.executable, "-m", "data_engine.cli", "build", str(recipe), "--profile", "local", "--source", source]
    words += ["--store", str(Path(folder) / "store"), "--license", "MIT", "--json"]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    words += ["--benchmark", f"drawn={Path(folder) / 'drawn.jsonl'}"]
    told = json.loads(subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = {"cpu_seconds": round(seconds, 2), "wall_seconds": round(time.monotonic() - began, 1)}
    return found | {"computed": {step["name"]: step["computed"] for step in told["steps"] if step["computed"]}}


def cells_in(folder: Path) -> int:
    """Cells stored under a folder of annotations."""
    import pyarrow.parquet as pq

    return sum(pq.read_metadata(file).num_rows for file in folder.rglob("*.parquet"))


def peer(count: int) -> dict[str, Any]:
    """Datatrove's MinHash stages (as in `minhash.py`) and n-gram filter on so many of the same rows, here."""
    from datatrove.data import Document
    from datatrove.pipeline.decont.n_grams import NGramsDecontConfig, NGramsDecontFilter
    from datatrove.utils.text import ngrams, simplify_text
    from drawn_texts import timed
    from minhash import datatrove

    texts = draw(count)

    def run() -> int:
        pairs = datatrove(texts)
        config = NGramsDecontConfig(n_grams=32, find_query_ngrams=True)
        found = NGramsDecontFilter("index", config=config)
        # Its indexer wants lighteval, whatever is indexed: the same hashes are handed over here.
        words = (found.tokenizer.word_tokenize(simplify_text(text, config.norm_config)) for text in known)
        windows = (" ".join(window) for some in words for window in ngrams(some, config.n_grams))
        found._index_hashes = dict.fromkeys(map(found.hash_func, windows), "drawn")  # noqa: SLF001
        documents = (Document(text=text, id=str(number)) for number, text in enumerate(texts.to_list()))
        kept = sum(found.filter(document) is True for document in documents)
        return len(pairs) + kept

    known = draw(ITEMS, seed=3).to_list()
    _, cost = timed(run)
    return {"rows": count, **cost}


def main() -> None:
    """Measure every size and runner, for both checkouts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--before")
    parser.add_argument("--rows", default="10000,100000")
    parser.add_argument("--local", default="10000,100000")
    parser.add_argument("--one", nargs=4, metavar=("RUNNER", "SOURCE", "SMALL", "FOLDER"))
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--rebuilds", metavar="ROWS,...")
    parser.add_argument("--peer", metavar="PYTHON", help="a Python that has datatrove: measured on 5,000 rows")
    parser.add_argument("--peer-one", action="store_true")
    options = parser.parse_args()
    if options.peer_one:
        print(json.dumps(peer(PEER_ROWS)))
        return
    if options.one:
        runner, source, small, folder = options.one
        print(json.dumps(measure(runner, source, small, folder, again=options.again)))
        return
    if options.rebuilds:
        rebuilds([int(size) for size in options.rebuilds.split(",")])
        return
    file = RESULTS / "builds_at_scale.json"
    runs: dict[str, Any] = json.loads(file.read_text())["runs"] if file.exists() else {}
    if options.peer:
        runs[f"datatrove {PEER_ROWS} now"] = measured(__file__, "--peer-one", python=options.peer)
        print(runs[f"datatrove {PEER_ROWS} now"], file=sys.stderr, flush=True)
        file.write_text(json.dumps(summary(runs), indent=1) + "\n")
    trees = {"now": str(ROOT), **({"before": str(Path(options.before).resolve())} if options.before else {})}
    for runner, sizes in (("ray", options.rows), ("local", options.local)):
        for rows in (int(size) for size in sizes.split(",") if size):
            for tree, place in trees.items():
                if tree == "before" and rows > 100_000:
                    continue
                runs[f"{runner} {rows} {tree}"] = run_in(place, runner, rows)
                print(f"{runner} {rows} {tree}", runs[f"{runner} {rows} {tree}"], file=sys.stderr, flush=True)
                file.write_text(json.dumps(summary(runs), indent=1) + "\n")


def rebuilds(sizes: Sequence[int]) -> None:
    """Measure builds that follow a first one."""
    file = RESULTS / "rebuilds_at_scale.json"
    runs: dict[str, Any] = json.loads(file.read_text())["runs"] if file.exists() else {}
    for rows in sizes:
        runs[str(rows)] = run_in(str(ROOT), "local", rows, again=True)
        print(rows, runs[str(rows)], file=sys.stderr, flush=True)
        what = "builds that follow a first one: processor time and memory; texts hashed and cells computed by each"
        file.write_text(json.dumps({"machine": machine(), "what": what, "runs": runs}, indent=1) + "\n")


def run_in(place: str, runner: str, rows: int, *, again: bool = False) -> dict[str, Any]:
    """Measure one build with the code of one checkout."""
    with tempfile.TemporaryDirectory() as folder:
        source, small = Path(folder) / "rows.parquet", Path(folder) / "small.parquet"
        write_rows(rows, source)
        write_rows(5000, small)
        for name, seed in (("drawn", 3), ("others", 4)):
            items = [{"id": f"i{n}", "question": text, "answer": "1"} for n, text in enumerate(draw(ITEMS, seed=seed))]
            (Path(folder) / f"{name}.jsonl").write_text("\n".join(map(json.dumps, items)))
        words = [runner, str(source), str(small), folder, *(["--again"] if again else [])]
        return in_checkout(place, __file__, *words)


def in_checkout(place: str, script: str, *words: str) -> dict[str, Any]:
    """What `script --one WORDS` prints last, as JSON, in a process of its own with the code of one checkout."""
    done = subprocess.run(
        [sys.executable, script, "--one", *words],
        cwd=place,  # Ray's workers look for packages where their driver runs, before they look elsewhere
        env={**os.environ, "PYTHONPATH": place, "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def summary(runs: dict[str, Any]) -> dict[str, Any]:
    """What the runs say."""

    def sizes(runner: str, tree: str = "now") -> Sequence[int]:
        return sorted(int(name.split()[1]) for name in runs if name.startswith(runner) and name.endswith(tree))

    prints: dict[int, list[str]] = {}
    for name, run in runs.items():
        if "fingerprint" in run:
            prints.setdefault(int(name.split()[1]), []).append(run["fingerprint"])
    told: dict[str, Any] = {
        "machine": machine(),
        "what": "whole builds of drawn text rows; processor time and memory of the driver's process alone",
        "same_fingerprint": {
            f"{rows} rows, {len(found)} builds": len(set(found)) == 1
            for rows, found in sorted(prints.items())
            if len(found) > 1
        },
        "driver_microseconds_per_row": {
            name: round(run["cpu_seconds"] / int(name.split()[1]) * 1e6, 1)
            for name, run in sorted(runs.items())
            if name.startswith("ray")
        },
    }
    both = [rows for rows in sizes("ray") if rows in sizes("ray", "before")]
    told["driver_time_before_over_now"] = {
        str(rows): round(runs[f"ray {rows} before"]["cpu_seconds"] / runs[f"ray {rows} now"]["cpu_seconds"], 2)
        for rows in both
    }
    if len(sizes("ray")) > 1:
        first, *_, last = sizes("ray")
        grown = runs[f"ray {last} now"]["above_start_mb"] - runs[f"ray {first} now"]["above_start_mb"]
        told["driver_growth_mb"] = {f"{first} to {last}": round(grown, 1)}
    rates = {name: int(name.split()[1]) / run["cpu_seconds"] for name, run in runs.items() if name[:3] != "ray"}
    told["rows_per_cpu_second"] = {name: round(rate) for name, rate in sorted(rates.items())}
    theirs, ours = rates.get(f"datatrove {PEER_ROWS} now"), rates.get(f"local {max([0, *sizes('local')])} now")
    if theirs and ours:
        told["times_datatrove"] = round(ours / theirs, 1)
    return {**told, "runs": runs}


if __name__ == "__main__":
    main()
