"""Builds a store per line of its input, in small blocks: the process that `kills.py` strikes, or whose workers.

    python benchmarks/kills_driver.py RECIPE.toml local|ray BLOCK_ROWS

It says `ready` once all is imported, and then a line of JSON per build: what must not depend on what was lost, or an
error.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def drive(recipe: str, runner: str, block_rows: int) -> None:
    """Build as often as it is asked."""
    from importlib import import_module

    from data_engine.build import BuildRequest, build
    from data_engine.runners import open_runner
    from shared.progress import Progress

    small = {"blocks.BLOCK_ROWS": block_rows, "intake.in_blocks.GROUP_ROWS": block_rows}
    small |= {"intake.in_blocks.FEW_BYTES": 0, "sources.table.MUCH": 0, "sources.table.MANY": 0}
    pieces = "sources.file_pieces"
    small |= {f"{pieces}.PIECE_ROWS": block_rows, f"{pieces}.PICTURED_ROWS": block_rows, f"{pieces}.LEAST_BYTES": 1}
    # Shares of several batches each, so that a lost worker had stored some of its answers.
    small |= {"steps.dedup_minhash.GROUP_ROWS": block_rows, "runners.ray_runner.SHARES": 8}
    for name, value in small.items():
        module, _, constant = name.rpartition(".")
        setattr(import_module(f"data_engine.{module}"), constant, value)
    told = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever else is printed
    assert open_runner(runner)  # type: ignore[arg-type]
    told.write("ready\n")
    for line in sys.stdin:
        try:
            request = BuildRequest(recipe=recipe, profile="local", store=line.strip(), runner=runner)  # type: ignore[arg-type]
            told.write(json.dumps(outcome(build(request, Progress()).as_json())) + "\n")
        except Exception as error:  # noqa: BLE001 - a build that fails is a result
            import traceback

            traceback.print_exc()
            told.write(json.dumps({"error": f"{type(error).__name__}: {error}"}) + "\n")


def outcome(report: dict[str, Any]) -> dict[str, Any]:
    """All that must not depend on what happened meanwhile."""
    manifest = json.loads((Path(report["path"]) / "manifest.json").read_text(encoding="utf-8"))
    same = ("fingerprint", "build_key", "rows", "rejected", "near_misses", "bytes", "shards", "ledger")
    found = {name: manifest[name] for name in (*same, "decontamination", "planted_duplicates", "models", "prompts")}
    rows = {step["name"]: (step["rows_in"], step["rows_out"]) for step in manifest["counts"]}
    made = {step["name"]: (step["computed"], step["reused"]) for step in manifest["counts"]}
    found |= {"rows of steps": rows, "cells of steps": made, "version": manifest["version"]}
    told: dict[str, Any] = json.loads(json.dumps(found))
    return told


if __name__ == "__main__":
    drive(sys.argv[1], sys.argv[2], int(sys.argv[3]))
